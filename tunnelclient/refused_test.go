package tunnelclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// refusal is one answer of a service that lets nobody in at first.
type refusal struct {
	status     int
	retryAfter string
	body       string
}

func (f refusal) write(w http.ResponseWriter) {
	if f.retryAfter != "" {
		w.Header().Set("Retry-After", f.retryAfter)
	}
	w.WriteHeader(f.status)
	io.WriteString(w, f.body)
}

// What is retried, and after how long at most (the test's jitter is the bound
// of each wait).
func TestRetried(t *testing.T) {
	for _, tt := range []struct {
		name     string
		refusals []refusal
		want     time.Duration // from the first attempt to the session
	}{
		{"401 once", []refusal{{status: 401}}, 1 * time.Second},
		{"403", []refusal{{status: 403}, {status: 403}, {status: 403}}, 7 * time.Second},
		{"404", []refusal{{status: 404}, {status: 404}}, 3 * time.Second},
		{"426", []refusal{{status: 426}, {status: 426}}, 3 * time.Second},
		{"200", []refusal{{status: 200, body: "<html>"}}, 1 * time.Second},
		{"502", []refusal{{status: 502}}, 1 * time.Second},
		{"429 with seconds", []refusal{{status: 429, retryAfter: "10"}}, 15 * time.Second},
		{"503 with seconds", []refusal{{status: 503, retryAfter: "1"}}, 2 * time.Second},
		{"503 with nonsense", []refusal{{status: 503, retryAfter: "later"}}, 1 * time.Second},
		// Retry-After never shortens the curve.
		{"503 again and again", []refusal{{503, "1", ""}, {503, "1", ""}, {503, "1", ""}, {503, "1", ""}}, (2 + 2 + 4 + 8) * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeService(t)
				s.admit = func(n int, _ string, w http.ResponseWriter) bool {
					if n <= len(tt.refusals) {
						tt.refusals[n-1].write(w)
						return false
					}
					return true
				}
				begin := time.Now()
				r := serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
				fs := s.next()
				if d := time.Since(begin); d != tt.want {
					t.Errorf("connected after %v, want %v", d, tt.want)
				}
				fs.expect("/", "hello /")
				for _, st := range r.seen() {
					var re *tunnelclient.RefusedError
					if st.Phase == tunnelclient.PhaseWaiting && (!errors.As(st.Err, &re) || re.Status != tt.refusals[0].status) {
						t.Errorf("state %+v", st)
					}
				}
			})
		})
	}
}

// A date is obeyed as well as seconds.
func TestRetryAfterDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		s.admit = func(n int, _ string, w http.ResponseWriter) bool {
			if n == 1 {
				w.Header().Set("Retry-After", time.Now().Add(30*time.Second).UTC().Format(http.TimeFormat))
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return n > 1
		}
		begin := time.Now()
		serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
		s.next()
		if d := time.Since(begin); d != 45*time.Second {
			t.Errorf("connected after %v, want 30s and half as much spread", d)
		}
	})
}

// What ends Serve.
func TestFinal(t *testing.T) {
	for _, tt := range []struct {
		name     string
		refuse   refusal
		attempts int
		says     []string
	}{
		{"400", refusal{status: 400, body: "the id is malformed.\n"}, 1, []string{"400", "the id is malformed;", "check the client id"}},
		{"401 twice", refusal{status: 401, body: "unauthorized\n"}, 2, []string{"401", "unauthorized", "fresh token"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeService(t)
				s.admit = func(_ int, _ string, w http.ResponseWriter) bool {
					tt.refuse.write(w)
					return false
				}
				r := serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
				err := r.wait()
				var re *tunnelclient.RefusedError
				if !errors.As(err, &re) || re.Status != tt.refuse.status {
					t.Fatalf("Serve: %v", err)
				}
				for _, s := range tt.says {
					if !strings.Contains(err.Error(), s) {
						t.Errorf("%q does not say %q", err, s)
					}
				}
				if n := len(s.attempts()); n != tt.attempts {
					t.Errorf("%d attempts, want %d", n, tt.attempts)
				}
			})
		})
	}
}

// unauthorized refuses with the reason for a token whose signature is right.
func unauthorized(w http.ResponseWriter, reason, body string, clock time.Time) {
	w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token", reason="`+reason+`"`)
	w.Header().Set("Date", clock.UTC().Format(http.TimeFormat))
	w.WriteHeader(http.StatusUnauthorized)
	io.WriteString(w, body+"\n")
}

