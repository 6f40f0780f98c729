package hostile

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
)

const (
	// latencyRatio and latencyFloor say how much slower a neighbour may get: by
	// a quarter, or by so little that it is the machine's noise.
	latencyRatio = 1.25
	latencyFloor = 2 * time.Millisecond
)

// TestNeighbourLatency measures a neighbour's 99th percentile while a tunnel
// client attacks and, in turns with that, while it does not. A client that has
// been cut comes back after half a second, as often as it likes.
//
//	WST_LONG=1 go test -tags http2legacy -run TestNeighbourLatency -v -timeout 1h ./internal/hostile
func TestNeighbourLatency(t *testing.T) {
	if !long() || raceDetector {
		t.Skip("it takes minutes: with WST_LONG=1 and without the race detector")
	}
	for _, group := range [][]attack{floods, violations, answers, websockets, controls, upgrades, laters} {
		for _, a := range group {
			t.Run(a.name, func(t *testing.T) { a.measure(t) })
		}
	}
}

// measure compares, and once more if the result is bad: what the machine does
// beside this is in it too.
func (a attack) measure(t *testing.T) {
	const tries = 3
	for try := 1; ; try++ {
		quiet, attacked := a.sample(t)
		limit := max(time.Duration(float64(quiet)*latencyRatio), quiet+latencyFloor)
		t.Logf("p99 %v, attacked %v", quiet.Round(time.Microsecond), attacked.Round(time.Microsecond))
		if attacked <= limit {
			return
		}
		if try == tries {
			t.Errorf("the neighbour's p99 is %v under attack and %v without", attacked, quiet)
			return
		}
	}
}

func (a attack) sample(t *testing.T) (quiet, attacked time.Duration) {
	const turns, turn = 6, 500 * time.Millisecond
	s := newService(t, a.config)
	defer s.end()
	var took [2][]time.Duration
	for i := range 2 * turns {
		under := i % 2
		var wg sync.WaitGroup
		over := make(chan struct{})
		if under == 1 {
			wg.Go(func() { a.wage(t, s, over) })
		}
		for end := time.Now().Add(turn); time.Now().Before(end); <-time.After(200 * time.Microsecond) {
			begun := time.Now()
			if err := s.neighbour(); err != nil {
				t.Errorf("the neighbour got %v", err)
			}
			took[under] = append(took[under], time.Since(begun))
		}
		close(over)
		wg.Wait()
	}
	return p99(took[0]), p99(took[1])
}

func p99(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)*99/100]
}

// wage attacks until over.
func (a attack) wage(t *testing.T, s *service, over <-chan struct{}) {
	c, err := dial(s.Addr, attackerID, tunneltest.Token(t, attackerID))
	if err != nil {
		t.Error(err)
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.close()
	c.begin(a)
	if !tunneltest.Poll(patience, func() bool { _, ok := s.Tunnel(attackerID); return ok }) {
		return
	}
	wg.Go(func() { c.serve(a.answer) })
	if a.run != nil {
		wg.Go(func() { a.run(c) })
	}
	if a.viewer != "" {
		wg.Go(func() {
			for {
				if a.ask != nil {
					a.ask(s)
				} else {
					s.ask("GET", "/"+attackerID+"/", nil)
				}
				select {
				case <-over:
					return
				case <-c.closed:
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	<-over
}
