package server

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// TestOutcome: when an exchange is over it knows what has happened, once.
func TestOutcome(t *testing.T) {
	outcomes := make(chan outcome, 10)
	s := newService(t, Config{finished: func(x *exchange) { outcomes <- x.out }})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/get":
			io.WriteString(w, "hello")
		case "/upload":
			n, _ := io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusCreated)
			io.WriteString(w, strings.Repeat("x", int(n)/10))
		case "/refused":
			w.Header().Set(wire.HeaderError, "connection_refused")
			w.WriteHeader(http.StatusBadGateway)
		case "/bad":
			w.Header().Set("Content-Length", "3")
			w.Header().Set(wire.HeaderError, "no such kind")
			w.WriteHeader(http.StatusBadGateway)
		case "/broken":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "half")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/upgrade":
			c, brw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			line, _ := brw.ReadString('\n')
			io.WriteString(c, line+line)
		}
	})))
	h2 := s.http2Viewer()
	for name, tc := range map[string]struct {
		do       func(t *testing.T)
		want     outcome // times aside
		by       hop
		kind     string
		noAnswer bool
	}{
		"GET": {
			do:   func(*testing.T) { s.get("/a/get") },
			want: outcome{proto: "HTTP/1.1", status: 200, sent: 5},
		},
		"GET over HTTP/2": {
			do: func(t *testing.T) {
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/a/get", nil)
				resp, err := h2.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			},
			want: outcome{proto: "HTTP/2.0", status: 200, sent: 5},
		},
		"upload": {
			do: func(t *testing.T) {
				resp, err := s.http.Post(s.url+"/a/upload", "", strings.NewReader(strings.Repeat("y", 100_000)))
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			},
			want: outcome{proto: "HTTP/1.1", status: 201, received: 100_000, sent: 10_000},
		},
		"no tunnel": {
			do:   func(*testing.T) { s.get("/nobody/") },
			want: outcome{proto: "HTTP/1.1", status: 404, failure: failNoTunnel},
			by:   hopService, kind: "destination_not_found",
		},
		"target down": {
			do:   func(*testing.T) { s.get("/a/refused") },
			want: outcome{proto: "HTTP/1.1", status: 502},
			by:   hopTarget, kind: "connection_refused",
		},
		"unknown failure": {
			do:   func(*testing.T) { s.get("/a/bad") },
			want: outcome{proto: "HTTP/1.1", status: 502},
			by:   hopTarget, kind: "proxy_internal_response",
		},
		"broken off": {
			do:   func(*testing.T) { s.raw("GET /a/broken HTTP/1.1\r\nHost: h\r\n\r\n") },
			want: outcome{proto: "HTTP/1.1", status: 200, sent: 4, broken: true, tunnelBroke: failTargetBroke},
			by:   hopTarget, kind: "http_response_incomplete",
		},
		"upgrade": {
			do: func(t *testing.T) {
				c, br := s.dialRaw("GET /a/upgrade HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
				if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 101 {
					t.Fatal(err)
				}
				io.WriteString(c, "ping\n")
				if b, _ := io.ReadAll(bufio.NewReader(br)); string(b) != "ping\nping\n" {
					t.Errorf("%q came back", b)
				}
				c.Close()
			},
			want: outcome{proto: "HTTP/1.1", status: 101, received: 5, sent: 10},
		},
		"Go code": {
			do: func(t *testing.T) {
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/upload", strings.NewReader(strings.Repeat("z", 50)))
				resp, err := s.RoundTripper("a").RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				resp.Body.Close()
			},
			want: outcome{status: 201, received: 50, sent: 5},
		},
		"Go code without a tunnel": {
			do: func(t *testing.T) {
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/", nil)
				if _, err := s.RoundTripper("nobody").RoundTrip(req); !errors.Is(err, ErrNoTunnel) {
					t.Error(err)
				}
			},
			want: outcome{failure: failNoTunnel},
			by:   hopService, kind: "destination_not_found", noAnswer: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := time.Now()
			tc.do(t)
			got := <-outcomes
			select {
			case again := <-outcomes:
				t.Errorf("a second outcome: %+v", again)
			default:
			}
			if by, kind := got.failed(); by != tc.by || kind != tc.kind {
				t.Errorf("failed at %q by %q, want %q, %q", by, kind, tc.by, tc.kind)
			}
			if got.start.Before(before) || got.end.Before(got.start) || got.begun.IsZero() != tc.noAnswer ||
				!tc.noAnswer && (got.begun.Before(got.start) || got.end.Before(got.begun)) {
				t.Errorf("times: start %v, begun %v, end %v", got.start, got.begun, got.end)
			}
			if got.status != tc.want.status || got.proto != tc.want.proto || got.received != tc.want.received ||
				got.broken != tc.want.broken || got.tunnelBroke != tc.want.tunnelBroke {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
			if tc.want.failure != nil && got.failure != tc.want.failure || tc.by == hopNone && got.failure != nil {
				t.Errorf("failure %v, want %v", got.failure, tc.want.failure)
			}
			if got.failure == nil && got.sent != tc.want.sent || got.failure != nil && tc.want.proto != "" && got.sent == 0 {
				t.Errorf("sent %d bytes, want %d", got.sent, tc.want.sent)
			}
		})
	}
}

// TestOutcomeOfTunnelThatBreaks: it is not the target's doing.
func TestOutcomeOfTunnelThatBreaks(t *testing.T) {
	outcomes := make(chan outcome, 1)
	s := newService(t, Config{finished: func(x *exchange) { outcomes <- x.out }})
	client := s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	s.waitActive(client)
	_, br := s.dialRaw("GET /a/ HTTP/1.1\r\nHost: h\r\n\r\n")
	if _, err := br.ReadString('f'); err != nil {
		t.Fatal(err)
	}
	client.conn.Abort()
	got := <-outcomes
	if by, kind := got.failed(); by != hopTunnelClient || kind != "connection_terminated" || got.status != 200 || got.reason().code != codeAnswerBroke {
		t.Errorf("failed at %q by %q: %+v", by, kind, got)
	}
}

// TestOutcomeOfViewerWhoLeaves: it is the viewer's doing.
func TestOutcomeOfViewerWhoLeaves(t *testing.T) {
	outcomes := make(chan outcome, 1)
	s := newService(t, Config{finished: func(x *exchange) { outcomes <- x.out }})
	s.waitActive(s.connect("a", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })))
	c, _ := s.dialRaw("GET /a/ HTTP/1.1\r\nHost: h\r\n\r\n")
	waitFor(t, func() bool {
		for info := range s.Tunnels() {
			return info.InFlight == 1
		}
		return false
	})
	c.Close()
	got := <-outcomes
	if by, _ := got.failed(); by != hopViewer || !got.broken || got.status != 0 || got.reason().code != codeViewerLeft {
		t.Errorf("failed at %q: %+v", by, got)
	}
}
