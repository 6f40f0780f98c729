package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/h2conn"
)

// Nodes of neighbouring versions work together. What follows is what the first version
// sends, which must never change, and what a later one may add to it: docs/cluster.md has
// the rule.

func neighbourKeys(t testing.TB) *cluster.Keys {
	t.Helper()
	keys, err := cluster.NewKeys(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// laterOffer offers the subprotocol of a later version too.
type laterOffer struct{ http.RoundTripper }

func (o laterOffer) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header["Sec-Websocket-Protocol"] = []string{"websocktunnel-node.2, " + r.Header.Get("Sec-Websocket-Protocol")}
	return o.RoundTripper.RoundTrip(r)
}

// dialAsNeighbour makes a link to s, as a node of a later version.
func (s *testService) dialAsNeighbour() *h2conn.Transport {
	s.t.Helper()
	web := &http.Transport{TLSClientConfig: neighbourKeys(s.t).TLS()}
	defer web.CloseIdleConnections()
	conn, _, err := h2conn.Dial(s.t.Context(), "https://"+s.cfg.Cluster.Addr+"/", h2conn.DialOptions{
		HTTPClient: &http.Client{Transport: laterOffer{web}}, Subprotocol: "websocktunnel-node.1",
		Header: http.Header{
			"X-Websocktunnel-Node":       {s.cluster.member.Name() + " " + s.cluster.member.Boot() + " zone=1"},
			"X-Websocktunnel-Node-From":  {"later b00t zone=2"},
			"X-Websocktunnel-Node-Later": {"?"},
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	tr, err := h2conn.NewTransport(conn, h2conn.TransportConfig{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { tr.Close() })
	return tr
}

// TestVersionsAsked: a node understands what another version asks.
func TestVersionsAsked(t *testing.T) {
	s := newNode(t, "a", new(cluster.Memory), Config{})
	c := s.connect("here", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Websocktunnel-Hop") != "" {
			t.Error("the tunnel client gets the header between nodes")
		}
		body, _ := io.ReadAll(r.Body)
		io.WriteString(w, r.RequestURI+" "+r.Header.Get("X-Forwarded-For")+" "+string(body))
	}))
	s.waitActive(c)
	tr := s.dialAsNeighbour()
	ask := func(hop, body string) (status int, answer, said string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://h/x?q", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"X-Websocktunnel-Hop": {hop}, "X-Websocktunnel-Hop-Later": {"?"}, "X-Forwarded-For": {"192.0.2.7"}}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s: %v", hop, err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Errorf("%s: %v", hop, err)
		}
		return resp.StatusCode, string(b), resp.Header.Get("X-Websocktunnel-Hop")
	}
	for _, hop := range []string{
		"here 192.0.2.7", "here -", "here 192.0.2.7 hold", "here 2001:db8::7 hold", // as the first version
		"here 192.0.2.7 zone=1", "here 192.0.2.7 urgent hold zone=1", // as a later one
	} {
		if status, answer, said := ask(hop, "body"); status != 200 || answer != "/x?q 192.0.2.7 body" || said != "" {
			t.Errorf("%s: %d %q %q", hop, status, answer, said)
		}
	}
	for hop, want := range map[string]struct {
		status int
		said   string
	}{
		"away 192.0.2.7 zone=1":   {421, "not-here"},
		"here - bare zone=1":      {307, "bare"},
		"here":                    {400, ""},
		"control future":          {501, ""},
		"control future now":      {501, ""},
		"control evictions":       {204, ""},
		"control evictions later": {204, ""},
	} {
		body := `{"blocked":[{"id":"here","later":1,"until":"2999-01-01T00:00:00Z"}],"later":{"x":[1]}}` // no token, so nothing is blocked
		if status, _, said := ask(hop, body); status != want.status || said != want.said {
			t.Errorf("%s: %d %q", hop, status, said)
		}
	}
	if status, _, _ := ask("here -", ""); status != 200 {
		t.Errorf("afterwards: %d", status)
	}
	if status, _, _ := ask("control evict later", "here"); status != 204 {
		t.Errorf("evict: %d", status)
	}
	waitFor(t, func() bool { return !s.registry.has("here") })
}

// neighbour is a node of a later version, which has the tunnel "far".
func neighbour(t *testing.T, d cluster.Directory, state cluster.State, h http.Handler) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to, from := r.Header.Get("X-Websocktunnel-Node"), r.Header.Get("X-Websocktunnel-Node-From"); !strings.HasPrefix(to+" ", "later b00t ") || !strings.HasPrefix(from, "a ") {
			t.Errorf("a link to %q from %q: the first version named node and boot", to, from)
		}
		conn, err := h2conn.Accept(w, r, h2conn.AcceptOptions{Subprotocol: "websocktunnel-node.1"})
		if err != nil {
			t.Error(err)
			return
		}
		_ = h2conn.Serve(ctx, conn, h, h2conn.ServeConfig{DrainTimeout: time.Millisecond})
	}))
	srv.TLS = neighbourKeys(t).TLS()
	srv.StartTLS()
	t.Cleanup(func() { cancel(); srv.Close() })
	keys := neighbourKeys(t)
	node := cluster.Node{Name: "later", Boot: "b00t", Addr: srv.Listener.Addr().String(), Version: "v99", State: state, Beat: time.Now().Truncate(time.Millisecond)}
	keys.SignNode(&node)
	entry := cluster.Entry{ID: "far", Gen: 1, Node: "later", Boot: "b00t"}
	keys.SignEntry(&entry)
	_, err := d.Beat(ctx, node)
	_, put := d.Put(ctx, []cluster.Entry{entry})
	if err := errors.Join(err, put); err != nil {
		t.Fatal(err)
	}
}

