package server

import (
	"crypto/tls"
	"net"
	"net/http"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// TestLinkBuffers: an answer of some size goes to another node through a large buffer, and
// only so many at a time have one.
func TestLinkBuffers(t *testing.T) {
	s := new(Server)
	answer := func(hop bool, length int64) *copyBuffers {
		x := &exchange{srv: s, final: &http.Response{ContentLength: length}}
		if hop {
			x.hop = new(hopRequest)
		}
		return (*copyBuffers)(x)
	}
	const large = 1 << 20
	for range 2 {
		var held [][]byte
		for i := range maxLinkBuffers + 3 {
			want := linkBuffer
			if i >= maxLinkBuffers {
				want = bulkBuffer
			}
			b := answer(true, large).Get()
			if len(b) != want {
				t.Errorf("buffer %d has %d bytes, want %d", i, len(b), want)
			}
			held = append(held, b)
		}
		for _, b := range held { // those of the second round are as many
			answer(true, large).Put(b)
		}
	}
	for name, x := range map[string]*copyBuffers{
		"small": answer(true, 10), "of unknown length": answer(true, -1), "for a viewer": answer(false, large),
	} {
		if b := x.Get(); len(b) > bulkBuffer {
			t.Errorf("%s: the buffer has %d bytes", name, len(b))
		}
	}
	if n := s.buffers.links.Load(); n != 0 {
		t.Errorf("%d count as in use", n)
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
