package h2conn

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// TestMeterLegalTraffic: what honest peers send earns what it costs, at either
// end: however long it goes on, the budget does not get less.
func TestMeterLegalTraffic(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/events": // tiny ones
			for range 5000 {
				io.WriteString(w, "data: 1\n\n")
				http.NewResponseController(w).Flush()
			}
		case "/download":
			b := make([]byte, 32<<10)
			for range 1 << 8 {
				w.Write(b)
			}
		case "/slowly": // of full windows, a byte at a time
			b := make([]byte, 1)
			for range 3000 {
				r.Body.Read(b)
			}
			io.Copy(io.Discard, r.Body)
		case "/wait":
			<-r.Context().Done()
		default:
			io.Copy(io.Discard, r.Body)
		}
	})
	do := func(t *testing.T, tr *Transport, path string, body io.Reader) {
		req, err := http.NewRequest(http.MethodPost, "http://tunnel"+path, body)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
	}
	all := func(n int, f func()) {
		var wg sync.WaitGroup
		for range n {
			wg.Go(f)
		}
		wg.Wait()
	}
	for _, tc := range []struct {
		name string
		load func(t *testing.T, tr *Transport)
	}{
		{"one large upload", func(t *testing.T, tr *Transport) {
			do(t, tr, "/", bytes.NewReader(make([]byte, 16<<20)))
		}},
		{"many uploads in tiny pieces", func(t *testing.T, tr *Transport) {
			all(200, func() { do(t, tr, "/", &pieces{left: 500, size: 3}) })
		}},
		{"uploads that are read a byte at a time", func(t *testing.T, tr *Transport) {
			all(4, func() { do(t, tr, "/slowly", bytes.NewReader(make([]byte, 2<<20))) })
		}},
		{"downloads", func(t *testing.T, tr *Transport) { all(4, func() { do(t, tr, "/download", nil) }) }},
		{"tiny events", func(t *testing.T, tr *Transport) { all(10, func() { do(t, tr, "/events", nil) }) }},
		{"small requests", func(t *testing.T, tr *Transport) {
			all(20, func() {
				for range 100 {
					do(t, tr, "/", bytes.NewReader(make([]byte, 10)))
				}
			})
		}},
		{"requests that are given up", func(t *testing.T, tr *Transport) {
			all(50, func() {
				for range 40 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
					req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://tunnel/wait", nil)
					if _, err := tr.RoundTrip(req); err == nil {
						t.Error("there is an answer")
					}
					cancel()
				}
			})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asking, answering := meteredPair(t, handler, func(tr *Transport) { tc.load(t, tr) })
			for name, m := range map[string]*meter{"asking": asking, "answering": answering} {
				left := m.budget + m.earned.Load() - glitchBurst
				t.Logf("%s end: %d left over", name, left)
				// Once: settings, pings, a message or two.
				if left < -50 {
					t.Errorf("the traffic costs the %s end's peer %d glitches", name, -left)
				}
			}
		})
	}
}

// TestMeterLateReads: uploads that have arrived as a whole, and are read a while
// later in small pieces, are paid for too: nothing earns any more then.
func TestMeterLateReads(t *testing.T) {
	const uploads = 150
	window := newStreamWindows(answeringStreamWindow, answeringConnWindow).first
	release := make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-release
		for b, n := make([]byte, 4<<10), 0; ; n++ {
			if n%8 == 0 { // x/net itself gives up when 10,000 wait to be sent
				<-time.After(30 * time.Millisecond)
			}
			if _, err := io.ReadFull(r.Body, b); err != nil {
				return
			}
		}
	})
	meteredPair(t, handler, func(tr *Transport) {
		var sent, wg sync.WaitGroup
		for range uploads {
			sent.Add(1)
			wg.Go(func() {
				body := &endingBody{Reader: bytes.NewReader(make([]byte, window)), ended: sync.OnceFunc(sent.Done)}
				req, err := http.NewRequest(http.MethodPost, "http://tunnel/", body)
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			})
		}
		sent.Wait()
		close(release)
		wg.Wait()
	})
}

// endingBody calls ended when it has been read to its end.
type endingBody struct {
	io.Reader
	ended func()
}

func (b *endingBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil {
		b.ended()
	}
	return n, err
}

// pieces is a body that comes in small reads.
type pieces struct{ left, size int }

func (p *pieces) Read(b []byte) (int, error) {
	if p.left--; p.left < 0 {
		return 0, io.EOF
	}
	return min(len(b), p.size), nil
}

// meteredPair runs load over a tunnel, and returns the meters of both ends when
// it is over.
func meteredPair(t testing.TB, h http.Handler, load func(*Transport)) (asking, answering *meter) {
	t.Helper()
	accepted := make(chan *Conn, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := Accept(w, r, AcceptOptions{})
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}))
	defer srv.Close()
	dialled, _, err := Dial(t.Context(), srv.URL, DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := <-accepted
	tr, err := NewTransport(c, TransportConfig{})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		Serve(context.Background(), dialled, h, ServeConfig{})
	}()
	if err := tr.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	load(tr)
	if err := tr.Ping(t.Context()); err != nil {
		t.Errorf("after it: %v", err)
	}
	tr.Close()
	<-tr.Done()
	<-served
	return c.meter, dialled.meter
}

// BenchmarkDownload is of one large answer over loopback TCP.
func BenchmarkDownload(b *testing.B) {
	piece := make([]byte, 64<<10)
	const size = 64 << 20
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range size / len(piece) {
			w.Write(piece)
		}
	})
	b.SetBytes(size)
	b.ReportAllocs()
	meteredPair(b, h, func(tr *Transport) {
		for b.Loop() {
			req, _ := http.NewRequest(http.MethodGet, "http://tunnel/", nil)
			resp, err := tr.RoundTrip(req)
			if err != nil {
				b.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
				b.Fatal(n, err)
			}
			resp.Body.Close()
		}
	})
}
