package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rawViewer is an HTTP/2 viewer made of frames.
type rawViewer struct {
	net.Conn
	*http2.Framer
	block bytes.Buffer
	enc   *hpack.Encoder
	next  uint32
}

// dialRaw connects to s. It returns nil if the connection is refused.
func dialRaw(t *testing.T, s *testService) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		if errors.Is(err, syscall.ECONNRESET) {
			return nil
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// dialRawViewer returns a viewer that drops what comes.
func dialRawViewer(t *testing.T, s *testService, settings ...http2.Setting) *rawViewer {
	t.Helper()
	v := dialReadingViewer(t, s, settings...)
	go io.Copy(io.Discard, v.Conn)
	return v
}

func dialReadingViewer(t *testing.T, s *testService, settings ...http2.Setting) *rawViewer {
	t.Helper()
	c := dialRaw(t, s)
	if c == nil {
		c, _ = net.Pipe()
		c.Close()
	}
	return newRawViewer(c, settings...)
}

func newRawViewer(c net.Conn, settings ...http2.Setting) *rawViewer {
	v := &rawViewer{Conn: c, Framer: http2.NewFramer(c, c), next: 1}
	v.enc = hpack.NewEncoder(&v.block)
	io.WriteString(c, http2.ClientPreface)
	v.WriteSettings(settings...)
	return v
}

// request sends the header of a request, with fields of name and value.
func (v *rawViewer) request(method, path string, end bool, fields ...string) error {
	v.block.Reset()
	for _, f := range [][2]string{{":method", method}, {":scheme", "http"}, {":authority", "x"}, {":path", path}} {
		v.enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	for i := 0; i < len(fields); i += 2 {
		v.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return v.send(end)
}

// requests sends n that are equal. The second refers to fields of the first, so that all
// later ones are the same bytes as it, which need not be made again.
func (v *rawViewer) requests(n int, method, path string, fields ...string) {
	for i := range n {
		if i < 2 {
			v.request(method, path, true, fields...)
		} else {
			v.send(true)
		}
	}
}

// send sends the header block that has been made, as a request.
func (v *rawViewer) send(end bool) error {
	id := v.next
	v.next += 2
	b := v.block.Bytes()
	first := b[:min(len(b), viewerFrameSize)]
	if err := v.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: end, EndHeaders: len(first) == len(b)}); err != nil {
		return err
	}
	for b = b[len(first):]; len(b) > 0; {
		k := min(len(b), viewerFrameSize)
		if err := v.WriteContinuation(id, k == len(b), b[:k]); err != nil {
			return err
		}
		b = b[k:]
	}
	return nil
}

// TestMemoryIsBounded: what peers can make the service hold stays within the
// limits, neighbours are served meanwhile, and nothing is left when they go.
func TestMemoryIsBounded(t *testing.T) {
	const limit = 128 << 20
	stop := make(chan struct{})
	silent := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	})
	flood := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for err := error(nil); err == nil; {
			_, err = w.Write(make([]byte, 32<<10))
		}
	})
	headers := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i := range 900 {
			w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("v", 40))
		}
		w.WriteHeader(http.StatusOK)
		flood(w, r)
	})
	crumbs := strings.Split(strings.Repeat("cookie\na\n", 1500), "\n")[:3000]
	noWindow := http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}
	for _, tt := range []struct {
		name   string
		bad    http.Handler // of the attacker's tunnel
		perTun bool         // the tunnel is the one that holds
		attack func(t *testing.T, s *testService)
	}{
		{"answers of the service that cannot leave", silent, false, func(t *testing.T, s *testService) {
			for range 60 {
				v := dialRawViewer(t, s, noWindow)
				v.requests(viewerStreams, "GET", "/", crumbs...)
			}
		}},
		{"long paths", silent, false, func(t *testing.T, s *testService) {
			for range 60 {
				v := dialRawViewer(t, s, noWindow)
				v.requests(viewerStreams, "GET", "/__none__/"+strings.Repeat("p", 15<<10))
			}
		}},
		{"requests that wait for a target", silent, false, func(t *testing.T, s *testService) {
			for range 20 {
				v := dialRawViewer(t, s)
				v.requests(viewerStreams, "GET", "/bad/", crumbs...)
			}
		}},
		{"uploads that nobody reads", silent, false, func(t *testing.T, s *testService) {
			for range 10 {
				v := dialRawViewer(t, s)
				go func() {
					for i := range viewerStreams {
						v.request("POST", "/bad/", false)
						for range 31 {
							if v.WriteData(uint32(2*i+1), false, make([]byte, 16<<10)) != nil {
								return
							}
						}
					}
				}()
			}
		}},
		{"half HTTP/2 headers", silent, false, func(t *testing.T, s *testService) {
			for range 300 {
				v := dialRawViewer(t, s)
				v.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
			}
		}},
		{"half HTTP/1 headers", silent, false, func(t *testing.T, s *testService) {
			for range 300 {
				c := dialRaw(t, s)
				if c == nil {
					return
				}
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nA: "+strings.Repeat("a", 60<<10))
			}
		}},
		{"answers that no viewer takes", flood, true, func(t *testing.T, s *testService) {
			for range 3 {
				v := dialRawViewer(t, s, noWindow)
				for range viewerStreams {
					v.request("GET", "/bad/", true)
				}
			}
		}},
		{"large headers of answers that no viewer takes", headers, true, func(t *testing.T, s *testService) {
			for range 3 {
				v := dialRawViewer(t, s, noWindow)
				for range viewerStreams {
					v.request("GET", "/bad/", true)
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newService(t, Config{MemoryLimit: limit, StallTimeout: time.Hour, headerTimeout: time.Hour})
			s.waitActive(s.connect("good", echoHandler))
			s.waitActive(s.connect("bad", tt.bad))
			if resp, _ := s.get("/good/"); resp.StatusCode != http.StatusOK {
				t.Fatal(resp.StatusCode)
			}
			over := make(chan struct{})
			var watching sync.WaitGroup
			var most int64
			watching.Go(func() {
				for {
					most = max(most, s.memory.Held())
					select {
					case <-over:
						return
					case <-time.After(time.Millisecond):
					}
				}
			})
			t.Run("attack", func(t *testing.T) {
				tt.attack(t, s)
				for range 100 {
					if resp, _ := s.get("/good/"); resp.StatusCode != http.StatusOK {
						t.Errorf("the neighbour got %d", resp.StatusCode)
					}
				}
				close(over)
				watching.Wait()
			})
			share := s.memory.perAddress
			if tt.perTun {
				share += s.memory.perTunnel
			}
			if share += share/behavesReserve + 4<<20; most > share {
				t.Errorf("%d MiB were held, and %d may be", most>>20, share>>20)
			}
			t.Logf("%d of %d MiB were held", most>>20, share>>20)
			s.Evict("bad")
			s.http.CloseIdleConnections()
			waitFor(t, func() bool { return s.memory.Held() < 2*sessionCost })
		})
	}
	close(stop)
}

// TestStalledIsCut: near the limit, what does not move makes room, and what moves
// stays.
func TestStalledIsCut(t *testing.T) {
	s := newService(t, Config{MemoryLimit: 128 << 20, StallTimeout: time.Hour})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for err := error(nil); err == nil; {
			_, err = w.Write(make([]byte, 32<<10))
		}
	})))
	resp, err := http.Get(s.url + "/a/moves")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	moving := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				moving <- nil
				return
			case <-time.After(10 * time.Millisecond):
			}
			if _, err := io.ReadFull(resp.Body, make([]byte, 64<<10)); err != nil {
				moving <- err
				return
			}
		}
	}()
	v := dialRawViewer(t, s)
	for range 100 { // which have 64 KiB of window each
		v.request("GET", "/a/", true)
	}
	waitFor(t, func() bool { return s.memory.HeldBy(labelOf("a")) > s.memory.perTunnel })
	waitFor(t, func() bool { return s.memory.HeldBy(labelOf("a")) < s.memory.perTunnel })
	close(stop)
	if err := <-moving; err != nil {
		t.Errorf("the download that moves: %v", err)
	}
}

