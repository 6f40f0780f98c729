package tunnelclient_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// The same as TestDrainingServiceGoes if the last session goes while an attempt
// is under way: the tunnel is down only then, and comes back as fast.
func TestDrainingServiceGoesDuringAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		gone := make(chan time.Time, 1)
		var old *fakeSession
		s.admit = func(n int, _ string, w http.ResponseWriter) bool {
			if n == 11 { // after a wait of 30 s
				old.closeWith(wire.CloseDraining)
				<-old.conn.Done()
				gone <- time.Now()
			}
			if n > 1 && n < 12 {
				http.Error(w, "the service is shutting down", http.StatusServiceUnavailable)
				return false
			}
			return true
		}
		r := serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
		old = s.next()
		old.send(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonDraining})
		begin := <-gone
		s.next()
		if d := time.Since(begin); d > 2*time.Second {
			t.Errorf("reconnected after %v", d)
		}
		synctest.Wait()
		states := r.seen()
		if st := states[len(states)-3]; st.Phase != tunnelclient.PhaseWaiting {
			t.Errorf("state after the session had gone: %+v", st)
		}
	})
}

// A source that takes its time must not keep an evicted tunnel from being seen
// as what it is.
func TestEvictedWhileSourceHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		var asked atomic.Int32
		r := serve(t, s.config(tunnelclient.TokenFunc(func(ctx context.Context) (string, error) {
			switch asked.Add(1) {
			case 1, 3:
				return "t1", nil
			}
			<-ctx.Done()
			return "", ctx.Err()
		})), hello)
		fs := s.next()
		fs.closeWith(wire.CloseEvicted)
		wantEvicted(t, s, r)
	})
}

// A source that does not look at its context does not keep Serve from ending.
func TestStopWhileSourceHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		release := make(chan struct{})
		defer close(release)
		var asked atomic.Int32
		r := serve(t, s.config(tunnelclient.TokenFunc(func(context.Context) (string, error) {
			if asked.Add(1) > 1 {
				<-release
			}
			return "t1", nil
		})), hello)
		fs := s.next()
		fs.send(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonExpired})
		pass(time.Second)
		begin := time.Now()
		r.stop()
		if d := time.Since(begin); d > 15*time.Second {
			t.Errorf("Serve took %v to end", d)
		}
	})
}