// A token that is not valid yet is tried again, with the ordinary back-off, until
// it is. That does not use up the attempts of one that is refused for another reason.
func TestNotYetValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		s.admit = func(n int, _ string, w http.ResponseWriter) bool {
			switch {
			case n == 3:
				w.WriteHeader(http.StatusUnauthorized)
			case n <= 6:
				unauthorized(w, "not_yet_valid", "the token is not valid for another 15s", time.Now().Add(-time.Minute))
			}
			return n > 6
		}
		begin := time.Now()
		r := serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
		fs := s.next()
		if d := time.Since(begin); d != (1+2+4+8+16+30)*time.Second {
			t.Errorf("connected after %v", d)
		}
		fs.expect("/", "hello /")
		st := r.seen()[1]
		var re *tunnelclient.RefusedError
		if !errors.As(st.Err, &re) || re.Reason != "not_yet_valid" || re.ClockOffset != -time.Minute {
			t.Fatalf("state %+v", st)
		}
		for _, want := range []string{"not valid for another 15s; this machine's clock is 1m0s ahead of the service's", "tried again until it is valid"} {
			if !strings.Contains(re.Error(), want) {
				t.Errorf("%q does not say %q", re, want)
			}
		}
	})
}

// What waiting does not help ends Serve, and says why, unless there is a newer token.
func TestUnauthorizedReasons(t *testing.T) {
	for _, tt := range []struct {
		reason string
		ahead  time.Duration
		says   string
		not    string
	}{
		{"expired", 10 * time.Minute, "(401): the token expired 1h ago by the service's clock; this machine's clock is 10m0s behind the service's; get a fresh token", "ahead"},
		{"expired", 0, "clock; this machine's clock agrees with the service's; get a fresh token", "behind"},
		{"id", 10 * time.Minute, "get a fresh token for this client id", "machine"},
		{"audience", 0, "get a fresh token for this client id and this service", "machine"},
		{"claims", 0, "get a fresh token", "machine"},
		{"of_a_later_version", 0, "get a fresh token", "machine"},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeService(t)
				s.admit = func(_ int, token string, w http.ResponseWriter) bool {
					if token != "good" {
						unauthorized(w, tt.reason, "the token expired 1h ago by the service's clock", time.Now().Add(tt.ahead))
					}
					return token == "good"
				}
				begin := time.Now()
				err := serve(t, s.config(tunnelclient.StaticToken("t1")), hello).wait()
				var re *tunnelclient.RefusedError
				if !errors.As(err, &re) || re.Reason != tt.reason || re.ClockOffset != tt.ahead || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), tt.not) {
					t.Errorf("Serve: %v (%+v)", err, re)
				}
				if d := time.Since(begin); d > time.Second {
					t.Errorf("it ended after %v", d)
				}
				n := 0
				serve(t, s.config(tunnelclient.TokenFunc(func(context.Context) (string, error) {
					n++
					return []string{"t1", "t2", "t3", "good"}[n-1], nil
				})), hello)
				s.next().expect("/", "hello /")
			})
		})
	}
}

// A newer token is a new chance, however often others were refused.
func TestUnauthorizedNewToken(t *testing.T) {
	for _, tt := range []struct {
		name  string
		token func(n int) string // of attempt n
		want  string             // tokens of all attempts
		ok    bool
	}{
		{"always newer", func(n int) string { return fmt.Sprintf("t%d", n) }, "[t1 t2 t3 t4 t5]", true},
		{"newer once", func(n int) string { return fmt.Sprintf("t%d", min(n, 2)) }, "[t1 t2 t2]", false},
		{"newer in time", func(n int) string { return []string{"t1", "t5"}[n/2] }, "[t1 t5]", true},
		{"with white space", func(int) string { return " t5\n" }, "[t5]", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeService(t)
				s.admit = func(_ int, token string, w http.ResponseWriter) bool {
					if token != "t5" {
						w.WriteHeader(http.StatusUnauthorized)
					}
					return token == "t5"
				}
				n := 0
				r := serve(t, s.config(tunnelclient.TokenFunc(func(context.Context) (string, error) {
					n++
					return tt.token(n), nil
				})), hello)
				if tt.ok {
					s.next()
				} else if err := r.wait(); err == nil {
					t.Error("Serve returned no error")
				}
				if got := fmt.Sprint(s.attempts()); got != tt.want {
					t.Errorf("attempts %s, want %s", got, tt.want)
				}
			})
		})
	}
}

