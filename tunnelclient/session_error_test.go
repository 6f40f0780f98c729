package tunnelclient_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// How a session ended is in the state that follows, and decides how long the
// client waits (the test's jitter is the bound of each wait).
func TestSessionError(t *testing.T) {
	for _, tt := range []struct {
		name   string
		code   int // 0: the connection is cut
		reason string
		wait   time.Duration
		text   string
	}{
		{"replaced", 4000, "replaced", 5 * time.Second, "the service closed the session: replaced (close code 4000); another client has registered this id: stop one of the two, or use another id"},
		{"token expired", 4001, "", time.Second, "the service closed the session: token expired (close code 4001); it takes a fresh token to connect again"},
		{"draining", 4002, "draining", time.Second, "the service closed the session: draining (close code 4002)"},
		{"protocol", 4004, "HTTP/2 connection error", time.Second, "the service closed the session: protocol violation (close code 4004): HTTP/2 connection error"},
		{"overloaded", 4005, "overloaded", time.Second, "the service closed the session: overloaded (close code 4005)"},
		{"from a later version", 4999, "tea\x1b time\nnow", time.Second, "the session was closed with close code 4999: tea time"},
		{"a proxy goes away", 1001, "restart", time.Second, "the session was closed with close code 1001: restart"},
		{"cut", 0, "", time.Second, "the connection to the service was lost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeService(t)
				cfg := s.config(tunnelclient.StaticToken("t1"))
				var wait time.Duration
				cfg.OnStateChange = func(st tunnelclient.State) {
					if st.Phase == tunnelclient.PhaseWaiting {
						wait = time.Until(st.Next)
					}
				}
				r := serve(t, cfg, hello)
				fs := s.next()
				pass(time.Minute)
				if tt.code == 0 {
					s.ln.toClient().close()
				} else {
					fs.conn.SetCloseReason(tt.code, tt.reason)
					fs.asking.Close()
				}
				s.next()
				st := r.seen()[2]
				var se *tunnelclient.SessionError
				if st.Phase != tunnelclient.PhaseWaiting || !errors.As(st.Err, &se) {
					t.Fatalf("state %+v", st)
				}
				if se.Code != tt.code || se.Error() != tt.text {
					t.Errorf("code %d, %q; want %d, %q", se.Code, se, tt.code, tt.text)
				}
				var ce *h2conn.CloseError
				if errors.As(st.Err, &ce) != (tt.code != 0) {
					t.Errorf("the cause is %v", se.Err)
				}
				if wait != tt.wait {
					t.Errorf("the client waits %v, want %v", wait, tt.wait)
				}
				if d := time.Since(st.Next); d < 0 || d > time.Second {
					t.Errorf("connected %v after the time that was told", d)
				}
			})
		})
	}
}
