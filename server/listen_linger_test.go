package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// halfClosing is a net.Pipe's end that knows CloseWrite, and does nothing there.
type halfClosing struct{ net.Conn }

func (halfClosing) CloseWrite() error { return nil }

// lingeringConn returns a connection that l has admitted and that has been closed
// under an upload, and the viewer's end of it.
func lingeringConn(t *testing.T, l *connLimit) (c *viewerConn, viewer net.Conn) {
	t.Helper()
	a, viewer := net.Pipe()
	c = &viewerConn{Layer: netconn.Layer{Conn: halfClosing{a}}, limit: l}
	if !l.admit(c) {
		t.Fatal("no room")
	}
	l.connState(c, http.StateActive)
	lingerOnClose(c)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	_ = c.Close() // as HTTP/2 does; it must end nothing
	return c, viewer
}

// newLimit returns a connLimit without exemptions.
func newLimit(total, perAddr int) *connLimit {
	nobody := func(netip.Addr) bool { return false }
	return newConnLimit(total, perAddr, nobody, newMemory(0, trustedProxies{}), connCost)
}

// trickle writes a byte each interval until that fails, and returns for how long
// it did not.
func trickle(c net.Conn, interval time.Duration) time.Duration {
	begun := time.Now()
	for {
		c.SetWriteDeadline(time.Now().Add(time.Hour))
		if _, err := c.Write([]byte("x")); err != nil {
			return time.Since(begun)
		}
		time.Sleep(interval) //nolint:forbidigo // the clock is fake
	}
}

// TestLinger: the rest of a slow upload is read for 30 s (wanted is when the first
// byte after that comes), and 5 s without a byte end it. It used to be one second,
// so that viewers saw a reset instead of the 413.
func TestLinger(t *testing.T) {
	for _, tc := range []struct{ interval, want time.Duration }{
		{1100 * time.Millisecond, 30800 * time.Millisecond},
		{4900 * time.Millisecond, 34300 * time.Millisecond},
		{5100 * time.Millisecond, 5100 * time.Millisecond},
		{time.Hour, time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLimit(0, 0)
			_, viewer := lingeringConn(t, l)
			if l.open != 1 {
				t.Errorf("%d connections are counted", l.open)
			}
			if got := trickle(viewer, tc.interval); got != tc.want {
				t.Errorf("with a byte each %v: taken for %v, want %v", tc.interval, got, tc.want)
			}
			synctest.Wait()
			if l.open != 0 || l.lingering.Len() != 0 || l.idle.Len() != 0 || len(l.byAddr) != 0 {
				t.Errorf("left: %d, %d, %d, %v", l.open, l.lingering.Len(), l.idle.Len(), l.byAddr)
			}
		})
	}
}

// TestLingeringGivesWay: what lingers is the first to go where connections are
// scarce, the longest at it before others, and keeps nobody out.
func TestLingeringGivesWay(t *testing.T) {
	gone := func(viewer net.Conn) bool {
		viewer.SetWriteDeadline(time.Now().Add(time.Second))
		_, err := viewer.Write([]byte("x"))
		return errors.Is(err, io.ErrClosedPipe)
	}
	newConn := func(t *testing.T, l *connLimit) *viewerConn {
		a, b := net.Pipe()
		t.Cleanup(func() { a.Close(); b.Close() })
		c := &viewerConn{Layer: netconn.Layer{Conn: halfClosing{a}}, limit: l}
		if !l.admit(c) {
			t.Error("a connection found no room")
		}
		return c
	}
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(4, 0)
		idle, busy := newConn(t, l), newConn(t, l)
		l.connState(busy, http.StateActive)
		_, first := lingeringConn(t, l)
		_, second := lingeringConn(t, l)
		if gone(first) || gone(second) {
			t.Error("one that lingers went without need")
		}
		spare := newConn(t, l)
		if !gone(first) || gone(second) || spare.spare {
			t.Error("the one that lingered longest did not give way")
		}
		newConn(t, l)
		if !gone(second) {
			t.Error("the other that lingered did not give way")
		}
		if !idle.counted {
			t.Error("an idle connection went before one that lingered")
		}
		l.connState(idle, http.StateActive)
		for _, c := range []*viewerConn{idle, busy} {
			c.limit.remove(c)
		}
		l.stopLingering()
		if c, viewer := lingeringConn(t, l); !gone(viewer) || c.counted {
			t.Error("one lingers after the end of all")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		// A spare connection is none while others linger.
		l := newLimit(1, 0)
		busy := newConn(t, l)
		l.connState(busy, http.StateActive)
		spare := newConn(t, l)
		l.connState(spare, http.StateActive)
		if !l.overfull(spare) {
			t.Error("not too many")
		}
		lingerOnClose(busy)
		busy.Close()
		if l.overfull(spare) {
			t.Error("one that lingers keeps a viewer out")
		}
		l.stopLingering()
	})
	synctest.Test(t, func(t *testing.T) {
		// A full address has room where one of its own lingers.
		l := newLimit(0, 2)
		at := func(addr string) (*viewerConn, net.Conn) {
			a, b := net.Pipe()
			t.Cleanup(func() { a.Close(); b.Close() })
			from := fromConn{halfClosing{a}, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))}
			c := &viewerConn{Layer: netconn.Layer{Conn: halfClosing{from}}, limit: l}
			if !l.admit(c) {
				return nil, b
			}
			l.connState(c, http.StateActive)
			return c, b
		}
		other, otherViewer := at("192.0.2.9:1")
		lingerOnClose(other)
		other.Close()
		c, viewer := at("192.0.2.1:1")
		lingerOnClose(c)
		c.Close()
		at("192.0.2.1:2")
		if c, _ := at("192.0.2.1:3"); c == nil || !gone(viewer) {
			t.Error("a full address has no room although one of its own lingers")
		}
		if c, _ := at("192.0.2.1:4"); c != nil || gone(otherViewer) {
			t.Error("a full address has room at the cost of another")
		}
		l.stopLingering()
	})
}
