package h2conn_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/faultnet"
)

func get(t testing.TB, tr http.RoundTripper, path string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://target"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func body(t testing.TB, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRequests(t *testing.T) {
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Host", r.Host)
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, b)
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			path := fmt.Sprintf("/%%2F/%d?a=1;b=%%zz", i)
			req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://target/", strings.NewReader("hello"))
			req.URL.Path, req.URL.Opaque = "", path
			req.Host = "example.org"
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			if got, want := body(t, resp), "POST "+path+" hello"; got != want || resp.StatusCode != 418 || resp.Header.Get("X-Host") != "example.org" {
				t.Errorf("got %d %q, want %q", resp.StatusCode, got, want)
			}
		})
	}
	wg.Wait()
}

// TestConnectionCloseKeepsTunnel: "Connection: close" from either side is a
// wish about one hop; x/net would end the tunnel.
func TestConnectionCloseKeepsTunnel(t *testing.T) {
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		w.Header().Set("Keep-Alive", "timeout=5")
		io.WriteString(w, "ok")
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{})
	for range 3 {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://target/", nil)
		req.Header.Set("Connection", "close")
		req.Header.Set("Proxy-Connection", "close")
		req.Header.Set(h2conn.HeaderUpgrade, "websocket") // forged
		req.Close = true
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.Header["Connection"])+len(resp.Header["Keep-Alive"]) > 0 {
			t.Errorf("hop-by-hop headers crossed: %v", resp.Header)
		}
		if got := body(t, resp); got != "ok" {
			t.Errorf("got %q", got)
		}
		if req.Header.Get("Connection") != "close" || !req.Close {
			t.Error("RoundTrip changed the request")
		}
	}
	select {
	case <-tr.Done():
		t.Errorf("the tunnel ended: %v", tr.Err())
	default:
	}
}

func TestStreamsBothWays(t *testing.T) {
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		h := sha256.New()
		w.Header().Set("Trailer", "X-Sum")
		if _, err := io.Copy(io.MultiWriter(h, w), r.Body); err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Sum", fmt.Sprintf("%x", h.Sum(nil)))
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{})
	const size = 32 << 20
	pr, pw := io.Pipe()
	sent := sha256.New()
	go func() {
		chunk := make([]byte, 100000)
		for left := size; left > 0; {
			n := min(left, len(chunk))
			for i := range chunk[:n] {
				chunk[i] = byte(left + i)
			}
			sent.Write(chunk[:n])
			pw.Write(chunk[:n])
			left -= n
		}
		pw.Close()
	}()
	req, _ := http.NewRequestWithContext(t.Context(), "PUT", "http://target/", pr)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	received := sha256.New()
	n, err := io.Copy(received, resp.Body)
	resp.Body.Close()
	if err != nil || n != size {
		t.Fatalf("received %d bytes, %v", n, err)
	}
	want := fmt.Sprintf("%x", sent.Sum(nil))
	if got := fmt.Sprintf("%x", received.Sum(nil)); got != want || resp.Trailer.Get("X-Sum") != want {
		t.Errorf("hashes: sent %s, received %s, in between %s", want, got, resp.Trailer.Get("X-Sum"))
	}
}

// TestStalledUploadsDoNotStarve: with x/net's default windows one handler
// that does not read its body stops every upload of the tunnel.
func TestStalledUploadsDoNotStarve(t *testing.T) {
	release := make(chan struct{})
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stall" {
			select {
			case <-release:
			case <-r.Context().Done():
			}
			return
		}
		io.Copy(io.Discard, r.Body)
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{})
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var full sync.WaitGroup
	for range 249 { // all but one
		full.Add(1)
		wg.Go(func() {
			var once sync.Once
			req, _ := http.NewRequestWithContext(ctx, "POST", "http://target/stall", &endless{after: 60 << 10, f: func() { once.Do(full.Done) }})
			if resp, err := tr.RoundTrip(req); err == nil {
				resp.Body.Close()
			}
		})
	}
	full.Wait()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://target/", io.LimitReader(&endless{}, 4<<20))
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	cancel()
	close(release)
	wg.Wait()
}

// endless reads for ever, and calls f when after bytes have been read.
type endless struct {
	after int
	f     func()
}

func (e *endless) Read(p []byte) (int, error) {
	if e.f != nil {
		if e.after -= len(p); e.after < 0 {
			e.f()
		}
	}
	return len(p), nil
}

