package h2conn_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// hostileAsker is an asking end that keeps to no limit.
type hostileAsker struct {
	fr  *http2.Framer
	enc *hpack.Encoder
	buf bytes.Buffer
}

// block is the header block of a request with more behind it.
func (a *hostileAsker) block(more ...hpack.HeaderField) []byte {
	a.buf.Reset()
	for _, f := range append([]hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/"}, {Name: ":authority", Value: "h"}}, more...) {
		a.enc.WriteField(f)
	}
	return bytes.Clone(a.buf.Bytes())
}

// ask sends a request.
func (a *hostileAsker) ask(stream uint32, end bool, block []byte) {
	a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true, EndStream: end})
}

// TestServeBounds: what an asking end can have the answering end do and keep is
// bounded, whatever it sends: requests at a time, the header of one, and bytes
// that no handler has read.
func TestServeBounds(t *testing.T) {
	const streams, header, window = 20, 8 << 10, 128 << 10
	large := hpack.HeaderField{Name: "x", Value: strings.Repeat("~", 4000)}
	secret := hpack.HeaderField{Name: "x", Value: large.Value, Sensitive: true} // goes into no table
	for name, tc := range map[string]struct {
		send   func(a *hostileAsker)
		status string // of the answer to stream 1; empty: none
		most   int    // requests that the handler sees at a time
		reset  bool   // stream 1 is
		ends   bool   // the connection does
	}{
		"as it should be": {send: func(a *hostileAsker) { a.ask(1, true, a.block(large)) }, status: "200", most: 1},
		"requests over the limit": {send: func(a *hostileAsker) {
			for i := range uint32(5 * streams) {
				a.ask(2*i+3, false, a.block())
			}
		}, most: streams},
		"a header list over the limit": {send: func(a *hostileAsker) {
			a.ask(1, true, a.block(secret, secret, secret))
		}, status: "431"},
		"an HPACK bomb": {send: func(a *hostileAsker) {
			a.ask(1, true, append(a.block(large), bytes.Repeat([]byte{0xbe}, 8<<10)...)) // 32 MB
		}, status: "431"},
		"a header without an end": {send: func(a *hostileAsker) {
			a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.block()})
			for range 1000 {
				a.buf.Reset()
				a.enc.WriteField(secret)
				if a.fr.WriteContinuation(1, false, a.buf.Bytes()) != nil {
					return
				}
			}
		}, ends: true},
		"more than the window": {send: func(a *hostileAsker) {
			a.ask(1, false, a.block())
			for range 2 * window / (16 << 10) {
				if a.fr.WriteData(1, false, make([]byte, 16<<10)) != nil {
					return
				}
			}
		}, most: 1, reset: true},
	} {
		t.Run(name, func(t *testing.T) {
			dialled, accepted := conns(t)
			var mu sync.Mutex
			busy, most := 0, 0
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() {
				served <- h2conn.Serve(ctx, dialled, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					mu.Lock()
					busy++
					most = max(most, busy)
					mu.Unlock()
					if r.ContentLength != 0 { // its body has not ended: read none of it
						<-r.Context().Done()
					}
					mu.Lock()
					busy--
					mu.Unlock()
				}), h2conn.ServeConfig{
					Config:               h2conn.Config{MaxHeaderBytes: header, StreamWindow: window, ConnWindow: window},
					MaxConcurrentStreams: streams,
				})
			}()
			defer func() {
				cancel()
				accepted.Close()
				<-served
			}()
			a := &hostileAsker{fr: http2.NewFramer(accepted, accepted)}
			a.enc = hpack.NewEncoder(&a.buf)
			a.fr.AllowIllegalWrites = true
			a.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
			io.WriteString(accepted, http2.ClientPreface)
			a.fr.WriteSettings()
			var writing sync.WaitGroup
			defer writing.Wait()
			defer accepted.Close()
			writing.Go(func() {
				tc.send(a)
				a.fr.WritePing(false, [8]byte{7}) // answered when all before it has been read
			})

			status, reset, pinged := "", false, false
			for !pinged || tc.status != "" && status == "" {
				f, err := a.fr.ReadFrame()
				if err != nil {
					var se http2.StreamError
					if errors.As(err, &se) {
						continue
					}
					if !tc.ends {
						t.Errorf("the connection has ended: %v", err)
					}
					break
				}
				switch f := f.(type) {
				case *http2.MetaHeadersFrame:
					if f.StreamID == 1 {
						status = f.PseudoValue("status")
					}
				case *http2.RSTStreamFrame:
					reset = reset || f.StreamID == 1
				case *http2.PingFrame:
					pinged = pinged || f.IsAck()
				}
			}
			if status != tc.status || reset != tc.reset || pinged == tc.ends {
				t.Errorf("the answer is %q, reset: %v, the connection goes on: %v", status, reset, pinged)
			}
			seen := func() int {
				mu.Lock()
				defer mu.Unlock()
				return most
			}
			for end := time.Now().Add(5 * time.Second); seen() < tc.most && time.Now().Before(end); <-time.After(time.Millisecond) {
			}
			if n := seen(); n != tc.most {
				t.Errorf("the handler has seen %d requests at a time, want %d", n, tc.most)
			}
		})
	}
}
