package h2spec

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// relay carries bytes between a TCP connection and a websocket until one of
// them ends, and then ends the other.
func relay(tcp net.Conn, ws *h2conn.Conn) {
	var done sync.WaitGroup
	carry := func(dst, src net.Conn) {
		defer dst.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := src.Read(buf)
			if _, werr := dst.Write(buf[:n]); err != nil || werr != nil {
				return
			}
		}
	}
	done.Go(func() { carry(tcp, ws) })
	done.Go(func() { carry(ws, tcp) })
	done.Wait()
}

// tcpPair returns both ends of a connection.
func tcpPair(t *testing.T, ln net.Listener) (dialled, accepted net.Conn) {
	t.Helper()
	dialled, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if accepted, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return dialled, accepted
}

// acceptor is a service as far as its websockets go: it lets the clients that
// register take over, one by one and by their ids, what waits for them.
type acceptor struct {
	srv *httptest.Server

	mu      sync.Mutex
	waiting map[string]chan *h2conn.Conn
}

func newAcceptor(t *testing.T) *acceptor {
	a := &acceptor{waiting: make(map[string]chan *h2conn.Conn)}
	a.srv = httptest.NewServer(a)
	t.Cleanup(a.srv.Close)
	return a
}

// expect returns where the websocket of the next registration of id will come.
func (a *acceptor) expect(id string) <-chan *h2conn.Conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting[id] = make(chan *h2conn.Conn, 1)
	return a.waiting[id]
}

func (a *acceptor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get(wire.HeaderID)
	a.mu.Lock()
	c := a.waiting[id]
	delete(a.waiting, id)
	a.mu.Unlock()
	if c == nil { // a client that connects anew after its case
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	conn, err := h2conn.Accept(w, r, h2conn.AcceptOptions{
		Subprotocol: wire.Subprotocol,
		Header:      http.Header{wire.HeaderClientURL: {a.srv.URL + "/" + id}},
	})
	if err != nil {
		close(c)
		return
	}
	c <- conn
}

// dial registers id without being a tunnel client, and returns both ends.
func (a *acceptor) dial(t *testing.T, id string) (dialled, accepted *h2conn.Conn) {
	t.Helper()
	c := a.expect(id)
	dialled, _, err := h2conn.Dial(context.Background(), a.srv.URL, h2conn.DialOptions{
		Subprotocol: wire.Subprotocol,
		Header:      http.Header{wire.HeaderID: {id}},
	})
	if err != nil {
		t.Fatal(err)
	}
	accepted, ok := <-c
	if !ok {
		t.Fatal("the websocket was refused")
	}
	return dialled, accepted
}