// An expired token is followed by the source's newer one.
func TestTokenExpiredReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		src := &sequence{}
		serve(t, s.config(src), hello)
		fs := s.next()
		src.next()
		fs.closeWith(wire.CloseTokenExpired)
		if fs = s.next(); fs.token != "t1" {
			t.Errorf("reconnected with %q", fs.token)
		}
	})
}

func TestNoToken(t *testing.T) {
	s := newFakeService(t)
	r := serve(t, s.config(tunnelclient.TokenReader(strings.NewReader("\n"))), hello)
	if err := r.wait(); !errors.Is(err, tunnelclient.ErrNoToken) {
		t.Errorf("Serve: %v", err)
	}
}

// Any other error of a source is retried, and so is a token that cannot stand
// in a header; it is never shown.
func TestTokenSourceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		n := 0
		r := serve(t, s.config(tunnelclient.TokenFunc(func(context.Context) (string, error) {
			switch n++; n {
			case 1:
				return "", errors.New("the vault is sealed")
			case 2:
				return "hush\x00hush", nil
			case 3:
				return " ", nil
			}
			return "t1", nil
		})), hello)
		s.next()
		var errs []string
		for _, st := range r.seen() {
			if st.Phase == tunnelclient.PhaseWaiting {
				errs = append(errs, st.Err.Error())
			}
		}
		if len(errs) != 3 || !strings.Contains(errs[0], "the vault is sealed") || !strings.Contains(errs[1], "position 4") || !strings.Contains(errs[2], "empty") || strings.Contains(fmt.Sprint(errs), "hush") {
			t.Errorf("errors: %q", errs)
		}
	})
}

// Nothing but a websocktunnel service is taken for one.
func TestWrongServer(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		says   string
	}{
		{"web page", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>welcome") }, "the server URL may be wrong"},
		{"404", http.NotFound, "404 page not found; the server URL may be wrong"},
		{"426", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUpgradeRequired) }, "websocket upgrades"},
		{"redirect away", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://login.example.com/?secret=1", http.StatusFound)
		}, "redirects to https://login.example.com; the server URL may be wrong"},
		{"no subprotocol", func(w http.ResponseWriter, r *http.Request) {
			answerUpgrade(w, r, wire.HeaderClientURL+": https://h/a\r\n")
		}, "does not speak " + wire.Subprotocol},
		{"no client URL", func(w http.ResponseWriter, r *http.Request) {
			answerUpgrade(w, r, "Sec-WebSocket-Protocol: "+wire.Subprotocol+"\r\n")
		}, "has no X-Websocktunnel-Client-Url header"},
		{"odd client URL", func(w http.ResponseWriter, r *http.Request) {
			answerUpgrade(w, r, "Sec-WebSocket-Protocol: "+wire.Subprotocol+"\r\n"+wire.HeaderClientURL+": javascript:alert(1)\r\n")
		}, "not an http or https URL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newFakeService(t)
			s.answer = tt.answer
			waiting := make(chan tunnelclient.State, 1000)
			cfg := s.config(tunnelclient.StaticToken("t1"))
			cfg.OnStateChange = func(st tunnelclient.State) {
				if st.Phase == tunnelclient.PhaseWaiting {
					waiting <- st
				}
			}
			r := serve(t, cfg, hello)
			st := <-waiting
			if st.Err == nil || !strings.Contains(st.Err.Error(), tt.says) || strings.Contains(st.Err.Error(), "secret") {
				t.Errorf("error %v, want one with %q", st.Err, tt.says)
			}
			r.stop()
		})
	}
}

// What a proxy answers is not the service's answer: 400 and 401 are retried
// like a proxy that cannot be reached, and the token stays here.
func TestRefusedByProxy(t *testing.T) {
	for _, status := range []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired, http.StatusBadGateway} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeService(t) // the proxy
				asked := 0
				s.answer = func(w http.ResponseWriter, r *http.Request) {
					asked++
					if r.Method != http.MethodConnect || r.Host != "service.test:80" || r.Header.Get("Authorization") != "" {
						t.Errorf("the proxy got %s %s with %v", r.Method, r.Host, r.Header)
					}
					w.WriteHeader(status)
				}
				cfg := s.config(tunnelclient.StaticToken("t1"))
				cfg.ServerURL = "ws://service.test"
				cfg.HTTPClient.Transport.(*http.Transport).Proxy = http.ProxyURL(&url.URL{
					Scheme: "http", Host: "proxy.test:3128", User: url.UserPassword("me", "hunter2"),
				})
				r := serve(t, cfg, hello)
				pass(10 * time.Second) // attempts after 0, 1, 3 and 7 s
				synctest.Wait()
				if asked != 4 {
					t.Errorf("the proxy was asked %d times", asked)
				}
				for _, st := range r.seen() {
					var re *tunnelclient.RefusedError
					switch err := st.Err; {
					case st.Phase != tunnelclient.PhaseWaiting:
					case err == nil || errors.As(err, &re) || strings.Contains(err.Error(), "hunter2") ||
						!strings.Contains(err.Error(), fmt.Sprintf("connecting to the service: the proxy http://proxy.test:3128 answers CONNECT service.test:80 with %d", status)):
						t.Errorf("the error is %v", err)
					}
				}
				r.stop()
			})
		})
	}
}

