package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// smuggling is one entry of testdata/smuggling.txt: what a viewer sends, what
// it gets, and what the target sees.
type smuggling struct {
	name    string
	wire    string
	answers []string // statuses; "cut" first if the viewer has to end its side for them, "close" last if the connection ends then
	target  []string // as saw writes them
}

// readSmuggling reads the corpus. Entries are separated by blank lines, and
// begin with a name. Lines that begin with a tab are Go string literals, which
// together are what is sent; " * 7" behind one repeats it.
func readSmuggling(t *testing.T) []smuggling {
	t.Helper()
	b, err := os.ReadFile("testdata/smuggling.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []smuggling
	for entry := range strings.SplitSeq(string(b), "\n\n") {
		var s smuggling
		for line := range strings.SplitSeq(strings.Trim(entry, "\n"), "\n") {
			switch {
			case strings.HasPrefix(line, "#"), line == "":
			case line[0] == '\t':
				literal, count, repeated := strings.Cut(line[1:], "\" * ")
				if repeated {
					literal += `"`
				} else {
					count = "1"
				}
				text, err := strconv.Unquote(literal)
				n, countErr := strconv.Atoi(count)
				if err != nil || countErr != nil {
					t.Fatalf("%s: %s: %v, %v", s.name, line, err, countErr)
				}
				s.wire += strings.Repeat(text, n)
			case strings.HasPrefix(line, "answers: "):
				s.answers = strings.Fields(line[len("answers: "):])
			case strings.HasPrefix(line, "target: "):
				s.target = append(s.target, line[len("target: "):])
			default:
				s.name = line
			}
		}
		if s.name != "" {
			all = append(all, s)
		}
	}
	return all
}

// TestSmuggling sends what one server may take for one request and the next for
// two. The target gets exactly the requests that the corpus names, byte for
// byte and well-formed, or none; the viewer gets an answer to each and none
// more, or the end of its connection; and the tunnel goes on.
func TestSmuggling(t *testing.T) {
	corpus := readSmuggling(t)
	if len(corpus) < 200 {
		t.Errorf("the corpus has %d entries", len(corpus))
	}
	s := tunneltest.NewService(t, server.Config{})
	for id, scheme := range map[string]string{"id": "http", "h2": "h2c"} {
		t.Run("target speaks "+scheme, func(t *testing.T) {
			target := newStrictTarget()
			serve := target.serveHTTP1
			if id == "h2" {
				serve = target.serveHTTP2
			}
			s.Proxy(id, scheme+"://"+tunneltest.ServeConns(t, serve).Addr().String(), tunnelclient.ProxyOptions{})
			client := tunneltest.NewViewer(t)
			if resp, err := client.Get(s.URL + "/" + id + "/ready"); err != nil || tunneltest.ReadAll(t, resp) != <-target.requests {
				t.Fatal(err)
			}
			session := sessionOf(s, id)
			for i, entry := range corpus {
				if id == "h2" && entry.http1Target() {
					continue // of HTTP/1.1, also to this target
				}
				t.Run(entry.name, func(t *testing.T) {
					after := ""
					if entry.exchange(t, s.Addr, id) {
						after = "GET /after"
					}
					last := fmt.Sprintf("GET /probe-%d", i)
					resp, err := client.Get(s.URL + "/" + id + strings.TrimPrefix(last, "GET "))
					if err != nil {
						t.Fatal(err)
					}
					if got := tunneltest.ReadAll(t, resp); got != last {
						t.Errorf("the probe got %d %q", resp.StatusCode, got)
					}
					var want []string
					for _, r := range entry.target {
						want = append(want, strings.ReplaceAll(r, "/id/", "/"+id+"/"))
					}
					if after != "" {
						want = append(want, after)
					}
					target.expect(t, want, last)
				})
			}
			if now := sessionOf(s, id); now != session {
				t.Errorf("the tunnel has another session: %s, and before %s", now, session)
			}
		})
	}
}

// http1Target says that only HTTP/1.1 has at the target what this is about.
func (e smuggling) http1Target() bool {
	for _, s := range []string{"Upgrade:", "Expect", "/id/early", "/id/refuse"} {
		if strings.Contains(e.wire, s) {
			return true
		}
	}
	return false
}

// sessionOf tells the sessions of a tunnel apart.
func sessionOf(s *tunneltest.Service, id string) string {
	info, _ := s.Tunnel(id)
	return info.RemoteAddr + " since " + info.ConnectedAt.String()
}

// exchange sends an entry and checks the answers. Where they leave the
// connection open it asks for /after on it, and returns true.
func (e smuggling) exchange(t *testing.T, addr, id string) (after bool) {
	t.Helper()
	c := dialRaw(t, addr)
	defer c.Close()
	wire := e.wire
	if id != "id" {
		wire = strings.ReplaceAll(wire, "/id", "/"+id) // of the same length
	}
	want := e.answers
	closes := len(want) > 0 && want[len(want)-1] == "close"
	if closes {
		want = want[:len(want)-1]
	}
	cut := len(want) > 0 && want[0] == "cut"
	if cut {
		want = want[1:]
	}
	go func() { // the answer may come first
		io.WriteString(c, wire)
		if cut { // the service waits for more, and gets none
			c.(*net.TCPConn).CloseWrite()
		}
	}()
	br := bufio.NewReader(c)
	method, _, _ := strings.Cut(strings.TrimLeft(e.wire, "\r\n"), " ")
	last := false
	for i, status := range want {
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		_, bodyErr := io.Copy(io.Discard, resp.Body)
		if closes && errors.Is(bodyErr, syscall.ECONNRESET) { // net/http leaves what came behind unread
			bodyErr = nil
		}
		if got := strconv.Itoa(resp.StatusCode); got != status || bodyErr != nil {
			t.Fatalf("answer %d: %s, %v; want %s", i, got, bodyErr, status)
		}
		if last = resp.Close; last != (closes && i == len(want)-1) {
			t.Errorf("answer %d: the end of the connection is announced: %v", i, last)
		}
		if resp.StatusCode >= 200 {
			method = "GET"
		}
	}
	if len(want) > 0 && !last {
		fmt.Fprintf(c, "GET /%s/after HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", id)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("on the connection that is open still: %v", err)
		}
		if got := tunneltest.ReadAll(t, resp); got != "GET /after" {
			t.Errorf("on the connection that is open still: %d %q", resp.StatusCode, got)
		}
		after = true
	}
	rest, err := io.ReadAll(br)
	if len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("behind the answers: %q, %v", rest, err)
	}
	return after
}
