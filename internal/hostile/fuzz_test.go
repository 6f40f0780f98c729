package hostile

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// Whole exchanges, with bytes of the fuzzer's in the place of one party. Whatever
// they are, the others go on: there is no panic, no data race where the detector is
// on, and the neighbour is served on the session that it had.

// fuzzPatience bounds what the fuzzed party waits for.
const fuzzPatience = 5 * time.Second

// fuzzService is a service for all inputs of one process.
func fuzzService(f *testing.F) *service {
	s := newService(f, server.Config{StallTimeout: time.Second, DrainTimeout: time.Second, ResponseHeaderTimeout: 2 * time.Second})
	f.Cleanup(s.end)
	return s
}

// served fails t unless the neighbour is served as before.
func (s *service) served(t *testing.T, since time.Time) {
	t.Helper()
	if err := s.neighbour(); err != nil {
		t.Fatalf("the neighbour got %v", err)
	}
	if info, ok := s.Tunnel(neighbourID); !ok || !info.ConnectedAt.Equal(since) {
		t.Fatal("the neighbour's session is another one")
	}
	if s.log.Contains("panic") {
		t.Fatalf("the service has panicked:\n%s", s.log)
	}
}

// since is when the neighbour's session began.
func (s *service) since() time.Time {
	info, _ := s.Tunnel(neighbourID)
	return info.ConnectedAt
}

// requestBlock is the header block of a request.
func requestBlock(method, path string, more ...string) []byte {
	var b strings.Builder
	enc := hpack.NewEncoder(&b)
	kv := append([]string{":method", method, ":scheme", "http", ":path", path, ":authority", "h"}, more...)
	for i := 0; i < len(kv); i += 2 {
		enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	return []byte(b.String())
}

// FuzzViewerStream is a viewer's connection, whatever is sent on it.
func FuzzViewerStream(f *testing.F) {
	for _, s := range []string{
		"GET /neighbour/ HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST /neighbour/x?y HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\nExpect: 100-continue\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
		"POST /neighbour/ HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.0\r\n\r\n",
		"GET /neighbour/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x80\x00\x00\x00\x00",
		"GET / HTTP/1.1\r\nHost: h\r\nx-websocktunnel-id: a\r\nAuthorization: Bearer a.b.c\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", "GET http://h/neighbour/ HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x00",
	} {
		f.Add([]byte(s))
	}
	settings := frames(func(w *http2.Framer) { w.WriteSettings() })
	for _, b := range [][]byte{
		frames(func(w *http2.Framer) {
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: requestBlock("GET", "/neighbour/"), EndStream: true, EndHeaders: true})
		}),
		frames(func(w *http2.Framer) {
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: requestBlock("POST", "/neighbour/", "trailer", "x", "content-length", "3"), EndHeaders: true})
			w.WriteData(1, false, []byte("abc"))
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0, 1, 'x', 1, 'y'}, EndStream: true, EndHeaders: true})
			w.WritePing(false, [8]byte{})
			w.WriteRSTStream(1, http2.ErrCodeCancel)
		}),
		frames(func(w *http2.Framer) {
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: requestBlock("CONNECT", "/neighbour/", ":protocol", "websocket")[:10]})
			w.WriteContinuation(1, true, requestBlock("CONNECT", "/neighbour/", ":protocol", "websocket")[10:])
			w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			w.WriteWindowUpdate(1, 7)
			w.WriteGoAway(0, 0, nil)
		}),
	} {
		f.Add(append(append([]byte(http2.ClientPreface), settings...), b...))
	}
	s := fuzzService(f)
	since := s.since()
	f.Fuzz(func(t *testing.T, sent []byte) {
		c, err := net.Dial("tcp", s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(fuzzPatience))
		c.Write(sent)
		c.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the service keeps a connection that its viewer has ended")
		}
		s.served(t, since)
	})
}

