package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// serveEcho answers each request of a connection with what it was, and an
// upgrade with an echo.
func serveEcho(c net.Conn) {
	br := bufio.NewReader(c)
	for {
		m, err := readMessage(br, "")
		if err != nil {
			return
		}
		m.drop(serviceAdds...)
		if m.header("upgrade") != nil {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			io.Copy(c, br)
			return
		}
		start, _, _ := strings.Cut(m.start, " HTTP/")
		body := start + " " + m.body
		if strings.HasPrefix(start, "HEAD ") {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
		} else if len(m.body)%2 == 0 {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		} else {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			w := httputil.NewChunkedWriter(c)
			w.Write([]byte(body))
			w.Close()
			fmt.Fprint(c, "X-Sum: 1\r\n\r\n")
		}
	}
}

// TestPipelining: requests that an HTTP/1.1 viewer writes all at once are
// answered in order, and as the target answers them.
func TestPipelining(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	ln := tunneltest.ServeConns(t, serveEcho)
	s.Proxy("id", ln.Addr().String(), tunnelclient.ProxyOptions{})
	requests := []string{
		"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
		"HEAD /3 HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST /4 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n1\r\ne\r\n0\r\n\r\n",
		"POST /5 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
		"PUT /6 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
		"POST /7 HTTP/1.1\r\nHost: h\r\nContent-Length: 40001\r\n\r\n" + strings.Repeat("x", 40001),
		"GET /8 HTTP/1.1\r\nHost: h\r\n\r\n",
		"DELETE /9 HTTP/1.1\r\nHost: h\r\n\r\n",
	}
	const upgrade = "GET /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
	ask := func(addr, prefix string, repeat int) (all []message, echo string) {
		c := dialRaw(t, addr)
		var text strings.Builder
		for range repeat {
			for _, r := range requests {
				text.WriteString(strings.Replace(r, " /", " "+prefix+"/", 1))
			}
		}
		text.WriteString(strings.Replace(upgrade, " /", " "+prefix+"/", 1))
		var writing sync.WaitGroup
		writing.Go(func() { io.WriteString(c, text.String()) })
		defer writing.Wait()
		br := bufio.NewReader(c)
		for i := range repeat*len(requests) + 1 {
			method := "GET"
			if i < repeat*len(requests) {
				method, _, _ = strings.Cut(requests[i%len(requests)], " ")
			}
			answers, err := readAnswer(br, method)
			if err != nil {
				t.Fatalf("answer %d: %v", i, err)
			}
			all = append(all, answers...)
		}
		io.WriteString(c, "hello")
		p := make([]byte, 5)
		io.ReadFull(br, p)
		return all, string(p)
	}
	for _, repeat := range []int{1, 5} {
		direct, directEcho := ask(ln.Addr().String(), "", repeat)
		tunnelled, echo := ask(s.Addr, "/id", repeat)
		if len(direct) != len(tunnelled) || directEcho != echo || echo != "hello" {
			t.Fatalf("%d answers and %q, directly %d and %q", len(tunnelled), echo, len(direct), directEcho)
		}
		for i := range direct {
			direct[i].drop("connection")
			tunnelled[i].drop("connection")
			if diff := compare(direct[i], tunnelled[i]); len(diff) > 0 {
				t.Errorf("answer %d differs by %q", i, diff)
			}
		}
	}
}

// TestHTTP10: its viewers get one answer a connection, or as many as they ask
// for where each has a length.
func TestHTTP10(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	ln := tunneltest.ServeConns(t, serveEcho)
	s.Proxy("id", ln.Addr().String(), tunnelclient.ProxyOptions{})
	for _, tc := range []struct {
		name    string
		request string
		want    string
	}{
		{"plain", "GET /id/1 HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\nGET /1 "},
		{"body", "POST /id/1 HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nPOST /1 hi"},
		{"no length", "POST /id/1 HTTP/1.0\r\nContent-Length: 1\r\n\r\nh", "HTTP/1.0 200 OK\r\n\r\nPOST /1 h"},
		{
			"keep-alive",
			"GET /id/1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + "GET /id/2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + "GET /id/3 HTTP/1.0\r\n\r\n",
			strings.Repeat("HTTP/1.0 200 OK\r\nContent-Length: 7\r\nConnection: keep-alive\r\n\r\nGET /# ", 2) + "HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\nGET /# ",
		},
		{
			"keep-alive, no length", // the end of the connection is the end of the answer
			"POST /id/1 HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nh" + "GET /id/2 HTTP/1.0\r\n\r\n",
			"HTTP/1.0 200 OK\r\n\r\nPOST /1 h",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := dialRaw(t, s.Addr)
			io.WriteString(c, tc.request)
			b, err := io.ReadAll(c)
			got := string(b)
			for i, n := 1, strings.Count(tc.want, "#"); i <= n; i++ {
				tc.want = strings.Replace(tc.want, "#", fmt.Sprint(i), 1)
			}
			if err != nil || got != tc.want {
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

// TestProtocolsOnOnePort: viewers of every version at the same time.
func TestProtocolsOnOnePort(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	ln := tunneltest.ServeConns(t, serveEcho)
	s.Proxy("id", ln.Addr().String(), tunnelclient.ProxyOptions{})
	var wg sync.WaitGroup
	for range 10 {
		for _, version := range []string{"HTTP/1.0", "HTTP/1.1", "HTTP/2"} {
			c := dialRaw(t, s.Addr)
			wg.Go(func() {
				if version == "HTTP/2" {
					f, err := startHTTP2(c)
					if err == nil {
						err = f.write(1, message{framing: "none"}, requestPseudo("GET", "/id/x", "h")...)
					}
					_, all, readErr := f.read(1, "GET")
					if err != nil || readErr != nil || all[0].body != "GET /x " {
						t.Errorf("%s: %q, %v, %v", version, all, err, readErr)
					}
					return
				}
				fmt.Fprintf(c, "GET /id/x %s\r\nHost: h\r\nConnection: close\r\n\r\n", version)
				b, err := io.ReadAll(c)
				if err != nil || !strings.HasPrefix(string(b), version+" 200 OK") || !strings.HasSuffix(string(b), "\r\n\r\nGET /x ") {
					t.Errorf("%s: %q, %v", version, b, err)
				}
			})
		}
	}
	wg.Wait()
}
