package h2conn_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// TestUploadsReadInSmallPieces: handlers that find all receive windows full,
// and then read them at the same time, each in small pieces, do not cost the
// tunnel. x/net's server writes a WINDOW_UPDATE for each piece, and gives up a
// connection on which 10,000 frames wait to be written.
func TestUploadsReadInSmallPieces(t *testing.T) {
	const uploads, window = 250, 1 << 20
	start := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Add(uploads)
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		waiting.Done()
		<-start
		n, piece := int64(0), make([]byte, 4<<10)
		for {
			k, err := r.Body.Read(piece)
			n += int64(k)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Errorf("after %d bytes: %v", n, err)
				return
			}
		}
		if n != window {
			t.Errorf("%d bytes, want %d", n, window)
		}
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{
		Config:               h2conn.Config{StreamWindow: window, ConnWindow: uploads * window},
		MaxConcurrentStreams: uploads,
	})

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	body := make([]byte, window)
	var wg, sent sync.WaitGroup
	sent.Add(uploads)
	for range uploads {
		wg.Go(func() {
			b := h2conn.EndingBody(bytes.NewReader(body), sync.OnceFunc(sent.Done))
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://h/", b)
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
	}
	waiting.Wait()
	sent.Wait()
	if err := tr.Ping(ctx); err != nil { // all has arrived
		t.Fatal(err)
	}
	close(start)
	wg.Wait()
	if err := tr.Ping(ctx); err != nil {
		t.Error(err)
	}
}
