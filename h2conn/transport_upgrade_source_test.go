package h2conn_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// source is a viewer's connection as an upgrade reads from it.
type source struct {
	net.Conn
	interrupted, resumed chan struct{} // capacity 1
}

func newSource(t *testing.T) (s *source, viewer net.Conn) {
	c, viewer := net.Pipe()
	t.Cleanup(func() { c.Close(); viewer.Close() })
	return &source{c, make(chan struct{}, 1), make(chan struct{}, 1)}, viewer
}

func (s *source) InterruptRead() {
	s.SetReadDeadline(time.Unix(1, 0))
	s.interrupted <- struct{}{}
}

func (s *source) ResumeRead() {
	s.SetReadDeadline(time.Time{})
	s.resumed <- struct{}{}
}

// upgraded asks tr for an upgrade, which must be granted.
func upgraded(t *testing.T, ctx context.Context, tr *h2conn.Transport) io.ReadWriteCloser {
	t.Helper()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://target/", nil)
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status %d", resp.StatusCode)
	}
	return resp.Body.(io.ReadWriteCloser)
}

type copied struct {
	n   int64
	err error
}

// copyFrom copies from src to the stream, as ReverseProxy does.
func copyFrom(stream io.Writer, src io.Reader) <-chan copied {
	done := make(chan copied, 1)
	go func() {
		n, err := io.Copy(stream, src)
		done <- copied{n, err}
	}()
	return done
}

// TestUpgradeReadFrom: what the source has arrives, and so does its end, before and after
// bytes that have come by Write.
func TestUpgradeReadFrom(t *testing.T) {
	forms(t, func(t *testing.T, cfg h2conn.TransportConfig) {
		got := make(chan string, 1)
		tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, brw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			io.WriteString(conn, switchedToX)
			b, err := io.ReadAll(brw)
			if err != nil {
				t.Error(err)
			}
			got <- string(b)
		}), cfg, h2conn.ServeConfig{})
		stream := upgraded(t, t.Context(), tr)
		defer stream.Close()
		io.WriteString(stream, "by Write, ")
		for _, text := range []string{"from one, ", "from another, "} {
			src, viewer := newSource(t)
			done := copyFrom(stream, src)
			for i := range text {
				io.WriteString(viewer, text[i:i+1])
			}
			viewer.Close()
			if c := <-done; c != (copied{int64(len(text)), nil}) {
				t.Errorf("copied %d bytes, %v, want %d", c.n, c.err, len(text))
			}
		}
		io.WriteString(stream, "by Write")
		stream.(closeWriter).CloseWrite()
		if b := <-got; b != "by Write, from one, from another, by Write" {
			t.Errorf("got %q", b)
		}
	})
}

// TestUpgradeSourceFails: a failure of the source is what the copy returns.
func TestUpgradeSourceFails(t *testing.T) {
	tr := tunnel(t, switching(io.Discard), h2conn.TransportConfig{}, h2conn.ServeConfig{})
	stream := upgraded(t, t.Context(), tr)
	src, _ := newSource(t)
	src.SetReadDeadline(time.Unix(1, 0))
	if c := <-copyFrom(stream, src); !errors.Is(c.err, os.ErrDeadlineExceeded) {
		t.Errorf("copied %d bytes, %v", c.n, c.err)
	}
	stream.Close()
}

// switching returns a handler that switches protocols and copies what comes to w.
func switching(w io.Writer) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		conn, brw, err := rw.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		io.WriteString(conn, switchedToX)
		io.Copy(w, brw)
	})
}

// TestUpgradeOverWhileSourceWaits: the target closes while nothing comes from the viewer.
// The stream is over at once, and the viewer, who may have nothing more to say, is not told
// before it sends something.
func TestUpgradeOverWhileSourceWaits(t *testing.T) {
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, brw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(conn, switchedToX)
		brw.ReadByte()
		conn.Close()
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{})
	stream := upgraded(t, t.Context(), tr)
	src, viewer := newSource(t)
	done := copyFrom(stream, src)
	io.WriteString(viewer, "1")
	if b, err := io.ReadAll(stream); len(b) > 0 || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
	<-src.interrupted
	<-src.resumed
	select {
	case c := <-done:
		t.Fatalf("the copy returned %+v", c)
	default:
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := tr.Shutdown(ctx); err != nil { // waits for streams
		t.Error(err)
	}
	io.WriteString(viewer, "2")
	if c := <-done; c.err == nil {
		t.Errorf("what the viewer sent was accepted: %+v", c)
	}
	stream.Close()
}

// TestUpgradeCancelledWhileSourceWaits: the end of the request's context resets the
// stream, although nothing comes from the viewer.
func TestUpgradeCancelledWhileSourceWaits(t *testing.T) {
	over := make(chan error, 1)
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, brw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, switchedToX)
		_, err = io.Copy(io.Discard, brw)
		over <- err
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{})
	for _, begun := range []bool{true, false} {
		ctx, cancel := context.WithCancel(t.Context())
		stream := upgraded(t, ctx, tr)
		src, viewer := newSource(t)
		var done <-chan copied
		if begun {
			done = copyFrom(stream, src)
			io.WriteString(viewer, "1")
		}
		cancel()
		if err := <-over; err == nil {
			t.Error("the target saw a clean end")
		}
		if !begun {
			done = copyFrom(stream, src)
		}
		go io.WriteString(viewer, "2") // which nobody reads if "1" was refused
		if c := <-done; !errors.Is(c.err, io.ErrClosedPipe) {
			t.Errorf("the copy returned %+v", c)
		}
		stream.Close()
	}
}
