package hostile

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

var secret = []byte("a secret of at least thirty-two bytes")

// The tunnels of each test.
const (
	attackerID  = "attacker"
	neighbourID = "neighbour"
)

// service is a Server on a real listener, with a neighbour.
type service struct {
	t      testing.TB
	srv    *server.Server
	addr   string
	viewer *http.Client
	log    *lines
	end    func() // ends it; the test's end does that too
}

func newService(t testing.TB, cfg server.Config) *service {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, addr: ln.Addr().String(), log: new(lines)}
	cfg.PublicURL = "http://" + s.addr
	cfg.Secrets = [][]byte{secret}
	cfg.Logger = zerolog.New(s.log).Level(zerolog.DebugLevel)
	if s.srv, err = server.New(cfg); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.srv.Serve(ln) }()
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 4}
	s.viewer = &http.Client{
		Transport:     tr,
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	stop := s.connectNeighbour()
	s.end = sync.OnceFunc(func() {
		stop()
		tr.CloseIdleConnections()
		s.srv.Close()
		if err := <-served; !errors.Is(err, server.ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
		if s.log.has(`"level":"error"`) || s.log.has("panic") {
			t.Errorf("the service has panicked:\n%s", s.log)
		}
	})
	t.Cleanup(s.end)
	return s
}

// connectNeighbour connects an honest tunnel client, made of the real thing.
func (s *service) connectNeighbour() (stop func()) {
	c, err := tunnelclient.New(tunnelclient.Config{
		ServerURL: "http://" + s.addr, ID: neighbourID, Tokens: tunnelclient.StaticToken(mint(s.t, neighbourID)),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, cancel := contextWithCancel(s.t)
	go func() {
		done <- c.Serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	}()
	if _, err := c.URL(ctx); err != nil {
		s.t.Fatal(err)
	}
	// On a busy machine the first session may come to nothing: x/net wants the
	// service's settings within 2 s.
	if !waitFor(30*time.Second, func() bool { err = s.neighbour(); return err == nil }) {
		s.t.Fatalf("the neighbour's tunnel: %v", err)
	}
	return func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("the neighbour's Serve: %v", err)
		}
	}
}

func mint(t testing.TB, id string) string {
	t.Helper()
	token, err := server.MintToken(secret, server.Claims{ID: id, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// neighbour makes one request to the neighbour.
func (s *service) neighbour() error {
	switch got := s.ask(http.MethodGet, "/"+neighbourID+"/", nil); {
	case got.err != nil:
		return got.err
	case got.status != http.StatusOK || got.body != "hello":
		return fmt.Errorf("%d %q", got.status, got.body)
	}
	return nil
}

// outcome is what a viewer gets.
type outcome struct {
	status  int // zero: nothing
	header  http.Header
	trailer http.Header
	body    string
	err     error // the answer broke off
}

// String is what the table of attacks has: "200", "502", "broken" after the
// answer's begin, or "nothing".
func (o outcome) String() string {
	switch {
	case o.status == 0:
		return "nothing"
	case o.err != nil:
		return "broken"
	}
	return fmt.Sprint(o.status)
}

func (s *service) ask(method, path string, body io.Reader, header ...string) outcome {
	req, err := http.NewRequest(method, "http://"+s.addr+path, body)
	if err != nil {
		return outcome{err: err}
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.viewer.Do(req)
	if err != nil {
		return outcome{err: err}
	}
	defer resp.Body.Close()
	o := outcome{status: resp.StatusCode, header: resp.Header}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
		o.body, o.err = string(b), err
	}
	o.trailer = resp.Trailer
	return o
}

// session returns the attacker's active session.
func (s *service) session() (server.TunnelInfo, bool) {
	for info := range s.srv.Tunnels() {
		if info.ID == attackerID {
			return info, true
		}
	}
	return server.TunnelInfo{}, false
}

// waitFor polls until f is true, and reports whether that came within the
// bound.
func waitFor(bound time.Duration, f func() bool) bool {
	for end := time.Now().Add(bound); !f(); <-time.After(2 * time.Millisecond) {
		if time.Now().After(end) {
			return f()
		}
	}
	return true
}
