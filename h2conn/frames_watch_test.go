package h2conn_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// watched serves h over HTTP/2 and HTTP/1, in cleartext, on watched connections.
func watched(t *testing.T, cfg h2conn.WatchConfig, h http.HandlerFunc) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hs := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	hs.Protocols.SetHTTP1(true)
	hs.Protocols.SetUnencryptedHTTP2(true)
	if err := http2.ConfigureServer(hs, &http2.Server{}); err != nil {
		t.Fatal(err)
	}
	go hs.Serve(watchListener{ln, cfg})
	t.Cleanup(func() { hs.Close() })
	return ln.Addr().String()
}

type watchListener struct {
	net.Listener
	cfg h2conn.WatchConfig
}

func (l watchListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return h2conn.Watch(c, l.cfg), nil
}

func dialRaw(t *testing.T, addr string) (net.Conn, *http2.Framer) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	io.WriteString(c, http2.ClientPreface)
	fr := http2.NewFramer(c, c)
	fr.WriteSettings()
	return c, fr
}

// TestWatchPassesHTTP1: what speaks HTTP/1 is left alone, however it arrives.
func TestWatchPassesHTTP1(t *testing.T) {
	addr := watched(t, h2conn.WatchConfig{HeaderTimeout: time.Second}, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	})
	for name, request := range map[string]string{
		"a request":              "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\nConnection: close\r\n\r\n" + strings.Repeat("body", 75),
		"begins like a preface":  "PRI / HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\nConnection: close\r\n\r\n" + strings.Repeat("body", 75),
		"shorter than a preface": "GET / HTTP/1.0\r\n\r\n",
	} {
		for _, piece := range []int{1, 7, 24, 4096} {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			for b := []byte(request); len(b) > 0; b = b[min(piece, len(b)):] {
				c.Write(b[:min(piece, len(b))])
			}
			answer, err := io.ReadAll(c)
			c.Close()
			if want := request[strings.Index(request, "\r\n\r\n")+4:]; err != nil || !strings.HasSuffix(string(answer), "\r\n\r\n"+want) || !strings.Contains(string(answer), " 200 OK") {
				t.Errorf("%s in pieces of %d: %q, %v", name, piece, answer, err)
			}
		}
	}
}

// TestWatchHTTP2: requests work, what is held is told, and is 0 at the end.
func TestWatchHTTP2(t *testing.T) {
	var held, most atomic.Int64
	read := make(chan struct{})
	addr := watched(t, h2conn.WatchConfig{Memory: h2conn.Memory{Held: func(delta int64) {
		if n := held.Add(delta); n > most.Load() {
			most.Store(n)
		}
	}}}, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/unread":
			return
		case "/held":
			<-read
		}
		io.Copy(w, r.Body)
	})
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	post := func(path string, body io.Reader) string {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+path, body)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Error(err)
			return ""
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	const size = 200_000
	go func() {
		for most.Load() < 60_000 && t.Context().Err() == nil {
			select {
			case <-t.Context().Done():
			case <-time.After(time.Millisecond):
			}
		}
		close(read)
	}()
	if got := post("/", iotest.OneByteReader(bytes.NewReader(bytes.Repeat([]byte("x"), 1000)))); len(got) != 1000 {
		t.Errorf("%d bytes came back of 1000", len(got))
	}
	if got := post("/held", bytes.NewReader(bytes.Repeat([]byte("x"), size))); len(got) != size {
		t.Errorf("%d bytes came back of %d", len(got), size)
	}
	post("/unread", bytes.NewReader(make([]byte, 50_000)))
	deadline := time.Now().Add(10 * time.Second)
	for held.Load() > 4096 && time.Now().Before(deadline) { // x/net gives back 4 KiB at a time
		<-time.After(time.Millisecond)
	}
	if n := held.Load(); n > 4096 {
		t.Errorf("%d bytes are held when all has been read", n)
	}
}

