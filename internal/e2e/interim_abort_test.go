package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestInterimAnswersAndAborts: x/net's server writes interim headers from the
// handler's own map, and goes on doing so when the stream has been reset and
// the handler goes on too. ReverseProxy then clears the map, and Go ends the
// process, which no recover can hinder. The race detector sees it earlier.
func TestInterimAnswersAndAborts(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	target := tunneltest.ServeConns(t, func(c net.Conn) {
		buf := make([]byte, 4<<10)
		if _, err := c.Read(buf); err != nil {
			return
		}
		var header strings.Builder
		for i := range 50 {
			fmt.Fprintf(&header, "X-%d: %d\r\n", i, i)
		}
		// More than the service admits: it resets the stream in the middle.
		_, _ = io.WriteString(c, strings.Repeat("HTTP/1.1 103 Early\r\n"+header.String()+"\r\n", 20)+"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	url := s.Proxy("a", target.Addr().String(), tunnelclient.ProxyOptions{}).URL
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			conn, err := net.Dial("tcp", s.Addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			h2, err := (&http2.Transport{AllowHTTP: true}).NewClientConn(conn)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range 30 {
				ctx, cancel := context.WithCancel(t.Context())
				req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error {
					if i%2 == 0 {
						cancel() // the viewer too breaks off in the middle
					}
					return nil
				}}), "GET", url, nil)
				if err != nil {
					t.Error(err)
				} else if resp, err := h2.RoundTrip(req); err == nil {
					resp.Body.Close()
				}
				cancel()
			}
		})
	}
	wg.Wait()
}
