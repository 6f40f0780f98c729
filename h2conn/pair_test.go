package h2conn_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

const testSubprotocol = "test.h2"

// accepting returns a handler that accepts a websocket, and where it puts it. That is
// closed if there is none.
func accepting(t testing.TB, o h2conn.AcceptOptions) (http.Handler, <-chan *h2conn.Conn) {
	got := make(chan *h2conn.Conn, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := h2conn.Accept(w, r, o)
		if err != nil {
			t.Error(err)
			close(got)
			return
		}
		got <- c
	}), got
}

// conns returns both ends of one websocket over a real TCP connection:
// dialled is the answering end in a tunnel, accepted the asking end.
func conns(t testing.TB) (dialled, accepted *h2conn.Conn) {
	t.Helper()
	h, got := accepting(t, h2conn.AcceptOptions{Subprotocol: testSubprotocol})
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	dialled, _, err := h2conn.Dial(t.Context(), srv.URL, h2conn.DialOptions{Subprotocol: testSubprotocol})
	if err != nil {
		t.Fatal(err)
	}
	accepted, ok := <-got
	if !ok {
		t.FailNow()
	}
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
	return dialled, accepted
}

// tunnel runs h at the answering end and returns the asking end.
func tunnel(t testing.TB, h http.Handler, asking h2conn.TransportConfig, answering h2conn.ServeConfig) *h2conn.Transport {
	t.Helper()
	dialled, accepted := conns(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h2conn.Serve(ctx, dialled, h, answering)
	}()
	tr, err := h2conn.NewTransport(accepted, asking)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tr.Close()
		cancel()
		<-done
	})
	pctx, pcancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer pcancel()
	if err := tr.Ping(pctx); err != nil {
		t.Fatal(err)
	}
	return tr
}

// forms runs f once for each form of an upgrade that this build can do.
func forms(t *testing.T, f func(t *testing.T, cfg h2conn.TransportConfig)) {
	t.Run("fallback", func(t *testing.T) { f(t, h2conn.TransportConfig{NoExtendedConnect: true}) })
	t.Run("extended CONNECT", func(t *testing.T) {
		if !h2conn.ExtendedConnect {
			t.Skip("x/net/http2 of this build cannot send extended CONNECT: needs the tag http2legacy")
		}
		f(t, h2conn.TransportConfig{})
	})
}