// TestRefusalsHoldLittle: of the requests for which there is no room, few wait for a
// viewer that takes no answer.
func TestRefusalsHoldLittle(t *testing.T) {
	s := newService(t, Config{MemoryLimit: 128 << 20, StallTimeout: time.Hour})
	v := dialReadingViewer(t, s, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	addr, _ := parseAddr("127.0.0.1")
	h := s.memory.hold(nil, addr)
	defer h.Release()
	h.Add(s.memory.perAddress)
	before := s.memory.Held()
	for range viewerStreams {
		v.request("GET", "/", true, "x", strings.Repeat("x", 1000))
	}
	v.SetReadDeadline(time.Now().Add(failureTime / 2)) // when those that wait are cut
	for refused := 0; refused < viewerStreams-bareRefusals; {
		f, err := v.ReadFrame()
		if err != nil {
			t.Fatalf("after %d refusals: %v", refused, err)
		}
		if h := f.Header(); h.StreamID != 0 && h.Flags&http2.FlagDataEndStream != 0 { // as that of HEADERS
			refused++
		}
	}
	if n := s.memory.Held() - before; n > (bareRefusals+2)*requestCost+http2Cost {
		t.Errorf("%d KiB are held for refusals", n>>10)
	}
}

// TestUnreadTrailersCount: trailers behind a body that no viewer takes are charged to their
// tunnel until the request is over.
func TestUnreadTrailersCount(t *testing.T) {
	s := newService(t, Config{MemoryLimit: 512 << 20, StallTimeout: time.Hour})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "body")
		for i := range 90 {
			w.Header().Set(fmt.Sprint(http.TrailerPrefix, "X-", i), fmt.Sprint(i, time.Now().UnixNano()))
		}
	})))
	before := s.memory.HeldBy(labelOf("a"))
	const requests, cost = 20, 90 * 150
	v := dialRawViewer(t, s, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for range requests {
		v.request("GET", "/a/", true)
	}
	waitFor(t, func() bool { return s.memory.HeldBy(labelOf("a")) > before+requests*cost })
	v.Close()
	// x/net gives small pieces of the window back later.
	given := func() bool { return s.memory.HeldBy(labelOf("a")) < before+1000 }
	waitFor(t, given)
	for range 3 {
		if resp, _ := s.get("/a/"); resp.StatusCode != http.StatusOK {
			t.Error(resp.Status)
		}
	}
	waitFor(t, given)
}

