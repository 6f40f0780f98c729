package tunneltest

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// Listen returns a listener on a free port of 127.0.0.1. It is closed when the
// test ends, if that has not happened before.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// ServeConns calls serve, in a goroutine of its own, for each connection to a new
// listener, and closes the connection when serve returns. Reads and writes fail
// after 20 s, unless serve sets another deadline. When the test ends it waits
// for all of them; [testing.T.Context], which ends before that, can end serve.
func ServeConns(t testing.TB, serve func(net.Conn)) net.Listener {
	t.Helper()
	ln := Listen(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return ln
}

// connections are those that listeners have accepted and nobody has closed, by
// their remote address.
type connections struct {
	mu   sync.Mutex
	open map[string]*recordedConn
}

// cut closes the connections whose remote address is wanted.
func (cs *connections) cut(wanted func(remoteAddr string) bool) {
	cs.mu.Lock()
	var list []*recordedConn
	for addr, c := range cs.open {
		if wanted(addr) {
			list = append(list, c)
		}
	}
	cs.mu.Unlock()
	for _, c := range list {
		c.Conn.Close()
	}
}

// recordingListener adds the connections that it accepts to conns.
type recordingListener struct {
	net.Listener
	conns *connections
}

func (l recordingListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &recordedConn{netconn.Layer{Conn: nc}, l.conns}
	l.conns.mu.Lock()
	defer l.conns.mu.Unlock()
	if l.conns.open == nil {
		l.conns.open = make(map[string]*recordedConn)
	}
	l.conns.open[nc.RemoteAddr().String()] = c
	return c, nil
}

type recordedConn struct {
	netconn.Layer
	conns *connections
}

func (c *recordedConn) Close() error {
	addr := c.RemoteAddr().String()
	c.conns.mu.Lock()
	if c.conns.open[addr] == c {
		delete(c.conns.open, addr)
	}
	c.conns.mu.Unlock()
	return c.Layer.Close()
}
