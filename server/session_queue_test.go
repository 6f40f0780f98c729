package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
)

// queued are waiters of one address, by name.
type queued struct {
	t *testing.T
	q *fairQueue
	w map[string]*waiter
}

// wait queues waiters that are named after their address: "a1" is of "a".
func (u *queued) wait(names ...string) {
	u.t.Helper()
	for _, name := range names {
		w, err := u.q.enter(testAddr(name[0]))
		if err != nil || w == nil {
			u.t.Fatalf("%s: %v, %v: it should wait", name, w, err)
		}
		u.w[name] = w
	}
}

func testAddr(name byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, name}) }

// ready returns the waiters that have a slot since the last call.
func (u *queued) ready() (names []string) {
	u.t.Helper()
	for name, w := range u.w {
		select {
		case err := <-w.ready:
			delete(u.w, name)
			if err != nil {
				name += " busy"
			}
			names = append(names, name)
		default:
		}
	}
	slices.Sort(names)
	return names
}

// order frees n slots and returns who gets them.
func (u *queued) order(n int) string {
	u.t.Helper()
	var all []string
	for range n {
		u.q.release()
		got := u.ready()
		if len(got) != 1 {
			u.t.Fatalf("one slot went to %q", got)
		}
		all = append(all, got[0])
	}
	return strings.Join(all, " ")
}

func newQueued(t *testing.T, slots, limit int) *queued {
	u := &queued{t: t, q: newFairQueue(slots, limit), w: make(map[string]*waiter)}
	for range slots { // all taken by an address that does not wait
		if w, err := u.q.enter(testAddr('z')); w != nil || err != nil {
			t.Fatal("a free slot was not given at once")
		}
	}
	return u
}

func TestFairQueueGoesRound(t *testing.T) {
	u := newQueued(t, 2, 100)
	u.wait("a1", "a2", "a3", "a4", "b1", "c1", "b2")
	if got, want := u.order(3), "a1 b1 c1"; got != want {
		t.Errorf("first round %q, want %q", got, want)
	}
	u.wait("d1", "c2") // who comes, and who comes again, is behind who waits
	if got, want := u.order(6), "a2 b2 d1 c2 a3 a4"; got != want {
		t.Errorf("then %q, want %q", got, want)
	}
	u.q.release()
	if w, err := u.q.enter(testAddr('e')); w != nil || err != nil {
		t.Error("a slot was not given back")
	}
	if len(u.q.classes) != 0 || len(u.q.turns) != 0 || u.q.waiting != 0 {
		t.Errorf("left: %+v", u.q)
	}
}

// TestFairQueueMakesRoom: when the queue is full of one address's, those of
// others still get in.
func TestFairQueueMakesRoom(t *testing.T) {
	u := newQueued(t, 1, 4)
	u.wait("a1", "a2", "a3", "a4")
	if _, err := u.q.enter(testAddr('a')); !errors.Is(err, errBusy) {
		t.Errorf("a fifth of one address: %v", err)
	}
	u.wait("b1")
	if got := fmt.Sprint(u.ready()); got != "[a4 busy]" {
		t.Errorf("room was made by %s", got)
	}
	u.wait("c1")
	if got := fmt.Sprint(u.ready()); got != "[a3 busy]" {
		t.Errorf("room was made by %s", got)
	}
	// With two of a, and one each of b and c, another of b would have as many.
	for _, name := range []byte("abc") {
		if _, err := u.q.enter(testAddr(name)); !errors.Is(err, errBusy) {
			t.Errorf("one more of %c: %v", name, err)
		}
	}
	if got, want := u.order(4), "a1 b1 c1 a2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFairQueueLeave(t *testing.T) {
	u := newQueued(t, 1, 100)
	u.wait("a1", "a2", "b1", "c1")
	u.q.leave(u.w["b1"])
	delete(u.w, "b1")
	if got, want := u.order(2), "a1 c1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// One that leaves with its slot in hand passes it on.
	u.wait("d1")
	u.q.release()
	u.q.leave(u.w["a2"])
	delete(u.w, "a2")
	if got := fmt.Sprint(u.ready()); got != "[d1]" {
		t.Errorf("the slot went to %s", got)
	}
	u.q.release()
	if u.q.free != 1 || u.q.waiting != 0 || len(u.q.classes) != 0 {
		t.Errorf("left: %+v", u.q)
	}
}

