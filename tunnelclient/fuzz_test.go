package tunnelclient_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
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

// FuzzServiceStream is a session as a tunnel client sees it, whatever the service
// sends: bytes of HTTP/2, and a control message. The client ends it when the service
// does, without a panic, and with the target all the time behind it.
func FuzzServiceStream(f *testing.F) {
	request := func(kv ...string) []byte {
		var b strings.Builder
		enc := hpack.NewEncoder(&b)
		for i, kv := 0, append([]string{":method", "POST", ":scheme", "http", ":path", "/", ":authority", "h"}, kv...); i < len(kv); i += 2 {
			enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
		}
		return []byte(b.String())
	}
	frames := func(write func(fr *http2.Framer)) []byte {
		var b strings.Builder
		b.WriteString(http2.ClientPreface)
		fr := http2.NewFramer(&b, nil)
		fr.AllowIllegalWrites = true
		fr.WriteSettings()
		write(fr)
		return []byte(b.String())
	}
	for _, c := range []struct {
		sent    []byte
		control string
	}{
		{frames(func(fr *http2.Framer) {
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: request(), EndStream: true, EndHeaders: true})
		}), ""},
		{frames(func(fr *http2.Framer) {
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: request("trailer", "x", "content-length", "4", "x-websocktunnel-expect", "100-continue"), EndHeaders: true})
			fr.WriteDataPadded(1, false, []byte("body"), make([]byte, 3))
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0, 1, 'x', 1, 'y'}, EndStream: true, EndHeaders: true})
			fr.WriteRSTStream(1, http2.ErrCodeCancel)
			fr.WritePing(false, [8]byte{1})
		}), `{"type":"goaway","reason":"draining","reconnect_after_ms":1}`},
		{frames(func(fr *http2.Framer) {
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: request("x-websocktunnel-upgrade", "tcp", "x-websocktunnel-upgrade-body", "chunked", "x-websocktunnel-upgrade-id", "1"), EndHeaders: true})
			fr.WriteData(1, false, []byte("3\r\nabc\r\n0\r\n\r\nafter"))
			fr.WriteWindowUpdate(1, 7)
			fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		}), `{"type":"upgrade_end","upgrade":"1","bytes":3}`},
		{frames(func(fr *http2.Framer) {
			b := request(":protocol", "websocket", "sec-websocket-version", "13")
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:5], PadLength: 2, Priority: http2.PriorityParam{Weight: 1}})
			fr.WriteContinuation(1, true, b[5:])
			fr.WriteGoAway(0, 0, []byte("x"))
		}), `{"type":"token","ok":true,"exp":1}`},
		{nil, `{"type":`},
	} {
		f.Add(c.sent, c.control)
	}
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	}))
	f.Cleanup(silent.Close)
	p, err := target.New(silent.URL, target.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(p.CloseIdleConnections)
	sessions := make(chan *h2conn.Conn)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := h2conn.Accept(w, r, h2conn.AcceptOptions{Subprotocol: wire.Subprotocol, Header: http.Header{wire.HeaderClientURL: {testURL}}})
		if err != nil {
			return
		}
		select {
		case sessions <- conn:
		case <-time.After(time.Minute): // its client has gone
			conn.Close()
		}
	}))
	f.Cleanup(service.Close)
	f.Fuzz(func(t *testing.T, sent []byte, control string) {
		client, err := tunnelclient.New(tunnelclient.Config{ServerURL: service.URL, ID: testID, Tokens: tunnelclient.StaticToken("t"), DrainTimeout: -1})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var serving sync.WaitGroup
		serving.Go(func() {
			if err := client.Serve(ctx, p); err != nil {
				t.Errorf("the client has given up: %v", err)
			}
		})
		defer serving.Wait()
		defer stop()
		conn := <-sessions
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		serving.Go(func() {
			conn.Write(sent)
			if control != "" {
				conn.SendControl([]byte(control))
			}
			conn.Close()
		})
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the client keeps a session that has ended")
		}
	})
}