func TestHandlerPanicFailsItsRequestOnly(t *testing.T) {
	var logged syncBuffer
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic("on purpose")
		}
		io.WriteString(w, "ok")
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{ErrorLog: log.New(&logged, "", 0)})
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://target/panic", nil)
	if resp, err := tr.RoundTrip(req); err == nil {
		t.Errorf("got %d", resp.StatusCode)
	}
	if got := body(t, get(t, tr, "/")); got != "ok" {
		t.Errorf("got %q", got)
	}
	// The log may come after the stream's reset.
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(logged.String(), "on purpose"); {
		if time.Now().After(deadline) {
			t.Fatal("the panic was not logged")
		}
		runtime.Gosched()
	}
	if n := strings.Count(logged.String(), "panic serving"); n != 1 {
		t.Errorf("the panic was logged %d times", n)
	}
}

// TestHeaderOverLimitFailsItsRequestOnly: a header that the asking end does not
// admit would end the connection.
func TestHeaderOverLimitFailsItsRequestOnly(t *testing.T) {
	big := strings.Repeat("x", 300<<10)
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/header":
			w.Header().Set("Set-Cookie", big)
		case "/many":
			for i := range 20000 {
				w.Header().Add("X-A", fmt.Sprint(i))
			}
		case "/interim":
			w.Header().Set("Link", big)
			w.WriteHeader(103)
			w.Header().Del("Link")
		case "/trailer":
			io.WriteString(w, "ok")
			w.Header().Set(http.TrailerPrefix+"X-T", big)
			return
		}
		io.WriteString(w, "ok")
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{ErrorLog: log.New(io.Discard, "", 0)})
	for _, tc := range []struct {
		path   string
		status int
	}{{"/header", 502}, {"/many", 502}, {"/interim", 200}} {
		resp := get(t, tr, tc.path)
		if b := body(t, resp); resp.StatusCode != tc.status || tc.status == 200 && b != "ok" {
			t.Errorf("%s: got %d %q", tc.path, resp.StatusCode, b)
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://target/trailer", nil)
	resp, err := tr.RoundTrip(req)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("an answer without its trailers looked complete")
	}
	if got := body(t, get(t, tr, "/")); got != "ok" {
		t.Errorf("afterwards: %q", got)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestShutdown: what is in flight finishes, then the peer gets the close code.
func TestShutdown(t *testing.T) {
	dialled, accepted := conns(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	served := make(chan error, 1)
	go func() {
		served <- h2conn.Serve(context.Background(), dialled, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(arrived)
			<-release
			io.WriteString(w, "finished")
		}), h2conn.ServeConfig{})
	}()
	tr, err := h2conn.NewTransport(accepted, h2conn.TransportConfig{})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	go func() { got <- body(t, get(t, tr, "/")) }()
	<-arrived
	accepted.SetCloseReason(4002, "draining")
	down := make(chan error, 1)
	go func() { down <- tr.Shutdown(t.Context()) }()
	close(release)
	if g := <-got; g != "finished" {
		t.Errorf("request in flight got %q", g)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	var ce *h2conn.CloseError
	if err := <-served; !errors.As(err, &ce) || ce.Code != 4002 {
		t.Errorf("Serve returned %v, want close code 4002", err)
	}
}

// TestServeDrains: when Serve's context ends, requests in flight finish.
func TestServeDrains(t *testing.T) {
	dialled, accepted := conns(t)
	ctx, cancel := context.WithCancel(context.Background())
	arrived, release := make(chan struct{}), make(chan struct{})
	served := make(chan error, 1)
	go func() {
		served <- h2conn.Serve(ctx, dialled, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(arrived)
			<-release
			if r.Context().Err() != nil {
				t.Error("the request's context ended while draining")
			}
			io.WriteString(w, "finished")
		}), h2conn.ServeConfig{DrainTimeout: 10 * time.Second})
	}()
	tr, err := h2conn.NewTransport(accepted, h2conn.TransportConfig{})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	go func() { got <- body(t, get(t, tr, "/")) }()
	<-arrived
	cancel()
	close(release)
	if g := <-got; g != "finished" {
		t.Errorf("request in flight got %q", g)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve returned %v", err)
	}
	<-tr.Done()
}