// FuzzTunnelClientStream is the session of a tunnel client with a viewer's request
// on stream 1: what it sends in websocket messages, or as they are.
func FuzzTunnelClientStream(f *testing.F) {
	answer := func(status string, more ...string) []byte {
		var b strings.Builder
		enc := hpack.NewEncoder(&b)
		for i, kv := 0, append([]string{":status", status}, more...); i < len(kv); i += 2 {
			enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
		}
		return []byte(b.String())
	}
	for _, b := range [][]byte{
		frames(func(w *http2.Framer) {
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: answer("200", "content-length", "5"), EndHeaders: true})
			w.WriteData(1, true, []byte("hello"))
		}),
		frames(func(w *http2.Framer) {
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: answer("103", "link", "</x>"), EndHeaders: true})
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: answer("200", "trailer", "x"), EndHeaders: true})
			w.WriteDataPadded(1, false, []byte("hello"), make([]byte, 9))
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0, 1, 'x', 1, 'y'}, EndStream: true, EndHeaders: true})
		}),
		frames(func(w *http2.Framer) {
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: answer("502", "x-websocktunnel-error", "dns_error"), EndStream: true, EndHeaders: true})
			w.WritePing(false, [8]byte{1})
			w.WriteWindowUpdate(0, 5)
			w.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
			w.WriteRSTStream(1, http2.ErrCodeRefusedStream)
			w.WriteGoAway(1, 0, []byte("bye"))
		}),
		frames(func(w *http2.Framer) { w.WriteRSTStream(1, http2.ErrCodeProtocol) }),
	} {
		f.Add(b, true)
		f.Add(wsFrame(final|opBinary, b), false)
	}
	for _, text := range []string{`{"type":"goaway"}`, `{"type":"token","token":"x"}`, `{"type":"upgrade_end","upgrade":"1","bytes":1}`} {
		f.Add(wsFrame(final|opText, []byte(text)), false)
	}
	f.Add(wsFrame(final|opClose, []byte{3, 232}), false)
	s := fuzzService(f)
	since := s.since()
	token := tunneltest.Token(f, attackerID)
	f.Fuzz(func(t *testing.T, sent []byte, messages bool) {
		c, err := dial(s.Addr, attackerID, token)
		if err != nil {
			return // too many registrations within a second
		}
		defer c.close()
		c.begin(attack{})
		if !tunneltest.Poll(fuzzPatience, func() bool { _, ok := s.Tunnel(attackerID); return ok }) {
			t.Fatal("the session is not published")
		}
		asked := make(chan outcome)
		go func() { asked <- s.ask(http.MethodPost, "/"+attackerID+"/", strings.NewReader("body")) }()
		select {
		case <-c.requests:
		case <-time.After(fuzzPatience):
		}
		if messages {
			c.raw(sent)
		} else {
			c.wire(sent)
		}
		c.nc.(*net.TCPConn).CloseWrite()
		select {
		case <-c.closed:
		case <-time.After(fuzzPatience):
			t.Error("the session does not end with its connection")
		}
		select {
		case <-asked:
		case <-time.After(fuzzPatience):
			t.Error("the viewer has no answer")
			c.nc.Close()
			<-asked
		}
		s.served(t, since)
	})
}

// FuzzTargetStream is the connection of a target, whatever it answers.
func FuzzTargetStream(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.0 404 No\r\nSet-Cookie: a=b; Path=/\r\nLocation: http://127.0.0.1/x\r\n\r\nbody",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 9\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n\x81\x00",
		"HTTP/1.1 401 Who\r\nWWW-Authenticate: Basic realm=\"x\"\r\nConnection: close, X\r\n\r\n", "", "\x15\x03\x01", "HTTP/1.1 200\r\n", "\x00\x00\x00\x04\x00\x00\x00\x00\x00",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	s := fuzzService(f)
	since := s.since()
	answers := make(chan []byte, 1)
	ln := tunneltest.ServeConns(f, func(c net.Conn) {
		select {
		case b := <-answers:
			c.SetDeadline(time.Now().Add(fuzzPatience))
			c.Read(make([]byte, 64<<10))
			c.Write(b)
			c.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c)
		default: // a second try
		}
		c.Close()
	})
	s.Proxy("target", ln.Addr().String(), tunnelclient.ProxyOptions{RewriteRedirects: true})
	f.Fuzz(func(t *testing.T, answer []byte, upgrade bool) {
		answers <- bytes.Clone(answer) // the fuzzer changes it when this returns
		var header []string
		if upgrade {
			header = []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}
		}
		if o := s.ask(http.MethodGet, "/target/", nil, header...); o.status == 0 && !strings.Contains(o.err.Error(), "malformed") && !errors.Is(o.err, io.EOF) && !errors.Is(o.err, io.ErrUnexpectedEOF) {
			t.Errorf("the viewer has no answer: %v", o.err)
		}
		select {
		case <-answers: // nobody came
		default:
		}
		s.served(t, since)
	})
}
