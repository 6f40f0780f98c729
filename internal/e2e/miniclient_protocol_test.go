package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"testing"
	"time"

	coder "github.com/coder/websocket"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
)

// mini registers a mini client, which is broken off when the test ends.
func startMini(t testing.TB, s *tunneltest.Service, id string, handler func(*miniStream)) *miniClient {
	t.Helper()
	c, err := miniRegister(s.URL, id, tunneltest.Token(t, id), handler)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func await[T any](t testing.TB, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
	}
	return v
}

func request(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func roundTrip(t testing.TB, v *http.Client, req *http.Request) *http.Response {
	t.Helper()
	resp, err := v.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func hello(st *miniStream) { st.answer("200", "hello") }

func TestMiniRegistration(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	c := startMini(t, s, "a%2fb", hello)
	if want := s.URL + "/a%2fb"; c.URL != want {
		t.Errorf("client URL %q, want %q", c.URL, want)
	}
	if got := tunneltest.ReadAll(t, roundTrip(t, tunneltest.NewViewer(t), request(t, "GET", c.URL, nil))); got != "hello" {
		t.Errorf("answer %q", got)
	}
	for info := range s.Tunnels() {
		if info.ExtendedConnect {
			t.Error("extended CONNECT without the setting")
		}
	}

	for _, tt := range []struct {
		id, token string
		want      int
	}{
		{"%2e.", "x", http.StatusBadRequest},
		{"__version__", "x", http.StatusBadRequest},
		{"other", tunneltest.Token(t, "a%2Fb"), http.StatusUnauthorized},
		{"other", "x", http.StatusUnauthorized},
	} {
		c, err := miniRegister(s.URL, tt.id, tt.token, hello)
		var refused miniRefused
		if !errors.As(err, &refused) || refused.StatusCode != tt.want {
			t.Errorf("registering %q: %v, want %d", tt.id, err, tt.want)
		}
		if c != nil {
			c.Close()
		}
	}
}

func TestMiniRequest(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	got := make(chan *miniStream, 1)
	c := startMini(t, s, "mini", func(st *miniStream) {
		got <- st
		hello(st)
	})
	v := tunneltest.NewViewer(t)

	req := request(t, "GET", c.URL+"//x%2Fy;z/?q=%zz", nil)
	req.Header.Set("X-Viewer", "here")
	resp := roundTrip(t, v, req)
	if body := tunneltest.ReadAll(t, resp); resp.StatusCode != 200 || body != "hello" || resp.ContentLength != 5 {
		t.Errorf("status %s, body %q, length %d", resp.Status, body, resp.ContentLength)
	}
	st := await(t, got)
	if st.method != "GET" || st.path != "//x%2Fy;z/?q=%zz" || st.authority != s.Addr {
		t.Errorf("stream is %s %s %s", st.method, st.authority, st.path)
	}
	for name, want := range map[string]string{
		"X-Viewer":                      "here",
		"X-Forwarded-For":               "127.0.0.1",
		"X-Forwarded-Host":              s.Addr,
		"X-Forwarded-Proto":             "http",
		"X-Forwarded-Prefix":            "/mini",
		"X-Websocktunnel-Original-Path": "/mini//x%2Fy;z/",
	} {
		if v := st.header[name]; len(v) != 1 || v[0] != want {
			t.Errorf("%s is %q, want %q", name, v, want)
		}
	}

	if resp := roundTrip(t, v, request(t, "GET", c.URL+"?x=1", nil)); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	if st := await(t, got); st.path != "/?x=1" {
		t.Errorf("path %q", st.path)
	}
}

func TestMiniHead(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	c := startMini(t, s, "mini", func(st *miniStream) {
		st.headers(true, ":status", "200", "content-length", "1234567", "etag", `"`+st.method+`"`)
	})
	resp := roundTrip(t, tunneltest.NewViewer(t), request(t, "HEAD", c.URL, nil))
	if resp.ContentLength != 1234567 || resp.Header.Get("ETag") != `"HEAD"` || tunneltest.ReadAll(t, resp) != "" {
		t.Errorf("%s, %v", resp.Status, resp.Header)
	}
}

// A body many windows large goes up and comes back on the same stream, of known
// length and of unknown.
func TestMiniPost(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	c := startMini(t, s, "mini", func(st *miniStream) {
		st.headers(false, ":status", "200", "x-length", st.header.Get("Content-Length"))
		if _, err := io.Copy(st, st); err == nil {
			st.closeWrite()
		}
	})
	v, body := tunneltest.NewViewer(t), randomBytes(20*miniStreamWindow+1)
	for _, length := range []int{len(body), -1} {
		req := request(t, "POST", c.URL, bytes.NewReader(body))
		want := strconv.Itoa(length)
		if length < 0 {
			req.ContentLength, want = -1, ""
		}
		resp := roundTrip(t, v, req)
		if got := tunneltest.ReadAll(t, resp); got != string(body) {
			t.Errorf("%d bytes came back, or others than %d sent", len(got), len(body))
		}
		if got := resp.Header.Get("X-Length"); got != want {
			t.Errorf("content-length %q, want %q", got, want)
		}
	}
}

// More headers than fit into one frame, in both directions.
func TestMiniContinuation(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	c := startMini(t, s, "mini", func(st *miniStream) {
		v := st.header.Get("X-Large")
		st.headers(false, ":status", "200", "x-1", v, "x-2", v, "x-3", v, "x-4", v)
		st.closeWrite()
	})
	req := request(t, "GET", c.URL, nil)
	large := base64.StdEncoding.EncodeToString(randomBytes(32 << 10)) // 6 bits remain of each byte
	req.Header.Set("X-Large", large)
	resp := roundTrip(t, tunneltest.NewViewer(t), req)
	for _, name := range []string{"X-1", "X-2", "X-3", "X-4"} {
		if resp.Header.Get(name) != large {
			t.Errorf("%s: %s has %d bytes", resp.Status, name, len(resp.Header.Get(name)))
		}
	}
}

// An answer whose viewer does not read stops at its window, others pass it, and
// it goes on when the viewer reads.
func TestMiniStreaming(t *testing.T) {
	const size = 32 << 20
	s := tunneltest.NewService(t, server.Config{})
	c := startMini(t, s, "mini", func(st *miniStream) {
		if st.path != "/large" {
			hello(st)
			return
		}
		st.headers(false, ":status", "200")
		piece := make([]byte, 1<<16)
		for n := 0; n < size; n += len(piece) {
			for i := range piece {
				piece[i] = byte((n + i) % 251)
			}
			if _, err := st.Write(piece); err != nil {
				return
			}
		}
		st.closeWrite()
	})
	v := tunneltest.NewViewer(t)
	resp := roundTrip(t, v, request(t, "GET", c.URL+"/large", nil))
	await(t, c.Stalled)
	for range 3 {
		if got := tunneltest.ReadAll(t, roundTrip(t, v, request(t, "GET", c.URL, nil))); got != "hello" {
			t.Errorf("answer %q", got)
		}
	}
	piece := make([]byte, 1<<16)
	for n := 0; n < size; n += len(piece) {
		if _, err := io.ReadFull(resp.Body, piece); err != nil {
			t.Fatal(err)
		}
		for i := range piece {
			if piece[i] != byte((n+i)%251) {
				t.Fatalf("wrong byte at %d", n+i)
			}
		}
	}
	if n, err := resp.Body.Read(piece); n != 0 || err != io.EOF {
		t.Errorf("after the last byte: %d, %v", n, err)
	}
}

// An upload that nobody reads stops at its window, and others pass it.
func TestMiniStalledUpload(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	read := make(chan struct{})
	c := startMini(t, s, "mini", func(st *miniStream) {
		st.headers(false, ":status", "200")
		if st.path == "/stalled" {
			select {
			case <-read:
			case <-st.gone:
			}
		}
		if n, err := io.Copy(io.Discard, st); err == nil {
			fmt.Fprint(st, n)
			st.closeWrite()
		}
	})
	v, body := tunneltest.NewViewer(t), make([]byte, 8<<20)
	stalled := roundTrip(t, v, request(t, "PUT", c.URL+"/stalled", bytes.NewReader(body)))
	if got := tunneltest.ReadAll(t, roundTrip(t, v, request(t, "PUT", c.URL, bytes.NewReader(body)))); got != "8388608" {
		t.Errorf("%s bytes came", got)
	}
	close(read)
	if got := tunneltest.ReadAll(t, stalled); got != "8388608" {
		t.Errorf("%s bytes came", got)
	}
}

func TestMiniTrailersAndInterim(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	c := startMini(t, s, "mini", func(st *miniStream) {
		st.headers(false, ":status", "103", "link", "</style.css>; rel=preload")
		io.Copy(io.Discard, st)
		st.headers(false, ":status", "200", "trailer", "x-announced")
		io.WriteString(st, "body")
		st.closeWrite("x-announced", "1", "x-other", st.trailer.Get("X-Sum"))
	})
	req := request(t, "POST", c.URL, io.MultiReader(strings.NewReader("body")))
	req.Trailer = http.Header{"X-Sum": {"42"}}
	links := make(chan string, 1)
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if code == http.StatusEarlyHints {
				links <- h.Get("Link")
			}
			return nil
		},
	}))
	resp := roundTrip(t, tunneltest.NewViewer(t), req)
	if got := await(t, links); got != "</style.css>; rel=preload" {
		t.Errorf("early hint %q", got)
	}
	if got := tunneltest.ReadAll(t, resp); got != "body" {
		t.Errorf("body %q", got)
	}
	if resp.Trailer.Get("X-Announced") != "1" || resp.Trailer.Get("X-Other") != "42" {
		t.Errorf("trailers %v", resp.Trailer)
	}
}

