package server

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestFieldsAreBounded: a message with thousands of fields is refused, whichever
// end sends it, and at the limit it passes.
func TestFieldsAreBounded(t *testing.T) {
	s := newService(t, Config{})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		var fields, trailers int
		fmt.Sscanf(r.URL.Path, "/%d/%d", &fields, &trailers)
		for i := range fields {
			w.Header().Set(fmt.Sprintf("F%d", i), "")
		}
		for i := range trailers {
			w.Header().Add("Trailer", fmt.Sprintf("T%d", i))
		}
		io.WriteString(w, "x")
	})))
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "f%d: \r\n", i)
		}
		return b.String()
	}
	names := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("t%d", i))
		}
		return strings.Join(all, ", ")
	}
	for name, tc := range map[string]struct{ request, status string }{
		// net/http of Go 1.27 has a limit of its own, which is lower.
		"request, many fields":           {"GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + many(400) + "\r\n", "200"},
		"request, fields over it":        {"GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + many(maxFields+1) + "\r\n", "431"},
		"request, trailers at the limit": {"POST /a/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: " + names(maxTrailers) + "\r\n\r\n0\r\n\r\n", "200"},
		"request, trailers over it":      {"POST /a/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: " + names(maxTrailers+1) + "\r\n\r\n0\r\n\r\n", "431"},
		"answer, fields at the limit":    {"GET /a/980/0 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "200"},
		"answer, fields over it":         {"GET /a/1001/0 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "502"},
		"answer, trailers at the limit":  {"GET /a/0/100 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "200"},
		"answer, trailers over it":       {"GET /a/0/101 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "502"},
	} {
		if got := s.raw(tc.request); !strings.HasPrefix(got, "HTTP/1.1 "+tc.status+" ") {
			t.Errorf("%s: %.60q, want status %s", name, got, tc.status)
		}
	}
}

// TestLateTrailersAreBounded: trailers that nobody has announced count too.
// x/net's server takes time for the square of their number.
func TestLateTrailersAreBounded(t *testing.T) {
	late := make(http.Header)
	for i := range maxTrailers + 1 {
		late.Set(fmt.Sprintf("T%d", i), "x")
	}
	if checkTrailer(late); len(late) != 0 {
		t.Errorf("%d trailers are left", len(late))
	}
}

// TestTrailersOfRequest: what a viewer may not say in a header it may not say in
// a trailer, and what is about the connection ends with it.
func TestTrailersOfRequest(t *testing.T) {
	in := http.Header{}
	for _, k := range []string{
		"Upgrade", "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Te", "Http2-Settings", "Trailer",
		"X-Forwarded-For", "Forwarded", "X-Real-Ip", "X_Forwarded_For", "X.Forwarded.For", "Proxy", "X-Websocktunnel-Original-Path",
		"Content-Length", "Host",
	} {
		in[k] = nil
	}
	in["Grpc-Status"], in["X-Checksum"] = nil, nil
	if out := announcedTrailers(in); len(out) != 2 {
		t.Errorf("%v pass, want Grpc-Status and X-Checksum", out)
	}
}

// TestOrdersToProxies: a target does not speak to the proxy in front of the service,
// by a 101 either.
func TestOrdersToProxies(t *testing.T) {
	orders := []string{
		"X-Accel-Redirect", "X-Accel-Buffering", "X-Accel-Expires", "X-Sendfile", "X-LIGHTTPD-send-file", "X-Lighttpd-Send-Tempfile",
		"X-LiteSpeed-Location", "X-Reproxy-URL", "Surrogate-Control", "Surrogate-Key",
	}
	s := newService(t, Config{})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, k := range orders {
			w.Header().Set(k, "/internal")
		}
		w.Header().Set("X-Other", "stays")
	})))
	s.waitActive(s.connect("switches", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nX-Other: stays\r\n")
		for _, k := range orders {
			fmt.Fprintf(conn, "%s: /internal\r\n", k)
		}
		io.WriteString(conn, "\r\n")
	})))
	for name, got := range map[string]string{
		"200": s.raw("GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"),
		"101": s.raw("GET /switches/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"),
	} {
		if !strings.HasPrefix(got, "HTTP/1.1 "+name) || strings.Contains(got, "internal") {
			t.Errorf("%s: the viewer got %q", name, got)
		}
		if !strings.Contains(got, "X-Other: stays") {
			t.Errorf("%s: an ordinary header is missing: %q", name, got)
		}
	}
}