// TestFairQueueStress: whatever happens at once, no slot is lost and none is
// given twice.
func TestFairQueueStress(t *testing.T) {
	const slots = 5
	q := newFairQueue(slots, 40)
	var mu sync.Mutex
	taken, most := 0, 0
	use := func() {
		mu.Lock()
		taken++
		most = max(most, taken)
		mu.Unlock()
		mu.Lock()
		taken--
		mu.Unlock()
		q.release()
	}
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			for range 300 {
				w, err := q.enter(testAddr(byte(i % 7)))
				switch {
				case err != nil:
				case w == nil:
					use()
				case rand.N(3) == 0:
					q.leave(w)
				default:
					if <-w.ready == nil {
						use()
					}
				}
			}
		})
	}
	wg.Wait()
	if q.free != slots || q.waiting != 0 || len(q.classes) != 0 || len(q.turns) != 0 || most > slots {
		t.Errorf("%d of %d slots are free, up to %d were taken, left: %+v", q.free, slots, most, q)
	}
}

// TestWaitEnds: with the request's context, and with the session's life.
// TestTunnelFull has the time.
func TestWaitEnds(t *testing.T) {
	s := newService(t, Config{MaxStreams: 1})
	c := s.connect("a", http.NotFoundHandler())
	s.waitActive(c)
	active, _ := s.registry.lookup(t.Context(), "a")
	sess := &session{srv: s.Server, slots: newFairQueue(1, 10), retired: make(chan struct{}), tr: active.tr, state: stateActive}
	if err := sess.begin(t.Context(), netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		end  func(cancel func())
		want error
	}{
		"cancelled": {func(cancel func()) { cancel() }, context.Canceled},
		"retired":   {func(func()) { close(sess.retired) }, errRetired},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			got := make(chan error, 1)
			go func() { got <- sess.begin(ctx, netip.Addr{}) }()
			waitFor(t, func() bool { return sess.slots.waits() == 1 })
			tc.end(cancel)
			if err := <-got; !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if n := sess.slots.waits(); n != 0 {
				t.Errorf("%d still wait", n)
			}
			sess.retired = make(chan struct{})
		})
	}
}

// TestFairBetweenAddresses: one address keeps a tunnel busy with hundreds of
// requests, and another's only one is served by the next slot but one. The
// addresses are those that trusted proxies name.
func TestFairBetweenAddresses(t *testing.T) {
	s := newService(t, Config{MaxStreams: 2, TrustedProxies: []string{"127.0.0.1"}})
	release := make(chan struct{})
	served := make(chan string)
	c := s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served <- r.Header.Get("X-Who")
		<-release
		io.WriteString(w, "ok")
	}))
	s.waitActive(c)
	sess, _ := s.registry.lookup(t.Context(), "a")
	var wg sync.WaitGroup
	ask := func(who, from string) {
		wg.Go(func() {
			if resp, _ := s.get("/a/", "X-Forwarded-For", from, "X-Who", who); resp.StatusCode != 200 {
				t.Errorf("%s got %d", who, resp.StatusCode)
			}
		})
	}
	const flood = 30 // so few that none waits for slotWait, on a busy machine either
	for i := range flood {
		// All of one subscriber, by different addresses of it.
		ask("flood", fmt.Sprintf("2001:db8::%x", i+1))
	}
	<-served
	<-served
	waitFor(t, func() bool { return sess.slots.waits() == flood-2 })
	ask("other", "203.0.113.7")
	waitFor(t, func() bool { return sess.slots.waits() == flood-1 })
	var order []string
	for range flood - 1 {
		release <- struct{}{}
		order = append(order, <-served)
	}
	close(release)
	wg.Wait()
	if i := slices.Index(order, "other"); i < 0 || i > 1 {
		t.Errorf("the other address was number %d in the queue of %d", i+1, len(order))
	}
}

// waits returns how many requests wait.
func (q *fairQueue) waits() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting
}
