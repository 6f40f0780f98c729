package target

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// TestOutcome looks at what an exchange knows when it is over.
func TestOutcome(t *testing.T) {
	down := Refusing(t)
	arrived := make(chan struct{}, 1)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/get":
			io.WriteString(w, "hello")
		case "/upload":
			n, _ := io.Copy(io.Discard, r.Body)
			w.WriteHeader(int(n)) // 201 bytes
		case "/breaks":
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "/waits":
			arrived <- struct{}{}
			<-r.Context().Done()
		case "/upgrade", "/upgrade-breaks":
			c, brw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: Echo\r\n\r\n")
			b := make([]byte, 3)
			io.ReadFull(brw, b)
			c.Write(append(b, b...))
			brw.ReadByte() // the viewer has it all
			if r.URL.Path == "/upgrade-breaks" {
				c.(*net.TCPConn).SetLinger(0)
			}
		}
	}))
	defer site.Close()
	site.Config.ErrorLog = log.New(io.Discard, "", 0)

	for _, tt := range []struct {
		name   string
		target string // else site
		viewer func(t *testing.T, url string)
		want   outcome // of the times and of fault.err, only whether they are there
	}{
		{
			name:   "GET",
			viewer: func(t *testing.T, url string) { get(t, url+"/get") },
			want:   outcome{status: 200, toViewer: 5, protocol: "HTTP/1.1", connected: time.Now(), answered: time.Now()},
		}, {
			name: "upload",
			viewer: func(t *testing.T, url string) {
				resp, err := http.Post(url+"/upload", "", strings.NewReader(strings.Repeat("x", 201)))
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
			},
			want: outcome{status: 201, fromViewer: 201, protocol: "HTTP/1.1", connected: time.Now(), answered: time.Now()},
		}, {
			name:   "target down",
			target: down,
			viewer: func(t *testing.T, url string) { get(t, url+"/get") },
			want:   outcome{status: 502, toViewer: int64(len(failRefused.text) + 1), fault: &fault{hop: hopTarget}},
		}, {
			name:   "target breaks off",
			viewer: func(t *testing.T, url string) { get(t, url+"/breaks") },
			want: outcome{status: 200, toViewer: 4, protocol: "HTTP/1.1", connected: time.Now(), answered: time.Now(),
				fault: &fault{hop: hopTarget}},
		}, {
			name: "viewer gone",
			viewer: func(t *testing.T, url string) {
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					<-arrived
					cancel()
				}()
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/waits", nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := http.DefaultClient.Do(req); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			},
			want: outcome{protocol: "HTTP/1.1", connected: time.Now(), fault: &fault{hop: hopViewer}},
		}, {
			name: "viewer breaks off its upload",
			viewer: func(t *testing.T, url string) {
				c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				io.WriteString(c, "POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
				c.Close()
			},
			want: outcome{fromViewer: 4, protocol: "HTTP/1.1", connected: time.Now(), fault: &fault{hop: hopViewer}},
		}, {
			name:   "upgrade",
			viewer: func(t *testing.T, url string) { upgradeTo(t, url, "/upgrade") },
			want: outcome{status: 101, fromViewer: 4, toViewer: 6, protocol: "HTTP/1.1", upgrade: "Echo",
				connected: time.Now(), answered: time.Now()},
		}, {
			name:   "target breaks off an upgrade",
			viewer: func(t *testing.T, url string) { upgradeTo(t, url, "/upgrade-breaks") },
			want: outcome{status: 101, fromViewer: 4, toViewer: 6, protocol: "HTTP/1.1", upgrade: "Echo",
				connected: time.Now(), answered: time.Now(), fault: &fault{hop: hopTarget}},
		}, {
			name: "CONNECT",
			viewer: func(t *testing.T, url string) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodConnect, url, nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
			},
			want: outcome{status: 405},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := tt.target
			if addr == "" {
				addr = site.URL
			}
			p, err := New(addr, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer p.CloseIdleConnections()
			over := make(chan outcome, 1)
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ex := newExchange(p, w, r)
				defer func() { over <- ex.outcome }()
				ex.serve()
			}))
			srv.Config.ErrorLog = log.New(io.Discard, "", 0)
			srv.Start()
			defer srv.Close()
			defer http.DefaultClient.CloseIdleConnections()

			tt.viewer(t, srv.URL)
			got := <-over
			if got.status != tt.want.status || got.fromViewer != tt.want.fromViewer || got.toViewer != tt.want.toViewer ||
				got.protocol != tt.want.protocol || got.upgrade != tt.want.upgrade {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			switch {
			case (got.fault == nil) != (tt.want.fault == nil):
				t.Errorf("fault %+v, want %+v", got.fault, tt.want.fault)
			case got.fault != nil && (got.fault.hop != tt.want.fault.hop || got.fault.err == nil):
				t.Errorf("fault %+v, want one of the %s", got.fault, tt.want.fault.hop)
			}
			if got.connected.IsZero() != tt.want.connected.IsZero() || got.answered.IsZero() != tt.want.answered.IsZero() {
				t.Errorf("connected %v, answered %v", got.connected, got.answered)
			}
			last := got.began
			for _, next := range []time.Time{got.connected, got.answered, got.ended} {
				if next.IsZero() {
					continue
				}
				if last.IsZero() || next.Before(last) {
					t.Errorf("out of order: %+v", got)
				}
				last = next
			}
			if got.ended.IsZero() {
				t.Error("it has no end")
			}
		})
	}
}

// TestOutcomeOfBrokenUpload: an upload that breaks off is the viewer's fault, also
// where the request's context goes on, as behind a handler that limits bodies. What
// net/http does with the body and the connection after that is no news.
func TestOutcomeOfBrokenUpload(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	defer site.Close()
	p, err := New(site.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.CloseIdleConnections()
	for range 100 { // the connection ends at the same time as the request
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errors.New("too large"))))
		r.ProtoMajor, r.ContentLength = 2, -1
		ex := newExchange(p, httptest.NewRecorder(), r)
		ex.serve()
		if f := ex.outcome.fault; f == nil || f.hop != hopViewer {
			t.Fatalf("fault %+v, want one of the viewer", f)
		}
	}
}

// get takes what comes of an answer.
func get(t *testing.T, url string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

// upgradeTo switches protocols, sends 3 bytes, takes 6, sends one more and reads until the end.
func upgradeTo(t *testing.T, url, path string) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	io.WriteString(c, "abc")
	io.ReadFull(br, make([]byte, 6))
	io.WriteString(c, "d")
	io.Copy(io.Discard, br)
}
