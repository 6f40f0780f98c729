package e2e_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestKnownLengthStreams: of an answer that names its length, too, each part
// arrives although the next one does not come, the header first of all.
func TestKnownLengthStreams(t *testing.T) {
	t.Parallel()
	svc := tunneltest.NewService(t, server.Config{})
	arrived := make(chan struct{})
	svc.Target("a", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "3")
		rc := http.NewResponseController(w)
		for _, part := range []string{"", "x", "y", "z"} {
			_, _ = io.WriteString(w, part)
			_ = rc.Flush()
			<-arrived
		}
	}), tunnelclient.ProxyOptions{})
	viewer := tunneltest.NewViewer(t)
	defer close(arrived)
	resp, err := viewer.Get(svc.URL + "/a/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, want := range "xyz" {
		arrived <- struct{}{}
		b := make([]byte, 1)
		if _, err := io.ReadFull(resp.Body, b); err != nil || b[0] != byte(want) {
			t.Fatalf("got %q, %v; want %q", b, err, want)
		}
	}
}

// TestBrokenKnownLength: an answer that breaks off behind its header has begun.
func TestBrokenKnownLength(t *testing.T) {
	t.Parallel()
	svc := tunneltest.NewService(t, server.Config{})
	svc.Target("a", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "3")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}), tunnelclient.ProxyOptions{})
	resp, err := tunneltest.NewViewer(t).Get(svc.URL + "/a/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK || err == nil {
		t.Errorf("got %d, %q, %v", resp.StatusCode, b, err)
	}
}
