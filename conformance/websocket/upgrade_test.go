package websocket

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// The two kinds of viewer that ask for upgrades.
const (
	viewerHTTP1 = "net/http over HTTP/1.1"
	viewerHTTP2 = "golang.org/x/net/http2"
)

// upgrader asks a target for an upgrade: directly, or through a tunnel in one
// of the inner forms, over HTTP/1.1 or with extended CONNECT over HTTP/2.
type upgrader struct {
	name   string
	http2  bool
	direct bool
	url    string
	rt     http.RoundTripper
}

// answer is what the viewer got of an upgrade.
type answer struct {
	switched bool
	status   int // of a refusal
	header   http.Header
	body     io.ReadCloser // after a switch: what the target sends
	sends    io.Writer     // after a switch: to the target
}

// upgraders returns all ways to the target at addr. The direct one is first.
func upgraders(t *testing.T, addr string, cfg server.Config) []*upgrader {
	t.Helper()
	tr := &http.Transport{DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	all := []*upgrader{{name: "direct", direct: true, url: "http://" + addr, rt: tr}}
	cfg.DisablePathIsolation = true // cookies are compared
	for form, fallback := range map[string]bool{"extended CONNECT": false, "fallback": true} {
		cfg.NoExtendedConnect = fallback
		s := harness.Start(t, harness.Options{Server: cfg})
		url := s.Target("id", addr, tunnelclient.ProxyOptions{})
		nc, err := net.Dial("tcp", s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		cc, err := (&http2.Transport{AllowHTTP: true, DisableCompression: true}).NewClientConn(nc)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all,
			&upgrader{name: "HTTP/1.1, " + form, url: url, rt: tr},
			&upgrader{name: "HTTP/2, " + form, http2: true, url: url, rt: cc})
	}
	return all
}

// passed tells the table what has come of an exchange, when the test is over.
// The direct one is HTTP/1.1, which is what targets speak.
func (u *upgrader) passed(t *testing.T, exchange, direct, tunnelled string) {
	if u.direct {
		return
	}
	viewer := viewerHTTP1
	if u.http2 {
		viewer = viewerHTTP2
	}
	table.Program(viewerHTTP2, harness.ModuleVersion(t, "golang.org/x/net"))
	_, form, _ := strings.Cut(u.name, ", ")
	table.Passed(t, viewer, exchange, form, direct, tunnelled)
}

// ask asks for a websocket at path.
func (u *upgrader) ask(ctx context.Context, path string) (answer, error) {
	method, header := http.MethodGet, http.Header{"Sec-Websocket-Version": {"13"}}
	var body io.ReadCloser
	var pw *io.PipeWriter
	if u.http2 {
		method, header[":protocol"] = http.MethodConnect, []string{"websocket"}
		body, pw = io.Pipe()
	} else {
		header.Set("Connection", "Upgrade")
		header.Set("Upgrade", "websocket")
		header.Set("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	}
	req, err := http.NewRequestWithContext(ctx, method, u.url+path, nil)
	if err != nil {
		return answer{}, err
	}
	req.Header = header
	if u.http2 {
		req.Body, req.ContentLength = body, -1
	}
	resp, err := u.rt.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: resp.Body}
	switch {
	case u.http2 && resp.StatusCode/100 == 2:
		a.switched, a.sends = true, pw
	case resp.StatusCode == http.StatusSwitchingProtocols:
		a.switched, a.sends = true, resp.Body.(io.Writer)
	}
	return a, nil
}

// String reads the answer to its end. It leaves out what the versions of HTTP
// say in their own ways. Connection and Upgrade are also about one hop only, and
// end there: the one that a 426 has does not reach a viewer behind the tunnel.
func (a answer) String() string {
	defer a.body.Close()
	body, err := io.ReadAll(a.body)
	for _, name := range []string{"Connection", "Upgrade", "Sec-Websocket-Accept", "Date"} {
		a.header.Del(name)
	}
	var b strings.Builder
	if a.switched {
		fmt.Fprintln(&b, "switched")
	} else {
		fmt.Fprintln(&b, a.status)
	}
	a.header.Write(&b)
	fmt.Fprintf(&b, "%q, broken off: %t", body, err != nil)
	return b.String()
}

// upgradeTarget is a target of bare connections. It reads a request, with its
// body, and leaves the rest to handle. The connection ends when that returns.
func upgradeTarget(t *testing.T, handle func(c net.Conn, br *bufio.Reader, req *http.Request, body string)) (addr string) {
	t.Helper()
	return tunneltest.ServeConns(t, func(c net.Conn) {
		defer context.AfterFunc(t.Context(), func() { c.Close() })()
		c.SetDeadline(time.Now().Add(patience))
		br := bufio.NewReader(c)
		req, err := http.ReadRequest(br)
		if err != nil {
			return // a connection that the tunnel client kept for later
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		handle(c, br, req, string(body))
	}).Addr().String()
}

const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"

// TestUpgradeAnswers: what a target answers at once, whether it accepts or not.
func TestUpgradeAnswers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer string
		direct string // begins so

		// reported says that there is no answer to pass on: the tunnel client
		// reports why, where the direct viewer gets an error.
		reported string
	}{
		{name: "accepted, then closed", answer: switching + "\r\n", direct: "switched\n"},
		{name: "accepted with the first words, then closed", answer: switching + "\r\n\x81\x05hello", direct: "switched\n"},
		{name: "cookies of the 101", answer: switching + "Set-Cookie: a=1; Path=/; HttpOnly\r\nSet-Cookie: b=2; Domain=example.com\r\nX-Extra: 1\r\nX-Extra: 2\r\n\r\n", direct: "switched\nSet-Cookie: a=1"},
		{name: "200", answer: "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nno websocket!\n", direct: "200\n"},
		{name: "200 in chunks", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", direct: "200\n"},
		{name: "204", answer: "HTTP/1.1 204 No Content\r\nX-Why: because\r\n\r\n", direct: "204\n"},
		{name: "302", answer: "HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\nContent-Length: 5\r\n\r\nmoved", direct: "302\n"},
		{name: "401", answer: "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"\r\nWWW-Authenticate: Bearer\r\nContent-Length: 3\r\n\r\nwho", direct: "401\n"},
		{name: "403", answer: "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: 2\r\nSet-Cookie: a=1\r\n\r\n{}", direct: "403\n"},
		{name: "404", answer: "HTTP/1.1 404 Not Found\r\nContent-Length: 70000\r\n\r\n" + strings.Repeat("long page ", 7000), direct: "404\n"},
		{name: "426", answer: "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 14\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 3\r\n\r\nnew", direct: "426\n"},
		{name: "426 without a length", answer: "HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\n\r\nuntil the end", direct: "426\n"},
		{name: "503", answer: "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", direct: "503\n"},
		{name: "a refusal that breaks off", answer: "HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nten bytes.", direct: "403\n"},
		{name: "closed without an answer", answer: "", reported: "connection_terminated"},
		{name: "closed within the answer's header", answer: "HTTP/1.1 101 Switching Protocols\r\nUpgra", reported: "http_protocol_error"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			addr := upgradeTarget(t, func(c net.Conn, _ *bufio.Reader, req *http.Request, _ string) {
				if req.Method != http.MethodGet || req.Header.Get("Upgrade") != "websocket" || req.Header.Get("Sec-Websocket-Key") == "" {
					t.Errorf("the target sees %s %v", req.Method, req.Header)
				}
				io.WriteString(c, tc.answer)
			})
			direct := ""
			for _, u := range upgraders(t, addr, server.Config{}) {
				a, err := u.ask(t.Context(), "/ws")
				through := harness.Same
				switch {
				case tc.reported != "":
					through = "502, " + tc.reported
				case u.http2 && strings.HasPrefix(tc.direct, "2"):
					through = "501, the same body"
				}
				outcome, _, _ := strings.Cut(tc.direct, "\n")
				u.passed(t, "upgrade: "+tc.name, cmp.Or(outcome, "an error"), through)
				switch {
				case tc.reported != "" && u.direct:
					if err == nil {
						t.Fatalf("directly: %v", a)
					}
				case err != nil:
					t.Errorf("%s: %v", u.name, err)
				case tc.reported != "":
					status, cause := a.status, a.header.Get("Proxy-Status")
					a.body.Close()
					if status != http.StatusBadGateway || !strings.HasPrefix(cause, "websocktunnel-client; error="+tc.reported) {
						t.Errorf("%s: %d with %q", u.name, status, cause)
					}
				case u.direct:
					if direct = a.String(); !strings.HasPrefix(direct, tc.direct) {
						t.Fatalf("directly: %s", direct)
					}
				case u.http2 && strings.HasPrefix(tc.direct, "2"):
					// There a 2xx would mean that the target has accepted.
					_, rest, _ := strings.Cut(direct, "\n")
					if got, want := a.String(), "501\n"+rest; got != want {
						t.Errorf("%s:\n%s\nwant:\n%s", u.name, got, want)
					}
				default:
					if got := a.String(); got != direct {
						t.Errorf("%s:\n%s\ndirectly:\n%s", u.name, got, direct)
					}
				}
			}
		})
	}
}

// TestUpgradeLate: the viewer gets the 101 when the target has sent it.
func TestUpgradeLate(t *testing.T) {
	asked, accept := make(chan struct{}), make(chan struct{})
	addr := upgradeTarget(t, func(c net.Conn, br *bufio.Reader, _ *http.Request, _ string) {
		asked <- struct{}{}
		<-accept
		io.WriteString(c, switching+"\r\n")
		io.Copy(c, br)
	})
	for _, u := range upgraders(t, addr, server.Config{}) {
		t.Run(u.name, func(t *testing.T) {
			u.passed(t, "upgrade: accepted late", "switched", harness.Same)
			type result struct {
				a   answer
				err error
			}
			got := make(chan result, 1)
			go func() {
				a, err := u.ask(t.Context(), "/ws")
				got <- result{a, err}
			}()
			<-asked
			select {
			case <-got:
				t.Error("an answer before the target's")
			case <-time.After(50 * time.Millisecond):
			}
			accept <- struct{}{}
			r := <-got
			if r.err != nil || !r.a.switched {
				t.Fatalf("got %v, %v", r.a, r.err)
			}
			defer r.a.body.Close()
			io.WriteString(r.a.sends, "hello")
			p := make([]byte, 5)
			if _, err := io.ReadFull(r.a.body, p); string(p) != "hello" {
				t.Errorf("the echo is %q, %v", p, err)
			}
		})
	}
}

// TestUpgradeNever: a viewer that gives up waiting takes the target's
// connection with it, and with RESPONSE_HEADER_TIMEOUT the service does.
func TestUpgradeNever(t *testing.T) {
	asked, ended := make(chan struct{}, 1), make(chan error, 1)
	addr := upgradeTarget(t, func(_ net.Conn, br *bufio.Reader, _ *http.Request, _ string) {
		asked <- struct{}{}
		_, err := br.Peek(1)
		ended <- err
	})
	for _, u := range upgraders(t, addr, server.Config{}) {
		t.Run("the viewer leaves, "+u.name, func(t *testing.T) {
			u.passed(t, "upgrade: never answered, the viewer leaves", "the target's connection ends", harness.Same)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			failed := make(chan error, 1)
			go func() {
				_, err := u.ask(ctx, "/ws")
				failed <- err
			}()
			<-asked
			leave()
			if err := <-failed; !errors.Is(err, context.Canceled) {
				t.Errorf("the viewer got %v", err)
			}
			if err := <-ended; err == nil || isTimeout(err) {
				t.Errorf("the target's connection ended with %v", err)
			}
		})
	}
	for _, u := range upgraders(t, addr, server.Config{ResponseHeaderTimeout: 100 * time.Millisecond}) {
		if u.direct {
			continue
		}
		t.Run("time is up, "+u.name, func(t *testing.T) {
			u.passed(t, "upgrade: never answered, with RESPONSE_HEADER_TIMEOUT", "–", "504, the target's connection ends")
			a, err := u.ask(t.Context(), "/ws")
			if err != nil {
				t.Fatal(err)
			}
			defer a.body.Close()
			if cause := a.header.Get("Proxy-Status"); a.status != http.StatusGatewayTimeout || !strings.HasPrefix(cause, `websocktunnel; error=http_response_timeout; details="WT-ANSWER-OVERDUE`) {
				t.Errorf("got %d with %q", a.status, cause)
			}
			<-asked
			if err := <-ended; err == nil || isTimeout(err) {
				t.Errorf("the target's connection ended with %v", err)
			}
		})
	}
}

// TestUpgradeByPost: as docker attach and exec do it, an upgrade that is no
// websocket, with a body that the target reads before it accepts.
func TestUpgradeByPost(t *testing.T) {
	addr := upgradeTarget(t, func(c net.Conn, br *bufio.Reader, req *http.Request, body string) {
		if h := req.Header; h.Get("Upgrade") != "tcp" || h.Get("Content-Type") != "application/json" {
			t.Errorf("the target sees %v", h)
		}
		fmt.Fprintf(c, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n%s %s %d %q\n", req.Method, req.URL, req.ContentLength, body)
		line, _ := br.ReadString('\n')
		fmt.Fprintf(c, "stdin was %q", line)
	})
	const detach = `{"Detach":false,"Tty":true}`
	for name, body := range map[string]string{
		"with a length":        fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(detach), detach),
		"in chunks":            fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n%x\r\n%s\r\n0\r\n\r\n", len(detach)-1, detach[1:]),
		"of nothing":           "Content-Length: 0\r\n\r\n",
		"with stdin at once":   fmt.Sprintf("Content-Length: %d\r\n\r\n%searly\n", len(detach), detach),
		"chunked, early stdin": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\nearly\n", len(detach), detach),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct := ""
			for _, u := range upgraders(t, addr, server.Config{}) {
				if u.http2 {
					continue // HTTP/2 has no such upgrade
				}
				u.passed(t, "upgrade: POST with a body, as docker attach does, "+name, "switched", harness.Same)
				host, path, _ := strings.Cut(strings.TrimPrefix(u.url, "http://"), "/")
				c, err := net.Dial("tcp", host)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				if path != "" {
					path = "/" + path
				}
				fmt.Fprintf(c, "POST %s/exec/1/start?a=b HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\n%s", path, body)
				br := bufio.NewReader(c)
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatalf("%s: %v", u.name, err)
				}
				if !strings.Contains(body, "early") {
					io.WriteString(c, "ls\n")
				}
				rest, err := io.ReadAll(br)
				var head strings.Builder
				resp.Header.Write(&head)
				got := fmt.Sprintf("%d\n%s\n%s\n%v", resp.StatusCode, &head, rest, err)
				if u.direct {
					if direct = got; resp.StatusCode != 101 || !strings.Contains(direct, "stdin was") {
						t.Fatalf("directly: %s", direct)
					}
				} else if got != direct {
					t.Errorf("%s:\n%s\ndirectly:\n%s", u.name, got, direct)
				}
			}
		})
	}
}
