package reliability

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// target is a real HTTP server that checks what it gets.
type target struct {
	srv *httptest.Server

	mu    sync.Mutex
	posts map[string]int // deliveries by id
	wrong []string       // what should not have come
}

func newTarget(t *testing.T) *target {
	t.Helper()
	tg := &target{posts: make(map[string]int)}
	mux := http.NewServeMux()
	mux.HandleFunc("/down", tg.down)
	mux.HandleFunc("/up", tg.up)
	mux.HandleFunc("/wait", tg.wait)
	mux.HandleFunc("/break", tg.breakOff)
	mux.HandleFunc("/echo", tg.echo)
	tg.srv = httptest.NewServer(mux)
	t.Cleanup(tg.srv.Close)
	return tg
}

// handler returns one that leads to the target.
func (tg *target) handler(t *testing.T) http.Handler {
	t.Helper()
	return tunneltest.ProxyTo(t, tg.srv.URL, tunnelclient.ProxyOptions{Logger: zerolog.Nop()})
}

func (tg *target) complain(format string, args ...any) {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	tg.wrong = append(tg.wrong, fmt.Sprintf(format, args...))
}

// payloadOf returns the body that a request is about.
func payloadOf(r *http.Request) payload {
	number := func(name string) uint64 {
		n, _ := strconv.ParseUint(r.FormValue(name), 10, 64)
		return n
	}
	return payload{seed: number("seed"), size: number("size")}
}

// down answers with a payload, with a length or without.
func (tg *target) down(w http.ResponseWriter, r *http.Request) {
	p := payloadOf(r)
	if r.FormValue("length") != "" {
		w.Header().Set("Content-Length", strconv.FormatUint(p.size, 10))
	}
	io.Copy(w, p.reader())
}

// up counts and checks an upload. Its parameters are in the URL, for a part of
// the body must not be taken for the whole.
func (tg *target) up(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	tg.mu.Lock()
	tg.posts[id]++
	n := tg.posts[id]
	tg.mu.Unlock()
	if n > 1 {
		tg.complain("upload %s came %d times", id, n)
	}
	body := r.Body
	r.Body = http.NoBody // FormValue keeps off it
	switch err := payloadOf(r).check(body); {
	case errors.Is(err, errWrongBytes):
		tg.complain("upload %s: %v", id, err)
		http.Error(w, err.Error(), http.StatusConflict)
	case err != nil:
		panic(http.ErrAbortHandler)
	default:
		fmt.Fprintf(w, "%s is complete", id)
	}
}

// wait answers after a while in which nothing moves.
func (tg *target) wait(w http.ResponseWriter, r *http.Request) {
	ms, _ := strconv.Atoi(r.FormValue("ms"))
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
	case <-r.Context().Done():
	}
	tg.down(w, r)
}

// breakOff answers with only a part of a payload, or with nothing at all, and
// ends or resets the connection.
func (tg *target) breakOff(w http.ResponseWriter, r *http.Request) {
	p := payloadOf(r)
	at, _ := strconv.ParseInt(r.FormValue("at"), 10, 64)
	c, brw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		tg.complain("no hijacker: %v", err)
		return
	}
	defer c.Close()
	if at >= 0 {
		if r.FormValue("length") != "" {
			fmt.Fprintf(brw, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", p.size)
		} else {
			fmt.Fprintf(brw, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", p.size)
		}
		io.CopyN(brw, p.reader(), at)
		brw.Flush()
	}
	if r.FormValue("reset") != "" {
		c.(*net.TCPConn).SetLinger(0)
	}
}

// echo is a websocket that never closes first.
func (tg *target) echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	for {
		typ, p, err := c.Read(r.Context())
		if err != nil || c.Write(r.Context(), typ, p) != nil {
			return
		}
	}
}

// deliveries returns how often the upload id has arrived.
func (tg *target) deliveries(id string) int {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	return tg.posts[id]
}

// forget forgets the uploads that came once.
func (tg *target) forget() {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	maps.DeleteFunc(tg.posts, func(_ string, n int) bool { return n == 1 })
}

// verdict reports what was wrong, and how many uploads came twice.
func (tg *target) verdict(t *testing.T) (duplicated int) {
	t.Helper()
	tg.mu.Lock()
	defer tg.mu.Unlock()
	for _, s := range tg.wrong {
		t.Error("target: " + s)
	}
	for _, n := range tg.posts {
		if n > 1 {
			duplicated++
		}
	}
	return duplicated
}
