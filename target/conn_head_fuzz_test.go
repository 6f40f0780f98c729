package target

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
)

// FuzzHeadReader: what net/http makes of an answer behind a headReader is what it
// makes of the answer itself, but for names with space at their ends; and what the
// headReader refuses, net/http refuses, unless it would misunderstand it.
func FuzzHeadReader(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nA: b\r\nC : d\r\n e\r\nContent-Length: 2\r\n\r\nhi",
		"HTTP/1.1 100 \r\n\r\nHTTP/1.1 200\nA:\n\n", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 101 X\r\nUpgrade : x\r\n\r\nA : b\r\n\r\n", "\r\n\r\n", "HTTP/1.1 200 OK\r\n\t\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n \r\n\r\n",
		"HTTP/1.1 200 OK\r\nA\x00: b\r\n:c\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b", "HTTP/1.1 99 OK\r\nX", "HTTP/1.1 200 OK\r\n\r\r\n\r\n",
	} {
		f.Add([]byte(s), uint8(1))
		f.Add([]byte(s), uint8(200))
	}
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		read := func(r io.Reader) (resp *http.Response, body []byte, err error) {
			br := bufio.NewReader(r)
			for {
				if resp, err = http.ReadResponse(br, nil); err != nil {
					return nil, nil, err
				}
				if resp.StatusCode < 100 || resp.StatusCode > 199 || resp.StatusCode == 101 {
					break
				}
			}
			body, err = io.ReadAll(resp.Body)
			return resp, body, err
		}
		var h headReader
		h.expect()
		src := bytes.NewReader(bytes.Clone(in))
		pieces := readerFunc(func(p []byte) (int, error) {
			return h.read(p, func(p []byte) (int, error) { return src.Read(p[:min(len(p), int(size)+1)]) })
		})
		var passed bytes.Buffer
		got, gotBody, err := read(io.TeeReader(pieces, &passed))
		io.Copy(io.Discard, io.TeeReader(pieces, &passed))
		var fault *headFault
		if h.fault != nil && errors.As(h.fault, &fault) {
			resp, _, rawErr := read(bytes.NewReader(in))
			doubt := strings.HasPrefix(fault.text, "space before") || strings.HasPrefix(fault.text, "that header cannot")
			if rawErr == nil && resp != nil && !doubt && resp.Header != nil {
				t.Errorf("%q is refused: %v; net/http takes it", in, fault)
			}
			return
		}
		if len(passed.Bytes()) > len(in) {
			t.Errorf("%q became %q", in, passed.Bytes())
		}
		want, wantBody, wantErr := read(bytes.NewReader(in))
		if want != nil {
			// As it is mended. Lengths and codings with space were refused.
			for k, vv := range maps.Clone(want.Header) {
				if name := strings.TrimRight(k, " "); name != k && name != "" {
					delete(want.Header, k)
					name = http.CanonicalHeaderKey(name)
					want.Header[name] = append(want.Header[name], vv...)
				}
			}
		}
		if bytes.Equal(passed.Bytes(), in) || err != nil || wantErr != nil || got == nil {
			if (err == nil) != (wantErr == nil) && bytes.Equal(passed.Bytes(), in) {
				t.Errorf("%q: %v, without the headReader %v", in, err, wantErr)
			}
			return
		}
		if got.StatusCode != want.StatusCode || got.Close == want.Close && !bytes.Equal(gotBody, wantBody) {
			t.Errorf("%q: %d %q, without the headReader %d %q", in, got.StatusCode, gotBody, want.StatusCode, wantBody)
		}
		for k, vv := range want.Header {
			if g := got.Header[k]; len(g) != len(vv) && k != "Connection" && k != "Trailer" {
				t.Errorf("%q: %s is %q, without the headReader %q", in, k, g, vv)
			}
		}
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
