package server

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
)

// TestHopToLostNode: requests that are on their way to a node which falls silent, and whose
// tunnel does not come back, fail as soon as the link's ping says so, whatever they wait for.
func TestHopToLostNode(t *testing.T) {
	t.Parallel()
	const bound = 15 * time.Second // 10 s, and some for a busy machine
	d := new(cluster.Memory)
	records := make(chan *RequestInfo, 10)
	viewers := newNodes(t, 1, d, Config{RequestDone: func(i *RequestInfo) { records <- i }})[0]
	old, relay := newNodeBehindRelay(t, "old", d, Config{})
	for _, s := range []*testService{viewers, old} {
		s.waitNodes(2)
	}
	arrived := make(chan string, 10)
	over := make(chan struct{})
	defer close(over)
	old.waitActive(old.connect("here", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPut: // the body goes on
			io.CopyN(io.Discard, r.Body, 1)
		case http.MethodDelete: // the answer does
			w.WriteHeader(http.StatusOK)
			http.NewResponseController(w).Flush()
		}
		arrived <- r.Method
		<-over
	})))
	old.waitAnnounced()
	type answer struct {
		method, text string
		status       int
	}
	answers := make(chan answer, 3)
	headed := make(chan struct{}) // the viewer has the header of an answer
	for method, body := range map[string]io.Reader{
		http.MethodPost:   strings.NewReader("once"),
		http.MethodPut:    endless{},
		http.MethodDelete: nil,
	} {
		req, err := http.NewRequestWithContext(t.Context(), method, viewers.url+"/here/", body) //nolint:gosec // ours
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			a := answer{method: method}
			resp, err := viewers.http.Do(req)
			if err != nil {
				a.text = err.Error()
			} else {
				defer resp.Body.Close()
				if a.status = resp.StatusCode; a.status == http.StatusOK {
					close(headed)
				}
				b, err := io.ReadAll(resp.Body)
				a.text = string(b)
				if err != nil {
					a.text += " broken"
				}
			}
			answers <- a
		}()
		<-arrived
	}
	<-headed
	for _, l := range relay.Links() {
		l.HalfOpen()
	}
	late := time.After(bound)
	for range 3 {
		select {
		case i := <-records:
			if i.FailedHop != "service" || i.ErrorCode != string(codeNodeLost) {
				t.Errorf("the record of %s: %q, %q", i.Method, i.FailedHop, i.ErrorCode)
			}
		case <-late:
			t.Fatalf("after %v not all requests have failed", bound)
		}
		switch a := <-answers; {
		case a.method == http.MethodDelete:
			if a.status != http.StatusOK || !strings.HasSuffix(a.text, " broken") {
				t.Errorf("%+v", a)
			}
		case a.method == http.MethodPut && a.status == 0: // net/http may see the end of the connection first
		case a.status != http.StatusBadGateway || !strings.Contains(a.text, string(codeNodeLost)):
			t.Errorf("%+v", a)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
