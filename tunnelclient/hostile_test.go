package tunnelclient_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// hostileSession is a service's end of a session that sends what it likes.
type hostileSession struct {
	conn   *h2conn.Conn
	framer *http2.Framer // writes to conn
}

// flood sends b until the client ends the session, or as often as no client
// should take it.
func (h *hostileSession) flood(b []byte) error {
	b = bytes.Repeat(b, max(1, 16<<10/len(b)))
	for range 20_000 {
		if _, err := h.conn.Write(b); err != nil {
			return err
		}
	}
	return errors.New("the client takes a flood of 320 MB")
}

func h2Frame(kind http2.FrameType, flags http2.Flags, stream uint32, payload int) []byte {
	var b bytes.Buffer
	w := http2.NewFramer(&b, nil)
	w.AllowIllegalWrites = true
	if err := w.WriteRawFrame(kind, flags, stream, make([]byte, payload)); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// windowUpdate opens the connection's window by one byte.
var windowUpdate = append(h2Frame(http2.FrameWindowUpdate, 0, 0, 4)[:12:12], 1)

// TestHostileSessions: whatever a service does with a session, the client ends
// that at the latest when it becomes too much, connects again, with its
// back-off, and serves.
func TestHostileSessions(t *testing.T) {
	flood := func(b []byte) func(*hostileSession) {
		return func(h *hostileSession) { h.flood(b) }
	}
	send := func(parts ...[]byte) func(*hostileSession) {
		return func(h *hostileSession) {
			for _, b := range parts {
				h.conn.Write(b)
			}
		}
	}
	control := func(s string) func(*hostileSession) {
		return func(h *hostileSession) {
			for range 20_000 {
				if h.conn.SendControl([]byte(s)) != nil {
					return
				}
			}
		}
	}
	const violation = int(wire.CloseProtocol)
	for _, tt := range []struct {
		name   string
		attack func(*hostileSession)
		code   int // of the close frame that the client sends; 0: any
	}{
		{"PING flood", flood(h2Frame(http2.FramePing, 0, 0, 8)), violation},
		{"PING ack flood", flood(h2Frame(http2.FramePing, http2.FlagPingAck, 0, 8)), violation},
		{"SETTINGS flood", flood(h2Frame(http2.FrameSettings, 0, 0, 0)), violation},
		{"WINDOW_UPDATE flood", flood(windowUpdate), violation},
		{"PRIORITY flood", flood(h2Frame(http2.FramePriority, 0, 1, 5)), violation},
		{"unknown frames flood", flood(h2Frame(0x42, 0, 0, 100)), violation},
		{"CONTINUATION flood", func(h *hostileSession) {
			h.conn.Write(h2Frame(http2.FrameHeaders, 0, 1, 0))
			h.flood(h2Frame(http2.FrameContinuation, 0, 1, 0))
		}, violation},
		{"RST_STREAM on an idle stream", send(h2Frame(http2.FrameRSTStream, 0, 9, 4)), 0},
		{"DATA on an idle stream", send(h2Frame(http2.FrameData, 0, 9, 4)), 0},
		{"no SETTINGS first", send(h2Frame(http2.FramePing, 0, 0, 8)), 0},
		{"a frame over the limit", send(h2Frame(http2.FrameData, 0, 1, 65<<10)), 0},
		{"MAX_FRAME_SIZE of 0", func(h *hostileSession) {
			h.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 0})
		}, 0},
		{"windows that overflow", func(h *hostileSession) {
			h.framer.WriteWindowUpdate(0, 1<<31-1)
			h.framer.WriteWindowUpdate(0, 1<<31-1)
		}, 0},
		{"an HPACK index that is not there", func(h *hostileSession) {
			h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0x7f}, EndHeaders: true})
		}, 0},
		{"rapid resets", func(h *hostileSession) {
			for i := range uint32(5000) {
				h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: []byte{0x82, 0x84, 0x86, 0x41, 1, 'h'}, EndHeaders: true, EndStream: true})
				if h.framer.WriteRSTStream(2*i+1, http2.ErrCodeCancel) != nil {
					return
				}
			}
			h.conn.Close() // with handlers that return at once it does no harm
		}, 0},
		{"control messages that nobody knows", control(`{"type":"x"}`), violation},
		{"malformed control messages", control(`{`), violation},
		{"large control messages", control(`{"type":"x","y":"` + strings.Repeat("y", 16_000) + `"}`), violation},
		{"tokens running out, again and again", control(`{"type":"goaway","reason":"expired"}`), violation},
		{"answers to tokens that were not sent", control(`{"type":"token","ok":true,"exp":1}`), violation},
		{"it closes at once", func(h *hostileSession) { h.conn.CloseWith(int(websocket.StatusGoingAway), "") }, 0},
		{"it closes with a speech", func(h *hostileSession) { h.conn.CloseWith(4999, "\x1b]0;owned\x07"+strings.Repeat("z", 100)) }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeService(t)
				var wg sync.WaitGroup
				t.Cleanup(wg.Wait)
				ended := make(chan error, 1)
				s.first = func(w http.ResponseWriter, r *http.Request) {
					conn, err := h2conn.Accept(w, r, h2conn.AcceptOptions{Subprotocol: wire.Subprotocol, Header: http.Header{wire.HeaderClientURL: {testURL}}})
					if err != nil {
						t.Error(err)
						return
					}
					h := &hostileSession{conn: conn, framer: http2.NewFramer(conn, nil)}
					h.framer.AllowIllegalWrites = true
					wg.Go(func() {
						_, err := io.Copy(io.Discard, conn)
						if e := conn.Err(); e != nil {
							err = e
						}
						ended <- err
						conn.Close()
					})
					wg.Go(func() {
						io.WriteString(conn, http2.ClientPreface)
						if tt.name != "no SETTINGS first" && tt.name != "MAX_FRAME_SIZE of 0" {
							h.framer.WriteSettings()
						}
						tt.attack(h)
					})
				}
				r := serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
				select {
				case err := <-ended:
					var ce *h2conn.CloseError
					if tt.code != 0 && (!errors.As(err, &ce) || ce.Code != tt.code) {
						t.Errorf("the session ended with %v, want code %d", err, tt.code)
					}
				case <-time.After(time.Minute):
					t.Fatal("the session goes on")
				}
				s.next().expect("/a", "hello /a")
				for _, st := range r.seen() {
					if st.Err != nil && (strings.ContainsAny(st.Err.Error(), "\x1b\x07\n") || len(st.Err.Error()) > 500) {
						t.Errorf("the error is not one for a terminal: %q", st.Err.Error())
					}
				}
				r.stop()
			})
		})
	}
}

