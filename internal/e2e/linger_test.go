package e2e

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestUploadIsReadAfterAnswer: whatever is answered before a request is whole, the
// viewer can read the answer and send the rest. Of most errors of the service's own
// it used to see a reset.
func TestUploadIsReadAfterAnswer(t *testing.T) {
	t.Parallel()
	const (
		length  = "Content-Length: 99999999\r\n"
		chunked = "Transfer-Encoding: chunked\r\n"
	)
	for name, tc := range map[string]struct {
		head, status string
		crowded      bool // another connection has the only place
	}{
		"target's 413":    {head: "POST /a/ HTTP/1.1\r\n" + length, status: "413"},
		"chunked":         {head: "POST /a/ HTTP/1.1\r\n" + chunked, status: "413"},
		"HTTP/1.0":        {head: "POST /a/ HTTP/1.0\r\n" + length, status: "413"},
		"client's 502":    {head: "POST /down/ HTTP/1.1\r\n" + length, status: "502"},
		"no tunnel":       {head: "POST /nobody HTTP/1.1\r\n" + length, status: "404"},
		"nowhere":         {head: "POST / HTTP/1.1\r\n" + length, status: "404"},
		"chunked nowhere": {head: "POST / HTTP/1.1\r\n" + chunked, status: "404"},
		"reserved":        {head: "POST /__heartbeat__/x HTTP/1.1\r\n" + length, status: "404"},
		"heartbeat":       {head: "POST /__heartbeat__ HTTP/1.1\r\n" + length, status: "405"},
		"bad path":        {head: "POST //x HTTP/1.1\r\n" + length, status: "400"},
		"bad upgrade":     {head: "POST /a/ HTTP/1.1\r\n" + length + "Upgrade: \xe4\r\n", status: "400"},
		"bad upgrade, little to come": {
			head: "POST /a/ HTTP/1.1\r\nContent-Length: 200000\r\nUpgrade: \xe4\r\n", status: "400",
		},
		"too many fields":  {head: "POST /a/ HTTP/1.1\r\n" + length + strings.Repeat("A: b\r\n", 1001), status: "431"},
		"registration":     {head: "GET / HTTP/1.1\r\n" + length + wire.HeaderID + ": a\r\n", status: "401"},
		"unending header":  {head: "GET /a/ HTTP/1.1\r\nA: " + strings.Repeat("a", 80<<10) + "\r\n", status: "431"},
		"no HTTP":          {head: "POST\r\n", status: "400"},
		"expectation":      {head: "POST /a/ HTTP/1.1\r\nExpect: money\r\n" + length, status: "417"},
		"crowded":          {head: "POST /a/ HTTP/1.1\r\n" + length, status: "503", crowded: true},
		"crowded, chunked": {head: "POST /a/ HTTP/1.1\r\n" + chunked, status: "503", crowded: true},
	} {
		for _, encrypted := range []bool{false, true} {
			if encrypted {
				name += ", TLS"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var cfg server.Config
				if encrypted {
					cfg.TLSConfig = tunneltest.ServerTLS()
				}
				if tc.crowded {
					cfg.MaxConnections = 1
				}
				s := tunneltest.NewService(t, cfg)
				inside, release := make(chan struct{}), make(chan struct{})
				s.Client("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/slow" {
						close(inside)
						<-release
						return
					}
					w.WriteHeader(http.StatusRequestEntityTooLarge)
				}), tunnelclient.Config{})
				s.Client("down", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set(wire.HeaderError, "connection_refused")
					w.WriteHeader(http.StatusBadGateway)
				}), tunnelclient.Config{})
				if tc.crowded {
					takePlace(t, s.Addr, encrypted, inside)
					defer close(release)
				}

				c := dialViewer(t, s.Addr, encrypted)
				head := tc.head + "Host: h\r\n\r\n"
				if strings.Contains(head, chunked) {
					head += "fffffff\r\n"
				}
				if _, err := io.WriteString(c, head+"the upload begins"); err != nil {
					t.Fatal(err)
				}
				answer, err := io.ReadAll(c)
				if _, status, _ := strings.Cut(string(answer), " "); err != nil || !strings.HasPrefix(status, tc.status) {
					t.Errorf("got %q, %v, want %s", answer, err, tc.status)
				}
				// More than the kernel's buffers hold, so it is read.
				for i := range 24 {
					if _, err := c.Write(make([]byte, 1<<20)); err != nil {
						t.Fatalf("after the answer and %d MiB more: %v", i, err)
					}
				}
			})
		}
	}
}

// takePlace makes a request that stays in the target, which says so by inside. It
// tries until the connections of the tunnel clients no longer count.
func takePlace(t *testing.T, addr string, encrypted bool, inside <-chan struct{}) {
	t.Helper()
	for range 1000 {
		c := dialViewer(t, addr, encrypted)
		io.WriteString(c, "GET /a/slow HTTP/1.1\r\nHost: h\r\n\r\n")
		refused := make(chan struct{})
		go func() {
			defer close(refused)
			c.Read(make([]byte, 1))
		}()
		select {
		case <-inside:
			return
		case <-refused:
		}
	}
	t.Fatal("there is never a place")
}

// dialViewer opens a viewer's connection for HTTP/1.
func dialViewer(t *testing.T, addr string, encrypted bool) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if encrypted {
		cfg := tunneltest.ClientTLS()
		cfg.ServerName, cfg.NextProtos = "localhost", []string{"http/1.1"}
		c = tls.Client(c, cfg)
	}
	return c
}
