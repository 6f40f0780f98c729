//go:build linux

package processes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// TestRollingRestart (F4): a service is replaced by another process behind a
// load balancer, again and again, and no viewer notices. Websockets and uploads
// stay on the process that they began on, which waits for them.
func TestRollingRestart(t *testing.T) {
	needProcesses(t)
	rounds := pick(2, 50)
	addrs := [2]string{newAddr(), newAddr()}
	lb := newBalancer(t, addrs[:]...)
	tg := newTarget(t, here, "127.0.0.1")
	opts := serviceOptions{
		url: "http://" + lb.addr,
		env: []string{"STARTUP_WAIT=20s", "DRAIN_DELAY=500ms", "DRAIN_TIMEOUT=30s"},
	}
	svc := startService(t, addrs[0], opts)
	lb.await(t, svc.addr)
	clients := startClients(t, here, "http://"+lb.addr, 3, tg.addr)
	urls := make([]string, len(clients))
	for i, c := range clients {
		urls[i] = c.url
	}

	l := newLoad(t, urls)
	l.requests(pick(50, 200))
	for range pick(20, 100) {
		l.always(l.websocket)
	}
	for range pick(2, 5) {
		l.always(l.upload)
	}
	<-time.After(pick(500*time.Millisecond, 2*time.Second)) // every kind of load has begun
	var longest time.Duration
	for i := range rounds {
		next := startService(t, addrs[(i+1)%2], opts)
		lb.await(t, next.addr)
		begun := time.Now()
		svc.signal(syscall.SIGTERM)
		svc.exits(0, 40*time.Second)
		longest = max(longest, time.Since(begun))
		svc = next
	}
	l.stop()

	summary(t, "%d restarts, longest drain %v; %d requests (slowest %v), %d websockets with %d echoes, %d uploads; %d failed; %d websockets cut",
		rounds, ms(longest), l.done.Load(), ms(time.Duration(l.slowest.Load())), l.websockets.Load(), l.echoes.Load(), l.uploads.Load(),
		len(l.failures), l.cut.Load())
	none(t, "failures", l.failures)
	none(t, "requests that came twice", tg.twice())
	if n := l.cut.Load(); n != 0 {
		t.Errorf("%d websockets were cut although they would have ended within the drain timeout", n)
	}
	if l.done.Load() == 0 || l.echoes.Load() == 0 || l.uploads.Load() == 0 {
		t.Error("there was no load")
	}
}

// stayTime is about how long a websocket or an upload of the load lives.
const stayTime = time.Second

// load is what viewers do during a test.
type load struct {
	urls     []string
	keep     *http.Client // keeps its connections
	once     *http.Client // one for each request
	ctx      context.Context
	end      context.CancelFunc
	wg       sync.WaitGroup
	uploaded string // hash of what upload sends

	done, slowest, websockets, echoes, uploads, cut, serial atomic.Int64

	mu       sync.Mutex
	failures []string
}

func newLoad(t *testing.T, urls []string) *load {
	l := &load{urls: urls, keep: newViewer(t, here), uploaded: contentHash(uploadSize)}
	l.once = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	l.ctx, l.end = context.WithCancel(context.Background())
	t.Cleanup(l.stop)
	return l
}

func (l *load) stop() {
	l.end()
	l.wg.Wait()
}

func (l *load) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (l *load) url() string { return l.urls[rand.N(len(l.urls))] }

// always repeats f until the end.
func (l *load) always(f func()) {
	l.wg.Go(func() {
		for l.ctx.Err() == nil {
			f()
		}
	})
}

// requests sends small requests, so many per second, whether the earlier ones
// have been answered or not.
func (l *load) requests(perSecond int) {
	l.wg.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				l.wg.Go(l.request)
			case <-l.ctx.Done():
				return
			}
		}
	})
}

// request sends one: GET and POST, on a new connection and on one that is kept.
// It is not broken off by the end of the load.
func (l *load) request() {
	n := l.serial.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	begun := time.Now()
	viewer, kind := l.keep, "kept"
	if n&1 != 0 {
		viewer, kind = l.once, "new"
	}
	query := fmt.Sprintf("request-%d", n)
	method, path, want, sent := http.MethodGet, "/echo?", query, ""
	if n&2 != 0 {
		method, path, sent = http.MethodPost, "/hash?", strings.Repeat(query, 100)
		want = hashOf(strings.NewReader(sent))
	}
	req, err := http.NewRequestWithContext(ctx, method, l.url()+path+query, strings.NewReader(sent))
	if err != nil {
		l.fail("%v", err)
		return
	}
	status, body, err := do(viewer, req)
	took := time.Since(begun)
	if status != 200 || body != want || err != nil {
		l.fail("%s on a %s connection: after %v: %d %q %v", method, kind, ms(took), status, tail(body, 200), err)
	}
	l.done.Add(1)
	for {
		old := l.slowest.Load()
		if int64(took) <= old || l.slowest.CompareAndSwap(old, int64(took)) {
			return
		}
	}
}

// upload sends content over about stayTime.
func (l *load) upload() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	query := fmt.Sprintf("upload-%d", l.serial.Add(1))
	status, got, err := upload(ctx, l.once, l.url(), query)
	if status != 200 || got != l.uploaded || err != nil {
		l.fail("%s: %d %q %v", query, status, tail(got, 200), err)
	}
	l.uploads.Add(1)
}

// websocket opens one, has its messages echoed for about stayTime, and closes
// it. Being cut is no failure of itself: a viewer sees that and comes again. An
// end that looks right although an echo is missing is one.
func (l *load) websocket() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(l.url(), "http")+"/ws", &websocket.DialOptions{HTTPClient: l.once})
	if err != nil {
		l.fail("websocket: %v", err)
		return
	}
	defer c.CloseNow()
	l.websockets.Add(1)
	end := time.Now().Add(stayTime/2 + rand.N(stayTime))
	for time.Now().Before(end) && l.ctx.Err() == nil {
		msg := fmt.Appendf(nil, "message %d", l.serial.Add(1))
		err := c.Write(ctx, websocket.MessageText, msg)
		var got []byte
		if err == nil {
			_, got, err = c.Read(ctx)
		}
		var ce websocket.CloseError
		switch {
		case err != nil && (ctx.Err() != nil || errors.As(err, &ce)):
			l.fail("a websocket has no echo of %q: %v", msg, err)
			return
		case err != nil:
			l.cut.Add(1)
			return
		case !bytes.Equal(got, msg):
			l.fail("a websocket's echo of %q is %q", msg, got)
			return
		}
		l.echoes.Add(1)
		select {
		case <-time.After(200 * time.Millisecond):
		case <-l.ctx.Done():
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		l.fail("the end of a websocket: %v", err)
	}
}