// TestHostileHandshakes: whatever a service answers to a handshake, the client
// tells it in a short line and tries again, at its own pace.
func TestHostileHandshakes(t *testing.T) {
	upgraded := func(header string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { answerUpgrade(w, r, header) }
	}
	withURL := func(u string) http.HandlerFunc {
		return upgraded("Sec-WebSocket-Protocol: " + wire.Subprotocol + "\r\n" + wire.HeaderClientURL + ": " + u + "\r\n")
	}
	raw := func(b string, after func(io.Writer)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			conn, brw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			io.WriteString(conn, b)
			if after != nil {
				after(conn)
			}
			io.Copy(io.Discard, brw)
		}
	}
	endless := func(piece string) func(io.Writer) {
		return func(w io.Writer) {
			for range 10_000 {
				if _, err := io.WriteString(w, piece); err != nil {
					return
				}
			}
		}
	}
	const second = time.Second
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		wait   time.Duration // until the second attempt, at most
	}{
		{"never", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 2 * time.Minute},
		{"half an answer", raw("HTTP/1.1 101 Switch", nil), 2 * time.Minute},
		{"no HTTP", raw("220 ready\r\n", nil), 2 * second},
		{"a header without end", raw("HTTP/1.1 200 OK\r\n", endless("X-Y: "+strings.Repeat("z", 4000)+"\r\n")), 2 * time.Minute},
		{"interim answers without end", raw("", endless("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")), 2 * time.Minute},
		{"a body without end", raw("HTTP/1.1 503 No\r\n\r\n", endless(strings.Repeat("z", 4000))), 2 * second},
		{"redirects without end", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, 2 * second},
		{"redirects that grow", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/?"+strings.Repeat("x", len(r.URL.RawQuery)*2+1), http.StatusFound)
		}, 2 * second},
		{"a huge Retry-After", refusing("99999999999999999999"), 2 * time.Hour},
		{"a Retry-After of years", refusing("4000000000"), 2 * time.Hour},
		{"a negative Retry-After", refusing("-5"), 2 * second},
		{"a Retry-After in the year 9999", refusing("Fri, 31 Dec 9999 23:59:59 GMT"), 2 * time.Hour},
		{"another subprotocol", upgraded("Sec-WebSocket-Protocol: evil\r\n" + wire.HeaderClientURL + ": " + testURL + "\r\n"), 10 * second},
		{"compression", upgraded("Sec-WebSocket-Protocol: " + wire.Subprotocol + "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n" + wire.HeaderClientURL + ": " + testURL + "\r\n"), 10 * second},
		{"a URL with an escape sequence", withURL("https://h/\x1b]0;owned\x07"), 2 * second},
		{"a URL with a C1 control character", withURL("https://h/\u009b2J"), 2 * second},
		{"a URL that is written from right to left", withURL("https://h/\u202emoc.live"), 2 * second},
		{"a URL with a space", withURL("https://h/a b"), 2 * second},
		{"a huge URL", withURL("https://h/" + strings.Repeat("x", 100_000)), 2 * second},
		{"a URL that is a file", withURL("file:///etc/passwd"), 2 * second},
		{"a refusal with escape sequences", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "\x1b[2Jno\u009b, \u202eno", http.StatusServiceUnavailable)
		}, 2 * second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeService(t)
				var mu sync.Mutex
				var second time.Time
				first := true
				begun := time.Now()
				s.answer = func(w http.ResponseWriter, r *http.Request) {
					mu.Lock()
					switch {
					case first || strings.HasPrefix(tt.name, "redirects"):
						first = false
						mu.Unlock()
						tt.answer(w, r)
						return
					case second.IsZero():
						second = time.Now()
					}
					mu.Unlock()
					w.WriteHeader(http.StatusServiceUnavailable)
				}
				failed := make(chan tunnelclient.State, 1000)
				cfg := s.config(tunnelclient.StaticToken("t1"))
				cfg.OnStateChange = func(st tunnelclient.State) {
					if st.URL != "" {
						t.Errorf("the URL %q was taken", st.URL)
					}
					if st.Phase == tunnelclient.PhaseWaiting {
						failed <- st
					}
				}
				r := serve(t, cfg, hello)
				st := <-failed
				text := st.Err.Error()
				if len(text) > 600 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' && r < 0xa0 || r == '\u202e' }) {
					t.Errorf("the error is not one for a terminal: %q", text)
				}
				d := st.Next.Sub(begun)
				if d > tt.wait {
					t.Errorf("the next attempt is after %v", d)
				}
				if tt.wait == 2*time.Hour && d < time.Hour { // the most that is obeyed
					t.Errorf("the next attempt is after %v already", d)
				}
				pass(tt.wait)
				synctest.Wait()
				mu.Lock()
				if second.IsZero() && !strings.HasPrefix(tt.name, "redirects") {
					t.Error("there is no second attempt")
				}
				mu.Unlock()
				r.stop()
			})
		})
	}
}