// TestAcceptIsBounded: a refusal costs the same however much the viewer says.
func TestAcceptIsBounded(t *testing.T) {
	cost := func(n int) float64 {
		accept := []string{strings.Repeat("a/b;q=0.1,", n)}
		return testing.AllocsPerRun(10, func() { errorBody(accept) })
	}
	if little, much := cost(maxAccept/10), cost(6000); much > little+20 {
		t.Errorf("%v allocations for 60 KB, %v for 1 KB", much, little)
	}
	if errorBody([]string{"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}) != bodyHTML {
		t.Error("a browser gets no HTML")
	}
}

// TestStuckFailure: an HTTP/2 viewer that opens no window for an answer of the
// service's own loses its stream.
func TestStuckFailure(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	t.Parallel()
	s := newService(t, Config{})
	c, err := net.Dial("tcp", s.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(4 * failureTime))
	io.WriteString(c, http2.ClientPreface)
	fr := http2.NewFramer(c, c)
	fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i, path := range []string{"/", "/nobody/x", "//x"} {
		block.Reset()
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "h"}, {":path", path}} {
			enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
	}
	begun := time.Now()
	for reset := 0; reset < 3; {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatalf("after %d resets and %v: %v", reset, time.Since(begun), err)
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				fr.WriteSettingsAck()
			}
		case *http2.RSTStreamFrame:
			reset++
		}
	}
	if took := time.Since(begun); took > 2*failureTime {
		t.Errorf("it took %v", took)
	}
}

// TestAnswerFitsViewer: an answer that an HTTP/2 viewer does not take ends that
// request, and not the viewer's connection with all that is on it.
func TestAnswerFitsViewer(t *testing.T) {
	s := newService(t, Config{})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/many":
			for i := range 100 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("v", 1500))
			}
		case "/one":
			w.Header().Set("X-Long", strings.Repeat("v", 66<<10))
		case "/interim":
			w.Header().Set("Link", strings.Repeat("v", 20<<10))
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
		case "/trailer":
			w.Header().Set("Trailer", "X-Late")
			io.WriteString(w, "body")
			w.Header().Set("X-Late", strings.Repeat("v", 66<<10))
		case "/20k":
			w.Header().Set("X-Long", strings.Repeat("v", 20<<10))
		}
	})))
	for _, tt := range []struct {
		path  string
		limit uint32 // of the viewer; 0: it names none
		want  string // status, or "reset"
	}{
		{"/many", 0, "502"},
		{"/many", 1 << 20, "200"},
		{"/one", 0, "502"},
		{"/one", 1 << 20, "502"},
		{"/interim", 16 << 10, "200"},
		{"/trailer", 1 << 20, "reset"},
		{"/20k", 0, "200"},
		{"/20k", 16 << 10, "502"},
		{"/", 16 << 10, "200"},
	} {
		t.Run(fmt.Sprint(tt.path, tt.limit), func(t *testing.T) {
			c, err := net.Dial("tcp", s.addr())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			io.WriteString(c, http2.ClientPreface)
			v := &rawViewer{Conn: c, Framer: http2.NewFramer(c, c), next: 1}
			v.enc = hpack.NewEncoder(&v.block)
			v.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
			v.MaxHeaderListSize = 10 << 20
			if tt.limit > 0 {
				v.WriteSettings(http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: tt.limit})
			} else {
				v.WriteSettings()
			}
			var got []string
			for i, path := range []string{"/a" + tt.path, "/a/"} { // the connection lives on
				v.request("GET", path, true)
				status := ""
				for over := false; !over; {
					f, err := v.ReadFrame()
					if err != nil {
						t.Fatal(err)
					}
					if f.Header().StreamID != uint32(2*i+1) {
						continue
					}
					switch f := f.(type) {
					case *http2.MetaHeadersFrame:
						if s := f.PseudoValue("status"); s != "" {
							status = s
						}
						if status == "502" && !slices.ContainsFunc(f.RegularFields(), func(h hpack.HeaderField) bool {
							return h.Name == "proxy-status" && strings.Contains(h.Value, string(codeAnswerHeaderLarge))
						}) {
							t.Errorf("no code in %v", f.RegularFields())
						}
						over = f.StreamEnded()
					case *http2.DataFrame:
						over = f.StreamEnded()
					case *http2.RSTStreamFrame:
						status, over = "reset", true
					}
				}
				got = append(got, status)
			}
			if got[0] != tt.want || got[1] != "200" {
				t.Errorf("%v, want %s and then 200", got, tt.want)
			}
		})
	}
}
