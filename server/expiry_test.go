package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// wallClock is a clock that can be set.
type wallClock struct{ ahead atomic.Int64 }

func (c *wallClock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// set puts the clock ahead and lets the sessions of s look at it.
func (c *wallClock) set(s *testService, ahead time.Duration) {
	c.ahead.Store(int64(ahead))
	for _, sess := range s.registry.sessions() {
		sess.notify()
	}
}

// expiring is a service on clock with a session of "a" whose token runs out
// after an hour.
func expiring(t *testing.T, cfg Config, h http.Handler) (*testService, *wallClock, *testClient, string) {
	t.Helper()
	var clock wallClock
	cfg.now = clock.now
	s := newService(t, cfg)
	token := mint(t, "a")
	c, _, err := s.dial("a", token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.conn.Close() })
	c.serve(h)
	s.waitActive(c)
	return s, &clock, c, token
}

// TestTokenExpires: an expired token is asked for again, and 60 s later the
// tunnel takes no new requests, finishes what it has, and closes with 4001.
func TestTokenExpires(t *testing.T) {
	finish := make(chan struct{})
	s, clock, c, _ := expiring(t, Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			http.NewResponseController(w).Flush()
			<-finish
		}
		io.WriteString(w, "done")
	}))
	clock.set(s, time.Hour+5*time.Second)
	if m := <-c.control; m.Type != wire.TypeGoaway || m.Reason != wire.ReasonExpired {
		t.Errorf("got %+v, want a goaway because of expiry", m)
	}
	if resp, _ := s.get("/a/"); resp.StatusCode != 200 {
		t.Errorf("within the leeway: %d", resp.StatusCode)
	}
	long, err := s.http.Get(s.url + "/a/long")
	if err != nil {
		t.Fatal(err)
	}
	defer long.Body.Close()
	clock.set(s, time.Hour+65*time.Second)
	waitFor(t, func() bool { resp, _ := s.get("/a/"); return resp.StatusCode == 404 })
	if c.conn.Err() != nil {
		t.Error("the session is over although a request is in flight")
	}
	close(finish)
	if b, err := io.ReadAll(long.Body); string(b) != "done" || err != nil {
		t.Errorf("the request in flight: %q, %v", b, err)
	}
	<-c.conn.Done()
	var ce *h2conn.CloseError
	if !errors.As(c.conn.Err(), &ce) || ce.Code != int(wire.CloseTokenExpired) {
		t.Errorf("the session ended with %v, want close code 4001", c.conn.Err())
	}
}

// TestTokenRefreshedInTime: a fresh token in the leeway keeps the tunnel, and
// nothing is said about expiry until that one runs out.
func TestTokenRefreshedInTime(t *testing.T) {
	s, clock, c, _ := expiring(t, Config{}, echoHandler)
	fresh, err := MintToken(testSecret, Claims{ID: "a", TTL: 3 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	clock.set(s, time.Hour+5*time.Second)
	<-c.control
	c.conn.SendControl(wire.Control{Type: wire.TypeToken, Token: fresh}.Encode())
	if m := <-c.control; m.OK == nil || !*m.OK {
		t.Fatalf("got %+v", m)
	}
	clock.set(s, 2*time.Hour)
	if resp, _ := s.get("/a/"); resp.StatusCode != 200 {
		t.Errorf("after the old token's leeway: %d", resp.StatusCode)
	}
	clock.set(s, 3*time.Hour+5*time.Second)
	if m := <-c.control; m.Reason != wire.ReasonExpired {
		t.Errorf("when the fresh one has run out: %+v", m)
	}
}

// TestRefreshWithExpiredToken: one that has run out keeps nothing going, so an ok
// would be followed by 4001 without a word. It is refused, although a registration
// with it would be let in within the leeway.
func TestRefreshWithExpiredToken(t *testing.T) {
	s, clock, c, token := expiring(t, Config{}, echoHandler)
	refresh := func(token string, want bool) {
		t.Helper()
		c.conn.SendControl(wire.Control{Type: wire.TypeToken, Token: token}.Encode())
		if m := <-c.control; m.Type != wire.TypeToken || m.OK == nil || *m.OK != want {
			t.Errorf("got %+v, want ok %v", m, want)
		}
	}
	now := time.Now().Unix()
	until := func(exp int64) string {
		return tokenSigned(testSecret, tokenHead, fmt.Sprintf(`{"tid":"a","iat":%d,"nbf":%d,"exp":%d}`, now, now-3600, exp))
	}
	refresh(until(now-2), false)
	refresh(until(now-50), false)
	half := until(now + 1800)
	refresh(half, true) // and no goaway comes before its end
	clock.set(s, 30*time.Minute+5*time.Second)
	if m := <-c.control; m.Type != wire.TypeGoaway || m.Reason != wire.ReasonExpired {
		t.Errorf("got %+v, want a goaway because of expiry", m)
	}
	refresh(half, false)
	refresh(token, true)
	if resp, _ := s.get("/a/"); resp.StatusCode != 200 {
		t.Errorf("the tunnel answers %d", resp.StatusCode)
	}
}

// TestTokenExpiryIgnored: with TOKEN_EXPIRY=ignore a tunnel outlives its token,
// but no new one comes with an expired token.
func TestTokenExpiryIgnored(t *testing.T) {
	s, clock, c, token := expiring(t, Config{IgnoreTokenExpiry: true}, echoHandler)
	clock.set(s, 2*time.Hour)
	if _, resp, err := s.dial("a", token); err == nil || resp == nil || resp.StatusCode != 401 {
		t.Errorf("registering with the expired token: %v, %v", resp, err)
	}
	if resp, _ := s.get("/a/"); resp.StatusCode != 200 {
		t.Errorf("after the token's leeway: %d", resp.StatusCode)
	}
	select {
	case m := <-c.control:
		t.Errorf("the client was told %+v", m)
	default:
	}
}

// TestClockJumps by an hour and back: tunnels whose tokens are good at either
// time do not notice.
func TestClockJumps(t *testing.T) {
	var clock wallClock
	s := newService(t, Config{now: clock.now})
	token := tokenSigned(testSecret, `{"alg":"HS256"}`,
		fmt.Sprintf(`{"tid":"a","iat":%[1]d,"nbf":%[1]d,"exp":%d}`, time.Now().Unix()-7200, time.Now().Unix()+7200))
	c, _, err := s.dial("a", token)
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	c.serve(echoHandler)
	s.waitActive(c)
	for _, ahead := range []time.Duration{time.Hour, -time.Hour, 0} {
		clock.set(s, ahead)
		if resp, _ := s.get("/a/"); resp.StatusCode != 200 {
			t.Errorf("%v ahead: %d", ahead, resp.StatusCode)
		}
		c.conn.SendControl(wire.Control{Type: wire.TypeToken, Token: token}.Encode())
		if m := <-c.control; m.Type != wire.TypeToken || !*m.OK {
			t.Errorf("%v ahead: %+v", ahead, m)
		}
	}
	clock.set(s, 3*time.Hour) // beyond the token, which is what a clock is for
	<-c.conn.Done()
}
