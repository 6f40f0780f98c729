package h2conn_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

func upgradeRequest(t *testing.T) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://target/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}}
	return req
}

const switched = "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"

// TestHijackedCloseEndsWrite: websocket libraries time out a write by closing
// the connection.
func TestHijackedCloseEndsWrite(t *testing.T) {
	forms(t, func(t *testing.T, cfg h2conn.TransportConfig) {
		ended := make(chan struct{})
		tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer close(ended)
			io.WriteString(conn, switched)
			time.AfterFunc(200*time.Millisecond, func() { conn.Close() })
			for {
				if _, err := conn.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}), cfg, h2conn.ServeConfig{})
		resp, err := tr.RoundTrip(upgradeRequest(t))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close() // nobody reads it
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Error("Write is still blocked")
		}
	})
}

// TestPanicAfterHijack: who still has the connection finds it closed.
func TestPanicAfterHijack(t *testing.T) {
	wrote := make(chan error, 1)
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(conn, switched)
		go func() {
			<-r.Context().Done()
			_, err := io.WriteString(conn, "late")
			wrote <- err
		}()
		panic(http.ErrAbortHandler)
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{})
	if resp, err := tr.RoundTrip(upgradeRequest(t)); err == nil {
		defer resp.Body.Close()
	}
	if err := <-wrote; err == nil {
		t.Error("a write after the end of the handler succeeded")
	}
}

// TestConnectionCloseWithoutWrite: the header is removed also from an answer
// that the handler leaves to be implied.
func TestConnectionCloseWithoutWrite(t *testing.T) {
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{})
	for range 3 {
		resp := get(t, tr, "/")
		body(t, resp)
		if err := tr.Ping(t.Context()); err != nil { // what x/net sends has arrived
			t.Fatal(err)
		}
		if !tr.Usable() {
			t.Fatal("the tunnel takes no more requests")
		}
	}
}

// TestHijackedInterimAnswers: 1xx may come before the 101.
func TestHijackedInterimAnswers(t *testing.T) {
	forms(t, func(t *testing.T, cfg h2conn.TransportConfig) {
		tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for _, part := range []string{"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Proc", "essing\r\n\r\n", switched + "hi"} {
				io.WriteString(conn, part)
			}
			conn.Read(make([]byte, 1))
		}), cfg, h2conn.ServeConfig{})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		resp, err := tr.RoundTrip(upgradeRequest(t).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		p := make([]byte, 2)
		if _, err := io.ReadFull(resp.Body, p); resp.StatusCode != 101 || string(p) != "hi" {
			t.Errorf("got %d %q, %v", resp.StatusCode, p, err)
		}
	})
}

// TestHijackedInterimAnswersAndAborts: x/net goes on writing an interim answer
// after its stream has been reset, while the handler goes on to the next one. If
// both used the same map, Go would end the process. The race detector sees it
// earlier.
func TestHijackedInterimAnswersAndAborts(t *testing.T) {
	var head strings.Builder
	head.WriteString("HTTP/1.1 103 Early Hints\r\n")
	for i := range 50 {
		fmt.Fprintf(&head, "X-%d: %d\r\n", i, i)
	}
	interim := head.String() + "\r\n"
	forms(t, func(t *testing.T, cfg h2conn.TransportConfig) {
		tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for range 20 {
				io.WriteString(conn, interim)
			}
			io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
		}), cfg, h2conn.ServeConfig{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 50 {
					ctx, cancel := context.WithCancel(t.Context())
					ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error {
						cancel()
						return nil
					}})
					if resp, err := tr.RoundTrip(upgradeRequest(t).WithContext(ctx)); err == nil {
						resp.Body.Close()
					}
					cancel()
				}
			})
		}
		wg.Wait()
	})
}

// TestHijackedRefusalBreaksOff: what is not whole does not look so.
func TestHijackedRefusalBreaksOff(t *testing.T) {
	forms(t, func(t *testing.T, cfg h2conn.TransportConfig) {
		tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n9\r\nwor")
		}), cfg, h2conn.ServeConfig{})
		resp, err := tr.RoundTrip(upgradeRequest(t))
		if err != nil {
			return // the reset came first
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%q looked complete", b)
		}
	})
}
