package tunnelclient_test

import (
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// The client notices by itself that the service is gone without a word, within
// 25 s of the last byte: 15 s of silence, and 10 s for the answer to a ping.
// With something to send, 10 s without a byte taken are enough.
func TestLiveness(t *testing.T) {
	const grace = time.Second // for closing what nobody answers
	for _, tt := range []struct {
		name              string
		interval, timeout time.Duration
		send              bool // the answer to a request is under way
		fault             func(*memListener)
		asks              bool // the service goes on asking
		within            time.Duration
	}{
		{"vanished", 0, 0, false, func(l *memListener) { l.toService().lose(); l.toClient().lose() }, false, 25 * time.Second},
		{"vanished while sending", 0, 0, true, func(l *memListener) { l.toService().lose(); l.toClient().lose() }, false, 25 * time.Second},
		{"half the way vanished", 0, 0, false, func(l *memListener) { l.toClient().lose() }, false, 25 * time.Second},
		{"the other half vanished", 0, 0, false, func(l *memListener) { l.toService().lose() }, false, 25 * time.Second},
		// Its kernel takes some bytes in its place.
		{"frozen", 0, 0, false, func(l *memListener) { l.toService().block(64 << 10) }, false, 25 * time.Second},
		{"frozen while sending", 0, 0, true, func(l *memListener) { l.toService().block(64 << 10) }, false, 10 * time.Second},
		{"takes no bytes but sends", 0, 0, true, func(l *memListener) { l.toService().block(1) }, true, 10 * time.Second},
		{"takes no bytes", 0, 0, false, func(l *memListener) { l.toService().block(1) }, false, 25 * time.Second},
		{"configured", 3 * time.Second, time.Second, false, func(l *memListener) { l.toClient().lose() }, false, 4 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeService(t)
				cfg := s.config(tunnelclient.StaticToken("t1"))
				cfg.PingInterval, cfg.PingTimeout = tt.interval, tt.timeout
				ended := make(chan tunnelclient.State, 1)
				cfg.OnStateChange = func(st tunnelclient.State) {
					if st.Phase == tunnelclient.PhaseWaiting {
						ended <- st
					}
				}
				begun := make(chan struct{})
				serve(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path != "/stream" {
						return
					}
					w.Write(make([]byte, 1000))
					w.(http.Flusher).Flush()
					close(begun)
					for r.Context().Err() == nil {
						pass(100 * time.Millisecond)
						if _, err := w.Write(make([]byte, 10_000)); err != nil {
							return
						}
						w.(http.Flusher).Flush()
					}
				}))
				fs := s.next()
				if tt.send {
					req, err := http.NewRequest(http.MethodGet, "http://tunnel/stream", nil)
					if err != nil {
						t.Fatal(err)
					}
					resp, err := fs.asking.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					go io.Copy(io.Discard, resp.Body)
					defer resp.Body.Close()
					<-begun
				}
				pass(105*time.Second + time.Millisecond) // live peers are left alone; a ping has just been answered
				select {
				case st := <-ended:
					t.Fatalf("with nothing wrong: %v", st.Err)
				default:
				}
				begin := time.Now()
				tt.fault(s.ln)
				if tt.asks {
					go func() {
						for {
							select {
							case <-fs.conn.Done():
								return
							case <-time.After(time.Second):
								go fs.get("/")
							}
						}
					}()
				}
				var st tunnelclient.State
				select {
				case st = <-ended:
				case <-time.After(patience):
					t.Fatal("nothing was noticed")
				}
				d := time.Since(begin)
				if d > tt.within+grace {
					t.Errorf("noticed after %v, want at most %v", d, tt.within)
				}
				var se *tunnelclient.SessionError
				if !errors.As(st.Err, &se) || se.Code != 0 || se.Err == nil {
					t.Errorf("state %+v", st)
				}
				t.Logf("after %v: %v", d, st.Err)
				s.next().expect("/", "")
			})
		})
	}
}
