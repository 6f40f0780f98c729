package server

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/logevent"
)

// auditLines returns the lines of a log that have an event, oldest first.
func auditLines(t *testing.T, log string) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for text := range strings.Lines(log) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if line["event"] != nil {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestAuditLines: each registration, refusal and replacement leaves one line,
// with the fields that docs/configuration.md names, and never a token.
func TestAuditLines(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	s := newService(t, Config{Logger: zerolog.New(&log)})
	now := time.Now().Unix()
	token := func(id string, iat, exp int64) string {
		return tokenSigned(testSecret, `{"alg":"HS256"}`, fmt.Sprintf(`{"tid":%q,"iat":%d,"nbf":%d,"exp":%d}`, id, iat, now-60, exp))
	}
	good := token("a", now-7, now+1000)
	// The end of a session comes when its connection has been closed, so before
	// or after other lines.
	lines := func(ended bool) []map[string]any {
		return slices.DeleteFunc(auditLines(t, log.String()), func(line map[string]any) bool { return (line["event"] == "ended") != ended })
	}
	seen := 0
	want := func(name string, fields map[string]any) {
		t.Helper()
		waitFor(t, func() bool { return len(lines(false)) > seen })
		line := lines(false)[seen]
		seen++
		for k, v := range fields {
			if f, ok := v.(int64); ok {
				v = float64(f)
			}
			if v != nil && line[k] != v {
				t.Errorf("%s: %s is %v, want %v", name, k, line[k], v)
			}
		}
		fields["level"], fields["message"] = nil, nil
		if got, want := slices.Sorted(maps.Keys(line)), slices.Sorted(maps.Keys(fields)); !slices.Equal(got, want) {
			t.Errorf("%s: fields are %v, want %v", name, got, want)
		}
	}
	raw := func(token string, replace ...string) {
		t.Helper()
		s.raw(withToken(registration(t, "a", replace...), token))
	}

	first, _, err := s.dial("a", good)
	if err != nil {
		t.Fatal(err)
	}
	defer first.conn.Close()
	first.serve(echoHandler)
	url := s.url + "/a"
	want("registered", map[string]any{
		"event": "registered", "id": "a", "remote": first.conn.LocalAddr().String(), "url": url, "extended_connect": nil,
		"token_iat": now - 7, "token_exp": now + 1000,
	})
	second, _, err := s.dial("a", good)
	if err != nil {
		t.Fatal(err)
	}
	defer second.conn.Close()
	second.serve(echoHandler)
	want("replaced", map[string]any{
		"event": "registered", "id": "a", "remote": second.conn.LocalAddr().String(), "url": url, "extended_connect": nil,
		"token_iat": now - 7, "token_exp": now + 1000, "replaces": first.conn.LocalAddr().String(), "replacements": int64(1),
		"after": "replaced", "reconnects": int64(1),
	})

	refused := func(name string, status int64, code errorCode, reason string, more ...string) {
		t.Helper()
		fields := map[string]any{"event": "refused", "error_code": string(code), "remote": nil, "status": status, "reason": nil}
		if reason != "" {
			fields["reason"] = reason
		}
		for _, m := range more {
			fields[m] = nil
		}
		want(name, fields)
	}
	raw(good, "id: a\r", "id: a/b\r")
	refused("bad id", 400, codeBadID, "")
	raw(good, "id: a\r", "id: "+strings.Repeat("x/", 20_000)+"\r")
	refused("long bad id", 400, codeBadID, "")
	raw("x.y.z")
	refused("bad token", 401, codeToken, "token header is not base64url", "id")
	raw(tokenSigned(testSecret, `{"alg":"HS256"}`, fmt.Sprintf(`{"tid":"a","iat":1,"nbf":%d,"exp":%d}`, now-100, now-61)))
	refused("expired", 401, codeTokenExpired, "token has expired", "id")
	<-time.After(time.Second) // a tunnel has so many lines in one
	raw(good, "Upgrade: websocket", "Upgrade: x")
	refused("no upgrade", 426, codeNoUpgrade, "a registration is a websocket upgrade over HTTP/1.1", "id", "token_iat", "token_exp")
	raw(good, "websocktunnel.h2.v1", "x")
	refused("no subprotocol", 400, codeSubprotocol, "", "id", "token_iat", "token_exp")
	s.handshakes.all.SetBurst(0)
	raw(good)
	s.handshakes.all.SetBurst(handshakeBurst)
	refused("too many", 503, codeTooManyHandshakes, "too many tunnels connect at this moment", "id", "token_iat", "token_exp")

	s.Evict("a")
	want("evicted", map[string]any{"event": "evicted", "id": "a"})
	raw(good)
	refused("blocked token", 401, codeToken, errEvicted.Error(), "id", "token_iat", "token_exp")
	s.Unblock("a")
	want("unblocked", map[string]any{"event": "unblocked", "id": "a"})

	s.failures.exhaust(netip.MustParseAddr("127.0.0.1"))
	raw("x.y.z")
	refused("too many failures", 429, codeTooManyFailures, "too many failed registrations from this address", "id")

	waitFor(t, func() bool { return len(lines(true)) == 2 })
	for i, reason := range []string{"replaced", "evicted"} {
		line := lines(true)[i]
		if line["id"] != "a" || line["reason"] != reason || line["cause"] != reason || line["lived"] == nil || line["remote"] == nil {
			t.Errorf("end of a session that was %s: %v", reason, line)
		}
	}

	if text := log.String(); strings.Contains(text, "eyJ") || strings.Contains(text, "x.y.z") {
		t.Errorf("a token is in the log: %s", text)
	}
	for _, line := range auditLines(t, log.String()) {
		if reason, _ := line["reason"].(string); len(reason) > maxReason {
			t.Errorf("a reason has %d bytes", len(reason))
		}
	}
}

// exhaust takes all of k's tokens, and no others come.
func (l *keyLimiter[K]) exhaust(k K) {
	l.allow(k) // so that there is a bucket
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[k]
	b.SetLimit(0)
	b.AllowN(time.Now(), int(b.Tokens()))
}

// TestAuditFlood: however many registrations fail, from however many
// addresses, the log grows by a bounded number of lines, and says how many were
// left out.
func TestAuditFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		a := newAudit(zerolog.New(&log), new(lineLimits))
		defer a.close()
		const seconds, perSecond = 60, 5000
		written := 0
		for i := range seconds * perSecond {
			addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			if i%2 == 0 {
				addr = netip.MustParseAddr("192.0.2.1") // one that is louder than all others
			}
			if a.stranger(addr, refusedKind(401)) {
				written++
			}
			if i%perSecond == 0 {
				pause(time.Second)
			}
		}
		if most := crowdBurst + crowdLines*seconds; written > most || written < crowdBurst {
			t.Errorf("%d lines in %d s, want at most %d", written, seconds, most)
		}
		pause(sumInterval)
		left := 0
		sums := auditLines(t, log.String())
		for _, line := range sums {
			lines := line["lines"].(map[string]any)
			if line["event"] != "suppressed" || lines["refused_401"] != line["count"] || len(lines) != 1 {
				t.Errorf("the sum is %v", line)
			}
			left += int(line["count"].(float64))
		}
		if n := len(sums); n > seconds/int(sumInterval/time.Second)+2 {
			t.Errorf("%d sums", n)
		}
		if written+left != seconds*perSecond {
			t.Errorf("%d lines and %d left out, of %d", written, left, seconds*perSecond)
		}

		// A quiet address is heard although one is loud.
		pause(time.Minute)
		for range 1000 {
			a.stranger(netip.MustParseAddr("192.0.2.1"), refusedKind(401))
		}
		if !a.stranger(netip.MustParseAddr("192.0.2.2"), refusedKind(401)) {
			t.Error("a loud address takes all the lines")
		}
	})
}

