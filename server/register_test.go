package server

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// registration is a raw, good registration in which pairs of strings have
// been replaced.
func registration(t *testing.T, id string, replace ...string) string {
	return registrationBy(mint(t, id), id, replace...)
}

// registrationBy is registration with this token.
func registrationBy(token, id string, replace ...string) string {
	head := "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" +
		"Sec-WebSocket-Protocol: websocktunnel.h2.v1\r\nOrigin: https://elsewhere.example\r\n" +
		"x-websocktunnel-id: " + id + "\r\nAuthorization: Bearer " + token + "\r\n\r\n"
	return strings.NewReplacer(replace...).Replace(head)
}

// withToken returns a registration with another token. It ends the connection.
func withToken(request, token string) string {
	before, rest, _ := strings.Cut(request, "Authorization: Bearer ")
	_, after, _ := strings.Cut(rest, "\r\n")
	return before + "Connection: close\r\nAuthorization: Bearer " + token + "\r\n" + after
}

func TestRegistrationRefusals(t *testing.T) {
	s := newService(t, Config{})
	s.connect("a", echoHandler)
	good := mint(t, "a")
	for _, tc := range []struct {
		name    string
		replace []string
		status  string
		code    errorCode
		want    []string
	}{
		{"bad id", []string{"id: a\r", "id: a/b\r"}, "400", codeBadID, []string{"A-Z a-z 0-9"}},
		{"dot segment", []string{"id: a\r", "id: %2e%2E\r"}, "400", codeBadID, []string{"dot segment"}},
		{"reserved id", []string{"id: a\r", "id: __version__\r"}, "400", codeBadID, []string{"reserved"}},
		{"id that begins with a dot", []string{"id: a\r", "id: .well-known\r"}, "400", codeBadID, []string{"reserved", "whole host"}},
		{"id that begins with an escaped dot", []string{"id: a\r", "id: %2Ewell-known\r"}, "400", codeBadID, []string{"reserved"}},
		{"file of the host", []string{"id: a\r", "id: robots.txt\r", good, "x"}, "400", codeBadID, []string{"reserved"}},
		{"two ids", []string{"id: a\r", "id: a\r\nx-websocktunnel-id: b\r"}, "400", codeBadID, []string{"one is possible"}},
		{"id before token", []string{"id: a\r", "id: a/b\r", good, "x"}, "400", codeBadID, nil},
		{"no token", []string{"Authorization: Bearer " + good + "\r\n", ""}, "401", codeToken, []string{"\r\nWww-Authenticate: Bearer\r\n"}},
		{"empty token", []string{good, ""}, "401", codeToken, nil},
		{"malformed header", []string{"Bearer ", "Token "}, "401", codeToken, nil},
		{"wrong token", []string{good, mint(t, "b")}, "401", codeTokenID, nil},
		{"token before upgrade", []string{good, "x", "Upgrade: websocket", "Upgrade: x"}, "401", codeToken, nil},
		{"two authorizations", []string{"Authorization: ", "Authorization: Bearer x\r\nAuthorization: "}, "401", codeToken, nil},
		{"no upgrade", []string{"Connection: Upgrade\r\nUpgrade: websocket\r\n", "Connection: close\r\n"}, "426", codeNoUpgrade, []string{"\r\nUpgrade: websocket\r\n"}},
		{"other upgrade", []string{"Upgrade: websocket", "Upgrade: tcp"}, "426", codeNoUpgrade, nil},
		{"HTTP/1.0", []string{"HTTP/1.1", "HTTP/1.0"}, "426", codeNoUpgrade, nil},
		{"websocket version", []string{"Version: 13", "Version: 8"}, "400", codeWebsocketVersion, []string{"\r\nSec-Websocket-Version: 13\r\n"}},
		{"no key", []string{"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", ""}, "400", codeWebsocketKey, nil},
		{"bad key", []string{"AAAAAAAAAAAAAAAAAAAAAA==", "AAAA"}, "400", codeWebsocketKey, nil},
		{"no subprotocol", []string{"Sec-WebSocket-Protocol: websocktunnel.h2.v1\r\n", ""}, "400", codeSubprotocol, []string{"websocktunnel.h2.v1", "predecessor"}},
		{"other subprotocol", []string{"websocktunnel.h2.v1", "wsmux"}, "400", codeSubprotocol, []string{"predecessor"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			request := registrationBy(good, "a", append([]string{"Host: h\r\n", "Host: h\r\nX-Test: 1\r\n"}, tc.replace...)...)
			request = strings.Replace(request, "\r\nOrigin", "\r\nConnection: close\r\nOrigin", 1)
			got := s.raw(request)
			if !strings.HasPrefix(got, "HTTP/1.1 "+tc.status+" ") && !strings.HasPrefix(got, "HTTP/1.0 "+tc.status+" ") {
				t.Fatalf("got %q, want status %s", got, tc.status)
			}
			if !strings.HasSuffix(got, " ("+string(tc.code)+")\n") {
				t.Errorf("the body of %q does not end with %s", got, tc.code)
			}
			for _, w := range tc.want {
				if !strings.Contains(got, w) {
					t.Errorf("no %q in %q", w, got)
				}
			}
			if strings.Contains(got, good) {
				t.Error("the refusal holds the token")
			}
		})
	}
	resp, _ := s.get("/", "X-Websocktunnel-Id", "a", "Authorization", "Bearer "+good)
	if resp.StatusCode != http.StatusUpgradeRequired || resp.Header.Get("Connection") != "Upgrade" {
		t.Errorf("without an upgrade: %d, Connection %q", resp.StatusCode, resp.Header.Get("Connection"))
	}
	// None of the refused touched the tunnel.
	if resp, _ := s.get("/a/"); resp.StatusCode != http.StatusOK {
		t.Errorf("the tunnel answers %d", resp.StatusCode)
	}
}

