package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/h2conn"
)

// lateDirectory is a Directory whose news come late: it says what is in old once, for each
// id, and tells no claims.
type lateDirectory struct {
	cluster.Directory
	mu  sync.Mutex
	old map[string][]cluster.Entry
}

func (d *lateDirectory) Get(ctx context.Context, id string) (cluster.Entry, error) {
	d.mu.Lock()
	old := d.old[id]
	if len(old) > 0 {
		d.old[id] = old[1:]
	}
	d.mu.Unlock()
	if len(old) > 0 {
		return old[0], nil
	}
	return d.Directory.Get(ctx, id)
}

func (d *lateDirectory) Watch(ctx context.Context, f func(cluster.Event)) error {
	return d.Directory.Watch(ctx, func(e cluster.Event) {
		if e.Kind != cluster.EventClaimed {
			f(e)
		}
	})
}

// misleading makes d say once that id is at each of these nodes, one after the other.
func (d *lateDirectory) misleading(t *testing.T, id string, nodes ...*testService) {
	t.Helper()
	keys, err := cluster.NewKeys(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, s := range nodes {
		e := cluster.Entry{ID: id, Gen: uint64(i + 1), Node: s.cluster.member.Name(), Boot: s.cluster.member.Boot()}
		keys.SignEntry(&e)
		d.old[id] = append(d.old[id], e)
	}
}

// staleNodes returns three nodes, of which the first one hears the news late.
func staleNodes(t *testing.T) (*lateDirectory, []*testService) {
	t.Helper()
	memory := new(cluster.Memory)
	late := &lateDirectory{Directory: memory, old: make(map[string][]cluster.Entry)}
	nodes := []*testService{newNode(t, "a", late, Config{}), newNode(t, "b", memory, Config{}), newNode(t, "c", memory, Config{})}
	for _, s := range nodes {
		s.waitNodes(3)
	}
	return late, nodes
}

// counting answers with how many bytes it has got, and takes upgrades. It counts requests.
func counting(n *atomic.Int32) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		if r.Header.Get("Upgrade") != "" {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", r.Header.Get("Upgrade"))
			w.WriteHeader(http.StatusSwitchingProtocols)
			c, brw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			brw.Flush()
			io.Copy(c, brw)
			return
		}
		got, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, got, err, r.Trailer.Get("X-End"))
	})
}

