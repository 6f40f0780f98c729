package h2conn_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// directly returns a handler that switches protocols, and what reads from the connection
// as package target does.
func directly(t *testing.T, h func(conn net.Conn, r io.Reader)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		r := conn.(interface{ DirectReader() io.Reader }).DirectReader()
		if h2conn.SendsGoaway && !h2conn.HasInlet(conn) {
			t.Error("the connection has no inlet")
		}
		io.WriteString(conn, switchedToX)
		h(conn, r)
	})
}

// TestInletEchoes: small pieces, and far more than windows, arrive as they were sent, and
// so does the end.
func TestInletEchoes(t *testing.T) {
	forms(t, func(t *testing.T, cfg h2conn.TransportConfig) {
		tr := tunnel(t, directly(t, func(conn net.Conn, r io.Reader) {
			if _, err := io.Copy(conn, r); err != nil {
				t.Error(err)
			}
			conn.Close()
		}), cfg, h2conn.ServeConfig{})
		for _, size := range []int{1, 100, 9000, 300_000} {
			stream := upgraded(t, t.Context(), tr)
			piece := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
			times := min(2000, 12<<20/size)
			go func() {
				for range times {
					stream.Write(piece)
				}
				stream.(closeWriter).CloseWrite()
			}()
			got := make([]byte, size)
			for i := range times {
				if _, err := io.ReadFull(stream, got); err != nil || !bytes.Equal(got, piece) {
					t.Fatalf("piece %d of %d bytes: %v", i, size, err)
				}
			}
			if n, err := stream.Read(got); n > 0 || err != io.EOF {
				t.Errorf("after the end: %d, %v", n, err)
			}
			stream.Close()
		}
	})
}

// TestInletReturnsWindows: what nobody has read does not take the connection's window away.
func TestInletReturnsWindows(t *testing.T) {
	const window = 1 << 20
	left := make(chan struct{})
	tr := tunnel(t, directly(t, func(conn net.Conn, r io.Reader) {
		io.ReadFull(r, make([]byte, 1000))
		<-left
		conn.Close()
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{Config: h2conn.Config{ConnWindow: window, StreamWindow: window}})
	for range 50 {
		stream := upgraded(t, t.Context(), tr)
		wrote := make(chan struct{})
		go func() {
			defer close(wrote)
			stream.Write(make([]byte, 60_000))
		}()
		<-wrote
		left <- struct{}{}
		io.Copy(io.Discard, stream)
		stream.Close()
	}
}

// TestInletReset: what came before a reset is read, and then an error.
func TestInletReset(t *testing.T) {
	type result struct {
		text string
		err  error
	}
	got := make(chan result, 1)
	begun := make(chan struct{}, 1)
	tr := tunnel(t, directly(t, func(conn net.Conn, r io.Reader) {
		defer conn.Close()
		var b bytes.Buffer
		io.CopyN(&b, r, 4)
		begun <- struct{}{}
		_, err := io.Copy(&b, r)
		got <- result{b.String(), err}
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	stream := upgraded(t, ctx, tr)
	io.WriteString(stream, "some")
	<-begun
	cancel()
	// x/net says that it was reset or, if the handler is found to be over by then, closed.
	if r := <-got; r.text != "some" || r.err == nil {
		t.Errorf("read %q, %v", r.text, r.err)
	}
	stream.Close()

	stream = upgraded(t, t.Context(), tr)
	io.WriteString(stream, "some")
	<-begun
	tr.Close()
	if r := <-got; r.text != "some" || r.err == nil {
		t.Errorf("at the end of the connection: read %q, %v", r.text, r.err)
	}
	stream.Close()
}

// TestLargeHeadersBesideUpload: no WINDOW_UPDATE comes between the frames of one header.
func TestLargeHeadersBesideUpload(t *testing.T) {
	upload := directly(t, func(conn net.Conn, r io.Reader) {
		io.Copy(io.Discard, r)
		conn.Close()
	})
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			upload.ServeHTTP(w, r)
			return
		}
		w.Header().Set("X", strings.Repeat("{}", 25_000)) // which HPACK does not make shorter
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{})
	stream := upgraded(t, t.Context(), tr)
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		for piece := make([]byte, 32<<10); ; {
			if _, err := stream.Write(piece); err != nil {
				return
			}
		}
	}()
	for i := range 40 {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://target/", nil)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		resp.Body.Close()
	}
	stream.Close()
	<-wrote
}

// TestUploadNeedsNoPong: a peer that sends all the time is not given up, although its answer
// to a ping waits behind that.
func TestUploadNeedsNoPong(t *testing.T) {
	dialled, accepted := conns(t)
	served := make(chan error, 1)
	const interval = 200 * time.Millisecond
	go func() {
		served <- h2conn.Serve(context.Background(), dialled, directly(t, func(conn net.Conn, r io.Reader) {
			io.Copy(io.Discard, r)
			conn.Close()
		}), h2conn.ServeConfig{Config: h2conn.Config{PingInterval: interval, PingTimeout: interval}})
	}()
	io.WriteString(accepted, http2.ClientPreface)
	fr := http2.NewFramer(accepted, accepted)
	fr.WriteSettings()
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "target"}, {":path", "/"}, {strings.ToLower(h2conn.HeaderUpgrade), "x"}} {
		e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	answered := make(chan struct{})
	go func() {
		for begun := false; ; {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			if _, ok := f.(*http2.HeadersFrame); ok && !begun {
				begun = true
				close(answered)
			}
		}
	}()
	<-answered
	fr.WriteSettingsAck()
	for range 100 {
		fr.WriteData(1, false, []byte("x"))
		select {
		case err := <-served:
			t.Fatalf("the connection has ended: %v", err)
		case <-time.After(interval / 20):
		}
	}
	accepted.Close()
	<-served
}

// TestInletClosed: Close ends a Read.
func TestInletClosed(t *testing.T) {
	got := make(chan error, 1)
	tr := tunnel(t, directly(t, func(conn net.Conn, r io.Reader) {
		time.AfterFunc(10*time.Millisecond, func() { conn.Close() })
		_, err := io.Copy(io.Discard, r)
		got <- err
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{})
	stream := upgraded(t, t.Context(), tr)
	if err := <-got; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if b, err := io.ReadAll(stream); len(b) > 0 || err != nil {
		t.Errorf("the peer read %q, %v", b, err)
	}
	stream.Close()
}

// TestInletAfterBody: a request with a body of its own, or DATA before anybody takes it, has
// no inlet, and loses nothing.
func TestInletAfterBody(t *testing.T) {
	got := make(chan string, 1)
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		direct := conn.(interface{ DirectReader() io.Reader }).DirectReader()
		if h2conn.HasInlet(conn) {
			t.Error("the connection has an inlet")
		}
		io.WriteString(conn, switchedToX)
		rest, err := io.ReadAll(direct)
		if err != nil {
			t.Error(err)
		}
		got <- string(body) + ", " + string(rest)
	}), h2conn.TransportConfig{NoExtendedConnect: true}, h2conn.ServeConfig{})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://target/", strings.NewReader("body"))
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}}
	resp, err := tr.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v", resp, err)
	}
	stream := resp.Body.(io.ReadWriteCloser)
	io.WriteString(stream, "rest")
	stream.(closeWriter).CloseWrite()
	if s := <-got; s != "body, rest" {
		t.Errorf("got %q", s)
	}
	stream.Close()
}
