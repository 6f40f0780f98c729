package server

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// TestGoawayRefusesStream: a tunnel client gives up its session by a GOAWAY
// frame that refuses a request which the service has sent already. It goes to the
// client's next session, whatever its method. Those with another method than GET,
// HEAD and OPTIONS, or with a body, were answered with 502.
func TestGoawayRefusesStream(t *testing.T) {
	for _, tc := range []struct {
		method, body string
		want         int
	}{
		{"GET", "", 200}, {"HEAD", "", 200}, {"OPTIONS", "", 200},
		{"POST", "", 200}, {"PUT", "body", 200}, {"GET", "body", 200}, {"DELETE", "", 200},
		{"POST", strings.Repeat("x", 64<<10), 200},
	} {
		t.Run(fmt.Sprint(tc.method, " ", len(tc.body)), func(t *testing.T) {
			s := newService(t, Config{})
			old := s.dialFramed("a")
			defer old.conn.Close()
			asked := make(chan struct{})
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				old.answer(func(f http2.Frame) {
					if _, ok := f.(*http2.HeadersFrame); ok {
						close(asked)
					}
				})
			}()
			s.waitActive(old)

			status := make(chan int, 1)
			go func() {
				req, _ := http.NewRequestWithContext(t.Context(), tc.method, s.url+"/a/", strings.NewReader(tc.body))
				resp, err := s.http.Do(req)
				if err != nil {
					t.Error(err)
					status <- 0
					return
				}
				defer resp.Body.Close()
				if b, err := io.ReadAll(resp.Body); resp.StatusCode == 200 && (string(b) != tc.body || err != nil) {
					t.Errorf("%d bytes of %d arrived, or others, %v", len(b), len(tc.body), err)
				}
				status <- resp.StatusCode
			}()
			<-asked
			next := s.connect("a", echoHandler)
			s.waitActive(next)
			if err := old.do(func(fr *http2.Framer) error { return fr.WriteGoAway(0, http2.ErrCodeNo, nil) }); err != nil {
				t.Fatal(err)
			}
			if got := <-status; got != tc.want {
				t.Errorf("the viewer got %d, want %d", got, tc.want)
			}
			old.conn.Close()
			<-gone
		})
	}
}

// heldSession is the session of a tunnel client that answers each request with
// headers and the first piece of an event stream.
type heldSession struct {
	*testClient
	asks chan uint32
}

func (s *testService) holdStreams(id string) *heldSession {
	c := s.dialFramed(id)
	h := &heldSession{testClient: c, asks: make(chan uint32, 100)}
	over := make(chan struct{})
	go func() {
		defer close(over)
		c.answer(func(f http2.Frame) {
			if _, ok := f.(*http2.HeadersFrame); !ok {
				return
			}
			stream := f.Header().StreamID
			var block bytes.Buffer
			hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
			c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true})
			c.fr.WriteData(stream, false, []byte("event"))
			h.asks <- stream
		})
	}()
	s.t.Cleanup(func() {
		c.conn.Close()
		<-over
	})
	s.waitActive(c)
	return h
}

// TestGoawayHandsOver: after a GOAWAY frame that comes without the control
// message the client is asked for another session, its viewers wait for that,
// and what is in flight goes on.
func TestGoawayHandsOver(t *testing.T) {
	for _, inFlight := range []bool{true, false} {
		t.Run(fmt.Sprintf("in flight %v", inFlight), func(t *testing.T) {
			s := newService(t, Config{})
			old := s.holdStreams("a")
			var stream uint32
			var events *http.Response
			if inFlight {
				resp, err := s.http.Get(s.url + "/a/events")
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				events, stream = resp, <-old.asks
			}
			if err := old.do(func(fr *http2.Framer) error { return fr.WriteGoAway(1<<31-1, http2.ErrCodeEnhanceYourCalm, nil) }); err != nil {
				t.Fatal(err)
			}
			select {
			case m := <-old.control:
				if m.Type != wire.TypeGoaway || m.Reason != wire.ReasonDraining || m.ReconnectAfterMS != 0 {
					t.Errorf("the client was told %+v", m)
				}
			case <-old.conn.Done():
				// HTTP/2 closes an idle connection at once, which may come first. The
				// client connects again because of that.
				if inFlight {
					t.Error("the session ended with a request in flight")
				}
			}
			status := make(chan int, 5)
			for range cap(status) {
				go func() {
					resp, err := s.http.Get(s.url + "/a/")
					if err != nil {
						t.Error(err)
						status <- 0
						return
					}
					resp.Body.Close()
					status <- resp.StatusCode
				}()
			}
			waitFor(t, func() bool {
				s.registry.mu.Lock()
				defer s.registry.mu.Unlock()
				return s.registry.tunnels[labelOf("a")].awaiting == cap(status)
			})
			s.connect("a", echoHandler)
			for range cap(status) {
				if got := <-status; got != 200 {
					t.Errorf("a viewer got %d", got)
				}
			}
			if !inFlight {
				return
			}
			if err := old.do(func(fr *http2.Framer) error { return fr.WriteData(stream, true, []byte("last")) }); err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(events.Body); string(b) != "eventlast" || err != nil {
				t.Errorf("the event stream gave %q, %v", b, err)
			}
		})
	}
}

// TestGoawayOfLeavingClient: nobody waits for a client that has said that it
// leaves, or that has gone.
func TestGoawayOfLeavingClient(t *testing.T) {
	t.Run("says so", func(t *testing.T) {
		s := newService(t, Config{})
		c := s.holdStreams("a")
		resp, err := s.http.Get(s.url + "/a/events")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		c.conn.SendControl(wire.Control{Type: wire.TypeGoaway}.Encode())
		c.do(func(fr *http2.Framer) error { return fr.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil) })
		waitFor(t, func() bool { sess, _ := s.registry.lookup(t.Context(), labelOf("a")); return sess == nil })
		if resp, _ := s.get("/a/"); resp.StatusCode != http.StatusNotFound {
			t.Errorf("a viewer got %s", resp.Status)
		}
		select {
		case m := <-c.control:
			t.Errorf("the client was told %+v", m)
		default:
		}
	})
	t.Run("goes", func(t *testing.T) {
		s := newService(t, Config{})
		c := s.holdStreams("a")
		resp, err := s.http.Get(s.url + "/a/events")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		c.do(func(fr *http2.Framer) error { return fr.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil) })
		<-c.control
		begun := time.Now()
		c.conn.CloseWith(1000, "")
		if resp, _ := s.get("/a/"); resp.StatusCode != http.StatusNotFound {
			t.Errorf("a viewer got %s", resp.Status)
		}
		if took := time.Since(begun); took > settleWait/2 {
			t.Errorf("it took %v", took)
		}
	})
}

// TestGoawayOfClientThatStays: a viewer of a client that has been asked for
// another session and makes none gets 503 while it is connected.
func TestGoawayOfClientThatStays(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for ten seconds")
	}
	t.Parallel()
	s := newService(t, Config{})
	c := s.holdStreams("a")
	resp, err := s.http.Get(s.url + "/a/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	c.do(func(fr *http2.Framer) error { return fr.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil) })
	<-c.control
	// It used to say that the tunnel was at its request limit.
	if resp, text := s.get("/a/"); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" ||
		!strings.Contains(text, "new session") || !strings.HasPrefix(resp.Header.Get("Proxy-Status"), `websocktunnel; error=destination_unavailable; details="WT-NOT-REPLACED`) {
		t.Errorf("a viewer got %s", resp.Status)
	}
}
