package tunnelclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

const (
	testID  = "build-42"
	testURL = "https://tunnel.example.com/build-42"
)

// fakeService is a service on an in-memory network. It works inside and
// outside of synctest bubbles.
type fakeService struct {
	t        *testing.T
	ln       *memListener
	srv      *http.Server
	wg       sync.WaitGroup
	sessions chan *fakeSession

	mu     sync.Mutex
	tokens []string // of all attempts, in order
	joined []string // what they have asked to join
	live   []*fakeSession

	// admit, if not nil, decides about attempt n (from 1). It writes the
	// refusal itself. Set before the first attempt.
	admit func(n int, token string, w http.ResponseWriter) bool
	// ping, if not empty, is what the service says about pings.
	ping string
	// connections, if not zero, is how many websockets the service admits.
	connections int
	// answer, if not nil, is called instead of the whole handshake.
	answer http.HandlerFunc
	// first, if not nil, is called for the first attempt instead of what
	// follows the checks.
	first http.HandlerFunc
}

// fakeSession is the service's end of one session.
type fakeSession struct {
	t        *testing.T
	token    string
	conn     *h2conn.Conn
	asking   *h2conn.Transport
	controls chan wire.Control
}

func newFakeService(t *testing.T) *fakeService {
	s := &fakeService{t: t, ln: newMemListener(), sessions: make(chan *fakeSession, 100)}
	s.srv = &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0)}
	s.wg.Go(func() { s.srv.Serve(s.ln) })
	t.Cleanup(s.close)
	return s
}

func (s *fakeService) close() {
	s.srv.Close()
	s.mu.Lock()
	live := s.live
	s.mu.Unlock()
	for _, fs := range live {
		fs.asking.Close()
	}
	s.wg.Wait()
}

func (s *fakeService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.answer != nil {
		s.answer(w, r)
		return
	}
	if r.Method != http.MethodGet || r.URL.Path != "/" || r.Header.Get(wire.HeaderID) != testID {
		s.t.Errorf("handshake %s %s for id %q", r.Method, r.URL, r.Header.Get(wire.HeaderID))
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	s.tokens = append(s.tokens, token)
	s.joined = append(s.joined, r.Header.Get(wire.HeaderJoins))
	n := len(s.tokens)
	s.mu.Unlock()
	if s.first != nil && n == 1 {
		s.first(w, r)
		return
	}
	if s.admit != nil && !s.admit(n, token, w) {
		return
	}
	header := http.Header{wire.HeaderClientURL: {testURL}}
	if s.ping != "" {
		header.Set(wire.HeaderPing, s.ping)
	}
	if s.connections != 0 {
		header.Set(wire.HeaderConnections, strconv.Itoa(s.connections))
	}
	conn, err := h2conn.Accept(w, r, h2conn.AcceptOptions{
		Subprotocol: wire.Subprotocol,
		Header:      header,
	})
	if err != nil {
		s.t.Error(err)
		return
	}
	fs := &fakeSession{t: s.t, token: token, conn: conn, controls: make(chan wire.Control, 100)}
	conn.OnControl(func(b []byte) {
		m, err := wire.ParseControl(b)
		if err != nil {
			s.t.Error(err)
		}
		fs.controls <- m
	})
	fs.asking, err = h2conn.NewTransport(conn, h2conn.TransportConfig{Config: h2conn.Config{PingInterval: -1}})
	if err != nil {
		s.t.Error(err)
		return
	}
	s.mu.Lock()
	s.live = append(s.live, fs)
	s.mu.Unlock()
	s.sessions <- fs
}

// patience bounds waits on a bubble's clock, where a lost event would else
// mean a test that spins for ever.
const patience = 3 * time.Hour

// pass lets time pass on a bubble's clock.
func pass(d time.Duration) { <-time.After(d) }

// next returns the next session that a client opens.
func (s *fakeService) next() *fakeSession {
	s.t.Helper()
	select {
	case fs := <-s.sessions:
		return fs
	case <-time.After(patience):
		s.t.Fatal("no further session")
		return nil
	}
}

// attempts returns the tokens of all handshakes so far.
func (s *fakeService) attempts() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.tokens...)
}

// all returns the sessions so far, and newest the last one.
func (s *fakeService) all() []*fakeSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.live)
}

func (s *fakeService) newest() *fakeSession {
	all := s.all()
	return all[len(all)-1]
}

