package tunnelclient_test

import (
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// Two clients with one id do not evict each other in a loop: each waits longer
// every time, up to a minute. The newcomer is never refused, and when one goes
// away the other takes over.
func TestStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		run := func(name string) *running {
			cfg := s.config(tunnelclient.StaticToken(name))
			cfg.SetJitter(func(bound time.Duration) time.Duration { return rand.N(bound + 1) })
			return serve(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) }))
		}
		// The newest registration wins, as in the real service.
		begin := time.Now()
		var evictions []time.Duration // since begin
		var active *fakeSession
		adopt := func(fs *fakeSession) {
			if active != nil {
				evictions = append(evictions, time.Since(begin))
				active.closeWith(wire.CloseReplaced)
			}
			active = fs
			fs.expect("/", fs.token)
		}
		clients := map[string]*running{"a": run("a")}
		adopt(s.next())
		clients["b"] = run("b")
		for end := time.After(time.Hour); ; {
			select {
			case fs := <-s.sessions:
				adopt(fs)
				continue
			case <-end:
			}
			break
		}
		var late int
		for i, at := range evictions {
			if at < 10*time.Minute {
				continue
			}
			late++
			if gap := at - evictions[i-1]; gap < 30*time.Second || gap > 61*time.Second {
				t.Errorf("eviction %d at %v, %v after the one before", i, at, gap)
			}
		}
		// 50 minutes of waits from 30 to 60 s each.
		if late < 50 || late > 100 {
			t.Errorf("%d evictions in the last 50 minutes", late)
		}
		t.Logf("%d evictions, %d of them in the last 50 minutes", len(evictions), late)
		if n := len(s.attempts()); n != len(evictions)+1 {
			t.Errorf("%d handshakes for %d evictions", n, len(evictions))
		}

		gone := active.token
		clients[gone].stop()
		active = nil
		left := time.Now()
		fs := s.next()
		if d := time.Since(left); d > time.Minute || fs.token == gone {
			t.Errorf("%q took over from %q after %v", fs.token, gone, d)
		}
		adopt(fs)
		pass(time.Hour)
		fs.expect("/", fs.token)
	})
}
