package h2conn

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// tcpPair returns both ends of a TCP connection.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ca, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cb, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ca.Close(); cb.Close() })
	return ca.(*net.TCPConn), cb.(*net.TCPConn)
}

// TestDirectWrites: large writes go to the socket by the one who writes, the rest by the
// goroutine, and all bytes arrive in order, also when the reader is slower.
func TestDirectWrites(t *testing.T) {
	a, b := tcpPair(t)
	direct := directWriter(a)
	if direct == nil {
		t.Skip("not on this system")
	}
	full := make(chan struct{}) // closed when the socket takes no more, or all
	isFull := sync.OnceFunc(func() { close(full) })
	c := newCombiner(a, 10*time.Second, false)
	var whole, partly atomic.Int32
	c.setDirect(func(head, p []byte) int {
		n := direct(head, p)
		if n == len(head)+len(p) {
			whole.Add(1)
		} else {
			partly.Add(1)
			isFull()
		}
		return n
	})
	const messages = 400
	size := func(i int) int { return 1 + i*977%(60<<10) }
	go func() {
		for i := range messages {
			p := make([]byte, size(i))
			for j := range p {
				p[j] = byte(i + j)
			}
			if _, err := c.Write(p); err != nil {
				t.Error(err)
			}
		}
		isFull()
		c.Close()
	}()
	<-full
	for i := range messages {
		p := make([]byte, size(i))
		if _, err := io.ReadFull(b, p); err != nil {
			t.Fatal(err)
		}
		for j := range p {
			if p[j] != byte(i+j) {
				t.Fatalf("message %d differs at %d", i, j)
			}
		}
	}
	if n, err := b.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		t.Errorf("then %d bytes, %v", n, err)
	}
	if whole.Load() == 0 || partly.Load() == 0 {
		t.Errorf("%d writes were taken whole, %d partly: want some of each", whole.Load(), partly.Load())
	}
}

// TestDirectWriterNeedsPlainTCP: nothing is written past a layer that changes it.
func TestDirectWriterNeedsPlainTCP(t *testing.T) {
	a, _ := tcpPair(t)
	p, _ := net.Pipe()
	for name, c := range map[string]net.Conn{
		"nil": nil, "pipe": p, "TLS": tls.Client(a, new(tls.Config)),
		"unknown layer":     struct{ net.Conn }{a},
		"watched, sniffing": Watch(a, WatchConfig{}),
	} {
		if directWriter(c) != nil {
			t.Errorf("%s: there is one", name)
		}
	}
}

// TestWriteThrough: messages that the kernel takes from where they are arrive whole and in
// order, also where it takes only a part.
func TestWriteThrough(t *testing.T) {
	a, b := tcpPair(t)
	direct := directWriter(a)
	if direct == nil {
		t.Skip("not on this system")
	}
	full := make(chan struct{})
	isFull := sync.OnceFunc(func() { close(full) })
	c := newCombiner(a, 10*time.Second, false)
	var whole, partly atomic.Int32
	c.setDirect(func(head, p []byte) int {
		most := len(p)
		if len(head) > 0 && len(p)%5 == 0 {
			most /= 2 // the socket has less room
		}
		n := direct(head, p[:most])
		switch {
		case len(head) == 0:
		case n == len(head)+len(p):
			whole.Add(1)
		default:
			partly.Add(1)
			isFull()
		}
		return n
	})
	const messages = 200
	message := func(i int) []byte {
		p := make([]byte, 1+i*977%maxQuantum)
		for j := range p {
			p[j] = byte(i + j)
		}
		return p
	}
	go func() {
		for i := range messages {
			if err := c.writeMessage(opBinary, message(i), false); err != nil {
				t.Error(err)
			}
		}
		isFull()
		c.Close()
	}()
	<-full
	var want []byte
	for i := range messages {
		want = appendFrame(want, opBinary, message(i), nil)
	}
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v, want the %d of %d messages", len(got), err, len(want), messages)
	}
	if whole.Load() == 0 || partly.Load() == 0 {
		t.Errorf("%d messages were taken whole, %d partly: want some of each", whole.Load(), partly.Load())
	}
}
