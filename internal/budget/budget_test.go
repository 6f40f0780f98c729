package budget_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/budget"
)

// sleep moves the fake clock.
func sleep(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // in a synctest bubble
	synctest.Wait()
}

func TestAdmit(t *testing.T) {
	b := budget.New(1000)
	defer b.Close()
	h := b.Hold(nil, "peer", 300)
	if err := h.Admit(300); err != nil {
		t.Fatal(err)
	}
	if err := h.Admit(1); !errors.Is(err, budget.ErrPeer) {
		t.Errorf("over the account's limit: %v", err)
	}
	other := b.Hold(nil, "other", 0)
	if err := other.Admit(701); !errors.Is(err, budget.ErrFull) {
		t.Errorf("over the limit of all: %v", err)
	}
	if err := other.Admit(700); err != nil {
		t.Error(err)
	}
	if got := b.Held(); got != 1000 {
		t.Errorf("held %d, want 1000", got)
	}
	h.Release()
	if got := b.HeldBy("peer"); got != 0 {
		t.Errorf("the account holds %d after Release", got)
	}
	other.Release()
	if got := b.Held(); got != 0 {
		t.Errorf("held %d after all has been released", got)
	}
}

func TestNoLimit(t *testing.T) {
	b := budget.New(-1)
	defer b.Close()
	h := b.Hold(nil, 1, 10)
	defer h.Release()
	if err := h.Admit(1 << 40); err != nil {
		t.Error(err)
	}
	h.Room(nil) // must not wait
	if b.HeldBy(1) != 1<<40 {
		t.Error("no account is kept without a limit")
	}
}

// The ones that hold most and have moved least go first; what moves, or has
// nothing waiting, stays.
func TestWorstIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(1000)
		defer b.Close()
		var mu sync.Mutex
		var cut []string
		hold := func(name string, n int64) *budget.Holding {
			h := b.Hold(func() {
				mu.Lock()
				defer mu.Unlock()
				cut = append(cut, name)
			}, "peer", 0)
			h.Add(n)
			return h
		}
		quiet := hold("quiet", 300)
		small := hold("small", 100)
		small.Wait()
		large := hold("large", 300)
		large.Wait()
		moving := hold("moving", 200)
		moving.Wait()
		for range 30 {
			sleep(time.Second / 2)
			moving.Moved()
		}
		if len(cut) > 0 {
			t.Fatalf("cut below the limit: %v", cut)
		}
		late := hold("late", 200) // 1100
		late.Wait()
		sleep(time.Second / 2)
		mu.Lock()
		if len(cut) != 1 || cut[0] != "large" {
			t.Errorf("cut %v, want the large one that does not move", cut)
		}
		mu.Unlock()
		large.Release()
		sleep(time.Minute)
		mu.Lock()
		if len(cut) != 1 {
			t.Errorf("cut %v, also below the limit", cut)
		}
		mu.Unlock()
		for _, h := range []*budget.Holding{quiet, small, moving, late} {
			h.Release()
		}
	})
}

// What has no account is cut too when all peers together hold too much.
func TestWithoutAccountIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(1000)
		defer b.Close()
		var cuts atomic.Int32
		h := b.Hold(func() { cuts.Add(1) }, nil, 0)
		h.Add(1200)
		h.Wait()
		sleep(2 * time.Second)
		if n := cuts.Load(); n != 1 {
			t.Errorf("cut %d times, want once", n)
		}
		h.Release()
	})
}

// What is charged to nobody but pinned counts when the worst is looked for.
func TestPinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(1 << 20)
		defer b.Close()
		session := b.Hold(nil, "tunnel", 1000)
		var cuts atomic.Int32
		for range 10 {
			h := b.Hold(func() { cuts.Add(1) }, "tunnel", 1000)
			h.Pins(200)
			h.Wait()
			defer h.Release()
		}
		sleep(2 * time.Second)
		session.Add(1300)
		sleep(50 * time.Millisecond)
		if n := cuts.Load(); n != 2 {
			t.Errorf("%d were cut for 300 bytes too many, of which each pins 200; want 2", n)
		}
		session.Release()
	})
}