// TestWatchCutsFloods: frames that carry nothing end the connection.
func TestWatchCutsFloods(t *testing.T) {
	addr := watched(t, h2conn.WatchConfig{}, func(w http.ResponseWriter, r *http.Request) {})
	for name, send := range map[string]func(fr *http2.Framer) error{
		"SETTINGS": func(fr *http2.Framer) error { return fr.WriteSettings() },
		"WINDOW_UPDATE": func(fr *http2.Framer) error {
			return fr.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, []byte{0, 0, 0, 1})
		},
		"PRIORITY":          func(fr *http2.Framer) error { return fr.WritePriority(1, http2.PriorityParam{Weight: 1}) },
		"unknown":           func(fr *http2.Framer) error { return fr.WriteRawFrame(0x42, 0, 0, nil) },
		"PING acks":         func(fr *http2.Framer) error { return fr.WritePing(true, [8]byte{}) },
		"late DATA":         func(fr *http2.Framer) error { return fr.WriteData(1, false, []byte("x")) },
		"empty DATA frames": func(fr *http2.Framer) error { return fr.WriteData(1, false, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, fr := dialRaw(t, addr)
			if strings.Contains(name, "DATA") {
				var block bytes.Buffer
				enc := hpack.NewEncoder(&block)
				for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/"}} {
					enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
				}
				fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: name == "late DATA"})
			}
			go io.Copy(io.Discard, c)
			for n := range 2_000_000 {
				if err := send(fr); err != nil {
					t.Logf("cut after %d frames", n)
					return
				}
			}
			t.Error("two million frames were taken")
		})
	}
}

// TestWatchTimesHeaders: a header block that does not end, ends its connection.
func TestWatchTimesHeaders(t *testing.T) {
	addr := watched(t, h2conn.WatchConfig{HeaderTimeout: 50 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // a body takes as long as it likes
	})
	half := binary.BigEndian.AppendUint32(nil, 100<<8|uint32(http2.FrameHeaders))
	half = append(half, 0, 0, 0, 0, 3, 'x')
	for name, frames := range map[string]func(fr *http2.Framer, c net.Conn){
		"without END_HEADERS": func(fr *http2.Framer, _ net.Conn) {
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
		},
		"half a frame": func(_ *http2.Framer, c net.Conn) { c.Write(half) },
	} {
		t.Run(name, func(t *testing.T) {
			c, fr := dialRaw(t, addr)
			frames(fr, c)
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("it is still there after 10 s")
			}
		})
	}
}

// TestWatchTLS: over TLS the request has its TLS state, and the peer's limit of
// header lists is known.
func TestWatchTLS(t *testing.T) {
	if !h2conn.ExtendedConnect {
		t.Skip("net/http of this build serves HTTP/2 over TLS itself: needs the tag http2legacy")
	}
	limits := make(chan int64, 1)
	ts := httptest.NewUnstartedServer(nil)
	var conn atomic.Pointer[h2conn.WatchedTLSConn]
	s2 := &http2.Server{}
	ts.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limits <- conn.Load().HeaderListLimit()
		if r.TLS == nil || r.ProtoMajor != 2 {
			t.Errorf("TLS state %v over %s", r.TLS, r.Proto)
		}
	})
	if err := http2.ConfigureServer(ts.Config, s2); err != nil {
		t.Fatal(err)
	}
	ts.Config.TLSNextProto["h2"] = func(hs *http.Server, c *tls.Conn, h http.Handler) {
		w := h2conn.WatchTLS(c, h2conn.WatchConfig{})
		conn.Store(w)
		s2.ServeConn(w, &http2.ServeConnOpts{Context: context.Background(), BaseConfig: hs, Handler: h})
	}
	ts.EnableHTTP2 = true
	ts.StartTLS()
	defer ts.Close()
	tr := ts.Client().Transport.(*http.Transport)
	tr.MaxResponseHeaderBytes = 12345
	resp, err := ts.Client().Get(ts.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if n := <-limits; n < 12345 || n > 13000 {
		t.Errorf("the limit of header lists is %d", n)
	}
}
