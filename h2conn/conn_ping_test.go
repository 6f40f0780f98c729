package h2conn_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// A ping of the websocket is answered beside HTTP/2; one of HTTP/2 ends a silence.
func TestConnPing(t *testing.T) {
	dialled, accepted := conns(t)
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		h2conn.Serve(ctx, dialled, http.NotFoundHandler(), h2conn.ServeConfig{})
	})
	defer serving.Wait()
	defer cancel()
	tr, err := h2conn.NewTransport(accepted, h2conn.TransportConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if err := tr.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		answered := make(chan struct{})
		if err := dialled.Ping(func() { close(answered) }); err != nil {
			t.Fatal(err)
		}
		select {
		case <-answered:
		case <-time.After(10 * time.Second):
			t.Fatal("no answer")
		}
	}
	begun := time.Now()
	if err := tr.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	if s := dialled.SilentFor(); s > time.Since(begun) {
		t.Errorf("silent for %v, and the ping came later", s)
	}
	dialled.Close()
	if err := dialled.Ping(func() {}); err == nil {
		t.Error("Ping on a closed connection: no error")
	}
}
