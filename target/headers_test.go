package target_test

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/configerror"
	"github.com/websocktunnel/websocktunnel/target"
)

// Headers of requests are set, replaced and removed, and nothing else changes.
func TestRequestHeader(t *testing.T) {
	t.Parallel()
	addr, heads := rawTarget(t, noContent)
	h := proxyTo(t, addr, target.Options{
		RequestHeader:       http.Header{"x-set": {" a ", "b"}, "Authorization": {"Bearer t"}, "X-Empty": {""}},
		RemoveRequestHeader: []string{"cookie", "User-Agent", "X-Absent"},
	})
	ways(t, h, func(t *testing.T, srv *httptest.Server) {
		exchange(t, srv, "GET / HTTP/1.1\r\nHost: h\r\nX-Set: viewer\r\nAuthorization: Basic x\r\nCookie: a=b\r\nUser-Agent: u\r\nX-Kept: 1\r\nConnection: close\r\n\r\n")
		got := strings.Split(strings.TrimSpace(<-heads), "\r\n")[2:]
		slices.Sort(got)
		if want := []string{"Authorization: Bearer t", "X-Empty: ", "X-Kept: 1", "X-Set: a", "X-Set: b"}; !slices.Equal(got, want) {
			t.Errorf("the target got %q, want %q", got, want)
		}
	})
}

// The same for answers, their trailers and interim answers.
func TestResponseHeader(t *testing.T) {
	t.Parallel()
	addr := targetServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</early>")
		w.Header().Set("X-Secret", "early")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Server", "s")
		w.Header().Set("X-Robots-Tag", "all")
		w.Header().Add("Trailer", "X-Secret, X-Set, X-Sum")
		w.WriteHeader(http.StatusOK)
		io.WriteString(w, "body")
		for _, k := range []string{"X-Secret", "X-Set", "X-Sum", http.TrailerPrefix + "Server"} {
			w.Header().Set(k, "trailer")
		}
	})
	ways(t, proxyTo(t, addr, target.Options{
		ResponseHeader:       http.Header{"x-robots-tag": {"none"}, "X-Set": {"1", "2"}},
		RemoveResponseHeader: []string{"server", "x-secret"},
	}), func(t *testing.T, srv *httptest.Server) {
		var early textproto.MIMEHeader
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
			early = h
			return nil
		}})
		resp := do(t, ctx, srv.URL, nil)
		if early.Get("Link") == "" || early.Get("X-Secret") != "" || early.Get("X-Robots-Tag") != "" {
			t.Errorf("interim answer %q", early)
		}
		resp.Header.Del("Content-Type")
		resp.Header.Del("Link")
		resp.Header.Del("Date")
		if h := resp.Header; len(h) != 2 || h.Get("X-Robots-Tag") != "none" || !slices.Equal(h["X-Set"], []string{"1", "2"}) {
			t.Errorf("answer %q", h)
		}
		if tr := resp.Trailer; len(tr) != 1 || tr.Get("X-Sum") != "trailer" {
			t.Errorf("trailers %q", tr)
		}
	})
}

// Request trailers of the names that are set or removed do not arrive: a server
// may take them for headers.
func TestRequestHeaderTrailers(t *testing.T) {
	t.Parallel()
	got := make(chan http.Header, 1)
	addr := targetServer(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		got <- r.Trailer
	})
	ways(t, proxyTo(t, addr, target.Options{
		RequestHeader: http.Header{"X-Set": {"1"}}, RemoveRequestHeader: []string{"X-Secret"},
	}), func(t *testing.T, srv *httptest.Server) {
		exchange(t, srv, "POST / HTTP/1.1\r\nHost: h\r\nTrailer: X-Secret, X-Set, X-Sum\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"+
			"1\r\nx\r\n0\r\nX-Secret: 1\r\nX-Set: 2\r\nX-Sum: 3\r\n\r\n")
		if tr := <-got; len(tr) != 1 || tr.Get("X-Sum") != "3" {
			t.Errorf("trailers %q", tr)
		}
	})
}

