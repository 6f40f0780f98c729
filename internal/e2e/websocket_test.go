package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"testing"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
	xwebsocket "golang.org/x/net/websocket"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// echoes are websocket echo servers by the three libraries.
var echoes = map[string]http.Handler{
	"coder": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := coder.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(-1)
		for {
			typ, p, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), typ, p) != nil {
				return
			}
		}
	}),
	"gorilla": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := (&gorilla.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			typ, p, err := c.ReadMessage()
			if err != nil || c.WriteMessage(typ, p) != nil {
				return
			}
		}
	}),
	"x/net": xwebsocket.Handler(func(c *xwebsocket.Conn) {
		c.MaxPayloadBytes = 8 << 20
		for {
			var p []byte
			if xwebsocket.Message.Receive(c, &p) != nil || xwebsocket.Message.Send(c, p) != nil {
				return
			}
		}
	}),
}

// dialers are viewers by the three libraries: each returns a function that
// sends a message and returns the echo.
var dialers = map[string]func(t *testing.T, url string) func([]byte) ([]byte, error){
	"coder": func(t *testing.T, url string) func([]byte) ([]byte, error) {
		c, _, err := coder.Dial(t.Context(), url, &coder.DialOptions{HTTPHeader: http.Header{"Origin": {strings.Replace(url, "ws", "http", 1)}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(coder.StatusNormalClosure, "") })
		c.SetReadLimit(-1)
		return func(p []byte) ([]byte, error) {
			if err := c.Write(context.Background(), coder.MessageBinary, p); err != nil {
				return nil, err
			}
			_, got, err := c.Read(context.Background())
			return got, err
		}
	},
	"gorilla": func(t *testing.T, url string) func([]byte) ([]byte, error) {
		// x/net/websocket takes each fragment for a message of its own, so send none.
		d := gorilla.Dialer{WriteBufferSize: 2 << 20}
		c, _, err := d.Dial(url, http.Header{"Origin": {strings.Replace(url, "ws", "http", 1)}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return func(p []byte) ([]byte, error) {
			if err := c.WriteMessage(gorilla.BinaryMessage, p); err != nil {
				return nil, err
			}
			_, got, err := c.ReadMessage()
			return got, err
		}
	},
	"x/net": func(t *testing.T, url string) func([]byte) ([]byte, error) {
		c, err := xwebsocket.Dial(url, "", strings.Replace(url, "ws", "http", 1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.MaxPayloadBytes = 8 << 20
		return func(p []byte) ([]byte, error) {
			if err := xwebsocket.Message.Send(c, p); err != nil {
				return nil, err
			}
			var got []byte
			err := xwebsocket.Message.Receive(c, &got)
			return got, err
		}
	},
}

// TestWebsockets: every library as viewer with every library as target, with
// a handler in the tunnel client and a real server behind it, in both forms of
// an upgrade.
func TestWebsockets(t *testing.T) {
	for _, form := range []string{"extended CONNECT", "fallback"} {
		t.Run(form, func(t *testing.T) {
			if form == "extended CONNECT" && !h2conn.ExtendedConnect {
				t.Skip("x/net/http2 of this build cannot send extended CONNECT: needs the tag http2legacy")
			}
			s := tunneltest.NewService(t, server.Config{NoExtendedConnect: form == "fallback"})
			for target, h := range echoes {
				id := strings.ReplaceAll(target, "/", "-")
				inProcess := s.Client(id+"-handler", h, tunnelclient.Config{}).URL
				behind := s.Target(id, h, tunnelclient.ProxyOptions{}).URL
				for where, url := range map[string]string{"handler": inProcess, "server": behind} {
					for lib, dial := range dialers {
						t.Run(lib+" to "+id+" "+where, func(t *testing.T) {
							echo := dial(t, strings.Replace(url, "http", "ws", 1)+"/echo")
							for _, size := range []int{1, 125, 126, 65535, 65536, 1 << 20} {
								p := make([]byte, size)
								rand.Read(p)
								got, err := echo(p)
								if err != nil || !bytes.Equal(got, p) {
									t.Fatalf("echo of %d bytes is %d bytes, %v", size, len(got), err)
								}
							}
						})
					}
				}
			}
		})
	}
}
