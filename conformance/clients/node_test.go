package clients

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// node returns where Node.js is, and sees to it that the packages are there.
func node(t testing.TB) string {
	t.Helper()
	path := program(t, "node", "nodejs")
	table.Program("Node.js", strings.TrimSpace(run(t, nil, "", path, "--version").stdout))
	for _, name := range []string{"ws", "undici", "@tus/server"} {
		b, err := os.ReadFile("testdata/node/node_modules/" + name + "/package.json")
		if err != nil {
			harness.Missing(t, "the npm package "+name)
		}
		var p struct{ Version string }
		if err := json.Unmarshal(b, &p); err != nil {
			t.Fatal(err)
		}
		table.Program(name, p.Version)
	}
	return path
}

// TestNodeViewer: fetch, node:http, node:http2 and ws.
func TestNodeViewer(t *testing.T) { nodeViewer(t, "Node.js", "testdata/node/viewer.mjs", 80) }

// TestUndici: the npm package undici, which is newer than the one that makes
// up Node's own fetch and offers more.
func TestUndici(t *testing.T) { nodeViewer(t, "undici", "testdata/node/undici.mjs", 50) }

// nodeViewer runs a script that asks for at least so many things, directly and
// through a tunnel, over plain HTTP and TLS.
func nodeViewer(t *testing.T, program, script string, least int) {
	path := node(t)
	ca := caFile(t)
	for name, overTLS := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one := func(tunnelled bool) (pair, output) {
				// A site of its own for each run: it remembers who left.
				p := newPair(t, overTLS, leavable(site()))
				url := p.direct
				if tunnelled {
					url = p.tunnelled
				}
				return p, run(t, []string{"NODE_EXTRA_CA_CERTS=" + ca}, "", path, script, url, ca)
			}
			pd, direct := one(false)
			pt, tunnelled := one(true)
			compareLines(t, program, name, pair{pd.direct, pt.tunnelled}, direct, tunnelled, least)
		})
	}
}

// leavable adds an endless answer to a site, and a path that answers once its
// viewer has left, with whether that took less than a second.
func leavable(site http.Handler) http.Handler {
	left := make(chan struct{}, 10)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		default:
			site.ServeHTTP(w, r)
		case "/endless":
			for r.Context().Err() == nil {
				fmt.Fprint(w, strings.Repeat("more ", 1000))
				w.(http.Flusher).Flush()
			}
			left <- struct{}{}
		case "/left":
			w.Header()["Date"] = nil
			late := time.NewTimer(time.Second)
			defer late.Stop()
			select {
			case <-left:
				fmt.Fprint(w, "within a second")
			case <-late.C:
				fmt.Fprint(w, "late")
			case <-r.Context().Done():
			}
		}
	})
}

var nodeReady = regexp.MustCompile(`^listening on (\d+)$`)

// TestNodeTarget: what a server of Node.js answers.
func TestNodeTarget(t *testing.T) {
	port := start(t, nodeReady, node(t), "testdata/node/target.mjs", "5000")[1]
	s := harness.Start(t, harness.Options{})
	p := pair{"http://127.0.0.1:" + port, s.Target("id", port, tunnelclient.ProxyOptions{})}
	v := viewer(t, "http/1.1")
	for _, tc := range []struct {
		name, method, path string
		body               func() io.Reader
		header             http.Header
	}{
		{name: "GET", method: "GET", path: "/?a=b"},
		{name: "HEAD", method: "HEAD", path: "/chunks"},
		{name: "odd path", method: "GET", path: "/a%2F..//b;c?x=%zz;y"},
		{name: "POST", method: "POST", path: "/", body: func() io.Reader { return strings.NewReader("12345") }},
		{name: "POST in chunks", method: "POST", path: "/", body: func() io.Reader { return io.MultiReader(strings.NewReader("12345")) }},
		{name: "headers", method: "GET", path: "/", header: http.Header{"X-A": {"2", "1"}, "X-Empty": {""}, "X-Bits": {"\xe4"}, "Cookie": {"a=1; b=2"}}},
		{name: "chunks", method: "GET", path: "/chunks"},
		{name: "early hints", method: "GET", path: "/hints"},
		{name: "trailers", method: "GET", path: "/trailers", header: http.Header{"Te": {"trailers"}}},
		{name: "odd answer", method: "GET", path: "/raw"},
		{name: "refused upload", method: "POST", path: "/early", body: func() io.Reader { return strings.NewReader("12345") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			one := func(base string) string {
				var body io.Reader
				if tc.body != nil {
					body = tc.body()
				}
				req, err := http.NewRequest(tc.method, base+tc.path, body)
				if err != nil {
					t.Fatal(err)
				}
				maps.Copy(req.Header, tc.header)
				req.Host = "viewer.example"
				return exchange(t, v, req).String()
			}
			direct := one(p.direct)
			p.compare(t, direct, one(p.tunnelled))
			table.Passed(t, "Node.js", "as target: "+tc.name, "", finalStatus(direct), harness.Same)
		})
	}
}