// do makes a request with these headers and reads the answer.
func do(t *testing.T, ctx context.Context, url string, h http.Header) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(r.Header, h)
	resp, err := viewer(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestHeaderRules(t *testing.T) {
	t.Parallel()
	all := []string{
		"Connection", "keep-alive", "TE", "Trailer", "Transfer-Encoding", "upgrade", "Proxy-Connection", "Proxy-Authorization", "HTTP2-Settings",
		"Content-Length", "Expect", "Sec-WebSocket-Key", "x-websocktunnel-id", "X-WebSockTunnel-Error", "", "a b", ":path", "X\r\n", "ä",
	}
	for _, name := range all {
		for field, o := range map[string]target.Options{
			"Options.RequestHeader":        {RequestHeader: http.Header{name: {"hunter2"}}},
			"Options.RemoveRequestHeader":  {RemoveRequestHeader: []string{name}},
			"Options.ResponseHeader":       {ResponseHeader: http.Header{name: {"hunter2"}}},
			"Options.RemoveResponseHeader": {RemoveResponseHeader: []string{name}},
		} {
			_, err := target.New("80", o)
			faults := configerror.All(err)
			if len(faults) != 1 || faults[0].Field != field || faults[0].Value != name || !strings.Contains(faults[0].Rule, ": ") && !strings.Contains(faults[0].Rule, ", such as") {
				t.Errorf("%s %q: %v", field, name, err)
			}
		}
	}
	for _, tt := range []struct {
		o    target.Options
		want string
	}{
		{target.Options{RequestHeader: http.Header{"host": {"x"}}}, "HostHeader"},
		{target.Options{RemoveRequestHeader: []string{"CDN-Loop"}}, "Cdn-Loop"},
		{target.Options{RequestHeader: http.Header{"X-A": {"ok", "hunter2\r\nX-B: 1"}}}, "line break"},
		{target.Options{ResponseHeader: http.Header{"X-A": {"hunter2\x00"}}}, "control character"},
	} {
		_, err := target.New("80", tt.o)
		if err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(tt.want)) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%+v: %v, want an error with %q", tt.o, err, tt.want)
		}
	}
}

// The Origin of the tunnel's own pages becomes the target's. That of any other page
// stays, or a target could no longer tell who asks.
func TestRewriteOrigin(t *testing.T) {
	t.Parallel()
	addr, heads := rawTarget(t, noContent)
	_, port, _ := strings.Cut(addr, ":")
	for _, tt := range []struct {
		name, target, hostHeader string
		host, forwarded, proto   string // of the viewer's request
		origin, want             string
		off, twice               bool
		remove                   []string
	}{
		{name: "the target's address", host: "t.example", proto: "https", origin: "https://t.example", want: "http://127.0.0.1:" + port},
		{name: "a port", target: port, host: "t.example", proto: "https", origin: "https://t.example", want: "http://localhost:" + port},
		{name: "the Host it is told", hostHeader: "Localhost:5173", host: "t.example", proto: "https", origin: "https://t.example", want: "http://localhost:5173"},
		{name: "without the default port", hostHeader: "app.internal:80", host: "t.example", proto: "https", origin: "https://t.example", want: "http://app.internal"},
		{name: "behind a proxy", host: "10.0.0.1:8080", forwarded: "t.example, 10.0.0.1:8080", proto: "https, http", origin: "https://t.example", want: "http://127.0.0.1:" + port},
		{name: "case and default port", host: "T.example:443", proto: "https", origin: "HTTPS://t.Example", want: "http://127.0.0.1:" + port},
		{name: "a port of the viewer's", host: "t.example:8443", proto: "https", origin: "https://t.example:8443", want: "http://127.0.0.1:" + port},
		{name: "without a service", host: "t.example", origin: "http://t.example", want: "http://127.0.0.1:" + port},
		{name: "off", off: true, host: "t.example", proto: "https", origin: "https://t.example", want: "https://t.example"},
		{name: "another host", host: "t.example", proto: "https", origin: "https://evil.example", want: "https://evil.example"},
		{name: "another port", host: "t.example", proto: "https", origin: "https://t.example:444", want: "https://t.example:444"},
		{name: "another scheme", host: "t.example", proto: "https", origin: "http://t.example", want: "http://t.example"},
		{name: "a host in front of it", host: "t.example", proto: "https", origin: "https://evil.example/https://t.example", want: "https://evil.example/https://t.example"},
		{name: "opaque", host: "t.example", proto: "https", origin: "null", want: "null"},
		{name: "empty", host: "t.example", proto: "https", origin: "", want: ""},
		{name: "twice", twice: true, host: "t.example", proto: "https", origin: "https://t.example", want: "https://t.example"},
		{name: "removed", remove: []string{"Origin"}, host: "t.example", proto: "https", origin: "https://t.example", want: "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.target == "" {
				tt.target = addr
			}
			p := proxyTo(t, tt.target, target.Options{HostHeader: tt.hostHeader, RewriteOrigin: !tt.off, RemoveRequestHeader: tt.remove})
			for _, upgrade := range []bool{false, true} {
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				r.Host = tt.host
				r.Header.Add("Origin", tt.origin)
				if tt.twice {
					r.Header.Add("Origin", tt.origin)
				}
				if tt.forwarded != "" {
					r.Header.Set("X-Forwarded-Host", tt.forwarded)
				}
				if tt.proto != "" {
					r.Header.Set("X-Forwarded-Proto", tt.proto)
				}
				if upgrade {
					r.Header.Set("Connection", "Upgrade")
					r.Header.Set("Upgrade", "websocket")
				}
				p.ServeHTTP(httptest.NewRecorder(), r)
				got := "none"
				for line := range strings.SplitSeq(<-heads, "\r\n") {
					if v, ok := strings.CutPrefix(line, "Origin: "); ok {
						got = v
					}
				}
				if got != tt.want {
					t.Errorf("upgrade %v: %q became %q, want %q", upgrade, tt.origin, got, tt.want)
				}
			}
		})
	}
}
