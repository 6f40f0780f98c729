package e2e

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestTargetIsFixed: nothing that a viewer, or the target itself, says makes
// the tunnel client connect to anywhere else.
func TestTargetIsFixed(t *testing.T) {
	var lured atomic.Int32
	bait := tunneltest.ServeConns(t, func(c net.Conn) { lured.Add(1) }).Addr().String()

	// The target answers with whatever could lead away.
	seen := make(chan string, 10)
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Method + " " + r.RequestURI
		h := w.Header()
		h.Set("Location", "http://"+bait+"/away")
		h.Set("Content-Location", "//"+bait+"/away")
		h.Set("Refresh", "0; url=http://"+bait+"/away")
		h.Set("Alt-Svc", `h2="`+bait+`", h3="`+bait+`"`)
		h.Set("Link", "<http://"+bait+"/away>; rel=preload")
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	s := tunneltest.NewService(t, server.Config{})
	listen := func(network, addr string) string {
		ln, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: answer}
		done := make(chan error, 1)
		go func() { done <- srv.Serve(ln) }()
		t.Cleanup(func() { srv.Close(); <-done })
		return ln.Addr().String()
	}
	socket := filepath.Join(t.TempDir(), "s")
	s.Proxy("tcp", "http://"+listen("tcp", "127.0.0.1:0"), tunnelclient.ProxyOptions{})
	s.Proxy("unix", "unix://"+listen("unix", socket), tunnelclient.ProxyOptions{})

	for _, id := range []string{"tcp", "unix"} {
		for _, tc := range []struct{ line, headers, want string }{
			{"GET /ID/", "Host: " + bait, "GET /"},
			{"GET /ID/", "Host: 169.254.169.254", "GET /"},
			{"GET /ID/", "Host: localhost\r\nX-Forwarded-Host: " + bait + "\r\nForwarded: host=" + bait, "GET /"},
			{"GET /ID/", "Host: h\r\nX-Websocktunnel-Original-Path: //" + bait + "/\r\nX-Forwarded-Prefix: //" + bait, "GET /"},
			{"GET /ID//" + bait + "/x", "Host: h", "GET //" + bait + "/x"},
			{"GET /ID///" + bait + "/x", "Host: h", "GET ///" + bait + "/x"},
			{"GET /ID/http://" + bait + "/x", "Host: h", "GET /http://" + bait + "/x"},
			{"GET /ID/@" + bait + "/x", "Host: h", "GET /@" + bait + "/x"},
			{"GET /ID/\\\\" + bait + "\\x", "Host: h", `GET /\\` + bait + `\x`},
			{"GET /ID/..//" + bait, "Host: h", "GET /..//" + bait},
			{"GET /ID/?url=http://" + bait, "Host: h", "GET /?url=http://" + bait},
			{"GET http://" + bait + "/ID/x", "Host: h", "GET /x"},
			{"GET http://user:password@" + bait + "/ID/x", "Host: h", "GET /x"},
			{"GET https://" + bait + "/ID//" + bait, "Host: " + bait, "GET //" + bait},
			{"GET /ID/", "Host: u@" + bait, ""},
			{"GET http://" + bait + "/", "Host: h", ""},
			{"CONNECT " + bait, "Host: " + bait, ""},
			{"CONNECT /ID/" + bait, "Host: " + bait, ""},
			{"POST /ID/x", "Host: " + bait + "\r\nContent-Length: 0", "POST /x"},
			{"GET /ID/ws", "Host: " + bait + "\r\nOrigin: http://" + bait + "\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "GET /ws"},
			{"GET /ID/up", "Host: " + bait + "\r\nUpgrade: foo", "GET /up"},
		} {
			line := strings.Replace(tc.line, "/ID", "/"+id, 1)
			t.Run(id+" "+line+" "+tc.headers, func(t *testing.T) {
				connection := "close"
				if strings.Contains(tc.headers, "Upgrade") {
					connection = "Upgrade"
				}
				c := dialRaw(t, s.Addr)
				defer c.Close()
				io.WriteString(c, line+" HTTP/1.1\r\n"+tc.headers+"\r\nConnection: "+connection+"\r\n\r\n")
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				got := ""
				select {
				case got = <-seen:
				default:
				}
				if got != tc.want {
					t.Errorf("the target saw %q, want %q", got, tc.want)
				}
				if got != "" && (resp.StatusCode != 307 || resp.Header.Get("Location") != "http://"+bait+"/away") {
					t.Errorf("the viewer got %d, Location %q", resp.StatusCode, resp.Header.Get("Location"))
				}
			})
		}
	}
	if n := lured.Load(); n > 0 {
		t.Errorf("%d connections went elsewhere", n)
	}
}