func TestPeerGone(t *testing.T) {
	dialled, accepted := conns(t)
	arrived := make(chan struct{})
	go h2conn.Serve(context.Background(), dialled, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		close(arrived)
		<-r.Context().Done()
	}), h2conn.ServeConfig{})
	tr, err := h2conn.NewTransport(accepted, h2conn.TransportConfig{})
	if err != nil {
		t.Fatal(err)
	}
	resp := get(t, tr, "/")
	<-arrived
	dialled.CloseWith(4000, "replaced")
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("a body cut short by a lost connection looked complete")
	}
	<-tr.Done()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://target/", nil)
	var ce *h2conn.CloseError
	if _, err := tr.RoundTrip(req); !errors.As(err, &ce) || ce.Code != 4000 {
		t.Errorf("a request on a lost connection got %v, want the close code", err)
	}
}

// TestLiveness: a peer whose machine vanished is found by pings.
func TestLiveness(t *testing.T) {
	dialled, accepted := conns(t)
	_ = dialled // nobody reads it, so nobody answers
	tr, err := h2conn.NewTransport(accepted, h2conn.TransportConfig{Config: h2conn.Config{PingInterval: 50 * time.Millisecond, PingTimeout: 100 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-tr.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("a silent peer was not found")
	}
	if err := tr.Err(); err == nil || !strings.Contains(err.Error(), "has not answered a ping") {
		t.Errorf("the cause is %v", err)
	}
}

// TestLivenessGoesOn: each answer is followed by the next ping after the interval, however
// long an answer may take.
func TestLivenessGoesOn(t *testing.T) {
	for name, timeout := range map[string]time.Duration{"a minute": time.Minute, "no limit": -1} {
		t.Run(name, func(t *testing.T) {
			var answers atomic.Int32
			enough := make(chan struct{})
			tr := tunnel(t, http.NotFoundHandler(), h2conn.TransportConfig{
				Config: h2conn.Config{PingInterval: 20 * time.Millisecond, PingTimeout: timeout},
				PingAnswered: func(time.Duration) {
					if answers.Add(1) == 10 {
						close(enough)
					}
				},
			}, h2conn.ServeConfig{})
			select {
			case <-enough:
			case <-tr.Done():
				t.Errorf("the connection is lost: %v", tr.Err())
			case <-time.After(10 * time.Second):
				t.Errorf("%d answers", answers.Load())
			}
		})
	}
}

// TestLivenessOff: without a limit, a peer that answers nothing is kept for ever, at both ends.
func TestLivenessOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := h2conn.Config{PingTimeout: -1}
		ln := faultnet.Listen(faultnet.Options{})
		h, got := accepting(t, h2conn.AcceptOptions{Subprotocol: testSubprotocol})
		srv := &http.Server{Handler: h}
		go srv.Serve(ln)
		defer srv.Close()
		viaPipe := &http.Client{Transport: &http.Transport{DialContext: ln.DialContext}}
		pair := func() (dialled, accepted *h2conn.Conn) {
			dialled, _, err := h2conn.Dial(t.Context(), "http://service.test/", h2conn.DialOptions{Subprotocol: testSubprotocol, HTTPClient: viaPipe})
			if err != nil {
				t.Fatal(err)
			}
			return dialled, <-got
		}

		silent, accepted := pair()
		defer silent.Close()
		tr, err := h2conn.NewTransport(accepted, h2conn.TransportConfig{Config: cfg})
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()

		dialled, mute := pair()
		defer mute.Close()
		mute.Write([]byte(http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00")) // and no more
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan struct{})
		var ended error
		go func() {
			defer close(served)
			ended = h2conn.Serve(ctx, dialled, http.NotFoundHandler(), h2conn.ServeConfig{Config: cfg})
		}()

		select {
		case <-time.After(time.Hour): // of the bubble
		case <-tr.Done():
			t.Errorf("the asking end has given up: %v", tr.Err())
		case <-served:
			t.Errorf("the answering end has given up: %v", ended)
		}
		cancel()
		<-served
	})
}

// TestLivenessOfAskingEnd is the same seen from the other end.
func TestLivenessOfAskingEnd(t *testing.T) {
	dialled, accepted := conns(t)
	accepted.Write([]byte(http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00")) // and no more
	err := h2conn.Serve(t.Context(), dialled, http.NotFoundHandler(), h2conn.ServeConfig{Config: h2conn.Config{PingInterval: 50 * time.Millisecond, PingTimeout: 100 * time.Millisecond}})
	if err == nil || !strings.Contains(err.Error(), "has not answered a ping") {
		t.Errorf("the cause is %v", err)
	}
}