// TestRefusalsLookAlike: a caller without a token of a right signature cannot
// learn from the answer whether an id is connected, nor what is wrong with a token.
func TestRefusalsLookAlike(t *testing.T) {
	s := newService(t, Config{Audience: "me"})
	now := time.Now().Unix()
	claims := func(id string, nbf, exp int64, aud string) string {
		return tokenSigned(testSecret, `{"alg":"HS256"}`, fmt.Sprintf(`{"tid":%q,"iat":%d,"nbf":%d,"exp":%d,"aud":%s}`, id, now, nbf, exp, aud))
	}
	forged := func(token string) string { // the same claims, signed by somebody else
		head, rest, _ := strings.Cut(token, ".")
		body, _, _ := strings.Cut(rest, ".")
		return head + "." + body + "." + base64.RawURLEncoding.EncodeToString(tokenMAC(sha256.New, []byte("x"), head+"."+body))
	}
	good := func(id string) string { return claims(id, now, now+3600, `"me"`) }
	for _, id := range []string{"here", "blocked"} {
		c, _, err := s.dial(id, good(id))
		if err != nil {
			t.Fatal(err)
		}
		defer c.conn.Close()
		c.serve(echoHandler)
		s.waitActive(c)
	}
	blocked := good("blocked")
	s.Evict("blocked")
	answer := func(id, token string) string {
		got := s.raw(withToken(registration(t, id), token))
		_, after, _ := strings.Cut(got, "Date: ")
		return strings.Replace(got, after[:len("Mon, 02 Jan 2006 15:04:05 GMT")], "", 1)
	}
	want := answer("here", "x")
	if !strings.HasPrefix(want, "HTTP/1.1 401 ") {
		t.Fatalf("got %q", want)
	}
	for name, got := range map[string]string{
		"not connected":        answer("away", "x"),
		"another's token":      answer("here", forged(good("away"))),
		"connected one's":      answer("away", forged(good("here"))),
		"none":                 answer("here", ""),
		"spaces":               answer("here", "   "),
		"expired":              answer("here", forged(claims("here", now-100, now-61, `"me"`))),
		"not yet good":         answer("here", forged(claims("here", now+100, now+200, `"me"`))),
		"good for too long":    answer("here", forged(claims("here", now, now+32*day, `"me"`))),
		"audience":             answer("here", forged(claims("here", now, now+3600, `"you"`))),
		"no audience":          answer("here", forged(mint(t, "here"))),
		"blocked":              answer("blocked", blocked),
		"wrong secret":         answer("here", tokenSigned([]byte("x"), tokenHead, tokenClaims())),
		"algorithm":            answer("here", tokenUnsigned(`{"alg":"none"}`, tokenClaims())+"."),
		"critical extension":   answer("here", tokenSigned(testSecret, `{"alg":"HS256","crit":["x"]}`, tokenClaims())),
		"claims no JSON":       answer("here", tokenSigned([]byte("x"), tokenHead, "{")),
		"too long":             answer("here", strings.Repeat("x", 9<<10)),
		"dots":                 answer("here", strings.Repeat(".", 32<<10)),
		"JSON of another kind": answer("here", tokenSigned(testSecret, "[]", "[]")),
	} {
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// TestRefusalsSayWhy to the holder of a token whose signature is right, with the
// times and never with an id or an audience.
func TestRefusalsSayWhy(t *testing.T) {
	var log lockedBuffer
	clock := func() time.Time { return time.Unix(tokenNow, 0) }
	s := newService(t, Config{Audience: "our-audience", Logger: zerolog.New(&log), now: clock})
	c, _, err := s.dial("here", tokenSigned(testSecret, tokenHead, tokenClaims("tid", `"here"`, "aud", `"our-audience"`)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	c.serve(echoHandler)
	s.waitActive(c)
	sec := func(n int64) string { return fmt.Sprint(n) }
	for _, tc := range []struct {
		name   string
		edits  []string
		reason string
		body   string
		logged string
	}{
		{"expired", []string{"exp", sec(tokenNow - 60)}, "expired", "the token expired 1m ago by the service's clock: exp is 2023-11-14T22:12:20Z, now is 2023-11-14T22:13:20Z", "token has expired"},
		{"expired long ago", []string{"nbf", "0", "exp", "10"}, "expired", "the token expired 472222h13m10s ago by the service's clock: exp is 1970-01-01T00:00:10Z, now is 2023-11-14T22:13:20Z", "token has expired"},
		{"not yet", []string{"nbf", sec(tokenNow + 75)}, "not_yet_valid", "the token is not valid for another 1m15s by the service's clock: nbf is 2023-11-14T22:14:35Z, now is 2023-11-14T22:13:20Z", "token is not good yet"},
		{"never", []string{"nbf", "9007199254740991", "exp", "9007199254740992"}, "not_yet_valid", "the token is not valid for another 2562047h47m16s by the service's clock: nbf is", "token is not good yet"},
		{"id", []string{"tid", `"elsewhere"`}, "id", "the token is for another client id (claim tid)", "tid is not the client id"},
		{"id of nobody connected", []string{"tid", `"away"`}, "id", "the token is for another client id (claim tid)", "tid is not the client id"},
		{"audience", []string{"aud", `"their-audience"`}, "audience", "the token is not for this service (claim aud)", "aud does not name this service"},
		{"no audience", []string{"aud", ""}, "audience", "the token is not for this service (claim aud)", "aud does not name this service"},
		{"too long", []string{"exp", sec(tokenNow + 32*day)}, "claims", "the token is good for more than 31 days", "31 days"},
		{"no exp", []string{"exp", ""}, "claims", "the token claim exp is missing", "exp is missing"},
		{"no id", []string{"tid", ""}, "claims", "the token claim tid is missing or not a string", "tid is missing"},
		{"text for a time", []string{"nbf", `"soon"`}, "claims", "the token claim nbf is not a number of seconds without a sign", "nbf is not a number"},
		{"twice", []string{"x", `1,"x":2`}, "claims", "the token claims: duplicate name", "duplicate name"},
		// What waiting does not help is told first.
		{"not yet, for another id", []string{"nbf", sec(tokenNow + 75), "tid", `"elsewhere"`}, "id", "", ""},
		{"not yet, for another service", []string{"nbf", sec(tokenNow + 75), "aud", `"their-audience"`}, "audience", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			edits := append([]string{"tid", `"here"`, "aud", `"our-audience"`}, tc.edits...)
			before := len(log.String())
			got := s.raw(withToken(registration(t, "here"), tokenSigned(testSecret, tokenHead, tokenClaims(edits...))))
			if !strings.HasPrefix(got, "HTTP/1.1 401 ") || !strings.Contains(got, "\r\nWww-Authenticate: Bearer error=\"invalid_token\", reason=\""+tc.reason+"\"\r\n") ||
				!strings.Contains(got, "\r\nDate: ") {
				t.Errorf("got %q, want 401 with the reason %s", got, tc.reason)
			}
			code := map[string]errorCode{
				"expired": codeTokenExpired, "not_yet_valid": codeTokenNotYetValid, "id": codeTokenID, "audience": codeTokenAudience, "claims": codeTokenClaims,
			}[tc.reason]
			if !strings.Contains(got, "\r\n\r\n"+tc.body) || code == "" || !strings.HasSuffix(got, " ("+string(code)+")\n") {
				t.Errorf("got %q, want the body %q and the code %s", got, tc.body, code)
			}
			for _, secret := range []string{"here", "elsewhere", "away", "our-audience", "their-audience", "soon"} {
				if strings.Contains(got, secret) {
					t.Errorf("%q holds %s", got, secret)
				}
			}
			if line := log.String()[before:]; !strings.Contains(line, tc.logged) {
				t.Errorf("the log has no %q: %s", tc.logged, line)
			}
		})
	}
}

// TestFailuresAreLimited: after a burst, failed registrations get 429, and a
// valid token is let in all the same.
func TestFailuresAreLimited(t *testing.T) {
	s := newService(t, Config{})
	statuses := map[int]int{}
	for range 100 * failuresBurst { // some come back with time
		_, resp, err := s.dial("a", "x")
		if err == nil || resp == nil {
			t.Fatalf("got %v, %v", resp, err)
		}
		if statuses[resp.StatusCode]++; resp.StatusCode == 429 {
			if resp.Header.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
			break
		}
	}
	if statuses[401] < failuresBurst || statuses[429] != 1 {
		t.Errorf("statuses are %v", statuses)
	}
	s.connect("a", echoHandler)
	if resp, _ := s.get("/a/"); resp.StatusCode != 200 {
		t.Errorf("got %d", resp.StatusCode)
	}
}

func TestMissesAreLimited(t *testing.T) {
	s := newService(t, Config{})
	s.connect("a", echoHandler)
	statuses := map[int]int{}
	for range 100 * missesBurst { // some come back with time
		resp, _ := s.get("/nobody/")
		if statuses[resp.StatusCode]++; resp.StatusCode != http.StatusNotFound {
			break
		}
	}
	if statuses[404] < missesBurst || statuses[429] != 1 {
		t.Errorf("statuses are %v", statuses)
	}
	if resp, _ := s.get("/a/"); resp.StatusCode != 200 {
		t.Errorf("a hit got %d", resp.StatusCode)
	}
}

func TestControlMessageSizes(t *testing.T) {
	// h2conn and wire have a constant each, for they do not import each other.
	if wire.MaxControlMessage != h2conn.MaxControlMessage {
		t.Errorf("wire says %d, h2conn %d", wire.MaxControlMessage, h2conn.MaxControlMessage)
	}
}

// TestHandshakesAreLimited in number and in rate: whoever comes too many is
// told when to come again, and tunnels that are there do not notice.
func TestHandshakesAreLimited(t *testing.T) {
	s := newService(t, Config{})
	s.waitActive(s.connect("here", echoHandler))
	refused := func(why string) {
		t.Helper()
		_, resp, err := s.dial("a", mint(t, "a"))
		if err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("%s: %v, %v, want 503", why, resp, err)
		}
		if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err != nil || n < 1 || n > 6 {
			t.Errorf("%s: Retry-After is %q, want 1 to 6 s", why, resp.Header.Get("Retry-After"))
		}
		if resp, _ := s.get("/here/"); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: the other tunnel answers %d", why, resp.StatusCode)
		}
	}
	for range maxHandshakes {
		s.handshaking <- struct{}{}
	}
	refused("too many under way")
	for range maxHandshakes {
		<-s.handshaking
	}
	s.handshakes.all.SetLimit(0)
	s.handshakes.all.AllowN(time.Now(), int(s.handshakes.all.Tokens()))
	refused("too many in a short time")
	s.handshakes.all.SetLimit(handshakeRate)
	waitFor(t, func() bool { return s.handshakes.all.Tokens() > 1 })
	s.waitActive(s.connect("a", echoHandler))
}

// TestHandshakesAreShared: whoever has a token for one id and registers again
// and again, as fast as the service answers, keeps nobody else from
// registering. While nobody is kept from it, the newest still wins.
func TestHandshakesAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{PublicURL: "http://localhost", Secrets: [][]byte{testSecret}})
		if err != nil {
			t.Fatal(err)
		}
		admitted := func(id string) bool {
			p, refused := s.admit(id, nil)
			if p != nil {
				p.release()
				p.memory.Release()
			} else if refused.retryAfter < time.Second || refused.told == "" || refused.code != codeTooManyHandshakes {
				t.Fatalf("%s is refused with %+v", id, refused)
			}
			return p != nil
		}
		noisy := 0
		for range 15 {
			for range 5 * handshakeRate {
				if admitted("noisy") {
					noisy++
				}
			}
			for i := range handshakeRate * 3 / 4 {
				if id := fmt.Sprintf("quiet-%d", i); !admitted(id) {
					t.Fatalf("%s is refused after %d of another id", id, noisy)
				}
			}
			pause(time.Second)
		}
		t.Logf("%d registrations of the noisy one within 15 seconds", noisy)
		pause(time.Minute)
		for i := range handshakeBurst / 2 {
			if !admitted("swapped") {
				t.Fatalf("registration %d of one id is refused, without need", i)
			}
		}
	})
}

// TestSilentHandshakesOfOneTunnel: whoever has a token for one id, and does not
// go on after the 101, keeps nobody else from registering.
func TestSilentHandshakesOfOneTunnel(t *testing.T) {
	t.Parallel()
	s := newService(t, Config{})
	request := registration(t, "silent")
	for range maxHandshakes + 10 {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, request)
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			break // there is no room even for it
		}
	}
	s.waitActive(s.connect("a", echoHandler))
	s.waitActive(s.connect("silent", echoHandler)) // the newest wins all the same
}

// TestTooFewStreamsIsTold as the reason of the close code.
func TestTooFewStreamsIsTold(t *testing.T) {
	s := newService(t, Config{})
	c, _, err := s.dial("a", mint(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	go h2conn.Serve(t.Context(), c.conn, echoHandler, h2conn.ServeConfig{MaxConcurrentStreams: minStreams - 1})
	<-c.conn.Done()
	var ce *h2conn.CloseError
	if err := c.conn.Err(); !errors.As(err, &ce) || ce.Code != int(wire.CloseProtocol) || !strings.Contains(ce.Reason, "16 concurrent streams") {
		t.Errorf("it was closed with %v", err)
	}
}
