package server

import (
	"crypto/tls"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// reconfigured returns the Config of s, changed by edit, in force.
func (s *testService) reconfigured(edit func(*Config)) {
	s.t.Helper()
	cfg := s.live.Load().Config
	edit(&cfg)
	if restart, err := s.Reconfigure(cfg); err != nil || restart != nil {
		s.t.Fatalf("Reconfigure: %q, %v", restart, err)
	}
}

// TestReconfigureTokens: new secrets count for tokens from now on, and nothing that
// is there ends.
func TestReconfigureTokens(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	s := newService(t, Config{})
	c := s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "first ")
		http.NewResponseController(w).Flush()
		close(begun)
		<-finish
		io.WriteString(w, "last")
	}))
	s.waitActive(c)
	body := make(chan string)
	go func() {
		_, text := s.get("/a/")
		body <- text
	}()
	<-begun

	fresh := []byte("another secret of at least 32 bytes")
	s.reconfigured(func(cfg *Config) { cfg.Secrets, cfg.Audience = [][]byte{fresh}, "here" })
	if _, resp, err := s.dial("b", mint(t, "b")); err == nil || resp == nil || resp.StatusCode != 401 {
		t.Errorf("a token of the old secret: %v, %v", resp, err)
	}
	for audience, ok := range map[string]bool{"here": true, "": false} {
		token, err := MintToken(fresh, Claims{ID: "b", TTL: time.Hour, Audience: audience})
		if err != nil {
			t.Fatal(err)
		}
		d, resp, err := s.dial("b", token)
		if (err == nil) != ok {
			t.Errorf("a token of the new secret for %q: %v, %v", audience, resp, err)
		}
		if err == nil {
			d.serve(echoHandler)
			defer d.conn.Close()
		}
	}
	close(finish)
	if got := <-body; got != "first last" {
		t.Errorf("the download has %q", got)
	}
	s.waitActive(c)
}

// TestReconfigureExpiry: a token that has run out counts as soon as it shall.
func TestReconfigureExpiry(t *testing.T) {
	s, clock, c, _ := expiring(t, Config{IgnoreTokenExpiry: true}, echoHandler)
	clock.set(s, 2*time.Hour)
	s.reconfigured(func(cfg *Config) { cfg.IgnoreTokenExpiry = false })
	<-c.conn.Done()
	var ce *h2conn.CloseError
	if err := c.conn.Err(); !errors.As(err, &ce) || ce.Code != int(wire.CloseTokenExpired) {
		t.Errorf("the session ended with %v", err)
	}
}

// TestReconfigureStreams: requests that wait get slots that are new, in a session
// that is there, and a lower limit is kept once those in flight have finished.
func TestReconfigureStreams(t *testing.T) {
	here, finish := make(chan struct{}), make(chan struct{})
	s := newService(t, Config{MaxStreams: 1})
	s.waitActive(s.connect("a", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		here <- struct{}{}
		<-finish
	})))
	var wg sync.WaitGroup
	defer wg.Wait()
	for range 3 {
		wg.Go(func() { s.get("/a/") })
	}
	<-here
	waitFor(t, func() bool { return s.Status().Waiting == 2 })
	s.reconfigured(func(cfg *Config) { cfg.MaxStreams = 2 })
	<-here
	if st := s.Status(); st.Slots != 2 || st.Waiting != 1 {
		t.Errorf("%d slots, %d wait", st.Slots, st.Waiting)
	}
	s.reconfigured(func(cfg *Config) { cfg.MaxStreams = 1 })
	finish <- struct{}{}
	waitFor(t, func() bool { return s.Status().InFlight == 1 })
	if st := s.Status(); st.Slots != 1 || st.Waiting != 1 {
		t.Errorf("then %d slots, %d wait", st.Slots, st.Waiting)
	}
	finish <- struct{}{}
	<-here
	finish <- struct{}{}
	s.reconfigured(func(cfg *Config) { cfg.MaxStreams = 1000 })
	if st := s.Status(); st.Slots != 250 {
		t.Errorf("%d slots, although the client admits 250", st.Slots)
	}
}

func TestFairQueueResizes(t *testing.T) {
	u := newQueued(t, 2, 100)
	resize := func(n int) { u.q.resize(func() int { return n }) }
	u.wait("a1", "a2", "b1", "b2", "c1")
	resize(4)
	if got := strings.Join(u.ready(), " "); got != "a1 b1" {
		t.Errorf("two more slots went to %q", got)
	}
	resize(2)
	u.q.release()
	u.q.release()
	if got := u.ready(); got != nil {
		t.Errorf("%q have slots that are too many", got)
	}
	if got := u.order(1); got != "c1" {
		t.Errorf("the next slot went to %q", got)
	}
	resize(100)
	if got := strings.Join(u.ready(), " "); got != "a2 b2" {
		t.Errorf("many slots went to %q", got)
	}
	if slots, waiting := u.q.load(); slots != 100 || waiting != 0 || u.q.free != 96 || len(u.q.classes) != 0 || len(u.q.turns) != 0 {
		t.Errorf("left: %+v", u.q)
	}
}