// TestVersionsAnswered: a node sends what the first version sends, and understands the
// answers of another version.
func TestVersionsAnswered(t *testing.T) {
	d := new(cluster.Memory)
	asked := make(chan string, 10)
	answers := make(chan http.HandlerFunc, 1)
	neighbour(t, d, "resting", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hop := r.Header.Get("X-Websocktunnel-Hop")
		if strings.HasPrefix(hop, "control ") {
			w.WriteHeader(http.StatusNotImplemented) // so far nodes can do without each
			return
		}
		asked <- hop + ", " + r.Method + " " + r.RequestURI
		(<-answers)(w, r)
	}))
	s := newNode(t, "a", d, Config{})
	s.waitNodes(2)
	say := func(status int, hop string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Websocktunnel-Hop", hop)
			w.Header().Set("X-Websocktunnel-Hop-Later", "?")
			w.WriteHeader(status)
		}
	}
	fine := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Websocktunnel-Hop-Later", "?")
		n, _ := io.Copy(io.Discard, r.Body)
		if n > 1<<20 {
			n = 1 << 20
		}
		io.WriteString(w, strings.Repeat("x", int(n)))
	}
	for _, tc := range []struct {
		name, size, hop string
		answer          http.HandlerFunc
		status          int
		code            string
	}{
		{"plain", "", "far 127.0.0.1, POST /x?q", fine, 200, ""},
		{"long body", strings.Repeat("x", 1<<20), "far 127.0.0.1 hold, POST /x?q", func(w http.ResponseWriter, r *http.Request) {
			for _, word := range []string{"queued", "ready zone=1"} { // the first one is of a later version
				w.Header().Set("X-Websocktunnel-Hop", word)
				w.WriteHeader(http.StatusProcessing)
			}
			w.Header().Del("X-Websocktunnel-Hop")
			fine(w, r)
		}, 200, ""},
		{"failure", "", "far 127.0.0.1, POST /x?q", say(503, "WT-TUNNEL-BUSY later"), 503, "WT-TUNNEL-BUSY"},
		{"unknown failure", "", "far 127.0.0.1, POST /x?q", say(599, "WT-LATER"), 502, "WT-TUNNEL-BROKE"},
	} {
		answers <- tc.answer
		resp, err := s.http.Post(s.url+"/far/x?q", "", strings.NewReader(tc.size))
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := <-asked; got != tc.hop {
			t.Errorf("%s: the node sends %q, and the first version sent %q", tc.name, got, tc.hop)
		}
		if resp.StatusCode != tc.status || !strings.Contains(string(body), tc.code) || tc.status == 200 && string(body) != tc.size {
			t.Errorf("%s: %d, %.200s", tc.name, resp.StatusCode, body)
		}
		for name := range resp.Header {
			if strings.HasPrefix(name, "X-Websocktunnel-Hop") {
				t.Errorf("%s: the viewer gets %s", tc.name, name)
			}
		}
	}
	if list := s.Nodes(); !slices.ContainsFunc(list, func(n NodeInfo) bool { return n.Name == "later" && n.Version == "v99" && n.Fault == "" }) {
		t.Errorf("nodes: %+v", list)
	}
}

// TestVersionsOfMessages: what nodes tell each other beside viewers' requests, as the first
// version that had each of them wrote it.
func TestVersionsOfMessages(t *testing.T) {
	at := time.Unix(1_800_000_000, 0).UTC()
	for _, tc := range []struct {
		value any
		want  string
	}{
		{
			sharedEvictions{
				Blocked: []sharedEviction{{ID: "build-42", Issued: 1_700_000_000, Tokens: []string{"c0ffee"}, Until: at, At: at}},
				Lifted:  map[string]time.Time{"build-41": at},
			},
			`{"blocked":[{"id":"build-42","issued":1700000000,"tokens":["c0ffee"],"until":"2027-01-15T08:00:00Z","at":"2027-01-15T08:00:00Z"}],"lifted":{"build-41":"2027-01-15T08:00:00Z"}}`,
		},
		{comingTunnels{Labels: []label{"build-42"}}, `{"labels":["build-42"]}`},
		{brokeMessage{typeBroke, 17, codeAnswerBroke}, `{"type":"broke","stream":17,"code":"WT-ANSWER-BROKE"}`},
	} {
		if got, err := json.Marshal(tc.value); err != nil || string(got) != tc.want {
			t.Errorf("got %s, want %s (%v)", got, tc.want, err)
		}
	}
	if got := strings.Join([]string{controlEvictions, controlEvict, controlAdmin, controlComing, tellsComing}, " "); got != "evictions evict admin coming coming" {
		t.Error("the words of nodes have changed: ", got)
	}
}