// A target that breaks off is a broken answer for the viewer, and a viewer that
// leaves breaks the stream.
func TestMiniResets(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	left := make(chan struct{})
	c := startMini(t, s, "mini", func(st *miniStream) {
		st.headers(false, ":status", "200")
		io.WriteString(st, "some")
		if st.path == "/leave" {
			<-st.gone
			close(left)
		}
	})
	v := tunneltest.NewViewer(t)

	resp := roundTrip(t, v, request(t, "GET", c.URL+"/break", nil))
	if body, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("a broken answer ended well after %q", body)
	}

	ctx, leave := context.WithCancel(t.Context())
	roundTrip(t, v, request(t, "GET", c.URL+"/leave", nil).WithContext(ctx))
	leave()
	await(t, left)

	// Those were streams, not the session.
	if resp := roundTrip(t, v, request(t, "GET", c.URL+"/break", nil)); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

// An answer may be complete before the request is.
func TestMiniEarlyAnswer(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	c := startMini(t, s, "mini", func(st *miniStream) { st.answer("413", "too large") })
	nc, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fmt.Fprintf(nc, "POST /mini HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\nstart")
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body := tunneltest.ReadAll(t, resp); resp.StatusCode != 413 || body != "too large" {
		t.Errorf("%s, %q", resp.Status, body)
	}
	if resp := roundTrip(t, tunneltest.NewViewer(t), request(t, "GET", c.URL, nil)); resp.StatusCode != 413 {
		t.Error(resp.Status)
	}
}