// TestReconfigureRequests has what counts for requests from now on, also on
// connections that are open.
func TestReconfigureRequests(t *testing.T) {
	s := newService(t, Config{})
	hang := make(chan struct{})
	defer close(hang)
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-hang
		}
		io.WriteString(w, r.Header.Get("X-Forwarded-For"))
	})))
	forwarded := func() string {
		_, body := s.get("/a/", "X-Forwarded-For", "192.0.2.1")
		return body
	}
	if got := forwarded(); got != "127.0.0.1" {
		t.Errorf("X-Forwarded-For is %q", got)
	}
	s.reconfigured(func(cfg *Config) {
		cfg.TrustedProxies, cfg.ResponseHeaderTimeout = []string{"127.0.0.0/8"}, time.Millisecond
	})
	if resp, _ := s.get("/a/hang"); resp.StatusCode != 504 {
		t.Errorf("no answer: status %d", resp.StatusCode)
	}
	s.reconfigured(func(cfg *Config) { cfg.ResponseHeaderTimeout = 0 })
	if got := forwarded(); got != "192.0.2.1, 127.0.0.1" {
		t.Errorf("behind a trusted proxy, X-Forwarded-For is %q", got)
	}
	s.reconfigured(func(cfg *Config) { cfg.TrustedProxies, cfg.MaxConnections, cfg.MaxTunnels = nil, 7, 1 })
	if got := forwarded(); got != "127.0.0.1" {
		t.Errorf("trusted no more, X-Forwarded-For is %q", got)
	}
	if st := s.Status(); st.MaxConnections != 7 || st.MaxTunnels != 1 {
		t.Errorf("the limits are %d connections, %d tunnels", st.MaxConnections, st.MaxTunnels)
	}
	if _, resp, err := s.dial("b", mint(t, "b")); err == nil || resp.StatusCode != 503 {
		t.Errorf("a second tunnel: %v", err)
	}
}

// TestReconfigureWhileServing has requests and registrations run into changes, for
// the race detector.
func TestReconfigureWhileServing(t *testing.T) {
	s := newService(t, Config{})
	s.waitActive(s.connect("a", echoHandler))
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for range 20 {
				if resp, _ := s.get("/a/"); resp.StatusCode != 200 {
					t.Errorf("status %d", resp.StatusCode)
				}
				if i == 0 {
					s.connect("b", echoHandler)
				}
			}
		})
	}
	for i := range 50 {
		s.reconfigured(func(cfg *Config) {
			cfg.MaxStreams, cfg.StallTimeout, cfg.MaxConnections = 100+i, time.Duration(60+i)*time.Second, 100+i
			cfg.TrustedProxies = []string{"192.0.2.0/24", "127.0.0.1"}[:i%3%2+1]
		})
	}
	wg.Wait()
	s.reconfigured(func(cfg *Config) { cfg.MaxStreams = 50 })
	if st := s.Status(); st.Slots != 50*st.Tunnels {
		t.Errorf("%d tunnels have %d slots", st.Tunnels, st.Slots)
	}
}

// TestReconfigureFields: of each field it is known whether it changes, and those that
// do not are named.
func TestReconfigureFields(t *testing.T) {
	values := map[string]any{
		"PublicURL": "https://other.example", "ViewerDomain": "t.example", "DisablePathMode": true,
		"Secrets": [][]byte{[]byte("other")}, "Audience": "x", "TrustedProxies": []string{"192.0.2.1"},
		"TLSConfig":  &tls.Config{Certificates: make([]tls.Certificate, 1)},
		"MaxStreams": 3, "MaxTunnels": 3, "MaxConnections": 3, "MaxConnectionsPerAddress": 3,
		"MemoryLimit": int64(1 << 30), "StreamWindow": int32(1 << 20), "ConnWindow": int32(1 << 20),
		"DisableH2C": true, "DisablePathIsolation": true, "IgnoreTokenExpiry": true, "NoExtendedConnect": true,
	}
	for f := range reflect.TypeFor[Config]().Fields() {
		if !f.IsExported() || slices.Contains(partsOfProgram, f.Name) {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			s, err := New(Config{PublicURL: "https://h.example", Secrets: [][]byte{testSecret}})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			value, ok := values[f.Name]
			if f.Type == reflect.TypeFor[time.Duration]() {
				value, ok = time.Minute+time.Second, true
			}
			if !ok {
				t.Fatal("the test needs a value for this field")
			}
			cfg := s.live.Load().Config
			if f.Name == "DisablePathMode" {
				cfg.ViewerDomain = "t.example"
			}
			field := reflect.ValueOf(&cfg).Elem().FieldByName(f.Name)
			field.Set(reflect.ValueOf(value))
			restart, err := s.Reconfigure(cfg)
			now := reflect.ValueOf(s.live.Load().Config).FieldByName(f.Name).Interface()
			changed := reflect.DeepEqual(now, value)
			if live := slices.Contains(liveFields, f.Name); err != nil || changed != live || slices.Contains(restart, f.Name) == live {
				t.Errorf("%v: it is %v now, and %q need a restart", err, now, restart)
			}
		})
	}
}

// TestReconfigureFaults: with one fault nothing changes.
func TestReconfigureFaults(t *testing.T) {
	s := newService(t, Config{})
	cfg := s.live.Load().Config
	cfg.MaxStreams, cfg.TrustedProxies, cfg.Audience = -1, []string{"proxy"}, "x"
	before := s.live.Load()
	restart, err := s.Reconfigure(cfg)
	var fault *ConfigError
	if restart != nil || !errors.As(err, &fault) || !strings.Contains(err.Error(), "MaxStreams") || !strings.Contains(err.Error(), "TrustedProxies") {
		t.Errorf("got %q, %v", restart, err)
	}
	if s.live.Load() != before {
		t.Error("something has changed")
	}
}

// TestLiveFieldsAreReadLive: no code reads from Server.cfg what may have changed
// since.
func TestLiveFieldsAreReadLive(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	files := token.NewFileSet()
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			field, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			// The Config that New and check get is a parameter, not a field.
			if from, ok := field.X.(*ast.SelectorExpr); ok && from.Sel.Name == "cfg" && (slices.Contains(liveFields, field.Sel.Name) || field.Sel.Name == "trusted") {
				t.Errorf("%v: %s has to come from live", files.Position(field.Pos()), field.Sel.Name)
			}
			return true
		})
	}
}
