package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestEventSource: after an answer that ended and after one that broke off, the
// browser comes again and says how far it got; no event waits for the next;
// and when the page closes, the target learns it.
func TestEventSource(t *testing.T) {
	for scheme, want := range schemes {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			passed(t, "EventSource", scheme)
			lastIDs := make(chan string, 10)
			ticks := make(chan int)
			left := make(chan time.Time, 1)
			connection := 0
			mux := http.NewServeMux()
			mux.HandleFunc("/{$}", blank)
			mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
				connection++ // they come one after the other
				lastIDs <- r.Header.Get("Last-Event-ID")
				w.Header().Set("Content-Type", "text/event-stream")
				if connection <= 2 {
					fmt.Fprintf(w, "retry: 1\nid: %d\ndata: connection %d\n\n", 40+connection, connection)
					w.(http.Flusher).Flush()
				}
				w.(http.Flusher).Flush()
				for {
					select {
					case n := <-ticks:
						switch connection {
						case 1:
							return // a clean end
						case 2:
							panic(http.ErrAbortHandler)
						}
						fmt.Fprintf(w, "event: tick\ndata: %d\ndata: line two\n\n", n)
						w.(http.Flusher).Flush()
					case <-r.Context().Done():
						left <- time.Now()
						return
					}
				}
			})
			mux.HandleFunc("/tick", func(_ http.ResponseWriter, r *http.Request) {
				var n int
				fmt.Sscan(r.URL.Query().Get("n"), &n)
				select {
				case ticks <- n:
				case <-r.Context().Done():
				}
			})
			target := httptest.NewServer(mux)
			t.Cleanup(target.Close)
			s := harness.Start(t, harness.Options{TLS: want.tls})
			url := s.Target("id", target.URL, tunnelclient.ProxyOptions{})
			tb := newTab(t)
			tb.open(url + "/")

			got := js[[]string](tb, `
				const source = new EventSource('events');
				const got = [];
				let count = 0;
				await new Promise((resolve) => {
					source.onopen = () => { if (++count === 3) resolve(); };
					source.onmessage = ({ data, lastEventId }) => {
						got.push(lastEventId + ' ' + data);
						fetch('tick?n=0', { method: 'POST' }); // the target may go on
					};
				});
				for (let n = 0; n < 20; n++) {
					const event = new Promise((resolve) => { source.addEventListener('tick', resolve, { once: true }); });
					await fetch('tick?n=' + n, { method: 'POST' });
					const { data } = await event;
					if (data !== n + '\nline two') throw new Error('event ' + n + ' is ' + data);
				}
				source.close();
				return got;
			`)
			closedAt := time.Now()
			if want := []string{"41 connection 1", "42 connection 2"}; !reflect.DeepEqual(got, want) {
				t.Errorf("events are %q, want %q", got, want)
			}
			for i, want := range []string{"", "41", "42"} {
				if got := <-lastIDs; got != want {
					t.Errorf("connection %d: Last-Event-ID is %q, want %q", i+1, got, want)
				}
			}
			if late := (<-left).Sub(closedAt); late > time.Second {
				t.Errorf("the target learned after %v that the page has closed its source", late)
			}
		})
	}
}
