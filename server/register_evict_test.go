package server

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// TestEvict: an evicted tunnel is closed with 4003 at once, and neither its
// token nor an older one gets it back. A newer one does, and Unblock lets all
// in again.
func TestEvict(t *testing.T) {
	s := newService(t, Config{})
	now := time.Now().Unix()
	issued := func(id string, iat int64) string {
		return tokenSigned(testSecret, `{"alg":"HS256"}`, fmt.Sprintf(`{"tid":%q,"iat":%d,"nbf":%d,"exp":%d}`, id, iat, now, now+3600))
	}
	older, used, newer := issued("a", now-10), issued("a", now), issued("a", now+1)
	register := func(id, token string) (*testClient, int) {
		t.Helper()
		c, resp, err := s.dial(id, token)
		if err == nil {
			c.serve(echoHandler)
			t.Cleanup(func() { c.conn.Close() })
			s.waitActive(c)
			return c, http.StatusSwitchingProtocols
		}
		if resp == nil {
			t.Fatal(err)
		}
		return nil, resp.StatusCode
	}
	c, _ := register("a", used)
	other, _ := register("b", issued("b", now))

	if s.Evict("nobody") {
		t.Error("evicted a tunnel that is not there")
	}
	if !s.Evict("a") {
		t.Error("found nothing to evict")
	}
	<-c.conn.Done()
	var ce *h2conn.CloseError
	if !errors.As(c.conn.Err(), &ce) || ce.Code != 4003 {
		t.Errorf("the tunnel client got %v, want close code 4003", c.conn.Err())
	}
	if resp, _ := s.get("/a/"); resp.StatusCode != 404 {
		t.Errorf("a viewer got %d", resp.StatusCode)
	}
	for name, token := range map[string]string{"that token": used, "an older one": older} {
		if _, status := register("a", token); status != 401 {
			t.Errorf("%s: %d, want 401", name, status)
		}
	}
	if resp, _ := s.get("/b/"); resp.StatusCode != 200 || other.conn.Err() != nil {
		t.Errorf("the neighbour: %d, %v", resp.StatusCode, other.conn.Err())
	}
	if _, status := register("a", newer); status != 101 {
		t.Errorf("a newer token: %d, want 101", status)
	}
	if _, status := register("a", used); status != 401 {
		t.Errorf("that token, after the newer one: %d, want 401", status)
	}
	if !s.Unblock("a") || s.Unblock("a") {
		t.Error("Unblock does not tell whether anything was blocked")
	}
	if _, status := register("a", older); status != 101 {
		t.Errorf("unblocked: %d, want 101", status)
	}
}

// TestEvictionExpires with the token, after which nothing is left of it.
func TestEvictionExpires(t *testing.T) {
	var e evictions
	now := time.Now()
	g := grant{id: "a", issued: 100, expires: now.Add(time.Minute)}
	e.block(g, now)
	e.block(grant{id: "a", issued: 50, expires: now.Add(time.Hour)}, now) // an older session of the id
	old := grant{id: "a", issued: 99}
	if e.check(old, now) == nil || e.check(g, now.Add(time.Minute+tokenLeeway-1)) == nil {
		t.Error("not blocked")
	}
	if e.check(g, now.Add(time.Minute+tokenLeeway)) == nil {
		t.Error("not blocked as long as the other one has not expired")
	}
	if err := e.check(g, now.Add(time.Hour+tokenLeeway)); err != nil {
		t.Errorf("after both have expired: %v", err)
	}
	e.check(g, now.Add(time.Hour+tokenLeeway))
	if len(e.blocked) != 0 {
		t.Errorf("left: %v", e.blocked)
	}
}

// TestEvictedTwice: a second eviction takes nothing from the first.
func TestEvictedTwice(t *testing.T) {
	now := time.Now()
	long := grant{id: "a", issued: 100, expires: now.Add(10 * time.Hour), fingerprint: [32]byte{1}}
	short := grant{id: "a", issued: 150, expires: now.Add(time.Minute), fingerprint: [32]byte{2}}
	same := grant{id: "a", issued: 150, expires: now.Add(time.Minute), fingerprint: [32]byte{3}}
	for _, order := range [][]grant{{long, short, same}, {same, short, long}, {short, long, same}} {
		var e evictions
		for _, g := range order {
			e.block(g, now)
		}
		for _, g := range order {
			if e.check(g, now.Add(time.Hour)) == nil {
				t.Errorf("token of %d is not blocked any more", g.issued)
			}
		}
		if err := e.check(grant{id: "a", issued: 150, fingerprint: [32]byte{4}}, now); err != nil {
			t.Errorf("another token of the same second: %v", err)
		}
	}
}
