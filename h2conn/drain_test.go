package h2conn_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// TestLastAnswerOfDrain: the answer of the last request of a drain arrives.
func TestLastAnswerOfDrain(t *testing.T) {
	for range 20 {
		dialled, accepted := conns(t)
		ctx, cancel := context.WithCancel(t.Context())
		arrived, release := make(chan struct{}), make(chan struct{})
		served := make(chan error, 1)
		go func() {
			served <- h2conn.Serve(ctx, dialled, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				close(arrived)
				<-release
				io.WriteString(w, "whole")
			}), h2conn.ServeConfig{DrainTimeout: 10 * time.Second})
		}()
		tr, err := h2conn.NewTransport(accepted, h2conn.TransportConfig{})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			<-arrived
			cancel()
			time.AfterFunc(5*time.Millisecond, func() { close(release) })
		}()
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://h/", nil)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(b) != "whole" {
			t.Fatalf("%q, %v", b, err)
		}
		tr.Close()
		<-served
	}
}
