package e2e

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

func TestMethodsAndBodies(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	url := s.Target("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Seen", fmt.Sprintf("%s %d %v", r.Method, r.ContentLength, r.TransferEncoding))
		w.Header().Set("Content-Length", strconv.Itoa(len(b)+2))
		fmt.Fprintf(w, "<%s>", b)
	}), tunnelclient.ProxyOptions{}).URL
	v := tunneltest.NewViewer(t)
	for _, tc := range []struct {
		method string
		body   io.Reader
		seen   string
		answer string
	}{
		{"GET", nil, "GET 0 []", "<>"},
		{"HEAD", nil, "HEAD 0 []", ""},
		{"POST", strings.NewReader("abc"), "POST 3 []", "<abc>"},
		{"POST", struct{ io.Reader }{strings.NewReader("abc")}, "POST -1 [chunked]", "<abc>"},
		{"POST", http.NoBody, "POST 0 []", "<>"},
		{"DELETE", nil, "DELETE 0 []", "<>"},
		{"PROPFIND", strings.NewReader("x"), "PROPFIND 1 []", "<x>"},
	} {
		req, _ := http.NewRequestWithContext(t.Context(), tc.method, url+"/x", tc.body)
		resp, err := v.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got := tunneltest.ReadAll(t, resp)
		if got != tc.answer || resp.Header.Get("X-Seen") != tc.seen {
			t.Errorf("%s: got %q, seen %q, want %q, %q", tc.method, got, resp.Header.Get("X-Seen"), tc.answer, tc.seen)
		}
		if tc.method == "HEAD" && resp.ContentLength != 2 {
			t.Errorf("HEAD: Content-Length is %d", resp.ContentLength)
		}
	}
}

func TestHundredInParallel(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	url := s.Target("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	}), tunnelclient.ProxyOptions{}).URL
	v := tunneltest.NewViewer(t)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			text := strings.Repeat(fmt.Sprint(i, ","), 1000)
			resp, err := v.Post(url, "text/plain", strings.NewReader(text))
			if err != nil {
				t.Error(err)
				return
			}
			if got := tunneltest.ReadAll(t, resp); got != text {
				t.Errorf("request %d got %d bytes", i, len(got))
			}
		})
	}
	wg.Wait()
}

// bulkSize is how much TestBulk streams each way.
func bulkSize() int64 {
	if os.Getenv("WST_LONG") != "" {
		return 5 << 30
	}
	return 256 << 20
}

// TestBulk streams in both directions through all of it, in constant memory.
func TestBulk(t *testing.T) {
	size := bulkSize()
	s := tunneltest.NewService(t, server.Config{})
	url := s.Target("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			g := newGenerator(size)
			w.Header().Set("Trailer", "X-Sum")
			io.Copy(w, g)
			w.Header().Set("X-Sum", g.sum())
			return
		}
		h := sha256.New()
		if _, err := io.Copy(h, r.Body); err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, "%x", h.Sum(nil))
	}), tunnelclient.ProxyOptions{}).URL
	v := tunneltest.NewViewer(t)

	t.Run("download", func(t *testing.T) {
		start := time.Now()
		resp, err := v.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		h := sha256.New()
		m := newMemory(t)
		n, err := io.Copy(io.MultiWriter(h, m), resp.Body)
		if err != nil || n != size {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != resp.Trailer.Get("X-Sum") {
			t.Errorf("hash is %s, want %s", got, resp.Trailer.Get("X-Sum"))
		}
		t.Logf("%d MB/s, at most %d MB more heap", int(float64(n)/1e6/time.Since(start).Seconds()), m.grown>>20)
	})
	t.Run("upload", func(t *testing.T) {
		start := time.Now()
		g := newGenerator(size)
		m := newMemory(t)
		resp, err := v.Post(url, "application/octet-stream", io.TeeReader(g, m))
		if err != nil {
			t.Fatal(err)
		}
		if got := tunneltest.ReadAll(t, resp); got != g.sum() {
			t.Errorf("hash is %s, want %s", got, g.sum())
		}
		t.Logf("%d MB/s, at most %d MB more heap", int(float64(size)/1e6/time.Since(start).Seconds()), m.grown>>20)
	})
}

// generator reads size bytes that do not repeat soon, and hashes them.
type generator struct {
	left int64
	n    uint64
	h    hash.Hash
}

func newGenerator(size int64) *generator { return &generator{left: size, h: sha256.New()} }

func (g *generator) Read(p []byte) (int, error) {
	if g.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), g.left)]
	for i := range p {
		if i&7 == 0 {
			g.n = g.n*6364136223846793005 + 1442695040888963407
		}
		p[i] = byte(g.n >> (8 * (i & 7)))
	}
	g.left -= int64(len(p))
	g.h.Write(p)
	return len(p), nil
}

func (g *generator) sum() string { return fmt.Sprintf("%x", g.h.Sum(nil)) }

// memory is written what passes by, and looks at the heap now and then.
type memory struct {
	t        testing.TB
	base     uint64
	grown    uint64
	seen     int64
	nextLook int64
}

// maxGrowth bounds the live heap under one stream: a stream's windows in both
// directions and buffers on four ends.
const maxGrowth = 32 << 20

func newMemory(t testing.TB) *memory { return &memory{t: t, base: liveHeap(), nextLook: 16 << 20} }

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (m *memory) Write(p []byte) (int, error) {
	if m.seen += int64(len(p)); m.seen >= m.nextLook {
		m.nextLook *= 2
		if h := liveHeap(); h > m.base {
			m.grown = max(m.grown, h-m.base)
		}
		if m.grown > maxGrowth {
			m.t.Errorf("after %d MB the live heap has grown by %d MB", m.seen>>20, m.grown>>20)
		}
	}
	return len(p), nil
}

// TestEvents: server-sent events from a real target arrive within 50 ms, but for
// those that a busy machine is late with.
func TestEvents(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	events := make(chan int)
	url := s.Target("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for e := range events {
			fmt.Fprintf(w, "data: %d\n\n", e)
			w.(http.Flusher).Flush()
		}
	}), tunnelclient.ProxyOptions{}).URL
	resp, err := tunneltest.NewViewer(t).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	br := bufio.NewReader(resp.Body)
	var late []time.Duration
	for i := range 100 {
		start := time.Now()
		events <- i
		if line, err := br.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("event %d is %q, %v", i, line, err)
		}
		if d := time.Since(start); d > 50*time.Millisecond {
			late = append(late, d)
		}
		br.ReadString('\n')
	}
	close(events)
	if len(late) > 50 { // a timer would make all of them late
		t.Errorf("%d of 100 events were late: %v", len(late), late)
	}
}

// TestViewerLeavesTarget: when the viewer goes away, the target's connection
// is closed.
func TestViewerLeavesTarget(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	left := make(chan struct{})
	url := s.Target("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(left)
	}), tunnelclient.ProxyOptions{}).URL
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
	resp, err := tunneltest.NewViewer(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	cancel()
	<-left
}
