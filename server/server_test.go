package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

func TestViewerReachesTunnel(t *testing.T) {
	s := newService(t, Config{})
	c := s.connect("team%2Fbuild", echoHandler)
	if want := s.url + "/team%2Fbuild"; c.url != want {
		t.Errorf("client URL is %q, want %q", c.url, want)
	}
	for _, tc := range []struct{ request, uri string }{
		{"/team%2Fbuild", "/"},
		{"/team%2Fbuild?x=1", "/?x=1"},
		{"/team%2Fbuild/", "/"},
		{"/team%2Fbuild?", "/?"},
		{"/team%2Fbuild/a/b?a=1;b=2&c=%zz", "/a/b?a=1;b=2&c=%zz"},
		{"/team%2Fbuild//x/%2F/../y", "//x/%2F/../y"},
		{"/team%2Fbuild//x?q", "//x?q"},
		{"/team%2Fbuild/%00%e4%2f;[]", "/%00%e4%2f;[]"},
	} {
		got := s.raw("GET " + tc.request + " HTTP/1.1\r\nHost: viewer.example\r\nConnection: close\r\n\r\n")
		for _, want := range []string{"HTTP/1.1 200 OK\r\n", "\r\nX-Uri: " + tc.uri + "\r\n", "\r\nX-Host: viewer.example\r\n"} {
			if !strings.Contains(got, want) {
				t.Errorf("GET %s: no %q in %q", tc.request, want, got)
			}
		}
	}
}

func TestRoundTripper(t *testing.T) {
	s := newService(t, Config{})
	s.connect("build-42", echoHandler)
	client := &http.Client{Transport: s.RoundTripper("build-42")}
	resp, err := client.Post("http://build-42/status?q", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(b) != "hello" || resp.Header.Get("X-Host") != "build-42" || resp.Header.Get("X-Uri") != "/status?q" {
		t.Errorf("got %q %v", b, resp.Header)
	}
	_, err = (&http.Client{Transport: s.RoundTripper("nobody")}).Get("http://nobody/")
	if !errors.Is(err, ErrNoTunnel) {
		t.Errorf("got %v, want ErrNoTunnel", err)
	}
	var ids []string
	for info := range s.Tunnels() {
		ids = append(ids, info.ID)
		if info.InFlight != 0 || info.RemoteAddr == "" || info.TokenExpires.Before(time.Now()) || info.ExtendedConnect != h2conn.ExtendedConnect {
			t.Errorf("info is %+v", info)
		}
	}
	if fmt.Sprint(ids) != "[build-42]" {
		t.Errorf("Tunnels are %v", ids)
	}
}

// TestNewestWins: the newer session serves at once, and a request in flight on
// the older one completes; then that closes with 4000.
func TestNewestWins(t *testing.T) {
	s := newService(t, Config{})
	arrived, release := make(chan struct{}), make(chan struct{})
	old := s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-release
		io.WriteString(w, "from the old one")
	}))
	inFlight := make(chan string, 1)
	go func() {
		_, b := s.get("/a/")
		inFlight <- b
	}()
	<-arrived
	newer := s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "from the new one") }))
	s.waitActive(newer)
	if _, b := s.get("/a/"); b != "from the new one" {
		t.Errorf("a new request got %q", b)
	}
	close(release)
	if b := <-inFlight; b != "from the old one" {
		t.Errorf("the request in flight got %q", b)
	}
	var ce *h2conn.CloseError
	if err := <-old.served; !errors.As(err, &ce) || ce.Code != int(wire.CloseReplaced) {
		t.Errorf("the old session ended with %v", err)
	}
	if _, b := s.get("/a/"); b != "from the new one" {
		t.Errorf("after the old session's end a request got %q", b)
	}
	for info := range s.Tunnels() {
		if info.Replacements != 1 || info.ReplacedAddr != old.conn.LocalAddr().String() {
			t.Errorf("%d replacements, of %s, want 1, of %s", info.Replacements, info.ReplacedAddr, old.conn.LocalAddr())
		}
	}
}

