package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// waiters makes n requests to the tunnel a and returns a count of those that
// have ended, by their errors.
func waiters(t *testing.T, s *Server, n int) (ended func() map[error]int) {
	var mu sync.Mutex
	counts := make(map[error]int)
	for range n {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://h/", nil)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := s.RoundTripper("a").RoundTrip(req)
			for _, known := range []error{errBusy, ErrNoTunnel} {
				if errors.Is(err, known) {
					err = known
				}
			}
			mu.Lock()
			defer mu.Unlock()
			counts[err]++
		}()
	}
	return func() map[error]int {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(counts)
	}
}

// TestWaitForRegistrationIsBounded in number and time, also where a tunnel
// client registers again and again, and never goes on after the 101.
func TestWaitForRegistrationIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{PublicURL: "http://localhost", Secrets: [][]byte{testSecret}})
		if err != nil {
			t.Fatal(err)
		}
		a := s.registry.announce("a", nil, func() {})
		ended := waiters(t, s, maxWaiting+10)
		if got := ended(); got[errBusy] != 10 || len(got) != 1 {
			t.Errorf("of %d more than may wait: %v", 10, got)
		}
		for range 20 {
			pause(time.Second)
			next := s.registry.announce("a", nil, func() {})
			s.registry.withdraw(a)
			a = next
		}
		if got := ended(); got[ErrNoTunnel] != maxWaiting {
			t.Errorf("after 20 s without a session: %v", got)
		}
		// Those who have left do not count.
		ended = waiters(t, s, maxWaiting)
		if got := ended(); len(got) != 0 {
			t.Errorf("later: %v", got)
		}
		s.registry.withdraw(a)
		if got := ended(); got[ErrNoTunnel] != maxWaiting {
			t.Errorf("after the registration has failed: %v", got)
		}
	})
}

// TestStartupWaitIsBounded in number, also for one id.
func TestStartupWaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{PublicURL: "http://localhost", Secrets: [][]byte{testSecret}, StartupWait: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		const others = maxExpecting - 100
		s.registry.expecting = others
		counted := func() int {
			s.registry.mu.Lock()
			defer s.registry.mu.Unlock()
			return s.registry.expecting
		}
		ended := waiters(t, s, 110)
		if got := ended(); got[ErrNoTunnel] != 10 {
			t.Errorf("of %d more than may wait: %v", 10, got)
		}
		pause(2 * time.Minute)
		if got := ended(); got[ErrNoTunnel] != 110 {
			t.Errorf("at the end: %v", got)
		}
		if n := counted(); n != others {
			t.Errorf("%d are still counted", n-others)
		}

		// Those whose tunnel comes do not count any more either.
		s.expectUntil = time.Now().Add(time.Minute)
		ended = waiters(t, s, 100)
		if got := ended(); len(got) != 0 {
			t.Errorf("later: %v", got)
		}
		s.registry.withdraw(s.registry.announce("a", nil, func() {}))
		if got := ended(); len(got) != 0 || counted() != maxExpecting {
			t.Errorf("after a registration that failed: %v, %d counted", got, counted())
		}
		pause(2 * time.Minute)
		if got := ended(); got[ErrNoTunnel] != 100 || counted() != others {
			t.Errorf("at the end: %v, %d still counted", got, counted()-others)
		}
	})
}

// TestLeavingWhileItRegisters: a request that is given up while its tunnel
// registers, soon after the start, ends, and does not spin.
func TestLeavingWhileItRegisters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{PublicURL: "http://localhost", Secrets: [][]byte{testSecret}, StartupWait: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		a := s.registry.announce("a", nil, func() {})
		defer s.registry.withdraw(a)
		ctx, leave := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "GET", "http://h/", nil)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := s.RoundTripper("a").RoundTrip(req)
			ended <- err
		}()
		synctest.Wait()
		leave()
		synctest.Wait() // never returns while anything spins
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("it ends with %v", err)
			}
		default:
			t.Error("it goes on")
		}
	})
}

// TestReplacedSessionsAreBounded: a tunnel client that registers again and again
// while each of its sessions has a request in flight does not pile them up. Those
// that are left finish what they have.
func TestReplacedSessionsAreBounded(t *testing.T) {
	const registrations = maxDraining + 20
	s := newService(t, Config{})
	entered, leave := make(chan struct{}), make(chan struct{})
	finished := make(chan error, registrations)
	for range registrations {
		s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			entered <- struct{}{}
			select {
			case <-leave:
			case <-r.Context().Done():
			}
		})))
		go func() {
			resp, err := http.Post(s.url+"/a/", "", nil) // which is not tried again
			if err == nil {
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					err = fmt.Errorf("got %d", resp.StatusCode)
				}
			}
			finished <- err
		}()
		<-entered
	}
	waitFor(t, func() bool { return len(s.registry.sessions()) <= maxDraining+1 })
	close(leave)
	cut := 0
	for range registrations {
		if err := <-finished; err != nil {
			cut++
		}
	}
	if want := registrations - maxDraining - 1; cut != want {
		t.Errorf("%d requests were cut, want %d", cut, want)
	}
	waitFor(t, func() bool { return len(s.registry.sessions()) == 1 })
}