// Authorization goes only to the host that it is for.
func TestRedirects(t *testing.T) {
	var mu sync.Mutex
	var leaked []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		leaked = append(leaked, r.Header.Get("Authorization"))
	}))
	defer other.Close()
	for _, tt := range []struct {
		name     string
		location string
		status   int // of the error
		path     string
	}{
		{"other port", other.URL, 302, ""},
		{"other name", strings.Replace(other.URL, "127.0.0.1", "localhost", 1), 302, ""},
		{"same host", "/moved", 418, "/moved"},
		{"for ever", "/loop", 302, "/loop"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var last string
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				last = r.URL.Path
				if r.URL.Path == "/moved" {
					if r.Header.Get("Authorization") != "Bearer t1" {
						t.Error("no token after a redirect on the same host")
					}
					w.WriteHeader(http.StatusTeapot)
					return
				}
				http.Redirect(w, r, tt.location, http.StatusFound)
			}))
			defer srv.Close()
			errs := make(chan error, 1000)
			r := serve(t, tunnelclient.Config{
				ServerURL: srv.URL, ID: testID, Tokens: tunnelclient.StaticToken("t1"),
				OnStateChange: func(st tunnelclient.State) {
					if st.Phase == tunnelclient.PhaseWaiting {
						errs <- st.Err
					}
				},
			}, hello)
			err := <-errs
			r.stop()
			var re *tunnelclient.RefusedError
			if !errors.As(err, &re) || re.Status != tt.status {
				t.Errorf("%v, want status %d", err, tt.status)
			}
			mu.Lock()
			defer mu.Unlock()
			if tt.path != "" && last != tt.path {
				t.Errorf("ended at %s", last)
			}
		})
	}
	if len(leaked) > 0 {
		t.Errorf("the other server was asked with %q", leaked)
	}
}

// No token shows in any log line, error or state, whatever happens.
func TestTokensStaySecret(t *testing.T) {
	const canary = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.canary-canary-canary.signature"
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		s.admit = func(n int, token string, w http.ResponseWriter) bool {
			switch n {
			case 1:
				http.Error(w, "you sent "+token, http.StatusForbidden)
				return false
			case 2:
				http.Error(w, token, http.StatusNotFound)
				return false
			}
			return true
		}
		var log bytes.Buffer // read when Serve has returned
		pr, pw := io.Pipe()
		defer pw.Close()
		cfg := s.config(tunnelclient.TokenReader(pr))
		cfg.Logger = zerolog.New(zerolog.SyncWriter(&log))
		r := serve(t, cfg, hello)
		fmt.Fprintln(pw, canary)
		fs := s.next()
		fmt.Fprintln(pw, canary+"2")
		fs.answerToken(true)
		fmt.Fprintln(pw, canary+"3")
		fs.answerToken(false)
		fs.send(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonExpired})
		synctest.Wait()
		fs.closeWith(wire.CloseEvicted)
		s.next()
		r.stop()
		all := log.String() + fmt.Sprintf("%+v", r.seen())
		if strings.Contains(all, "canary") {
			t.Errorf("a token shows in:\n%s", all)
		}
		if !strings.Contains(log.String(), testID) {
			t.Errorf("the log names no id:\n%s", log.String())
		}
	})
}

func TestOneLine(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"The id is bad.\n", "The id is bad"},
		{" two\nlines", "two"},
		{"<html>", ""},
		{`{"error": 1}`, ""},
		{"bell\a \x1b[31mred", "bell [31mred"},
		{"bad \xff utf-8", "bad  utf-8"},
		{strings.Repeat("é", 300), strings.Repeat("é", 199) + "…"},
	} {
		if got := tunnelclient.OneLine(tt.in); got != tt.want {
			t.Errorf("%q becomes %q, want %q", tt.in, got, tt.want)
		}
	}
}