// TestReplacementsBehindProxy: it is the tunnel clients' addresses that tell
// two of them apart, not the proxy's.
func TestReplacementsBehindProxy(t *testing.T) {
	var log lockedBuffer
	s := newService(t, Config{TrustedProxies: []string{"127.0.0.1"}, Logger: zerolog.New(&log)})
	for _, from := range []string{"192.0.2.1", "192.0.2.2"} {
		conn, _, err := h2conn.Dial(t.Context(), s.url, h2conn.DialOptions{
			Header:      http.Header{"Authorization": {"Bearer " + mint(t, "a")}, wire.HeaderID: {"a"}, "X-Forwarded-For": {from}},
			Subprotocol: wire.Subprotocol,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go h2conn.Serve(t.Context(), conn, echoHandler, h2conn.ServeConfig{})
		waitFor(t, func() bool {
			for info := range s.Tunnels() {
				return info.RemoteAddr == from
			}
			return false
		})
	}
	for info := range s.Tunnels() {
		if info.ReplacedAddr != "192.0.2.1" {
			t.Errorf("replaced was %q", info.ReplacedAddr)
		}
	}
	waitFor(t, func() bool { return strings.Contains(log.String(), `"replacements":1`) })
	if !strings.Contains(log.String(), `"remote":"192.0.2.2"`) || !strings.Contains(log.String(), `"replaces":"192.0.2.1"`) {
		t.Errorf("the log does not name both: %s", log.String())
	}
}

// TestViewerWaitsForReadiness: from the 101 until the first ping is answered
// an old session goes on serving, and where there is none, viewers wait.
func TestViewerWaitsForReadiness(t *testing.T) {
	s := newService(t, Config{})
	first, _, err := s.dial("a", mint(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer first.conn.Close()
	got := make(chan string, 1)
	go func() {
		_, b := s.get("/a/")
		got <- b
	}()
	first.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "first") }))
	if b := <-got; b != "first" {
		t.Errorf("a viewer that came at once got %q", b)
	}

	second, _, err := s.dial("a", mint(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer second.conn.Close()
	if _, b := s.get("/a/"); b != "first" {
		t.Errorf("while the second is not ready a viewer got %q", b)
	}
	// One that never gets ready leaves the first where it is.
	second.conn.Close()
	if _, b := s.get("/a/"); b != "first" {
		t.Errorf("after the second failed a viewer got %q", b)
	}
}

func TestClientGoaway(t *testing.T) {
	s := newService(t, Config{})
	arrived, release := make(chan struct{}), make(chan struct{})
	c := s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" { // others may come before the goaway has
			close(arrived)
			<-release
		}
		io.WriteString(w, "finished")
	}))
	inFlight := make(chan string, 1)
	go func() {
		_, b := s.get("/a/slow")
		inFlight <- b
	}()
	<-arrived
	if err := c.conn.SendControl(wire.Control{Type: wire.TypeGoaway}.Encode()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		resp, _ := s.get("/a/")
		return resp.StatusCode == 404
	})
	close(release)
	if b := <-inFlight; b != "finished" {
		t.Errorf("the request in flight got %q", b)
	}
	var ce *h2conn.CloseError
	if err := <-c.served; !errors.As(err, &ce) || ce.Code != int(wire.CloseDraining) {
		t.Errorf("the session ended with %v", err)
	}
}

// waitFor polls for what no event tells.
func waitFor(t testing.TB, cond func() bool) {
	t.Helper()
	const patience = 30 * time.Second // busy machines, with the race detector
	deadline := time.Now().Add(patience)
	for tick := time.NewTicker(2 * time.Millisecond); ; <-tick.C {
		if cond() {
			tick.Stop()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("condition not met within %v", patience)
		}
	}
}

// TestShutdown walks the list in the doc comment of Shutdown.
func TestShutdown(t *testing.T) {
	t.Parallel()
	s := newService(t, Config{DrainTimeout: 20 * time.Second})
	arrived, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	c := s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			once.Do(func() { close(arrived) })
			<-release
		}
		io.WriteString(w, "ok")
	}))
	if resp, _ := s.get("/__heartbeat__"); resp.StatusCode != 200 {
		t.Fatalf("heartbeat is %d", resp.StatusCode)
	}
	inFlight := make(chan string, 1)
	go func() {
		_, b := s.get("/a/slow")
		inFlight <- b
	}()
	<-arrived
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()

	// 2: a goaway.
	if m := <-c.control; m.Type != wire.TypeGoaway || m.Reason != wire.ReasonDraining {
		t.Errorf("got %+v, want a goaway", m)
	}
	// 1: the heartbeat fails and registrations get 503.
	resp, _ := s.get("/__heartbeat__")
	if resp.StatusCode != 503 {
		t.Errorf("heartbeat is %d while draining", resp.StatusCode)
	}
	_, resp, err := s.dial("b", mint(t, "b"))
	if err == nil || resp == nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("registration while draining: %v, %v", resp, err)
	}
	// 3: new requests are served.
	if _, b := s.get("/a/"); b != "ok" {
		t.Errorf("a new request while draining got %q", b)
	}
	// A tunnel that is not here is 503 now, with Retry-After.
	if resp, _ := s.get("/gone/"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("an absent tunnel while draining: %d", resp.StatusCode)
	}
	// 4: requests in flight finish.
	close(release)
	if b := <-inFlight; b != "ok" {
		t.Errorf("the request in flight got %q", b)
	}
	// 5: sessions close with 4002.
	var ce *h2conn.CloseError
	if err := <-c.served; !errors.As(err, &ce) || ce.Code != int(wire.CloseDraining) {
		t.Errorf("the session ended with %v", err)
	}
	// 6: listeners close.
	if err := <-done; err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
	if _, err := http.Get(s.url + "/__heartbeat__"); err == nil {
		t.Error("the listener still accepts")
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestShutdownGivesUp: when its context ends, what is left is cut.
func TestShutdownGivesUp(t *testing.T) {
	s := newService(t, Config{})
	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	resp, err := s.http.Get(s.url + "/a/")
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("got %v, %v", resp, err)
	}
	defer resp.Body.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown returned %v", err)
	}
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("a body that was cut short looked complete")
	}
}

