package h2conn_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

const switchedToX = "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"

type closeWriter interface{ CloseWrite() error }

// TestTargetEndsFirst: the target ends its direction of an upgrade, and still
// gets all that the viewer sends after that, however much of it is under way
// when the viewer ends the other.
func TestTargetEndsFirst(t *testing.T) {
	for _, first := range []string{"", "goodbye", strings.Repeat("long ", 1<<19)} {
		for _, after := range []string{"", "reply", strings.Repeat("tail ", 1<<19)} {
			t.Run(fmt.Sprintf("%d then %d bytes", len(first), len(after)), func(t *testing.T) {
				forms(t, func(t *testing.T, cfg h2conn.TransportConfig) {
					got := make(chan string, 1)
					read := make(chan struct{})
					srv := front(t, tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if r.Header.Get(h2conn.HeaderUpgradeID) != "" {
							t.Error("the handler sees a private header")
						}
						conn, brw, err := w.(http.Hijacker).Hijack()
						if err != nil {
							t.Error(err)
							return
						}
						defer conn.Close()
						io.WriteString(conn, switchedToX+first)
						if err := conn.(closeWriter).CloseWrite(); err != nil {
							t.Error(err)
						}
						if err := conn.(closeWriter).CloseWrite(); err != nil {
							t.Errorf("a second time: %v", err)
						}
						if _, err := conn.Write([]byte("x")); err == nil {
							t.Error("Write after CloseWrite did not fail")
						}
						<-read // so that the tail has to wait for windows
						b, err := io.ReadAll(brw)
						if err != nil {
							t.Error(err)
						}
						got <- string(b)
					}), cfg, h2conn.ServeConfig{}))
					conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					io.WriteString(conn, "GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
					br := bufio.NewReader(conn)
					resp, err := http.ReadResponse(br, nil)
					if err != nil || resp.StatusCode != 101 {
						t.Fatalf("got %v, %v", resp, err)
					}
					if b, err := io.ReadAll(br); string(b) != first || err != nil {
						t.Errorf("the viewer read %d bytes, %v, want %d", len(b), err, len(first))
					}
					wrote := make(chan error, 1)
					go func() {
						_, err := io.WriteString(conn, after)
						wrote <- errors.Join(err, conn.(closeWriter).CloseWrite())
					}()
					if len(after) < 1<<19 { // else it does not fit
						if err := <-wrote; err != nil {
							t.Error(err)
						}
						wrote <- nil
					}
					close(read)
					if b := <-got; b != after {
						t.Errorf("the target read %d bytes, want %d", len(b), len(after))
					}
					if err := <-wrote; err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// TestCloseWriteUnsupported: where nobody would understand the message,
// CloseWrite says so, and the byte that goes with it is not sent.
func TestCloseWriteUnsupported(t *testing.T) {
	for _, id := range []string{"", "1"} {
		t.Run("id="+id, func(t *testing.T) {
			dialled, accepted := conns(t)
			control := make(chan []byte, 1)
			accepted.OnControl(func(b []byte) { control <- b })
			result := make(chan error, 1)
			go h2conn.Serve(t.Context(), dialled, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				conn, _, _ := w.(http.Hijacker).Hijack()
				defer conn.Close()
				if err := conn.(closeWriter).CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("before the 101: %v", err)
				}
				io.WriteString(conn, switchedToX+"abc")
				result <- conn.(closeWriter).CloseWrite()
			}), h2conn.ServeConfig{})
			cc, err := (&http2.Transport{AllowHTTP: true}).NewClientConn(accepted)
			if err != nil {
				t.Fatal(err)
			}
			defer accepted.Close()
			req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://target/", nil)
			req.Header.Set(h2conn.HeaderUpgrade, "x")
			want := "abc"
			if id != "" {
				req.Header.Set(h2conn.HeaderUpgradeID, id)
				want = "abc\x00"
			}
			resp, err := cc.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			if string(b) != want || err != nil {
				t.Errorf("got %q, %v, want %q", b, err, want)
			}
			err = <-result
			if id == "" {
				if !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("CloseWrite returned %v", err)
				}
				return
			}
			if err != nil {
				t.Error(err)
			}
			if m := <-control; !bytes.Equal(m, []byte(`{"type":"upgrade_end","upgrade":"1","bytes":3}`)) {
				t.Errorf("control message %s", m)
			}
		})
	}
}

// TestForgedUpgradeEnd: a peer that lies about the end of its direction hurts
// that stream at most.
func TestForgedUpgradeEnd(t *testing.T) {
	dialled, accepted := conns(t)
	served := make(chan struct{})
	go func() {
		defer close(served)
		h2conn.Serve(t.Context(), dialled, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/plain" {
				io.WriteString(w, "plain")
				return
			}
			conn, _, _ := w.(http.Hijacker).Hijack()
			defer conn.Close()
			for _, m := range []string{
				`{"type":"upgrade_end"}`, `{"type":"upgrade_end","upgrade":"99","bytes":1}`,
				`{"type":"upgrade_end","upgrade":"1","bytes":-5}`, `{"type":"upgrade_end","upgrade":1,"bytes":"x"}`,
				`{"type":"upgrade_end","upgrade":"1","bytes":2}`, `{"type":"upgrade_end","upgrade":"1","bytes":9000000000000000000}`,
			} {
				if err := dialled.SendControl([]byte(m)); err != nil {
					t.Error(err)
				}
			}
			io.WriteString(conn, switchedToX+"abcdef")
		}), h2conn.ServeConfig{})
	}()
	tr, err := h2conn.NewTransport(accepted, h2conn.TransportConfig{NoExtendedConnect: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { tr.Close(); <-served }()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://target/", nil)
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if b := body(t, resp); b != "ab" {
		t.Errorf("read %q, want what the first credible message lets through", b)
	}
	req, _ = http.NewRequestWithContext(t.Context(), "GET", "http://target/plain", nil)
	resp, err = tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if b := body(t, resp); b != "plain" {
		t.Errorf("afterwards: %q", b)
	}
}
