package faultnet

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// Relay accepts TCP connections and forwards each to an address, with a
// [Link] between the two sockets. The sockets' own buffers come on top of the
// link's.
type Relay struct {
	links

	target string
	ln     net.Listener
	wg     sync.WaitGroup
}

// NewRelay listens on a port of 127.0.0.1 and forwards to target, host:port.
func NewRelay(target string, o Options) (*Relay, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Relay{links: links{opts: o}, target: target, ln: ln}
	r.wg.Go(r.accept)
	return r, nil
}

// Addr returns the address to connect to, host:port.
func (r *Relay) Addr() string { return r.ln.Addr().String() }

// Close resets all connections and returns when all is gone.
func (r *Relay) Close() error {
	err := r.ln.Close()
	r.Refuse(true)
	r.ResetAll()
	r.wg.Wait()
	return err
}

func (r *Relay) accept() {
	for {
		c, err := r.ln.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() { r.forward(c.(*net.TCPConn)) })
	}
}

// forward carries one connection.
func (r *Relay) forward(accepted *net.TCPConn) {
	defer abort(accepted) // what has been closed already stays closed
	if r.refusing() {
		return
	}
	t, err := net.Dial("tcp", r.target)
	if err != nil {
		return
	}
	dialled := t.(*net.TCPConn)
	defer abort(dialled)
	link := r.add(accepted.RemoteAddr(), dialled.LocalAddr(), func() { abort(accepted); abort(dialled) })
	if link == nil {
		return
	}
	defer link.end()

	var pumps, drains sync.WaitGroup
	pumps.Go(func() { pump(link.Up, accepted) })
	pumps.Go(func() { pump(link.Down, dialled) })
	drains.Go(func() { drain(dialled, link.Up) })
	drains.Go(func() { drain(accepted, link.Down) })
	drains.Wait()
	// Both have had their ends: nobody wants what the pumps may still get.
	_ = accepted.Close()
	_ = dialled.Close()
	pumps.Wait()
}

// pump puts into d what src sends, and its end.
func pump(d *Direction, src *net.TCPConn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := d.write(buf[:n]); err != nil {
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			d.closeWrite(io.EOF)
			return
		case err != nil:
			d.closeWrite(syscall.ECONNRESET)
			return
		}
	}
}

// drain sends to dst what comes out of d, and its end.
func drain(dst *net.TCPConn, d *Direction) {
	buf := make([]byte, 32<<10)
	for {
		n, err := d.read(buf)
		if err == nil {
			_, err = dst.Write(buf[:n])
			if err != nil {
				d.closeRead()
				return
			}
			continue
		}
		if errors.Is(err, io.EOF) {
			_ = dst.CloseWrite()
		} else {
			abort(dst)
		}
		return
	}
}

// abort closes c with a reset.
func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
