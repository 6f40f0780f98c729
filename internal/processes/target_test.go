//go:build linux

package processes

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// target is the HTTP server behind the tunnels of a test.
//
//	/echo?x         answers with x
//	/hash           answers with the SHA-256 of the request's body
//	/bytes?n        answers with the first n bytes of content, in pieces over
//	                about a second
//	/half?length    sends half of an answer and no more, its length announced
//	/half           the same without a length
//	/hold           does not answer
//	/ws             echoes the messages of a websocket
type target struct {
	addr net.Addr

	mu    sync.Mutex
	seen  map[string]int // POST requests, by their query
	begun chan struct{}  // capacity for all: one element for each request of /half and /hold
}

func newTarget(t testing.TB, h *host, ip string) *target {
	t.Helper()
	ln := h.listen(t, net.JoinHostPort(ip, "0"))
	tg := &target{addr: ln.Addr(), seen: make(map[string]int), begun: make(chan struct{}, 10000)}
	srv := &http.Server{Handler: tg}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ln) })
	t.Cleanup(func() {
		srv.Close()
		wg.Wait()
	})
	return tg
}

// awaitHalves waits until n requests of /half and /hold have begun, and what
// the target has sent has reached the viewers.
func (tg *target) awaitHalves(n int) {
	for range n {
		<-tg.begun
	}
	<-time.After(200 * time.Millisecond)
}

// content is what /bytes answers with.
func content() io.Reader { return rand.NewChaCha8([32]byte{1}) }

func contentHash(n int64) string { return hashOf(io.LimitReader(content(), n)) }

func hashOf(r io.Reader) string {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "error: " + err.Error()
	}
	return hex.EncodeToString(h.Sum(nil))
}

// pieces is how many pieces of content there are, about one each 10 ms.
const pieces = 100

func (tg *target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	switch r.URL.Path {
	case "/echo":
		io.WriteString(w, r.URL.RawQuery)
	case "/hash":
		tg.mu.Lock()
		tg.seen[r.URL.RawQuery]++
		tg.mu.Unlock()
		io.WriteString(w, hashOf(r.Body))
	case "/bytes":
		n, _ := strconv.ParseInt(r.URL.RawQuery, 10, 64)
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		all := content()
		for left := n; left > 0 && r.Context().Err() == nil; {
			k, err := io.CopyN(w, all, min(left, max(n/pieces, 1)))
			if left -= k; err != nil {
				return
			}
			_ = rc.Flush()
			<-time.After(10 * time.Millisecond)
		}
	case "/half":
		if r.URL.RawQuery == "length" {
			w.Header().Set("Content-Length", "2000")
		}
		_, _ = io.CopyN(w, content(), 1000)
		_ = rc.Flush()
		tg.begun <- struct{}{}
		<-r.Context().Done()
	case "/hold":
		tg.begun <- struct{}{}
		<-r.Context().Done()
	case "/ws":
		tg.echo(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (tg *target) echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	for {
		kind, b, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if err := c.Write(r.Context(), kind, b); err != nil {
			return
		}
	}
}

// twice returns the POST requests that have come more than once.
func (tg *target) twice() []string {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	var list []string
	for query, n := range tg.seen {
		if n > 1 {
			list = append(list, query)
		}
	}
	return list
}
