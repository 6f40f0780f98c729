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

func (c *wallClock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *wallClock) set(ahead time.Duration) { c.ahead.Store(int64(ahead)) }

// tokenUntil returns a token for "a" that runs out at exp and has been good
// for an hour.
func tokenUntil(exp time.Time) string {
	return tokenSigned(testSecret, `{"alg":"HS256"}`,
		fmt.Sprintf(`{"tid":"a","iat":%d,"nbf":%d,"exp":%d}`, exp.Unix()-3600, exp.Unix()-3600, exp.Unix()))
}

// TestTokenExpires: an expired token is asked for again, and 60 s later the
// tunnel takes no new requests, finishes what it has, and closes with 4001.
func TestTokenExpires(t *testing.T) {
	s := newService(t, Config{})
	finish := make(chan struct{})
	c, _, err := s.dial("a", tokenUntil(time.Now().Add(-58*time.Second)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	c.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			http.NewResponseController(w).Flush()
			<-finish
		}
		io.WriteString(w, "done")
	}))
	s.waitActive(c)
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
	s := newService(t, Config{})
	c, _, err := s.dial("a", tokenUntil(time.Now().Add(-59*time.Second)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	c.serve(echoHandler)
	s.waitActive(c)
	<-c.control
	c.conn.SendControl(wire.Control{Type: wire.TypeToken, Token: mint(t, "a")}.Encode())
	if m := <-c.control; m.OK == nil || !*m.OK {
		t.Fatalf("got %+v", m)
	}
	<-time.After(2 * time.Second) // the old one is beyond its leeway then
	if resp, _ := s.get("/a/"); resp.StatusCode != 200 {
		t.Errorf("after the old token's leeway: %d", resp.StatusCode)
	}
}

// TestTokenExpiryIgnored: with TOKEN_EXPIRY=ignore a tunnel outlives its token,
// but no new one comes with an expired token.
func TestTokenExpiryIgnored(t *testing.T) {
	s := newService(t, Config{IgnoreTokenExpiry: true})
	token := tokenUntil(time.Now().Add(-59 * time.Second))
	c, _, err := s.dial("a", token)
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	c.serve(echoHandler)
	s.waitActive(c)
	<-time.After(2 * time.Second)
	if resp, _ := s.get("/a/"); resp.StatusCode != 200 {
		t.Errorf("after the token's leeway: %d", resp.StatusCode)
	}
	select {
	case m := <-c.control:
		t.Errorf("the client was told %+v", m)
	default:
	}
	if _, resp, err := s.dial("a", token); err == nil || resp == nil || resp.StatusCode != 401 {
		t.Errorf("registering with the expired token: %v, %v", resp, err)
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
		clock.set(ahead)
		for _, sess := range s.allSessions() {
			sess.notify() // its timer may fire at any time
		}
		if resp, _ := s.get("/a/"); resp.StatusCode != 200 {
			t.Errorf("%v ahead: %d", ahead, resp.StatusCode)
		}
		c.conn.SendControl(wire.Control{Type: wire.TypeToken, Token: token}.Encode())
		if m := <-c.control; m.Type != wire.TypeToken || !*m.OK {
			t.Errorf("%v ahead: %+v", ahead, m)
		}
	}
	clock.set(3 * time.Hour) // beyond the token, which is what a clock is for
	for _, sess := range s.allSessions() {
		sess.notify()
	}
	<-c.conn.Done()
}
