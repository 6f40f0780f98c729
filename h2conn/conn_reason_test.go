package h2conn_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// muteConn fails all writes once it is mute. What the other end sends still comes.
type muteConn struct {
	net.Conn
	mute atomic.Bool
}

func (c *muteConn) Write(p []byte) (int, error) {
	if c.mute.Load() {
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(p)
}

// mutable is like conns, but its dialled end can be made mute.
func mutable(t *testing.T) (dialled, accepted *h2conn.Conn, link *muteConn) {
	t.Helper()
	h, got := accepting(t, h2conn.AcceptOptions{})
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	link = new(muteConn)
	dialled, _, err := h2conn.Dial(t.Context(), srv.URL, h2conn.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (_ net.Conn, err error) {
			link.Conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
			return link, err
		},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return dialled, <-got, link
}

// TestReasonBesideFailedWrite: the peer has said why it closes, and a write fails before
// that has been read. The failed write was the reason then.
func TestReasonBesideFailedWrite(t *testing.T) {
	write := func(c *h2conn.Conn) error { _, err := c.Write([]byte("x")); return err }
	control := func(c *h2conn.Conn) error { return c.SendControl([]byte("x")) }
	for name, tc := range map[string]struct {
		code       int
		send       func(*h2conn.Conn) error
		read, echo bool
	}{
		"write, then Read":                  {code: 4001, send: write, read: true},
		"write, then Close":                 {code: 4001, send: write},
		"control message, then Close":       {code: 4001, send: control},
		"write, then Close with that code":  {code: 1000, send: write},
		"write, then Read of a normal code": {code: 1000, send: write, read: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, peer, link := mutable(t)
			var wg sync.WaitGroup
			defer wg.Wait()
			defer c.Abort()
			wg.Go(func() { peer.CloseWith(tc.code, "said") })

			link.mute.Store(true)
			for tc.send(c) == nil {
			}
			if tc.read {
				_, err := io.Copy(io.Discard, c)
				if (err == nil) != (tc.code == 1000) {
					t.Errorf("Read ended with %v", err)
				}
			} else {
				c.Close()
			}
			<-c.Done()
			var ce *h2conn.CloseError
			if err := c.Err(); !errors.As(err, &ce) || ce.Code != tc.code || ce.Reason != "said" {
				t.Errorf("it ended with %v, want the close code %d", err, tc.code)
			}
		})
	}
}

// TestCloseWaitsForReason: a Read is about to return the peer's close code when Close is
// called, as HTTP/2 does after a failed write. Close left without the code.
func TestCloseWaitsForReason(t *testing.T) {
	c, _ := conns(t)
	end := h2conn.HoldRead(c, 4004)
	c.Abort()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		c.Close()
	}()
	select {
	case <-c.Done():
		t.Errorf("Close is done before Read is; Err is %v", c.Err())
	case <-time.After(100 * time.Millisecond):
	}
	end()
	<-closed
	var ce *h2conn.CloseError
	if err := c.Err(); !errors.As(err, &ce) || ce.Code != 4004 {
		t.Errorf("it ended with %v, want the close code 4004", err)
	}
}

// TestMutePeerIsCutOff: when nothing can be sent any more, a Read waits no longer than a
// Close for what the peer may have said.
func TestMutePeerIsCutOff(t *testing.T) {
	t.Parallel()
	c, peer, link := mutable(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { io.Copy(io.Discard, peer) })
	link.mute.Store(true)
	for {
		if _, err := c.Write([]byte("x")); err != nil {
			break
		}
	}
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Read ended with %v, want the error of the write", err)
	}
	<-c.Done()
	c.Close()
}

// TestResetWhileIdle: a connection that the network resets while nothing is under way ends
// with that error. The kernel tells of a reset once, and of an end thereafter.
func TestResetWhileIdle(t *testing.T) {
	h, got := accepting(t, h2conn.AcceptOptions{Subprotocol: testSubprotocol})
	srv := httptest.NewServer(h)
	defer srv.Close()
	sockets := make(chan *net.TCPConn, 1)
	dialled, _, err := h2conn.Dial(t.Context(), srv.URL, h2conn.DialOptions{
		Subprotocol: testSubprotocol,
		HTTPClient: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				sockets <- c.(*net.TCPConn)
			}
			return c, err
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	accepted, ok := <-got
	if !ok {
		t.FailNow()
	}
	go h2conn.Serve(t.Context(), dialled, http.NotFoundHandler(), h2conn.ServeConfig{})
	tr, err := h2conn.NewTransport(accepted, h2conn.TransportConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second is answered when what the first has set off has been written
		if err := tr.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c := <-sockets
	if err := c.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
	<-tr.Done()
	if err := accepted.Err(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("it ended with %v", err)
	}
}