// TestNodeStream: each line is here before the next is written, and the target
// learns that the viewer has left.
func TestNodeStream(t *testing.T) {
	port := start(t, nodeReady, node(t), "testdata/node/target.mjs", "5000")[1]
	s := harness.Start(t, harness.Options{})
	url := s.Target("id", port, tunnelclient.ProxyOptions{})
	table.Passed(t, "Node.js", "as target: a stream, and its viewer leaves", "", notMade, "at once")
	v := viewer(t, "http/1.1")
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	req, err := http.NewRequestWithContext(ctx, "GET", url+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := v.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	get := func(path string) string {
		resp, err := v.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return string(b)
	}
	for range 20 {
		get("/tick")
		if line, err := lines.ReadString('\n'); line != "tick\n" {
			t.Fatalf("got %q, %v", line, err)
		}
	}
	leave()
	left := time.Now()
	if got := get("/left"); got != "left" || time.Since(left) > time.Second {
		t.Errorf("%q after %v, want left within a second", got, time.Since(left))
	}
}

// TestNodeWebsocket: an echo server by ws, in both inner forms.
func TestNodeWebsocket(t *testing.T) {
	for name, fallback := range map[string]bool{"extended CONNECT": false, "fallback": true} {
		t.Run(name, func(t *testing.T) {
			port := start(t, nodeReady, node(t), "testdata/node/target.mjs", "5000")[1]
			s := harness.Start(t, harness.Options{Server: server.Config{NoExtendedConnect: fallback}})
			p := pair{"http://127.0.0.1:" + port, s.Target("id", port, tunnelclient.ProxyOptions{})}
			dial := func(base string, o *websocket.DialOptions) (*websocket.Conn, *http.Response, error) {
				if o == nil {
					o = &websocket.DialOptions{}
				}
				o.HTTPClient = viewer(t, "http/1.1")
				o.HTTPClient.Timeout = 0 // it would hold for the whole connection
				return websocket.Dial(t.Context(), base+"/ws", o)
			}
			for _, deflate := range []bool{false, true} {
				o := &websocket.DialOptions{Subprotocols: []string{"a", "b"}}
				if deflate {
					o.CompressionMode = websocket.CompressionContextTakeover
				}
				t.Run(fmt.Sprintf("deflate %t", deflate), func(t *testing.T) {
					head := func(base string) string {
						c, resp, err := dial(base, o)
						if err != nil {
							t.Fatal(err)
						}
						defer c.CloseNow()
						c.SetReadLimit(-1)
						for _, size := range []int{0, 1, 65536, 1 << 20} {
							sent := make([]byte, size)
							rand.Read(sent)
							if err := c.Write(t.Context(), websocket.MessageBinary, sent); err != nil {
								t.Fatal(err)
							}
							if _, got, err := c.Read(t.Context()); err != nil || !bytes.Equal(got, sent) {
								t.Fatalf("echo of %d bytes is %d bytes, %v", size, len(got), err)
							}
						}
						c.Close(websocket.StatusNormalClosure, "")
						resp.Header.Del("Sec-Websocket-Accept")
						return answer{status: resp.StatusCode, header: resp.Header, interim: []string{c.Subprotocol()}}.String()
					}
					table.Passed(t, "ws", fmt.Sprintf("as target: echo, deflate %t", deflate), name, "101", harness.Same)
					p.compare(t, head(p.direct), head(p.tunnelled))
				})
			}
			t.Run("refused", func(t *testing.T) {
				table.Passed(t, "ws", "as target: refused", name, "403", harness.Same)
				head := func(base string) string {
					_, resp, err := dial(base, &websocket.DialOptions{HTTPHeader: http.Header{"X-Refuse": {"1"}}})
					if err == nil {
						t.Fatal("accepted")
					}
					body, _ := io.ReadAll(resp.Body)
					return answer{status: resp.StatusCode, header: resp.Header, body: string(body)}.String()
				}
				p.compare(t, head(p.direct), head(p.tunnelled))
			})
			for _, code := range []int{1000, 1001, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 3000, 3999, 4000, 4999} {
				t.Run(fmt.Sprint("closed ", code), func(t *testing.T) {
					table.Passed(t, "ws", fmt.Sprint("as target: closes with ", code), name, strconv.Itoa(code), harness.Same)
					for _, base := range []string{p.direct, p.tunnelled} {
						c, _, err := dial(base, nil)
						if err != nil {
							t.Fatal(err)
						}
						defer c.CloseNow()
						c.Write(t.Context(), websocket.MessageText, fmt.Appendf(nil, "close %d why not: ü", code))
						_, _, err = c.Read(t.Context())
						if want := (websocket.CloseError{Code: websocket.StatusCode(code), Reason: "why not: ü"}); err == nil || !strings.Contains(err.Error(), want.Error()) {
							t.Errorf("%s: got %v, want %v", base, err, want)
						}
					}
				})
			}
		})
	}
}

// TestNodeClosesIdle: the connections of a server that closes them as soon as
// they are idle are used again and again, and no GET fails for it.
func TestNodeClosesIdle(t *testing.T) {
	port := start(t, nodeReady, node(t), "testdata/node/target.mjs", "1")[1]
	s := harness.Start(t, harness.Options{})
	table.Passed(t, "Node.js", "as target: closes idle connections at once", "", notMade, "800 GETs, none fails")
	hammer(t, s.Target("id", port, tunnelclient.ProxyOptions{})+"/small", "small")
}