func TestMiniErrors(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	c := startMini(t, s, "mini", func(st *miniStream) {
		st.headers(true, ":status", st.header.Get("X-Status"), "x-websocktunnel-error", st.header.Get("X-Error"))
	})
	for _, tt := range []struct {
		status, error string
		wantStatus    int
		wantError     string
	}{
		{"502", "connection_refused", 502, `connection_refused; details="WT-TARGET-REFUSED`},
		{"504", "http_response_timeout", 504, `http_response_timeout; details="WT-TARGET-TIMEOUT`},
		{"200", "dns_error", 502, `dns_error; details="WT-TARGET-DNS`},
		{"502", "what", 502, `proxy_internal_response; details="WT-TARGET-NO-ANSWER`},
	} {
		req := request(t, "GET", c.URL, nil)
		req.Header.Set("X-Status", tt.status)
		req.Header.Set("X-Error", tt.error)
		resp := roundTrip(t, tunneltest.NewViewer(t), req)
		want := "websocktunnel-client; error=" + tt.wantError
		if got := resp.Header.Get("Proxy-Status"); resp.StatusCode != tt.wantStatus || !strings.HasPrefix(got, want) {
			t.Errorf("%s %s: %s, Proxy-Status %q, want %q", tt.status, tt.error, resp.Status, got, want)
		}
	}
}

// websocketEcho sends messages back as they come. If the viewer ends its
// direction without a close frame, it says goodbye in the other.
func websocketEcho(st *miniStream) {
	var header []string
	if p := st.header.Get("Sec-WebSocket-Protocol"); p != "" {
		header = []string{"sec-websocket-protocol", strings.TrimSpace(strings.Split(p, ",")[0])}
	}
	ws := st.acceptWebsocket(header...)
	for {
		op, msg, err := ws.next()
		switch {
		case err == io.EOF:
			ws.write(wsText, []byte("goodbye"))
			st.closeWrite()
			return
		case err != nil:
			return
		case op == wsPing:
			ws.write(wsPong, msg)
		case op == wsClose:
			ws.write(wsClose, msg)
			st.closeWrite()
			return
		case op != wsPong:
			ws.write(op, msg)
		}
	}
}