// config returns one that reaches the service, with the longest wait of each
// back-off curve.
func (s *fakeService) config(tokens tunnelclient.TokenSource) tunnelclient.Config {
	cfg := tunnelclient.Config{
		ServerURL:  "http://localhost",
		ID:         testID,
		Tokens:     tokens,
		HTTPClient: &http.Client{Transport: &http.Transport{DialContext: s.ln.DialContext, DisableKeepAlives: true}},
	}
	cfg.SetJitter(func(bound time.Duration) time.Duration { return bound })
	return cfg
}

// running is a Client whose Serve runs.
type running struct {
	t      *testing.T
	client *tunnelclient.Client
	cancel context.CancelFunc
	done   chan error

	mu     sync.Mutex
	states []tunnelclient.State
}

// serve starts a Client, which ends with the test at the latest.
func serve(t *testing.T, cfg tunnelclient.Config, h http.Handler) *running {
	t.Helper()
	r := &running{t: t, done: make(chan error, 1)}
	hook := cfg.OnStateChange
	cfg.OnStateChange = func(st tunnelclient.State) {
		r.mu.Lock()
		r.states = append(r.states, st)
		r.mu.Unlock()
		if hook != nil {
			hook(st)
		}
	}
	c, err := tunnelclient.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.client = c
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	go func() { r.done <- c.Serve(ctx, h) }()
	t.Cleanup(func() {
		cancel()
		r.wait()
	})
	return r
}

// answerUpgrade switches to a websocket with these lines in the header, each
// with its end, and then only reads.
func answerUpgrade(w http.ResponseWriter, r *http.Request, header string) {
	conn, brw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprintf(brw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n%s\r\n",
		websocketAccept(r.Header.Get("Sec-Websocket-Key")), header)
	brw.Flush()
	io.Copy(io.Discard, brw)
}

// wantEvicted waits until Serve ends, which must be because of an eviction and
// without another handshake, and returns what Serve returned.
func wantEvicted(t *testing.T, s *fakeService, r *running) error {
	t.Helper()
	err := r.wait()
	var re *tunnelclient.RefusedError
	if !errors.As(err, &re) || re.CloseCode != 4003 {
		t.Errorf("Serve: %v", err)
	}
	if n := len(s.attempts()); n != 1 {
		t.Errorf("%d handshakes, want 1", n)
	}
	return err
}

// wait returns what Serve returned.
func (r *running) wait() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		r.done <- err
		return err
	case <-time.After(patience):
		r.t.Error("Serve does not return")
		return nil
	}
}

// stop ends Serve gracefully and expects that it was satisfied.
func (r *running) stop() {
	r.t.Helper()
	r.cancel()
	if err := r.wait(); err != nil {
		r.t.Errorf("Serve: %v", err)
	}
}

// seen returns the states so far.
func (r *running) seen() []tunnelclient.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]tunnelclient.State(nil), r.states...)
}

// get asks through the session and returns the answer's body.
func (fs *fakeSession) get(path string) (string, error) {
	req, err := http.NewRequest(http.MethodGet, "http://tunnel"+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := fs.asking.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// expect is get that must return want.
func (fs *fakeSession) expect(path, want string) {
	fs.t.Helper()
	got, err := fs.get(path)
	if err != nil || got != want {
		fs.t.Errorf("GET %s: %q, %v; want %q", path, got, err, want)
	}
}

// send sends a control message.
func (fs *fakeSession) send(m wire.Control) {
	fs.t.Helper()
	if err := fs.conn.SendControl(m.Encode()); err != nil {
		fs.t.Errorf("sending %s: %v", m.Type, err)
	}
}

// control returns the next control message of the client.
func (fs *fakeSession) control() wire.Control {
	fs.t.Helper()
	select {
	case m := <-fs.controls:
		return m
	case <-time.After(patience):
		fs.t.Fatal("no control message")
		return wire.Control{}
	}
}

// answerToken answers the token that the client sent, and returns it.
func (fs *fakeSession) answerToken(ok bool) string {
	fs.t.Helper()
	m := fs.control()
	if m.Type != wire.TypeToken {
		fs.t.Fatalf("control message %q, want a token", m.Type)
	}
	fs.send(wire.Control{Type: wire.TypeToken, OK: &ok})
	return m.Token
}

// closeWith ends the session with a close code, whatever is under way.
func (fs *fakeSession) closeWith(code wire.CloseCode) {
	fs.conn.SetCloseReason(int(code), code.String())
	fs.asking.Close()
}

var hello = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	io.WriteString(w, "hello "+r.URL.Path)
})
