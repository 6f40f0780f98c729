package server

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// TestHopHostMode: on a tunnel's own host another node gives the same answers as the node
// that has the tunnel, whatever the id, the path and the headers are.
func TestHopHostMode(t *testing.T) {
	t.Parallel()
	nodes := newNodes(t, 2, new(cluster.Memory), Config{ViewerDomain: "t.example"})
	for _, id := range []string{"build-42", "team%2Fbuild", "Build-42"} {
		nodes[0].waitActive(nodes[0].connect(id, named(id)))
	}
	nodes[0].waitAnnounced()
	changes := regexp.MustCompile(`(?i)(request[ -]|details="[A-Z-]*, request )[0-9a-f]{32}|Host: [^\r]*:\d+|Date: [^\r]*`)
	for _, request := range []string{
		"GET /build-42/x?y HTTP/1.1\r\nHost: build-42.t.example\r\n",
		"GET / HTTP/1.1\r\nHost: BUILD-42.T.Example.:1\r\n",
		"GET /?a;b=%zz HTTP/1.1\r\nHost: " + string(labelOf("Build-42")) + ".t.example\r\n",
		"GET //x/%2F/../y HTTP/1.1\r\nHost: " + strings.ToUpper(string(labelOf("team%2Fbuild"))) + ".t.example:80\r\n",
		"GET /__heartbeat__ HTTP/1.1\r\nHost: build-42.t.example\r\n",
		"GET /__version__ HTTP/1.1\r\nHost: build-42.t.example\r\nSec-Fetch-Mode: navigate\r\n",
		"GET /build-42 HTTP/1.1\r\nHost: build-42.t.example\r\nSec-Fetch-Mode: navigate\r\nAccept: text/html\r\n",
		"GET /sw.js HTTP/1.1\r\nHost: build-42.t.example\r\nService-Worker: script\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: build-42.t.example\r\n",
		"PROPFIND /x HTTP/1.1\r\nHost: build-42.t.example\r\n",
		"POST /x HTTP/1.1\r\nHost: build-42.t.example\r\nContent-Length: 0\r\n",
		"GET / HTTP/1.1\r\nHost: build-42.t.example\r\nX-Websocktunnel-Id: a\r\nX-Websocktunnel-Id: b\r\nX_Websocktunnel_Id: spoofed\r\nX-Websocktunnel-Hop: x - hold\r\n",
		"GET / HTTP/1.1\r\nHost: build-42.t.example\r\nAuthorization: Bearer x\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\n" +
			"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: " + wire.Subprotocol + "\r\nX-Websocktunnel-Id: build-42\r\n",
		"GET / HTTP/1.1\r\nHost: absent.t.example\r\n",
		"GET /build-42/ HTTP/1.1\r\nHost: h\r\n",
		"GET / HTTP/1.0\r\nHost: build-42.t.example\r\n",
	} {
		var got [2]string
		for i, s := range nodes {
			got[i] = changes.ReplaceAllString(s.raw(request+"Connection: close\r\n\r\n"), "")
		}
		if got[0] != got[1] {
			t.Errorf("%q\nhere:      %q\nelsewhere: %q", request, got[0], got[1])
		}
		if !strings.HasPrefix(got[0], "HTTP/1.") {
			t.Errorf("%q: %q", request, got[0])
		}
	}
}

