package server

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
)

// breaker begins an answer, or an upgraded connection, of which the rest never comes. It
// breaks as the path says.
func breaker(begun chan<- string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "length") {
			w.Header().Set("Content-Length", "1000000")
		}
		if r.Header.Get("Upgrade") != "" {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", r.Header.Get("Upgrade"))
			w.WriteHeader(http.StatusSwitchingProtocols)
			c, brw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			brw.WriteString("begun")
			brw.Flush()
			begun <- r.URL.Path
			io.Copy(io.Discard, c)
			return
		}
		io.WriteString(w, "begun")
		http.NewResponseController(w).Flush()
		begun <- r.URL.Path
		if strings.HasPrefix(r.URL.Path, "/target") {
			panic(http.ErrAbortHandler)
		}
		<-r.Context().Done()
	})
}

// TestHopBreaks: what breaks off at another node breaks off for the viewer, and the record
// names the party that has done it, as if there were one node.
func TestHopBreaks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, path, upgrade string
		do                  func(holder *testService, c *testClient)
	}{
		{name: "tunnel", path: "/here/tunnel", do: func(_ *testService, c *testClient) { c.conn.Abort() }},
		{name: "tunnel, in an answer whose length is known", path: "/here/tunnel-length", do: func(_ *testService, c *testClient) { c.conn.Abort() }},
		{name: "tunnel, after an upgrade", path: "/here/tunnel", upgrade: "x", do: func(_ *testService, c *testClient) { c.conn.Abort() }},
		{name: "target", path: "/here/target", do: func(*testService, *testClient) {}},
		{name: "target, in an answer whose length is known", path: "/here/target-length", do: func(*testService, *testClient) {}},
		{name: "operator", path: "/here/operator", do: func(s *testService, _ *testClient) { s.Evict("here") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			records := make(chan *RequestInfo, 4)
			nodes := newNodes(t, 2, new(cluster.Memory), Config{RequestDone: func(i *RequestInfo) { records <- i }})
			var got [2]string
			for i, s := range nodes {
				begun := make(chan string, 1)
				c := nodes[0].connect("here", breaker(begun))
				nodes[0].waitActive(c)
				nodes[0].waitAnnounced()
				answer, end := s.brokenAnswer(t, tt.path, tt.upgrade, func() {
					<-begun
					tt.do(nodes[0], c)
				})
				record := <-records
				got[i] = strings.Join([]string{answer, end, record.FailedHop, record.ErrorCode, record.Error, http.StatusText(record.Status)}, "|")
				if record.FailedHop == "" || record.FailedHop == "viewer" {
					t.Errorf("node %d: %+v", i, record)
				}
				c.conn.Abort()
				<-c.served
				nodes[0].Unblock("here")
			}
			if got[0] != got[1] {
				t.Errorf("by the node of the tunnel: %s; by another node: %s", got[0], got[1])
			}
			t.Log(got[0])
		})
	}
}

// brokenAnswer asks s for path, calls then when the answer has begun, and returns the
// beginning and how it ended.
func (s *testService) brokenAnswer(t *testing.T, path, upgrade string, then func()) (begin, end string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	request := "GET " + path + " HTTP/1.1\r\nHost: h\r\n"
	if upgrade != "" {
		request += "Connection: Upgrade\r\nUpgrade: " + upgrade + "\r\n"
	}
	io.WriteString(conn, request+"\r\n")
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	var body io.Reader = resp.Body
	if resp.StatusCode == http.StatusSwitchingProtocols {
		body = br
	}
	b := make([]byte, len("begun"))
	if _, err := io.ReadFull(body, b); err != nil {
		t.Fatal(err)
	}
	then()
	rest, err := io.ReadAll(body)
	if err == nil {
		t.Error("the answer looks whole")
		return string(b) + string(rest), "whole"
	}
	return string(b) + string(rest), "broken"
}

// TestHopLost: where the node that has the tunnel is lost in mid-answer, the tunnel client
// and the target are not to blame.
func TestHopLost(t *testing.T) {
	t.Parallel()
	for _, upgrade := range []string{"", "x"} {
		records := make(chan *RequestInfo, 1)
		nodes := newNodes(t, 2, new(cluster.Memory), Config{RequestDone: func(i *RequestInfo) { records <- i }})
		begun := make(chan string, 1)
		nodes[0].waitActive(nodes[0].connect("here", breaker(begun)))
		nodes[0].waitAnnounced()
		nodes[1].brokenAnswer(t, "/here/", upgrade, func() {
			<-begun
			for _, l := range nodes[1].links(nodes[0]) {
				l.tr.Close()
			}
		})
		if i := <-records; i.FailedHop != "service" || i.ErrorCode != string(codeNodeLost) {
			t.Errorf("%+v", i)
		}
	}
}
