package tunnelclient_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// The client pings as often as the service asks for, unless it is configured
// otherwise, or the service asks for what cannot be meant.
func TestPingsAsTold(t *testing.T) {
	for _, tt := range []struct {
		told              string
		interval, timeout time.Duration // configured
		want              time.Duration
	}{
		{"interval=5, timeout=5", 0, 0, 10 * time.Second},
		{"interval=3, timeout=1", 0, 0, 4 * time.Second},
		{"interval=5, timeout=5", 20 * time.Second, 0, 25 * time.Second},
		{"interval=5, timeout=5", 0, 20 * time.Second, 25 * time.Second},
		{"interval=5, timeout=5", 3 * time.Second, time.Second, 4 * time.Second},
		{"interval=0, timeout=5", 0, 0, 25 * time.Second},
		{"interval=3600, timeout=5", 0, 0, 25 * time.Second},
		{"often", 0, 0, 25 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeService(t)
			s.ping = tt.told
			cfg := s.config(tunnelclient.StaticToken("t1"))
			cfg.PingInterval, cfg.PingTimeout = tt.interval, tt.timeout
			ended := make(chan struct{}, 1)
			var over atomic.Bool
			s.admit = func(n int, _ string, w http.ResponseWriter) bool {
				if n == 1 || over.Load() {
					return true
				}
				w.WriteHeader(http.StatusServiceUnavailable) // no session beside the first
				return false
			}
			cfg.OnStateChange = func(st tunnelclient.State) {
				if st.Phase == tunnelclient.PhaseWaiting && !over.Swap(true) {
					ended <- struct{}{}
				}
			}
			serve(t, cfg, http.NotFoundHandler())
			s.next()
			synctest.Wait()
			begin := time.Now()
			s.ln.toClient().lose()
			<-ended
			if d := time.Since(begin); d < tt.want-time.Second || d > tt.want+time.Second {
				t.Errorf("told %q, configured %v and %v: noticed after %v, want %v", tt.told, tt.interval, tt.timeout, d, tt.want)
			}
			s.next()
		})
	}
}
