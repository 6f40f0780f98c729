package h2conn_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// TestConnIsNetConn runs the conformance suite of x/net for connections. The
// deadline set in advance is because of the one deviation that Conn documents:
// a first deadline under a Read that is already blocked.
func TestConnIsNetConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, b := conns(t)
		a.SetReadDeadline(time.Now().Add(time.Hour))
		b.SetReadDeadline(time.Now().Add(time.Hour))
		return a, b, func() { a.Close(); b.Close() }, nil
	})
}

func TestControlMessages(t *testing.T) {
	a, b := conns(t)
	got := make(chan string, 10)
	b.OnControl(func(m []byte) { got <- string(m) })
	var back bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(&back, b)
	}()
	for _, m := range []string{`{"type":"x"}`, strings.Repeat("y", h2conn.MaxControlMessage)} {
		if _, err := a.Write([]byte("bytes ")); err != nil {
			t.Fatal(err)
		}
		if err := a.SendControl([]byte(m)); err != nil {
			t.Fatal(err)
		}
		if g := <-got; g != m {
			t.Errorf("got control message of %d bytes, want %d", len(g), len(m))
		}
	}
	if err := a.SendControl(make([]byte, h2conn.MaxControlMessage+1)); err == nil {
		t.Error("an oversized control message was sent")
	}
	a.Close()
	<-done
	if back.String() != "bytes bytes " {
		t.Errorf("byte stream is %q", back.String())
	}
}

func TestCloseCodeReachesPeer(t *testing.T) {
	for _, dir := range []string{"from dialled", "from accepted"} {
		t.Run(dir, func(t *testing.T) {
			a, b := conns(t)
			if dir == "from accepted" {
				a, b = b, a
			}
			// Bytes that the closing end never reads must not cost the code.
			if _, err := b.Write(make([]byte, 96<<10)); err != nil { // fits into buffers
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, b)
				done <- err
			}()
			a.CloseWith(4002, "draining")
			<-done
			<-b.Done()
			var ce *h2conn.CloseError
			if !errors.As(b.Err(), &ce) || ce.Code != 4002 || ce.Reason != "draining" {
				t.Errorf("peer's error is %v, want close code 4002", b.Err())
			}
			if err := a.Err(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("own error is %v, want net.ErrClosed", err)
			}
		})
	}
}

// TestCloseOnSilentPeer is about websocket's own close handshake, which waits
// for 5 s and more.
func TestCloseOnSilentPeer(t *testing.T) {
	for _, full := range []bool{false, true} {
		name := "idle"
		if full {
			name = "with a full pipe"
		}
		t.Run(name, func(t *testing.T) {
			_, b := conns(t) // nobody reads the other end
			var wg sync.WaitGroup
			if full {
				wg.Go(func() {
					for {
						if _, err := b.Write(make([]byte, 96<<10)); err != nil { // fits into buffers
							return
						}
					}
				})
			}
			start := time.Now()
			b.Close()
			if d := time.Since(start); d > 4*time.Second {
				t.Errorf("Close took %v", d)
			}
			wg.Wait()
		})
	}
}

// TestCloseOnSilentTLSPeer: a TLS connection waits for its close_notify to
// leave, up to 5 s.
func TestCloseOnSilentTLSPeer(t *testing.T) {
	h, got := accepting(t, h2conn.AcceptOptions{})
	srv := httptest.NewTLSServer(h)
	defer srv.Close()
	a, _, err := h2conn.Dial(t.Context(), srv.URL, h2conn.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
		TLSClientConfig: srv.Client().Transport.(*http.Transport).TLSClientConfig,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	b := <-got
	for _, c := range []*h2conn.Conn{a, b} { // both send until nothing moves, neither reads
		for err = nil; !errors.Is(err, os.ErrDeadlineExceeded); {
			c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			if _, err = c.Write(make([]byte, 64<<10)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
		}
		c.SetWriteDeadline(time.Time{})
	}
	var wg sync.WaitGroup
	for c, what := range map[*h2conn.Conn]string{a: "dialled", b: "accepted"} {
		wg.Go(func() {
			start := time.Now()
			c.Close()
			if d := time.Since(start); d > 4*time.Second {
				t.Errorf("%s: Close took %v", what, d)
			}
		})
	}
	wg.Wait()
}

// TestStuckPeer: a peer that takes nothing ends the connection after the
// write timeout although each Write returned at once.
func TestStuckPeer(t *testing.T) {
	h, got := accepting(t, h2conn.AcceptOptions{WriteTimeout: 200 * time.Millisecond})
	srv := httptest.NewServer(h)
	defer srv.Close()
	a, _, err := h2conn.Dial(t.Context(), srv.URL, h2conn.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b := <-got
	defer b.Close()
	for {
		if _, err := b.Write(make([]byte, 64<<10)); err != nil {
			break
		}
	}
	io.Copy(io.Discard, b)
	<-b.Done()
	if err := b.Err(); err == nil || !strings.Contains(err.Error(), "write timeout") {
		t.Errorf("Err is %v, want the write timeout", err)
	}
}

func TestBytesBothWays(t *testing.T) {
	a, b := conns(t)
	const size = 8 << 20
	data := make([]byte, size)
	rand.Read(data)
	want := sha256.Sum256(data)
	var wg sync.WaitGroup
	for _, d := range []struct{ from, to *h2conn.Conn }{{a, b}, {b, a}} {
		wg.Go(func() {
			for p := data; len(p) > 0; {
				n := min(len(p), 1+len(p)%70000)
				if _, err := d.from.Write(p[:n]); err != nil {
					t.Error(err)
					return
				}
				p = p[n:]
			}
		})
		wg.Go(func() {
			h := sha256.New()
			if _, err := io.CopyN(h, d.to, size); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(h.Sum(nil), want[:]) {
				t.Error("bytes differ")
			}
		})
	}
	wg.Wait()
}

func TestDialRefused(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		http.Error(w, "try later", http.StatusServiceUnavailable)
	}))
	defer srv.Close()
	_, resp, err := h2conn.Dial(t.Context(), srv.URL, h2conn.DialOptions{Subprotocol: testSubprotocol})
	if err == nil || resp == nil {
		t.Fatalf("Dial returned %v, %v", resp, err)
	}
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "7" || string(b) != "try later\n" {
		t.Errorf("refusal is %d %q", resp.StatusCode, b)
	}
}

func TestDialContextBoundsOnlyTheHandshake(t *testing.T) {
	h, got := accepting(t, h2conn.AcceptOptions{})
	srv := httptest.NewServer(h)
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	a, _, err := h2conn.Dial(ctx, srv.URL, h2conn.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b := <-got
	defer b.Close()
	cancel()
	if _, err := a.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 10)
	if _, err := io.ReadFull(b, p); err != nil || string(p) != "still here" {
		t.Fatalf("read %q, %v", p, err)
	}
}

func TestAcceptWantsSubprotocol(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := h2conn.Accept(w, r, h2conn.AcceptOptions{Subprotocol: testSubprotocol}); err == nil {
			t.Error("accepted a client without the subprotocol")
		}
	}))
	defer srv.Close()
	_, resp, err := h2conn.Dial(t.Context(), srv.URL, h2conn.DialOptions{Subprotocol: "another"})
	if err == nil || resp == nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("got %v, %v", resp, err)
	}
}
