package server

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"
)

// A connection that the service ends while its viewer is still sending lingers
// (RFC 9112, section 9.6): the sending direction is closed, and what comes is read
// and dropped. To bytes that arrive at a closed connection the kernel answers with
// a reset, which costs the viewer the answer: the 413 to an upload, for example.
//
// A lingering connection counts, and where connections are scarce it is the first
// to give way.
const (
	// lingerTime bounds how long a connection lingers.
	lingerTime = 30 * time.Second

	// lingerSilence is how long one lingers without a byte.
	lingerSilence = 5 * time.Second
)

// lingerOnClose makes the Close of c, which may be nil, linger.
func lingerOnClose(c *viewerConn) {
	if c != nil {
		c.linger.Store(true)
	}
}

// leaveRest is called before an answer to r that is given without a look at its
// body. Over HTTP/1, net/http waits for a part of that before the answer goes out,
// to use the connection again.
func leaveRest(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(restTimeout))
		lingerOnClose(requestConn(r))
	}
}

// dropRest lingers, and closes c for good.
func (c *viewerConn) dropRest() {
	_, _ = io.Copy(io.Discard, restReader{c.Conn, time.Now().Add(lingerTime)})
	c.Conn.Close()
	c.limit.remove(c)
}

// restReader reads from a connection until end, or until it is silent for too
// long.
type restReader struct {
	conn net.Conn
	end  time.Time
}

func (r restReader) Read(p []byte) (int, error) {
	by := time.Now().Add(lingerSilence)
	if r.end.Before(by) {
		by = r.end
	}
	r.conn.SetReadDeadline(by)
	return r.conn.Read(p)
}

// linger notes that c lingers from now on, and reports false if it may not.
func (l *connLimit) linger(c *viewerConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !c.counted || l.stopped {
		return false
	}
	l.busyLocked(c)
	c.lingers = l.lingering.PushBack(c)
	if a := l.byAddr[c.addr]; a != nil {
		c.lingersOf = a.lingering.PushBack(c)
	}
	return true
}

// settle waits until no connection lingers, or until ctx ends.
func (l *connLimit) settle(ctx context.Context) {
	l.mu.Lock()
	if l.lingering.Len() == 0 {
		l.mu.Unlock()
		return
	}
	if l.settled == nil {
		l.settled = make(chan struct{})
	}
	settled := l.settled
	l.mu.Unlock()
	select {
	case <-settled:
	case <-ctx.Done():
	}
}

// stopLingering closes what lingers. Nothing does after that.
func (l *connLimit) stopLingering() {
	l.mu.Lock()
	l.stopped = true
	var conns []*viewerConn
	for e := l.lingering.Front(); e != nil; e = e.Next() {
		conns = append(conns, e.Value.(*viewerConn))
	}
	l.mu.Unlock()
	for _, c := range conns {
		c.Conn.Close()
	}
	l.settle(context.Background())
}
