package h2spec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
)

// TestAskingEnd runs the suite's part for clients against the asking end.
func TestAskingEnd(t *testing.T) {
	a := newAcceptor(t)
	runClient(t, askingEnd, func(conn net.Conn, id string) (http.RoundTripper, func()) {
		dialled, accepted := a.dial(t, id)
		done := make(chan struct{})
		go func() { defer close(done); relay(conn, dialled) }()
		// The suite takes it for granted that clients admit frames of 16 KiB only.
		tr, err := h2conn.NewTransport(accepted, h2conn.TransportConfig{Config: h2conn.Config{MaxFrameSize: 16 << 10}})
		if err != nil {
			t.Error(err)
		}
		return tr, func() { tr.Close(); <-done }
	})
}

// TestControlClient runs it against a client without this project.
func TestControlClient(t *testing.T) {
	runClient(t, xnetTransport, func(conn net.Conn, _ string) (http.RoundTripper, func()) {
		cc, err := new(http2.Transport).NewClientConn(conn)
		if err != nil {
			t.Error(err)
		}
		return cc, func() { cc.Close() }
	})
}

// runClient lets clients made by open, one for each case, send a request.
func runClient(t *testing.T, subject subject, open func(conn net.Conn, id string) (rt http.RoundTripper, stop func())) {
	ln := tunneltest.Listen(t)
	var mu sync.Mutex
	n := 0
	run(t, subject, clientCases(func() (net.Conn, func()) {
		mu.Lock()
		defer mu.Unlock() // of the pair too
		n++
		ours, theirs := tcpPair(t, ln)
		rt, stop := open(theirs, fmt.Sprint("case", n))
		wrote, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			request(t, rt, sync.OnceFunc(func() { close(wrote) }))
		}()
		select { // some cases depend on who is first
		case <-wrote:
		case <-done:
		}
		return orderly{ours}, func() {
			ours.Close()
			<-done // the request does not outlive its connection
			stop()
		}
	}))
}

// request sends a request, calls wrote and reads the answer, if there is one.
func request(t *testing.T, rt http.RoundTripper, wrote func()) {
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{WroteHeaders: wrote})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1/", nil)
	if err != nil {
		t.Error(err)
		return
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

// orderly is a connection that is closed where it is in fact reset, since
// h2spec takes a reset for something else.
type orderly struct{ net.Conn }

func (c orderly) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, syscall.ECONNRESET) {
		err = io.EOF
	}
	return n, err
}
