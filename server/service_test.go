package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// testSecret signs the tokens of tests.
var testSecret = []byte("a secret of at least thirty-two bytes")

// testService is a Server on a real listener.
type testService struct {
	*Server
	t    testing.TB
	url  string
	http *http.Client // a viewer that follows no redirects
}

// newService runs a Server for cfg, whose required fields are filled in.
func newService(t testing.TB, cfg Config) *testService {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + ln.Addr().String()
	if cfg.PublicURL == "" {
		cfg.PublicURL = url
	}
	if cfg.Secrets == nil {
		cfg.Secrets = [][]byte{testSecret}
	}
	if testing.Verbose() && reflect.ValueOf(cfg.Logger).IsZero() {
		cfg.Logger = zerolog.New(zerolog.NewTestWriter(t))
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	tr := &http.Transport{DisableCompression: true}
	ts := &testService{Server: s, t: t, url: url, http: &http.Client{
		Transport:     tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		s.Close()
		if err := <-done; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
	})
	return ts
}

func mint(t testing.TB, id string) string {
	t.Helper()
	token, err := MintToken(testSecret, Claims{ID: id, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// testClient is one session of a tunnel client made of h2conn alone.
type testClient struct {
	conn    *h2conn.Conn
	url     string
	control chan wire.Control
	served  chan error // what Serve returned

	framing sync.Mutex    // of fr's writing, once answer runs
	fr      *http2.Framer // of dialFramed only
}

// dialFramed registers id as a client that admits 100 streams and whose frames
// are the test's to write. It waits for the service's preface and no further.
func (s *testService) dialFramed(id string) *testClient {
	s.t.Helper()
	c, _, err := s.dial(id, mint(s.t, id))
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.ReadFull(c.conn, make([]byte, len(http2.ClientPreface))); err != nil {
		s.t.Fatal(err)
	}
	c.fr = http2.NewFramer(c.conn, c.conn)
	if err := c.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 100}); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// answer acknowledges settings and answers pings until the connection ends. All
// other frames, acknowledgements among them, are given to other, which may write.
// All others write by do: the service can send settings and pings at any time.
func (c *testClient) answer(other func(http2.Frame)) {
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			return
		}
		c.do(func(fr *http2.Framer) error {
			if !acknowledge(fr, f) {
				other(f)
			}
			return nil
		})
	}
}

// acknowledge answers f, and returns true, if it is SETTINGS or a PING of the service.
func acknowledge(fr *http2.Framer, f http2.Frame) bool {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			fr.WriteSettingsAck()
			return true
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			fr.WritePing(true, f.Data)
			return true
		}
	}
	return false
}

// do writes frames with f.
func (c *testClient) do(f func(*http2.Framer) error) error {
	c.framing.Lock()
	defer c.framing.Unlock()
	return f(c.fr)
}

// dial registers id with token and does not serve yet.
func (s *testService) dial(id, token string) (*testClient, *http.Response, error) {
	return s.dialWith(http.Header{"Authorization": {"Bearer " + token}, wire.HeaderID: {id}})
}

// dialWith is dial with all headers of the registration.
func (s *testService) dialWith(header http.Header) (*testClient, *http.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, resp, err := h2conn.Dial(ctx, s.url, h2conn.DialOptions{
		Header:      header,
		Subprotocol: wire.Subprotocol,
	})
	if err != nil {
		return nil, resp, err
	}
	c := &testClient{conn: conn, url: resp.Header.Get(wire.HeaderClientURL), control: make(chan wire.Control, 16), served: make(chan error, 1)}
	conn.OnControl(func(b []byte) {
		if m, err := wire.ParseControl(b); err != nil {
			s.t.Error(err)
		} else {
			c.control <- m
		}
	})
	return c, resp, nil
}

func (c *testClient) serve(h http.Handler) {
	go func() { c.served <- h2conn.Serve(context.Background(), c.conn, h, h2conn.ServeConfig{}) }()
}

// connect registers id and serves h until the test ends.
func (s *testService) connect(id string, h http.Handler) *testClient {
	s.t.Helper()
	c, _, err := s.dial(id, mint(s.t, id))
	if err != nil {
		s.t.Fatal(err)
	}
	c.serve(h)
	s.t.Cleanup(func() { c.conn.Close() })
	return c
}

// waitActive waits until c is the session that takes requests.
func (s *testService) waitActive(c *testClient) {
	s.t.Helper()
	waitFor(s.t, func() bool {
		for info := range s.Tunnels() {
			if info.RemoteAddr == c.conn.LocalAddr().String() {
				return true
			}
		}
		return false
	})
}

// get is a viewer's GET.
func (s *testService) get(path string, header ...string) (*http.Response, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), "GET", s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.http.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(b)
}

// http2Viewer returns a viewer's HTTP/2 connection without TLS.
func (s *testService) http2Viewer() *http2.ClientConn {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	cc, err := (&http2.Transport{AllowHTTP: true}).NewClientConn(conn)
	if err != nil {
		s.t.Fatal(err)
	}
	return cc
}

// raw sends request as it stands on a fresh connection and returns all that
// comes until the connection ends.
func (s *testService) raw(request string) string {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		s.t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if err != nil {
		s.t.Logf("after %q: %v", b, err)
	}
	return string(b)
}

// echoHandler answers with what it was asked.
var echoHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Method", r.Method)
	w.Header().Set("X-Uri", r.RequestURI)
	w.Header().Set("X-Host", r.Host)
	w.Write(b)
})
