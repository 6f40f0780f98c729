package server

import (
	"crypto/tls"
	"net"
	"net/http"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// TestLargeBuffers: an answer of some size goes to another node through a large buffer, as a
// long one does to a viewer, and only so many at a time have one.
func TestLargeBuffers(t *testing.T) {
	s := new(Server)
	answer := func(hop bool, length int64) *copyBuffers {
		x := &exchange{srv: s, final: &http.Response{ContentLength: length}}
		if hop {
			x.hop = new(hopRequest)
		}
		return (*copyBuffers)(x)
	}
	long := map[bool]int64{true: streamBuffer + 1, false: longAnswer} // by hop
	var held []func()
	for hop, length := range long {
		for i := range maxLargeBuffers + 3 {
			want := largeBuffer
			if i >= maxLargeBuffers {
				want = bulkBuffer
			}
			x := answer(hop, length)
			b := x.Get()
			if len(b) != want {
				t.Errorf("another node %v: buffer %d has %d bytes, want %d", hop, i, len(b), want)
			}
			held = append(held, func() { x.Put(b) })
		}
	}
	for _, put := range held {
		put()
	}
	if links, viewers := s.buffers.links.Load(), s.buffers.viewers.Load(); links != 0 || viewers != 0 {
		t.Errorf("%d and %d count as in use", links, viewers)
	}
	for name, x := range map[string]*copyBuffers{
		"small": answer(true, 10), "of unknown length": answer(true, -1), "for a viewer": answer(false, longAnswer-1), "of unknown length for a viewer": answer(false, -1),
	} {
		if b := x.Get(); len(b) > bulkBuffer {
			t.Errorf("%s: the buffer has %d bytes", name, len(b))
		}
	}
}

// TestLinkShowsSocket: the socket of a link is found under TLS by the node that has accepted
// it too, so that the kernel does not hold megabytes that others on the link wait behind.
func TestLinkShowsSocket(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	out, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := tls.NewListener(&newcomerListener{Listener: ln}, new(tls.Config)).Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, ok := netconn.Find[*net.TCPConn](in); !ok {
		t.Error("there is none")
	}
}