// TestHopBareMoved: what becomes of the bare path of a tunnel that is not where the directory
// says.
func TestHopBareMoved(t *testing.T) {
	t.Parallel()
	late, nodes := staleNodes(t)
	for id, pass := range map[string]string{"plain": "", "passing": wire.BarePathPass} {
		h := http.Header{"Authorization": {"Bearer " + mint(t, id)}, wire.HeaderID: {id}}
		if pass != "" {
			h.Set(wire.HeaderBarePath, pass)
		}
		c, _, err := nodes[2].dialWith(h)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.conn.Close() })
		c.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RequestURI) }))
		nodes[2].waitActive(c)
	}
	nodes[2].waitAnnounced()
	for _, tt := range []struct {
		path   string
		header []string
		status int
		want   string // the Location, or the body
	}{
		{"/plain?q=1", []string{"Sec-Fetch-Mode", "navigate"}, 307, "/plain/?q=1"},
		{"/plain?q=1", []string{"Accept", "text/html"}, 307, "/plain/?q=1"},
		{"/plain?q=1", nil, 200, "/?q=1"},
		{"/plain", []string{"Service-Worker", "script"}, 403, ""},
		{"/passing?q=1", []string{"Sec-Fetch-Mode", "navigate"}, 200, "/?q=1"},
		{"/passing", []string{"Accept", "text/html"}, 200, "/"},
	} {
		id, _, _ := strings.Cut(tt.path[1:], "?")
		late.misleading(t, id, nodes[1])
		nodes[0].forgetHolder(id)
		resp, body := nodes[0].get(tt.path, tt.header...)
		got := body
		if resp.StatusCode == 307 {
			got = resp.Header.Get("Location")
			if !strings.Contains(strings.Join(resp.Header["Vary"], ","), "Sec-Fetch-Mode") {
				t.Errorf("%s %v: %v", tt.path, tt.header, resp.Header)
			}
		}
		if resp.StatusCode != tt.status || tt.want != "" && got != tt.want {
			t.Errorf("%s %v: %d %q", tt.path, tt.header, resp.StatusCode, got)
		}
	}
}

// forgetHolder has s ask the directory for id again.
func (s *testService) forgetHolder(id string) {
	if h, err := s.cluster.member.Find(s.t.Context(), id); err == nil {
		s.cluster.member.Doubt(id, h)
	}
}

// TestHopForgedEverywhere: nothing that viewers send in the name of a node means anything, by
// no protocol, on no listener of a node, and no target gets it.
func TestHopForgedEverywhere(t *testing.T) {
	t.Parallel()
	nodes := newNodes(t, 2, new(cluster.Memory), Config{ViewerDomain: "t.example"})
	var mu sync.Mutex
	var seen []string
	c := nodes[0].connect("here", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		mu.Lock()
		defer mu.Unlock()
		for _, h := range []http.Header{r.Header, r.Trailer} {
			for k, vv := range h {
				if strings.Contains(strings.Join(vv, " "), "forged") {
					seen = append(seen, k)
				}
			}
		}
		io.WriteString(w, "fine")
	}))
	nodes[0].waitActive(c)
	nodes[0].waitAnnounced()
	names := []string{"X-Websocktunnel-Hop", "X-Websocktunnel-Node", "X-Websocktunnel-Node-From", "X-Websocktunnel-Instance", "X-Websocktunnel-Attempt", "X-Websocktunnel-Error", "X-Websocktunnel-Later"}
	values := []string{"forged", "here 192.0.2.1 hold bare forged", "control evict forged", "control admin forged", "not-here forged", "ready forged"}
	for _, s := range nodes {
		for _, name := range names {
			for _, value := range values {
				for _, spelt := range []string{name, strings.ToLower(name), strings.ReplaceAll(name, "-", "_")} {
					line := spelt + ": " + value + "\r\n"
					for what, request := range map[string]string{
						"path":    "GET /here/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + line + "\r\n",
						"host":    "GET / HTTP/1.1\r\nHost: here.t.example\r\nConnection: close\r\n" + line + "\r\n",
						"trailer": "POST /here/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTrailer: " + spelt + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + line + "\r\n",
					} {
						if answer := s.raw(request); !strings.HasPrefix(answer, "HTTP/1.1 200 ") || !strings.Contains(answer, "fine") {
							t.Errorf("%s, %s: %q", what, line, answer)
						}
					}
				}
				req, _ := http.NewRequestWithContext(t.Context(), "GET", s.url+"/here/", nil)
				req.Header[strings.ToLower(name)] = []string{value}
				if h2conn.ExtendedConnect {
					resp, err := s.http2Viewer().RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
					if resp.StatusCode != 200 {
						t.Errorf("HTTP/2, %s %s: %d", name, value, resp.StatusCode)
					}
				}
			}
		}
	}
	if len(seen) > 0 {
		t.Errorf("the target has got %v", seen)
	}
	for _, s := range nodes {
		if !nodes[0].registry.has("here") {
			t.Errorf("%s: the tunnel has been evicted", s.url)
		}
	}
}
