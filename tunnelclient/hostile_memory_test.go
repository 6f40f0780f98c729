package tunnelclient_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/target"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// hoarder is a service's end of a session that wants the client to hold much. It
// opens no windows for answers.
type hoarder struct {
	conn *h2conn.Conn
	fr   *http2.Framer
	enc  *hpack.Encoder
	buf  bytes.Buffer
	next uint32 // stream
}

// ask begins a request with these fields, which go into no table, and returns its
// stream. many are fields that are repeated by reference.
func (h *hoarder) ask(end bool, times int, many hpack.HeaderField, fields ...hpack.HeaderField) uint32 {
	h.buf.Reset()
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/"}, {Name: ":authority", Value: "h"}} {
		h.enc.WriteField(f)
	}
	for _, f := range fields {
		f.Sensitive = true
		h.enc.WriteField(f)
	}
	for range times {
		h.enc.WriteField(many)
	}
	stream := h.next
	h.next += 2
	h.block(stream, end)
	return stream
}

// requests begins n that are equal, and yields their streams. The second refers to a
// field of the first, so that all later ones have the same bytes as it, which need not be
// made again.
func (h *hoarder) requests(n, times int, many hpack.HeaderField, fields ...hpack.HeaderField) iter.Seq[uint32] {
	return func(yield func(stream uint32) bool) {
		for i := range n {
			stream := h.next
			if i < 2 {
				h.ask(false, times, many, fields...)
			} else {
				h.next += 2
				h.block(stream, false)
			}
			if !yield(stream) {
				return
			}
		}
	}
}

// block sends what has been encoded.
func (h *hoarder) block(stream uint32, end bool) {
	const most = 16 << 10
	b := h.buf.Bytes()
	h.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: b[:min(len(b), most)], EndStream: end, EndHeaders: len(b) <= most})
	for len(b) > most {
		b = b[most:]
		h.fr.WriteContinuation(stream, len(b) <= most, b[:min(len(b), most)])
	}
}

// names returns a list of names, all different, of n bytes.
func names(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%x,", i)
	}
	return b.String()[:b.Len()-1]
}

// TestHostileServiceMemory: a service cannot make a client hold more than some tens
// of MiB, whatever it sends.
func TestHostileServiceMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("moves hundreds of MB")
	}
	const requests, most = 250, uint64(mostHeld)
	var different []hpack.HeaderField
	for i := range 1000 {
		different = append(different, hpack.HeaderField{Name: fmt.Sprintf("x%d", i), Value: strings.Repeat("v", 100)})
	}
	longList, longValue, largeValue := names(180<<10), strings.Repeat("~", 50<<10), strings.Repeat("~", 150<<10)
	small := hpack.HeaderField{Name: "x", Value: "y"}
	for _, tt := range []struct {
		name   string
		attack func(h *hoarder)
		deaf   bool // the handler reads nothing
	}{
		{"small fields by reference", func(h *hoarder) {
			for range h.requests(requests, 190<<10/34, small) {
			}
		}, false},
		{"small fields up to 1 MiB", func(h *hoarder) {
			for range h.requests(requests, 1<<20/34-10, small) {
			}
		}, false},
		{"different names", func(h *hoarder) {
			for range h.requests(requests, 0, small, different...) {
			}
		}, false},
		{"large fields", func(h *hoarder) {
			for range requests {
				h.ask(false, 0, small, hpack.HeaderField{Name: "x", Value: largeValue})
			}
		}, false},
		{"names of trailers", func(h *hoarder) {
			for range requests {
				h.ask(false, 0, small, hpack.HeaderField{Name: "trailer", Value: longList})
			}
		}, false},
		{"names of trailers and a list over the limit", func(h *hoarder) {
			for range h.requests(requests, 1000, small, hpack.HeaderField{Name: "trailer", Value: longList}) {
			}
		}, false},
		{"trailers", func(h *hoarder) {
			for range requests {
				stream := h.ask(false, 0, small, hpack.HeaderField{Name: "trailer", Value: "x"})
				h.buf.Reset()
				for range 190 << 10 / 34 {
					h.enc.WriteField(small)
				}
				h.block(stream, true)
			}
		}, false},
		{"bodies", func(h *hoarder) {
			for range requests {
				stream := h.ask(false, 0, small)
				for range 64 {
					h.fr.WriteData(stream, false, make([]byte, 16<<10-1))
				}
			}
		}, true},
		{"bodies byte by byte", func(h *hoarder) {
			for range requests {
				stream := h.ask(false, 0, small)
				for range 1000 {
					h.fr.WriteData(stream, false, []byte("x"))
				}
			}
		}, true},
		{"requests that are reset", func(h *hoarder) {
			for stream := range h.requests(20*requests, 1000, small, hpack.HeaderField{Name: "x", Value: longValue}) {
				h.fr.WriteRSTStream(stream, http2.ErrCodeCancel)
			}
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// One at a time: what they hold is measured.
			over := make(chan struct{})
			silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
			defer silent.Close()
			defer close(over)
			p, err := target.New(silent.URL, target.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer p.CloseIdleConnections()
			attacked := make(chan *hoarder, 100)
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				conn, err := h2conn.Accept(w, r, h2conn.AcceptOptions{Subprotocol: wire.Subprotocol, Header: http.Header{wire.HeaderClientURL: {testURL}}})
				if err != nil {
					return
				}
				h := &hoarder{conn: conn, fr: http2.NewFramer(conn, conn), next: 1}
				h.enc = hpack.NewEncoder(&h.buf)
				h.fr.AllowIllegalWrites = true
				attacked <- h
			}))
			defer service.Close()
			client, err := tunnelclient.New(tunnelclient.Config{ServerURL: service.URL, ID: testID, Tokens: tunnelclient.StaticToken("t"), DrainTimeout: -1})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			var running sync.WaitGroup
			defer running.Wait()
			defer stop()
			var handler http.Handler = p
			if tt.deaf {
				handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			}
			running.Go(func() { client.Serve(ctx, handler) })

			h := <-attacked
			defer h.conn.Close()
			before := held()
			read := make(chan struct{}) // closed when the client has read all, or has hung up
			running.Go(func() {
				defer close(read)
				for {
					f, err := h.fr.ReadFrame()
					if ping, ok := f.(*http2.PingFrame); err != nil || ok && ping.IsAck() {
						return
					}
				}
			})
			running.Go(func() {
				io.WriteString(h.conn, http2.ClientPreface)
				h.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
				tt.attack(h)
				h.fr.WritePing(false, [8]byte{})
			})
			var peak uint64
			for done := false; !done; peak = max(peak, held()) {
				select {
				case <-read:
					done = true
				case <-time.After(50 * time.Millisecond):
				}
			}
			t.Logf("the client holds %d MiB", (max(peak, before)-before)>>20)
			if peak > before+most {
				t.Errorf("the client holds more than %d MiB", most>>20)
			}
		})
	}
}

// held returns how much memory is in use. What has become garbage since the collection
// began does not count.
func held() uint64 {
	runtime.GC()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(live)
	return live[0].Value.Uint64() + live[1].Value.Uint64()
}