func TestMiniWebsocket(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	c := startMini(t, s, "mini", func(st *miniStream) {
		if st.method != "GET" || st.path != "/ws?x=1" || st.header.Get("x-websocktunnel-upgrade") != "websocket" {
			st.answer("400", "")
			return
		}
		websocketEcho(st)
	})
	conn, resp, err := coder.Dial(t.Context(), c.URL+"/ws?x=1", &coder.DialOptions{
		HTTPClient: tunneltest.NewViewer(t), Subprotocols: []string{"chat"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if got := resp.Header.Get("Upgrade"); got != "websocket" || conn.Subprotocol() != "chat" {
		t.Errorf("upgraded to %q, subprotocol %q", got, conn.Subprotocol())
	}
	conn.SetReadLimit(-1)
	for _, size := range []int{0, 1, 125, 126, 1<<16 - 1, 1 << 16, 1 << 19} {
		msg := randomBytes(size)
		w, err := conn.Writer(t.Context(), coder.MessageBinary) // fragments
		if err != nil {
			t.Fatal(err)
		}
		w.Write(msg[:size/3])
		w.Write(msg[size/3:])
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if typ, got, err := conn.Read(t.Context()); err != nil || typ != coder.MessageBinary || !bytes.Equal(got, msg) {
			t.Fatalf("%d bytes: %d came back as %v, %v", size, len(got), typ, err)
		}
	}
	pinged := make(chan error, 1)
	go func() { pinged <- conn.Ping(t.Context()) }()
	go conn.Read(t.Context()) // takes the pong
	if err := await(t, pinged); err != nil {
		t.Error(err)
	}
	if err := conn.Close(4321, "enough"); err != nil {
		t.Error(err)
	}
}

// The viewer ends its direction; the other goes on.
func TestMiniHalfClose(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	startMini(t, s, "mini", websocketEcho)
	nc, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ws, resp, err := wsHandshake(nc, s.Addr, "/mini/ws", "X-Viewer: raw")
	if err != nil || ws == nil {
		t.Fatal(resp, err)
	}
	ws.write(wsText, []byte("one"))
	if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "goodbye"} {
		if _, msg, err := ws.next(); err != nil || string(msg) != want {
			t.Errorf("got %q, %v, want %q", msg, err, want)
		}
	}
	if _, _, err := ws.next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

// A viewer that breaks a websocket off breaks the stream or ends it, and one
// whose target breaks sees the end.
func TestMiniWebsocketBreaks(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	ended := make(chan error, 1)
	c := startMini(t, s, "mini", func(st *miniStream) {
		ws := st.acceptWebsocket()
		if st.path == "/break" {
			return
		}
		_, _, err := ws.next()
		ended <- err
	})
	for _, path := range []string{"/break", "/leave"} {
		conn, _, err := coder.Dial(t.Context(), c.URL+path, &coder.DialOptions{HTTPClient: tunneltest.NewViewer(t)})
		if err != nil {
			t.Fatal(err)
		}
		if path == "/break" {
			if _, _, err := conn.Read(t.Context()); err == nil {
				t.Error("read a message that nobody sent")
			}
		}
		conn.CloseNow()
	}
	if err := await(t, ended); err == nil {
		t.Error("the stream did not end")
	}
}

func TestMiniUpgradeRefused(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	c := startMini(t, s, "mini", func(st *miniStream) {
		st.answer(st.path[1:], "no upgrade here", "x-why", "because")
	})
	for _, status := range []int{200, 403, 501} {
		_, resp, err := coder.Dial(t.Context(), fmt.Sprint(c.URL, "/", status), &coder.DialOptions{HTTPClient: tunneltest.NewViewer(t)})
		if err == nil || resp == nil || resp.StatusCode != status || resp.Header.Get("X-Why") != "because" {
			t.Errorf("%d: %v, %v", status, resp, err)
			continue
		}
		if body := tunneltest.ReadAll(t, resp); body != "no upgrade here" {
			t.Errorf("%d: body %q", status, body)
		}
	}
}

// An upgrade with a request body before the new protocol.
func TestMiniUpgradeBody(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	framing := make(chan string, 1)
	startMini(t, s, "mini", func(st *miniStream) {
		if st.method != "POST" || st.header.Get("x-websocktunnel-upgrade") != "echo" || st.header["Content-Length"] != nil {
			st.answer("400", "")
			return
		}
		framing <- st.header.Get("x-websocktunnel-upgrade-body")
		r := bufio.NewReader(st)
		body, err := st.upgradeBody(r)
		if err != nil {
			return
		}
		if string(body) == "refuse" {
			st.answer("409", "refused")
			return
		}
		st.headers(false, ":status", "200", "x-websocktunnel-upgrade", "echo")
		fmt.Fprintf(st, "[%s]", body)
		if _, err := io.Copy(st, r); err == nil {
			st.closeWrite()
		}
	})
	for _, tt := range []struct{ name, header, body, framing, want string }{
		{"length", "Content-Length: 5", "hello", "5", "[hello]bytes"},
		{"chunked", "Transfer-Encoding: chunked", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "chunked", "[hello]bytes"},
		{"chunked, empty", "Transfer-Encoding: chunked", "0\r\n\r\n", "chunked", "[]bytes"},
		{"none", "X-No: body", "", "", "[]bytes"},
		{"refused with length", "Content-Length: 6", "refuse", "6", ""},
		{"refused with chunked", "Transfer-Encoding: chunked", "6\r\nrefuse\r\n0\r\n\r\n", "chunked", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nc, err := net.Dial("tcp", s.Addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			fmt.Fprintf(nc, "POST /mini/up HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n%s\r\n\r\n%s", tt.header, tt.body)
			br := bufio.NewReader(nc)
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := await(t, framing); got != tt.framing {
				t.Errorf("x-websocktunnel-upgrade-body is %q, want %q", got, tt.framing)
			}
			if tt.want == "" {
				if body := tunneltest.ReadAll(t, resp); resp.StatusCode != http.StatusConflict || body != "refused" {
					t.Errorf("%s, %q", resp.Status, body)
				}
				return
			}
			if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "echo" {
				t.Fatalf("%s, %v", resp.Status, resp.Header)
			}
			io.WriteString(nc, "bytes")
			nc.(*net.TCPConn).CloseWrite()
			if got, err := io.ReadAll(br); err != nil || string(got) != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

// Messages in small fragments, with pings between them, and empty messages
// carry the same bytes.
func TestMiniFragments(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	c := startMini(t, s, "mini", func(st *miniStream) {
		st.headers(false, ":status", "200")
		if _, err := io.Copy(st, st); err == nil {
			st.closeWrite()
		}
	})
	c.do(func() {
		c.chop = 5
		for range 50 {
			c.ws.write(wsBinary, nil)
		}
	})
	c.control(miniControl{Type: "of a later version"})
	body := string(randomBytes(30000))
	if got := tunneltest.ReadAll(t, roundTrip(t, tunneltest.NewViewer(t), request(t, "POST", c.URL, strings.NewReader(body)))); got != body {
		t.Errorf("%d bytes came back, or others than %d sent", len(got), len(body))
	}
}

func TestMiniTokenRefresh(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	c := startMini(t, s, "mini", hello)
	c.control(miniControl{Type: "token", Token: "x"})
	c.control(miniControl{Type: "token", Token: tunneltest.Token(t, "other")})
	before := time.Now()
	c.control(miniControl{Type: "token", Token: tunneltest.Token(t, "mini")})
	for range 2 {
		if m := await(t, c.Controls); m.Type != "token" || m.OK {
			t.Errorf("a bad token was answered with %+v", m)
		}
	}
	m := await(t, c.Controls)
	exp := time.Unix(m.Exp, 0)
	if m.Type != "token" || !m.OK || exp.Before(before.Add(59*time.Minute)) || exp.After(before.Add(61*time.Minute)) {
		t.Errorf("a good token was answered with %+v", m)
	}
	for info := range s.Tunnels() {
		if !info.TokenExpires.Equal(exp) {
			t.Errorf("the token in force expires at %v, want %v", info.TokenExpires, exp)
		}
	}
}

func TestMiniViolation(t *testing.T) {
	for name, msg := range map[string]string{
		"no JSON":   "nonsense",
		"no type":   `{"token":"x"}`,
		"too large": `{"type":"unknown","x":"` + strings.Repeat("x", 16384) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := tunneltest.NewService(t, server.Config{})
			c := startMini(t, s, "mini", hello)
			c.do(func() { c.ws.write(wsText, []byte(msg)) })
			if code := c.wait(); code != 4004 {
				t.Errorf("close code %d", code)
			}
		})
	}
}

// holding answers /hold only when release is closed, and others at once.
func holding() (handler func(*miniStream), held chan string, release chan struct{}) {
	held, release = make(chan string, 10), make(chan struct{})
	return func(st *miniStream) {
		if st.path == "/hold" {
			held <- st.path
			select {
			case <-release:
			case <-st.gone:
			}
		}
		hello(st)
	}, held, release
}

// inFlight starts a request and returns its body when it is finished.
func inFlight(t testing.TB, url string) <-chan string {
	body := make(chan string, 1)
	v := tunneltest.NewViewer(t)
	go func() {
		resp, err := v.Get(url)
		if err != nil {
			body <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		body <- string(b)
	}()
	return body
}

// The service drains: the session is served until its close frame.
func TestMiniDrain(t *testing.T) {
	t.Parallel()
	s := tunneltest.NewService(t, server.Config{DrainTimeout: 20 * time.Second})
	handler, held, release := holding()
	c := startMini(t, s, "mini", handler)
	body := inFlight(t, c.URL+"/hold")
	await(t, held)
	shut := make(chan error, 1)
	go func() { shut <- s.Server.Shutdown(context.Background()) }()
	m := await(t, c.Controls)
	if m.Type != "goaway" || m.Reason != "draining" || m.ReconnectAfterMS < 0 || m.ReconnectAfterMS > 20000 {
		t.Errorf("control message %+v", m)
	}
	if got := tunneltest.ReadAll(t, roundTrip(t, tunneltest.NewViewer(t), request(t, "GET", c.URL, nil))); got != "hello" {
		t.Errorf("while draining: %q", got)
	}
	close(release)
	if got := await(t, body); got != "hello" {
		t.Errorf("in flight: %q", got)
	}
	if code := c.wait(); code != 4002 {
		t.Errorf("close code %d", code)
	}
	if err := await(t, shut); err != nil {
		t.Error(err)
	}
}

func TestMiniReplaced(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	handler, held, release := holding()
	older := startMini(t, s, "mini", handler)
	body := inFlight(t, older.URL+"/hold")
	await(t, held)

	newer := startMini(t, s, "mini", func(st *miniStream) { st.answer("200", "newer") })
	if newer.URL != older.URL {
		t.Errorf("client URL %q, then %q", older.URL, newer.URL)
	}
	v := tunneltest.NewViewer(t)
	for got := ""; got != "newer"; {
		if got = tunneltest.ReadAll(t, roundTrip(t, v, request(t, "GET", newer.URL, nil))); got != "newer" && got != "hello" {
			t.Fatalf("answer %q", got)
		}
	}
	close(release)
	if got := await(t, body); got != "hello" {
		t.Errorf("in flight: %q", got)
	}
	if code := older.wait(); code != 4000 {
		t.Errorf("close code %d", code)
	}
	if got := tunneltest.ReadAll(t, roundTrip(t, v, request(t, "GET", newer.URL, nil))); got != "newer" {
		t.Errorf("answer %q", got)
	}
}

// The tunnel client asks for the end and lets the service close.
func TestMiniGoaway(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	handler, held, release := holding()
	c := startMini(t, s, "mini", handler)
	body := inFlight(t, c.URL+"/hold")
	await(t, held)
	c.control(miniControl{Type: "goaway"})
	v := tunneltest.NewViewer(t)
	for status := 0; status != http.StatusNotFound; {
		resp := roundTrip(t, v, request(t, "GET", c.URL, nil))
		if status = resp.StatusCode; status != 200 && status != http.StatusNotFound {
			t.Fatal(resp.Status)
		}
	}
	close(release)
	if got := await(t, body); got != "hello" {
		t.Errorf("in flight: %q", got)
	}
	if code := c.wait(); code != 4002 {
		t.Errorf("close code %d", code)
	}
}

// The tunnel client ends by itself, with all that belongs to it.
func TestMiniStop(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	handler, held, release := holding()
	c := startMini(t, s, "mini", handler)
	body := inFlight(t, c.URL+"/hold")
	await(t, held)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		c.stop()
	}()
	v := tunneltest.NewViewer(t)
	for status := 0; status != http.StatusNotFound; {
		resp := roundTrip(t, v, request(t, "GET", c.URL, nil))
		if status = resp.StatusCode; status != 200 && status != http.StatusNotFound {
			t.Fatal(resp.Status)
		}
	}
	close(release)
	if got := await(t, body); got != "hello" {
		t.Errorf("in flight: %q", got)
	}
	await(t, stopped)
	// The service closes too as soon as nothing is in flight: whose close frame
	// is first is open.
	if c.closeCode != 1000 && c.closeCode != 4002 {
		t.Errorf("close code %d", c.closeCode)
	}
}
