package server

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// strictFaults returns what an HTTP/2 library that is stricter than Go's has
// against the fields of a header or trailer block (RFC 9113, section 8.2).
func strictFaults(fields []hpack.HeaderField) (faults []string) {
	for _, f := range fields {
		switch f.Name {
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings":
			faults = append(faults, f.Name)
		case "cookie":
			if f.Value == "" {
				faults = append(faults, "empty cookie")
			}
		}
		if strings.Trim(f.Value, " \t") != f.Value {
			faults = append(faults, f.Name+": "+f.Value)
		}
	}
	return faults
}

// TestStrictTunnelClient: what a viewer sends never makes a tunnel client's
// HTTP/2 library end the session, however strict it is.
func TestStrictTunnelClient(t *testing.T) {
	s := newService(t, Config{})
	c := s.dialFramed("a")
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	type block struct {
		fields []hpack.HeaderField
		end    bool
	}
	blocks := make(chan block, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var out bytes.Buffer
		enc := hpack.NewEncoder(&out)
		c.answer(func(f http2.Frame) {
			switch f := f.(type) {
			case *http2.MetaHeadersFrame:
				blocks <- block{slices.Clone(f.Fields), f.StreamEnded()}
			}
			if h := f.Header(); h.Flags.Has(http2.FlagDataEndStream) && (h.Type == http2.FrameHeaders || h.Type == http2.FrameData) {
				out.Reset()
				for _, kv := range [][2]string{{":status", "200"}, {"x-late", " a\t"}, {"trailer", "x-trailing"}} {
					enc.WriteField(hpack.HeaderField{Name: kv[0], Value: kv[1]})
				}
				c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: h.StreamID, BlockFragment: out.Bytes(), EndHeaders: true})
				out.Reset()
				for _, kv := range [][2]string{{"x-trailing", "\tb "}, {"upgrade", "c"}, {"keep-alive", "d"}} {
					enc.WriteField(hpack.HeaderField{Name: kv[0], Value: kv[1]})
				}
				c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: h.StreamID, BlockFragment: out.Bytes(), EndHeaders: true, EndStream: true})
			}
		})
	}()
	t.Cleanup(func() { c.conn.Close(); <-done })
	s.waitActive(c)

	viewers := map[string]http.RoundTripper{"HTTP/2": s.http2Viewer(), "HTTP/1.1": s.http.Transport, "Go": s.RoundTripper("a")}
	for name, viewer := range viewers {
		for _, cookie := range []struct{ sent, want string }{
			{"a=1; b=2", "a=1; b=2"},
			{"a=1;b=2", "a=1; b=2"},
			{"a=1;; b=2 ;\tc=3; ", "a=1; b=2; c=3"},
			{" ; ;", ""},
			{"", ""},
			{`a="x y"`, `a="x y"`},
		} {
			body := struct{ io.Reader }{strings.NewReader("body")} // of unknown length
			req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/a/", body)
			if err != nil {
				t.Fatal(err)
			}
			outer := " x\ty \t"
			if name == "HTTP/1.1" {
				outer = "x\ty" // its client trims
			}
			req.Header = http.Header{"Cookie": {cookie.sent}, "X-Outer": {outer, outer}, "X-Empty": {""}}
			req.Trailer = http.Header{"X-Trailing": {outer}, "Upgrade": {"a"}, "Http2-Settings": {"a"}}
			resp, err := viewer.RoundTrip(req)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			var cookies, outers []string
			for end := false; !end; {
				b := <-blocks
				end = b.end
				if faults := strictFaults(b.fields); len(faults) > 0 {
					t.Errorf("%s, cookie %q: %q", name, cookie.sent, faults)
				}
				for _, f := range b.fields {
					switch f.Name {
					case "cookie":
						cookies = append(cookies, f.Value)
					case "x-outer", "x-trailing":
						outers = append(outers, f.Value)
					}
				}
			}
			if got := strings.Join(cookies, "; "); got != cookie.want {
				t.Errorf("%s: the cookie %q became %q", name, cookie.sent, got)
			}
			if want := []string{"x\ty", "x\ty", "x\ty"}; !slices.Equal(outers, want) {
				t.Errorf("%s: values became %q", name, outers)
			}
			if req.Header["X-Outer"][0] != outer {
				t.Errorf("%s: the caller's header was changed", name)
			}
			if got := resp.Header.Get("X-Late") + resp.Trailer.Get("X-Trailing"); got != "ab" || len(resp.Trailer) != 1 {
				t.Errorf("%s: got %q, %q", name, resp.Header, resp.Trailer)
			}
		}
	}
}