func TestTokenRefresh(t *testing.T) {
	s := newService(t, Config{})
	c := s.connect("a", echoHandler)
	exp := time.Now().Add(2 * time.Hour).Unix()
	token, err := MintToken(testSecret, Claims{ID: "a", TTL: 2 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		token string
		ok    bool
	}{{token, true}, {mint(t, "b"), false}, {"nonsense", false}} {
		if err := c.conn.SendControl(wire.Control{Type: wire.TypeToken, Token: tc.token}.Encode()); err != nil {
			t.Fatal(err)
		}
		m := <-c.control
		if m.Type != wire.TypeToken || m.OK == nil || *m.OK != tc.ok {
			t.Errorf("got %+v, want ok %v", m, tc.ok)
		}
		if tc.ok && (m.Exp < exp-1 || m.Exp > exp+1) {
			t.Errorf("exp is %d, want %d", m.Exp, exp)
		}
	}
	for info := range s.Tunnels() {
		if d := info.TokenExpires.Unix() - exp; d < -1 || d > 1 {
			t.Errorf("the token in force expires %d s from the refreshed one", d)
		}
	}
	// Unknown types are ignored, however many there are.
	for range 100 {
		if err := c.conn.SendControl([]byte(`{"type":"weather","reason":{"rain":true}}`)); err != nil {
			t.Fatal(err)
		}
	}
	if resp, _ := s.get("/a/"); resp.StatusCode != 200 {
		t.Errorf("after an unknown control message: %d", resp.StatusCode)
	}
}

// TestProtocolViolations: the close code says that it is the client's fault.
func TestProtocolViolations(t *testing.T) {
	s := newService(t, Config{})
	for _, message := range []string{"", "nonsense", `{"no":"type"}`} {
		c := s.connect("a", echoHandler)
		if err := c.conn.SendControl([]byte(message)); err != nil {
			t.Fatal(err)
		}
		var ce *h2conn.CloseError
		if err := <-c.served; !errors.As(err, &ce) || ce.Code != int(wire.CloseProtocol) {
			t.Errorf("after %q the session ended with %v", message, err)
		}
	}
	c, _, err := s.dial("b", mint(t, "b"))
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c.conn, "this is not HTTP/2 at all")
	io.Copy(io.Discard, c.conn)
	<-c.conn.Done()
	var ce *h2conn.CloseError
	if err := c.conn.Err(); !errors.As(err, &ce) || ce.Code != int(wire.CloseProtocol) {
		t.Errorf("after bytes that are not HTTP/2: %v", err)
	}
}

func TestTunnelsSurviveBadRequests(t *testing.T) {
	s := newService(t, Config{})
	s.connect("a", echoHandler)
	for _, req := range []string{
		"GET /a/ HTTP/1.1\r\nHost: u@h\r\nConnection: close\r\n\r\n",
		"GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: close, Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
		"POST /a/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length, X-T\r\nConnection: close\r\n\r\n0\r\nX-T: 1\r\nX-Unannounced: 2\r\n\r\n",
		"GET /a/ HTTP/1.0\r\n\r\n",
		"GET /a/\x7f HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
		"GET http://evil/a/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
	} {
		s.raw(req)
		if resp, _ := s.get("/a/"); resp.StatusCode != 200 {
			t.Fatalf("after %q the tunnel answers %d", req, resp.StatusCode)
		}
	}
	n := 0
	for range s.Tunnels() {
		n++
	}
	if n != 1 {
		t.Errorf("there are %d tunnels", n)
	}
}