// TestTrailersOfRequestsCount: so are those of requests, to their viewer.
func TestTrailersOfRequestsCount(t *testing.T) {
	s := newService(t, Config{MemoryLimit: 512 << 20, StallTimeout: time.Hour})
	arrived, answer := make(chan struct{}, 20), make(chan struct{})
	s.waitActive(s.connect("a", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-answer
	})))
	addr, _ := parseAddr("127.0.0.1")
	held := func() int64 { return s.memory.HeldBy(subscriber(addr)) }
	v := dialRawViewer(t, s)
	for range 10 {
		v.request("POST", "/a/", false, "trailer", "x-0")
		v.block.Reset()
		for i := range 500 {
			v.enc.WriteField(hpack.HeaderField{Name: fmt.Sprint("x-", i), Sensitive: true})
		}
		v.WriteHeaders(http2.HeadersFrameParam{StreamID: v.next - 2, BlockFragment: v.block.Bytes(), EndStream: true, EndHeaders: true})
		<-arrived
	}
	waitFor(t, func() bool { return held() > 10*500*fieldCost })
	close(answer)
	waitFor(t, func() bool { return held() < 2*requestCost+http2Cost+connCost+exchangeCost })
}

// TestHeaderCost: names and values count, and each field besides.
func TestHeaderCost(t *testing.T) {
	h := http.Header{"A": {"b", "c"}, "Cookie": {strings.Repeat("x", 1000)}}
	if n := headerCost(h); n < 1000+2*fieldCost || n > 2000 {
		t.Errorf("%d", n)
	}
}
