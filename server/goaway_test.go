package server

import (
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// TestGoawayRefusesStream: a tunnel client gives up its session by a GOAWAY
// frame that refuses a request which the service has sent already. A safe one
// goes to the client's next session, others are not made twice.
func TestGoawayRefusesStream(t *testing.T) {
	for _, tc := range []struct {
		method, body string
		want         int
	}{
		{"GET", "", 200}, {"HEAD", "", 200}, {"OPTIONS", "", 200},
		{"POST", "", 502}, {"PUT", "body", 502}, {"GET", "body", 502}, {"DELETE", "", 502},
	} {
		t.Run(tc.method+" "+tc.body, func(t *testing.T) {
			s := newService(t, Config{})
			old, fr := s.dialFramed("a")
			defer old.conn.Close()
			asked := make(chan struct{})
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				answerFrames(fr, func(f http2.Frame) {
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
				resp.Body.Close()
				status <- resp.StatusCode
			}()
			<-asked
			next := s.connect("a", echoHandler)
			s.waitActive(next)
			if err := fr.WriteGoAway(0, http2.ErrCodeNo, nil); err != nil {
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
