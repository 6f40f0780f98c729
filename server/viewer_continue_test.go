package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestInterimBesideContinue: an interim answer that comes just when the body of
// "Expect: 100-continue" is first read met net/http's own 100 on one buffer: 171
// of 7,966 answers had stray bytes.
func TestInterimBesideContinue(t *testing.T) {
	s := newService(t, Config{})
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := s.newExchange(w, r, parseRoute(r), &requestMemory{Holding: newMemory(0, trustedProxies{}).Hold(nil, nil, 0)})
		defer x.finish()
		x.w.rc.EnableFullDuplex()
		x.body.attach(x.in, x.in.Clone(r.Context()), new(traffic), func(error) {})
		var wg sync.WaitGroup
		wg.Go(func() { x.w.interim(http.StatusEarlyHints, http.Header{"Link": {"</style.css>"}}) })
		body, err := io.ReadAll(x.in.Body)
		wg.Wait()
		if err != nil {
			t.Error(err)
		}
		x.w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		x.w.WriteHeader(http.StatusOK)
		x.w.Write(body)
		x.endRequest()
	}))
	defer hs.Close()
	for range 300 {
		c, err := net.Dial("tcp", hs.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(c, "POST /a/ HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
		br := bufio.NewReader(c)
		sent := false
		seen := map[int]int{}
		for seen[http.StatusOK] == 0 {
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatalf("after %v: %v", seen, err)
			}
			seen[resp.StatusCode]++
			if resp.StatusCode == http.StatusContinue && !sent {
				sent = true
				io.WriteString(c, "body")
			}
			if resp.StatusCode == http.StatusEarlyHints && resp.Header.Get("Link") != "</style.css>" {
				t.Errorf("103 with %v", resp.Header)
			}
			if resp.StatusCode == http.StatusOK {
				if b, err := io.ReadAll(resp.Body); string(b) != "body" || err != nil {
					t.Errorf("answer %q, %v", b, err)
				}
			}
		}
		if seen[http.StatusContinue] != 1 || seen[http.StatusEarlyHints] > 1 || len(seen) > 3 {
			t.Errorf("answers by status: %v", seen)
		}
		c.Close()
	}
}

// TestContinueOfTarget: the target's 100 counts as the viewer's, also while it is
// still in the queue when the body is read: two answers of 100 were the result.
func TestContinueOfTarget(t *testing.T) {
	s := newService(t, Config{})
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := s.newExchange(w, r, parseRoute(r), &requestMemory{Holding: newMemory(0, trustedProxies{}).Hold(nil, nil, 0)})
		defer x.finish()
		x.body.attach(x.in, x.in.Clone(r.Context()), new(traffic), func(error) {})
		x.w.interim(http.StatusContinue, http.Header{})
		if _, err := io.ReadAll(x.in.Body); err != nil {
			t.Error(err)
		}
		x.w.interim(http.StatusContinue, http.Header{})
		x.w.WriteHeader(http.StatusNoContent)
		x.endRequest()
	}))
	defer hs.Close()
	for range 300 {
		c, err := net.Dial("tcp", hs.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "POST /a/ HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\nbody")
		answer, err := io.ReadAll(c)
		c.Close()
		if n := strings.Count(string(answer), "HTTP/1.1 100 "); n != 1 || err != nil || !strings.Contains(string(answer), "HTTP/1.1 204 ") {
			t.Fatalf("%d answers of 100 in %q, %v", n, answer, err)
		}
	}
}

// TestInterimHoldsUpNobody: a viewer that takes no interim answer holds up
// neither the goroutine that brings it, which reads for a whole tunnel, nor the
// next one.
func TestInterimHoldsUpNobody(t *testing.T) {
	s := newService(t, Config{})
	stuck := make(chan struct{})
	w := &stuckWriter{ResponseRecorder: httptest.NewRecorder(), release: stuck}
	r := httptest.NewRequest(http.MethodGet, "/a/", strings.NewReader(""))
	x := s.newExchange(w, r, parseRoute(r), &requestMemory{Holding: newMemory(0, trustedProxies{}).Hold(nil, nil, 0)})
	for range maxInterim {
		x.w.interim(http.StatusEarlyHints, http.Header{"Link": {"a"}}) // must not block
	}
	close(stuck)
	x.w.WriteHeader(http.StatusOK)
	x.finish()
	if want := maxInterim + 1; len(w.codes) != want || w.codes[want-1] != http.StatusOK {
		t.Errorf("written: %v, want %d interim ones before the final", w.codes, maxInterim)
	}
	if got := w.Header().Values("Link"); len(got) != 0 {
		t.Errorf("the final answer has an interim one's header: %v", got)
	}
}

type stuckWriter struct {
	*httptest.ResponseRecorder
	release <-chan struct{}
	codes   []int
}

func (w *stuckWriter) WriteHeader(status int) {
	<-w.release
	w.codes = append(w.codes, status)
}