// refusing answers 503 with a Retry-After.
func refusing(after string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", after)
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// TestHostileGoaways: delays that no service would name, and the same thing
// said again and again, do not park a client and cost it nothing.
func TestHostileGoaways(t *testing.T) {
	for _, tt := range []struct {
		name, message string
		least, most   time.Duration
	}{
		{"negative", `{"type":"goaway","reason":"draining","reconnect_after_ms":-9223372036854775808}`, 0, time.Minute},
		{"huge", `{"type":"goaway","reason":"draining","reconnect_after_ms":9223372036854775807}`, time.Hour, time.Hour + time.Minute},
		{"an odd reason", `{"type":"goaway","reason":"\u001b]0;owned\u0007","reconnect_after_ms":10}`, 0, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeService(t)
				r := serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
				fs := s.next()
				begun := time.Now()
				if err := fs.conn.SendControl([]byte(tt.message)); err != nil {
					t.Fatal(err)
				}
				fs = s.next()
				if d := time.Since(begun); d < tt.least || d > tt.most {
					t.Errorf("the next session came after %v", d)
				}
				for _, st := range r.seen() {
					if strings.ContainsAny(st.Reason, "\x1b\x07") {
						t.Errorf("reason %q", st.Reason)
					}
				}
				fs.expect("/", "hello /")
				r.stop()
			})
		})
	}

	t.Run("expired, a hundred times", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeService(t)
			asked := 0
			src := sourceFunc(func() (string, error) { asked++; return "t1", nil })
			r := serve(t, s.config(src), hello)
			fs := s.next()
			before := asked
			for range 100 {
				fs.send(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonExpired})
				synctest.Wait()
			}
			if n := asked - before; n != 1 {
				t.Errorf("the token source was asked %d times", n)
			}
			fs.expect("/", "hello /")
			r.stop()
		})
	})
}

type sourceFunc func() (string, error)

func (f sourceFunc) Token(context.Context) (string, error) { return f() }

// TestHostileCloses: a service that ends every session at once is not asked
// more and more often.
func TestHostileCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		r := serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
		begun := time.Now()
		for time.Since(begun) < 10*time.Minute {
			s.next().closeWith(wire.CloseDraining)
		}
		if n := len(s.attempts()); n > 30 {
			t.Errorf("%d attempts in ten minutes", n)
		}
		r.stop()
	})
}
