package target

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestNoPings: gRPC servers end the connection of a client that pings more often
// than every five minutes, or without a stream. A stream that is quiet for an hour
// got that after 60 s.
func TestNoPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := New("h2c://app", Options{})
		if err != nil {
			t.Fatal(err)
		}
		near, far := net.Pipe()
		p.http2.dial = func(context.Context) (net.Conn, error) { return near, nil }
		defer p.CloseIdleConnections()
		defer far.Close()
		pings := make(chan time.Duration, 1000)
		begun := time.Now()
		fr := http2.NewFramer(far, far)
		writes := make(chan func(), 10) // a pipe holds no bytes, and both ends write at first
		defer close(writes)
		go func() {
			for write := range writes {
				write()
			}
		}()
		go func() {
			io.ReadFull(far, make([]byte, len(http2.ClientPreface)))
			writes <- func() { fr.WriteSettings() }
			for {
				f, err := fr.ReadFrame()
				if err != nil {
					return
				}
				switch f := f.(type) {
				case *http2.PingFrame:
					pings <- time.Since(begun)
					data := f.Data
					writes <- func() { fr.WritePing(true, data) }
				case *http2.HeadersFrame:
					var block bytes.Buffer
					hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
					stream := f.StreamID
					writes <- func() {
						fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true})
					}
					time.AfterFunc(time.Hour, func() { writes <- func() { fr.WriteData(stream, true, []byte("at last")) } })
				}
			}
		}()
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if took := time.Since(begun); w.Body.String() != "at last" || took != time.Hour {
			t.Errorf("%d %q after %v", w.Code, w.Body, took)
		}
		if len(pings) > 0 {
			t.Errorf("%d pings, the first after %v", len(pings), <-pings)
		}
	})
}