// TestAuditHolder: who registers one id again and again gets few lines too, and
// takes none from other ids.
func TestAuditHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		a := newAudit(zerolog.New(&log), new(lineLimits))
		written := 0
		for range 10 {
			for range 500 {
				if _, ok := a.holder(zerolog.Nop(), "a", logevent.Registered); ok {
					written++
				}
			}
			pause(time.Second)
		}
		if most := 10 * (linesPerSecond - 1); written > most {
			t.Errorf("%d lines in 10 s, want at most %d", written, most)
		}
		if _, ok := a.holder(zerolog.Nop(), "b", logevent.Registered); !ok {
			t.Error("the other id has no line")
		}
		for range 100 {
			a.holder(zerolog.Nop(), "a", logevent.Registered)
		}
		a.close() // what is left is said at the end
		sums := auditLines(t, log.String())
		if last := sums[len(sums)-1]; last["event"] != "suppressed" || last["lines"].(map[string]any)["registered"] == nil {
			t.Errorf("the last line is %v", last)
		}
	})
}

// TestFailuresAreSummedUp by the service: the 429s too.
func TestFailuresAreSummedUp(t *testing.T) {
	var log lockedBuffer
	s := newService(t, Config{Logger: zerolog.New(&log)})
	const tries = 100
	fail := func() {
		for range tries {
			if _, _, err := s.dial("a", "x"); err == nil {
				t.Fatal("registered")
			}
		}
	}
	fail()
	s.failures.exhaust(netip.MustParseAddr("127.0.0.1"))
	fail()
	s.Close()
	lines, left, refused429 := 0, 0, 0
	for _, line := range auditLines(t, log.String()) {
		switch line["event"] {
		case "refused":
			lines++
		case "suppressed":
			left += int(line["count"].(float64))
			if n, ok := line["lines"].(map[string]any)["refused_429"].(float64); ok {
				refused429 += int(n)
			}
		}
	}
	if lines+left != 2*tries || lines > strangerBurst+60*strangerLines {
		t.Errorf("%d lines and %d left out, of %d", lines, left, 2*tries)
	}
	if refused429 == 0 {
		t.Errorf("no sum has a 429: %s", log.String())
	}
}

// TestLimiterForgets: a limiter for addresses that somebody makes up is neither
// large nor slow.
func TestLimiterForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newAddrLimiter(1, 2)
		busy := func(i int) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, byte(i >> 16), byte(i >> 8), byte(i)})
		}
		for i := range 5 * maxLimited {
			l.allow(busy(i))
			if n := len(l.buckets); n > maxLimited {
				t.Fatalf("%d addresses", n)
			}
		}
		pause(time.Minute)
		l.allow(netip.MustParseAddr("192.0.2.1"))
		for i := range maxLimited { // all full again
			l.allow(busy(i))
		}
		if n := len(l.buckets); n > maxLimited {
			t.Errorf("%d addresses", n)
		}
		// One subscriber's IPv6 addresses are one.
		l = newAddrLimiter(1, 2)
		for i := range 100 {
			l.allow(netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)}))
		}
		if n := len(l.buckets); n != 1 {
			t.Errorf("a /64 has %d buckets", n)
		}
	})
}

// pause lets fake time pass.
func pause(d time.Duration) { <-time.After(d) }
