package server

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// refusingSession is a tunnel client that resets the first requests with
// REFUSED_STREAM, each when more than a number of bytes of its body is here, and
// answers others with their body. A negative number of requests means all. taken is how
// many bytes of bodies it has got, those of all requests.
func (s *testService) refuse(id string, requests, after int) (seen func() int, taken *atomic.Int64) {
	c := s.dialFramed(id)
	over := make(chan struct{})
	taken = new(atomic.Int64)
	n, refused := 0, 0
	go func() {
		defer close(over)
		bodies := map[uint32]*bytes.Buffer{}
		c.answer(func(f http2.Frame) {
			id := f.Header().StreamID
			ended := false
			switch f := f.(type) {
			case *http2.HeadersFrame:
				n++
				bodies[id] = &bytes.Buffer{}
				ended = f.StreamEnded()
			case *http2.DataFrame:
				if len(f.Data()) > 0 {
					c.fr.WriteWindowUpdate(0, uint32(len(f.Data())))
					c.fr.WriteWindowUpdate(id, uint32(len(f.Data())))
				}
				ended = f.StreamEnded()
				if b := bodies[id]; b != nil {
					b.Write(f.Data())
					taken.Add(int64(len(f.Data())))
				}
			}
			b := bodies[id]
			switch {
			case b == nil:
			case refused != requests && b.Len() >= after:
				refused++
				delete(bodies, id)
				c.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream)
			case ended && refused == requests:
				var block bytes.Buffer
				hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
				c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
				body := b.Bytes()
				for ; len(body) > 16<<10; body = body[16<<10:] {
					c.fr.WriteData(id, false, body[:16<<10])
				}
				c.fr.WriteData(id, true, body)
			}
		})
	}()
	s.t.Cleanup(func() {
		c.conn.Close()
		<-over
	})
	s.waitActive(c)
	return func() int {
		c.conn.Close()
		<-over
		return n
	}, taken
}

// TestRefusedStream: a request that the tunnel client says it has not processed is
// sent again, whatever its method, with the body that it had; not for ever, and not
// with a part of the body.
func TestRefusedStream(t *testing.T) {
	t.Parallel()
	kept := strings.Repeat("0123456789abcdef", 64<<10/16)
	for _, tt := range []struct {
		name            string
		body            string
		chunked         bool
		requests, after int // see refuse
		want, seen      int
	}{
		{"no body", "", false, 1, 0, 200, 2},
		{"before the body", "body", false, 1, 0, 200, 2},
		{"after the body", "body", false, 1, 4, 200, 2},
		{"of unknown length", "body", true, 1, 4, 200, 2},
		{"three times", "body", false, 3, 0, 200, 4},
		{"64 KiB", kept, false, 1, 64 << 10, 200, 2},
		{"64 KiB of unknown length", kept, true, 1, 64 << 10, 200, 2},
		{"too late", strings.Repeat(kept, 10), false, 1, 200 << 10, 502, 1},
		{"for ever", "", false, -1, 0, 502, 6},
		{"for ever with a body", "body", false, -1, 0, 502, 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newService(t, Config{})
			seen, _ := s.refuse("a", tt.requests, tt.after)
			var sent io.Reader = strings.NewReader(tt.body)
			if tt.chunked {
				sent = io.MultiReader(sent)
			}
			resp, err := s.http.Post(s.url+"/a/", "", sent)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); resp.StatusCode == 200 && (string(got) != tt.body || err != nil) {
				t.Errorf("%d bytes of %d arrived, or others, %v", len(got), len(tt.body), err)
			}
			if n := seen(); resp.StatusCode != tt.want || n != tt.seen {
				t.Errorf("%s, and the client saw %d requests; want %d and %d", resp.Status, n, tt.want, tt.seen)
			}
			if kind := resp.Header.Get("Proxy-Status"); tt.want == 502 && !strings.HasPrefix(kind, `websocktunnel; error=connection_terminated; details="WT-TUNNEL-BROKE`) {
				t.Errorf("Proxy-Status: %s", kind)
			}
		})
	}
}

// TestRefusedUpload: another attempt begins at once though the viewer sends nothing
// more for now, and takes what it sends later.
func TestRefusedUpload(t *testing.T) {
	s := newService(t, Config{})
	_, taken := s.refuse("a", 1, 3)
	body, rest := io.Pipe()
	go func() {
		io.WriteString(rest, "abc")
		waitFor(t, func() bool { return taken.Load() >= 6 }) // the same bytes twice
		io.WriteString(rest, strings.Repeat("d", 100<<10))
		rest.Close()
	}()
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/a/", body)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if want := "abc" + strings.Repeat("d", 100<<10); resp.StatusCode != 200 || string(got) != want || err != nil {
		t.Errorf("%s with %d bytes of %d, or others, %v", resp.Status, len(got), len(want), err)
	}
	for info := range s.Tunnels() {
		if info.Received != int64(len(got)) {
			t.Errorf("%d bytes were received, want %d", info.Received, len(got))
		}
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}