// staleRequests are made of a node that looks for the tunnel at the wrong one first.
var staleRequests = []struct {
	name string
	make func(t *testing.T, s *testService, url string) string
	want string
}{
	{"GET", func(_ *testing.T, s *testService, path string) string {
		_, body := s.get(path)
		return body
	}, "0 <nil>"},
	{"short body", staleBody(1000, true), "1000 <nil>"},
	{"body that just fits", staleBody(64<<10, true), "65536 <nil>"},
	{"body that just does not", staleBody(64<<10+1, true), "65537 <nil>"},
	{"long body", staleBody(1<<20, true), "1048576 <nil>"},
	{"body of unknown length", staleBody(1<<20, false), "1048576 <nil>"},
	{"short body of unknown length", staleBody(10, false), "10 <nil>"},
	{"trailers", func(t *testing.T, s *testService, path string) string {
		return s.raw("POST " + path + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTrailer: X-End\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-End: end\r\n\r\n")
	}, "3 <nil>end"},
	{"body that is waited for", func(t *testing.T, s *testService, path string) string {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n")
		br := bufio.NewReader(conn)
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != http.StatusContinue {
			t.Fatal(resp, err)
		}
		io.WriteString(conn, strings.Repeat("x", 100000))
		resp, err = http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		return string(b)
	}, "100000 <nil>"},
	{"upgrade", func(t *testing.T, s *testService, path string) string {
		return staleUpgrade(t, s, "GET "+path+" HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	}, "ping"},
	{"upgrade by extended CONNECT", func(t *testing.T, s *testService, path string) string {
		pr, pw := io.Pipe()
		defer pw.Close()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodConnect, s.url+path, pr)
		if err != nil {
			t.Fatal(err)
		}
		req.Header[":protocol"] = []string{"x"}
		resp, err := s.http2Viewer().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return resp.Status
		}
		go io.WriteString(pw, "ping")
		b := make([]byte, 4)
		io.ReadFull(resp.Body, b)
		return string(b)
	}, "ping"},
}

func staleBody(size int, known bool) func(t *testing.T, s *testService, path string) string {
	return func(t *testing.T, s *testService, path string) string {
		var body io.Reader = strings.NewReader(strings.Repeat("x", size))
		if !known {
			body = io.MultiReader(body)
		}
		resp, err := s.http.Post(s.url+path, "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return string(b)
	}
}

func staleUpgrade(t *testing.T, s *testService, request string) string {
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(conn, request)
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return resp.Status
	}
	io.WriteString(conn, "ping")
	b := make([]byte, 4)
	io.ReadFull(br, b)
	return string(b)
}

// TestStaleHolder: a request that is sent to a node without the tunnel arrives at the one
// that has it, whole and once.
func TestStaleHolder(t *testing.T) {
	late, nodes := staleNodes(t)
	var delivered atomic.Int32
	ids := make(map[string]string)
	for i, tt := range staleRequests {
		id := fmt.Sprint("moved-", i)
		ids[tt.name] = id
		late.misleading(t, id, nodes[1])
		nodes[2].waitActive(nodes[2].connect(id, counting(&delivered)))
	}
	nodes[2].waitAnnounced()
	for _, tt := range staleRequests {
		t.Run(tt.name, func(t *testing.T) {
			if !h2conn.ExtendedConnect && strings.Contains(tt.name, "extended CONNECT") {
				t.Skip("x/net/http2 of this build cannot serve extended CONNECT: needs the tag http2legacy")
			}
			delivered.Store(0)
			if got := tt.make(t, nodes[0], "/"+ids[tt.name]+"/"); !strings.HasSuffix(strings.TrimRight(got, "\r\n0"), strings.TrimRight(tt.want, "0")) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if n := delivered.Load(); n != 1 {
				t.Errorf("delivered %d times", n)
			}
		})
	}
}

// TestStaleHolderComesHere is the same where the tunnel client then comes to the node
// that the viewer has asked.
func TestStaleHolderComesHere(t *testing.T) {
	t.Parallel()
	for _, tt := range staleRequests {
		t.Run(tt.name, func(t *testing.T) {
			if !h2conn.ExtendedConnect && strings.Contains(tt.name, "extended CONNECT") {
				t.Skip("x/net/http2 of this build cannot serve extended CONNECT: needs the tag http2legacy")
			}
			t.Parallel()
			late, nodes := staleNodes(t)
			late.misleading(t, "coming", nodes[1])
			var delivered atomic.Int32
			got := make(chan string, 1)
			go func() { got <- tt.make(t, nodes[0], "/coming/") }()
			waitFor(t, func() bool { st, _ := nodes[0].Cluster(); return st.Lookups > 1 })
			nodes[0].connect("coming", counting(&delivered))
			if got := <-got; !strings.HasSuffix(strings.TrimRight(got, "\r\n0"), strings.TrimRight(tt.want, "0")) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if n := delivered.Load(); n != 1 {
				t.Errorf("delivered %d times", n)
			}
		})
	}
}

// TestStaleHolderTwice: an id that is announced is not taken for absent, however often it
// has moved.
func TestStaleHolderTwice(t *testing.T) {
	t.Parallel()
	late, nodes := staleNodes(t)
	late.misleading(t, "restless", nodes[1], nodes[2])
	nodes[1].waitActive(nodes[1].connect("restless", echoHandler))
	nodes[1].waitAnnounced()
	late.mu.Lock()
	late.old["restless"] = late.old["restless"][1:] // at c, and then where it is
	late.old["restless"] = append(late.old["restless"], late.old["restless"]...)
	late.old["restless"][1].Gen++
	late.mu.Unlock()
	resp, body := nodes[0].get("/restless/")
	if resp.StatusCode == http.StatusNotFound {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}
