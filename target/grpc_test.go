package target_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/target"
)

// resettingTarget is an HTTP/2 server that resets every request.
func resettingTarget(t *testing.T, code http2.ErrCode) (url string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fr := http2.NewFramer(c, c)
				io.ReadFull(c, make([]byte, len(http2.ClientPreface)))
				fr.WriteSettings()
				for {
					f, err := fr.ReadFrame()
					if err != nil {
						return
					}
					switch f := f.(type) {
					case *http2.SettingsFrame:
						if !f.IsAck() {
							fr.WriteSettingsAck()
						}
					case *http2.HeadersFrame:
						fr.WriteRSTStream(f.StreamID, code)
					}
				}
			}()
		}
	}()
	return "h2c://" + ln.Addr().String()
}

// TestProxyCancelledGRPC: a gRPC server resets a stream at its deadline. What a
// gRPC client makes of that reset is what it gets through the tunnel.
func TestProxyCancelledGRPC(t *testing.T) {
	for _, tc := range []struct {
		name         string
		code         http2.ErrCode
		header       http.Header
		status       int
		grpc, answer string
	}{
		{"at the deadline", http2.ErrCodeCancel, http.Header{"Content-Type": {"application/grpc"}, "Grpc-Timeout": {"1m"}}, 200, "4", "application/grpc"},
		{"without one", http2.ErrCodeCancel, http.Header{"Content-Type": {"application/grpc+proto"}}, 200, "1", "application/grpc"},
		{"another code", http2.ErrCodeInternal, http.Header{"Content-Type": {"application/grpc"}, "Grpc-Timeout": {"1m"}}, 502, "", "text/plain; charset=utf-8"},
		{"not gRPC", http2.ErrCodeCancel, http.Header{"Grpc-Timeout": {"1m"}}, 502, "", "text/plain; charset=utf-8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := target.New(resettingTarget(t, tc.code), target.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer p.CloseIdleConnections()
			r := httptest.NewRequest(http.MethodPost, "/a.B/C", strings.NewReader("x"))
			r.Header = tc.header
			w := httptest.NewRecorder()
			p.ServeHTTP(w, r)
			if w.Code != tc.status || w.Header().Get("Grpc-Status") != tc.grpc || w.Header().Get("Content-Type") != tc.answer {
				t.Errorf("got %d, %v", w.Code, w.Header())
			}
		})
	}
}