func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(1000)
		defer b.Close()
		h := b.Hold(nil, "peer", 100)
		h.Add(150)
		var passed atomic.Int32
		for range 3 {
			go func() {
				h.Room(nil)
				passed.Add(1)
			}()
		}
		gone := make(chan struct{})
		go func() {
			h.Room(gone)
			passed.Add(10)
		}()
		sleep(time.Hour)
		if n := passed.Load(); n != 0 {
			t.Fatalf("%d did not wait", n)
		}
		close(gone)
		synctest.Wait()
		if n := passed.Load(); n != 10 {
			t.Fatalf("%d: the one that is done has to go on, and no other", n)
		}
		h.Add(-50)
		synctest.Wait()
		if n := passed.Load(); n != 13 {
			t.Errorf("%d: not all go on when there is room", n)
		}
		// Another account is not held up.
		h.Add(100)
		other := b.Hold(nil, "other", 100)
		other.Room(nil)
		other.Release()
		h.Release()
	})
}

// Close lets all go on that wait.
func TestCloseEndsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(10)
		h := b.Hold(nil, "peer", 0)
		h.Add(11)
		done := make(chan struct{})
		go func() {
			h.Room(nil)
			close(done)
		}()
		synctest.Wait()
		b.Close()
		<-done
	})
}

func TestReserve(t *testing.T) {
	b := budget.New(800)
	defer b.Close()
	h := b.Hold(nil, "peer", 400)
	defer h.Release()
	h.Add(400)
	if err := h.Admit(1); !errors.Is(err, budget.ErrPeer) {
		t.Errorf("above the limit: %v", err)
	}
	if err := h.AdmitReserved(50, 8); err != nil {
		t.Errorf("within the reserve: %v", err)
	}
	if err := h.AdmitReserved(1, 8); !errors.Is(err, budget.ErrPeer) {
		t.Errorf("above the reserve: %v", err)
	}
	other := b.Hold(nil, nil, 0)
	other.Add(450)
	if err := other.AdmitReserved(1, 8); !errors.Is(err, budget.ErrFull) {
		t.Errorf("above the reserve of all: %v", err)
	}
	other.Release()
	other.Add(1000)
	other.Release()
	if got := b.Held(); got != 450 {
		t.Errorf("%d are held: what is released changes nothing any more", got)
	}
}

// TestReserveIsBounded: one peer's reserve does not grow with the machine, that of all does.
func TestReserveIsBounded(t *testing.T) {
	b := budget.New(1 << 40)
	defer b.Close()
	h, all := b.Hold(nil, "peer", 1<<30), b.Hold(nil, nil, 0)
	defer h.Release()
	defer all.Release()
	h.Add(1 << 30)
	if err := h.AdmitReserved(16<<20, 2); err != nil {
		t.Errorf("within the reserve: %v", err)
	}
	if err := h.AdmitReserved(1, 2); !errors.Is(err, budget.ErrPeer) {
		t.Errorf("above the reserve: %v", err)
	}
	all.Add(1 << 40)
	if err := all.AdmitReserved(1<<30, 2); err != nil {
		t.Errorf("within the reserve of all: %v", err)
	}
}

// All at once, for the race detector; nothing is left at the end.
func TestStress(t *testing.T) {
	b := budget.New(5000)
	defer b.Close()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				cut := make(chan struct{})
				var once sync.Once
				h := b.Hold(func() { once.Do(func() { close(cut) }) }, j%3, 2000)
				if h.Admit(int64(100*i)) == nil {
					h.Wait()
					h.Add(50)
					h.Add(-20)
					h.Done()
				}
				h.Release()
			}
		})
	}
	wg.Wait()
	if b.Held() != 0 {
		t.Errorf("%d bytes are left", b.Held())
	}
}

func BenchmarkExchange(b *testing.B) {
	all := budget.New(1 << 30)
	defer all.Close()
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			viewer, tunnel := all.Hold(func() {}, 1, 1<<26), all.Hold(func() {}, "t", 1<<26)
			if viewer.Admit(4000) != nil || tunnel.Admit(4000) != nil {
				b.Error("refused")
			}
			viewer.Release()
			tunnel.Release()
		}
	})
}

// BenchmarkWait is what each piece of an answer, and each message of a websocket, costs twice.
func BenchmarkWait(b *testing.B) {
	all := budget.New(1 << 30)
	defer all.Close()
	viewer, tunnel := all.Hold(nil, nil, 0), all.Hold(nil, "tunnel", 0)
	for b.Loop() {
		budget.Wait(viewer, nil, tunnel)
		viewer.Done()
		tunnel.Done()
	}
}
