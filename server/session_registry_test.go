package server

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// checkRegistry checks what is true of a registry at every moment.
func checkRegistry(t *testing.T, g *registry) {
	g.mu.Lock()
	defer g.mu.Unlock()
	up := 0
	for l, tun := range g.tunnels {
		if tun.up {
			up++
		}
		if tun.up != (tun.active != nil || len(tun.coming) > 0) || tun.label != l {
			t.Errorf("%s: %+v", l, tun)
		}
		if !tun.up && len(tun.older) == 0 && tun.expecting == 0 && len(tun.abandoned) == 0 && len(tun.joining) == 0 {
			t.Errorf("%s: an entry of which nothing is known", l)
		}
		if s := tun.active; s != nil && !s.is(stateActive) && !s.is(stateLeaving) {
			t.Errorf("%s: the active session does not serve", l)
		}
		if n := len(tun.beside); n >= maxConnections || n > 0 && tun.active == nil {
			t.Errorf("%s: %d sessions have joined %p", l, n, tun.active)
		}
		for _, s := range tun.beside {
			if !s.joined || s.slots != tun.active.slots || !s.is(stateActive) && !s.is(stateLeaving) {
				t.Errorf("%s: a session that has joined does not serve, or has slots of its own", l)
			}
		}
		draining := 0
		for _, s := range tun.older {
			switch {
			case s.is(stateDraining):
				draining++
			case !s.is(stateClosing):
				t.Errorf("%s: an older session is neither draining nor closing", l)
			}
		}
		if draining > maxDraining {
			t.Errorf("%s: %d sessions drain", l, draining)
		}
	}
	if up != g.up {
		t.Errorf("%d tunnels are up, and %d are counted", up, g.up)
	}
}

// TestRegistryStress: clients register, join and replace each other, leave and break,
// operators evict, and sessions are retired and cut, all in random order.
// Whatever happens, the registry keeps its rules, the newest registration wins,
// and in the end nothing is left.
func TestRegistryStress(t *testing.T) {
	const workers, ids = 8, 3
	steps := 150
	if testing.Short() {
		steps = 40
	}
	s := newService(t, Config{StartupWait: time.Hour, DrainTimeout: 100 * time.Millisecond})
	s.handshakes.all.SetBurst(1e6)
	s.handshakes.all.SetLimit(1e6)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)

	var mu sync.Mutex
	clients := make(map[*h2conn.Conn]struct{})
	attempts, last := 0, make(map[string]int) // by id, of one that is no join
	register := func(id string, r *rand.Rand, join bool) {
		header := http.Header{"Authorization": {"Bearer " + mint(t, id)}, wire.HeaderID: {id}, wire.HeaderInstance: {"one"}}
		mu.Lock()
		attempts++
		header.Set(wire.HeaderAttempt, strconv.Itoa(attempts))
		if join {
			header.Set(wire.HeaderJoins, strconv.Itoa(last[id]))
		} else {
			last[id] = attempts
		}
		mu.Unlock()
		c, resp, err := s.dialWith(header)
		if err != nil {
			if join && resp != nil && resp.StatusCode == http.StatusConflict {
				return
			}
			if resp == nil || resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusTooManyRequests {
				t.Errorf("registration: %v", err)
			}
			return
		}
		c.conn.OnControl(func([]byte) {})
		mu.Lock()
		clients[c.conn] = struct{}{}
		mu.Unlock()
		if r.IntN(8) > 0 { // otherwise it does not go on after the 101
			c.serve(echoHandler)
		}
	}
	some := func(f func(*h2conn.Conn)) {
		mu.Lock()
		var conn *h2conn.Conn
		for conn = range clients {
			break
		}
		mu.Unlock()
		if conn != nil {
			f(conn)
		}
	}

	over, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-time.After(time.Millisecond):
				checkRegistry(t, s.registry)
			case <-over:
				return
			}
		}
	}()
	var wg sync.WaitGroup
	for n := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(n)))
			for range steps {
				id := fmt.Sprint("id-", r.IntN(ids))
				switch r.IntN(18) {
				case 0, 1, 2, 3:
					register(id, r, false)
				case 12, 13, 14, 15, 16, 17:
					register(id, r, true)
				case 4:
					some(func(c *h2conn.Conn) { c.SendControl(wire.Control{Type: wire.TypeGoaway}.Encode()) })
				case 5:
					some(func(c *h2conn.Conn) { c.SendControl([]byte("{")) })
				case 6:
					some(func(c *h2conn.Conn) {
						mu.Lock()
						delete(clients, c)
						mu.Unlock()
						c.Close()
					})
				case 7:
					s.Evict(id)
					s.Unblock(id)
				case 8, 9:
					ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
					req, _ := http.NewRequestWithContext(ctx, "GET", s.url+"/"+id+"/", nil)
					if resp, err := s.http.Do(req); err == nil {
						resp.Body.Close()
					}
					cancel()
				default:
					all := s.registry.sessions()
					if len(all) == 0 {
						continue
					}
					switch sess := all[r.IntN(len(all))]; r.IntN(3) {
					case 0:
						sess.leave(0)
					case 1:
						sess.retire(wire.CloseTokenExpired)
					case 2:
						sess.cut(wire.CloseReplaced, "")
					}
				}
			}
		})
	}
	wg.Wait()
	for n := range ids { // while older ones of each still come and go
		c := s.connect(fmt.Sprint("id-", n), echoHandler)
		s.waitActive(c)
		clients[c.conn] = struct{}{}
	}
	close(over)
	<-watched
	for c := range clients {
		wg.Go(func() { c.Close() })
	}
	wg.Wait()
	waitFor(t, func() bool {
		checkRegistry(t, s.registry)
		s.registry.mu.Lock()
		defer s.registry.mu.Unlock()
		return len(s.registry.tunnels) == 0 && s.registry.up == 0 && s.registry.expecting == 0
	})
	s.registry.running.Wait()
}

// TestNewestRegistrationWins, whatever order the handshakes finish in. The others
// are told that they have been replaced.
func TestNewestRegistrationWins(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			t.Parallel()
			s := newService(t, Config{})
			clients := make([]*testClient, len(order))
			ready := make([]chan struct{}, len(order))
			for i := range clients {
				c := s.dialFramed("a")
				defer c.conn.Close()
				clients[i], ready[i] = c, make(chan struct{})
				go func() {
					<-ready[i]
					c.answer(func(http2.Frame) {})
				}()
			}
			newest := -1
			for _, i := range order {
				close(ready[i])
				loser := min(i, newest)
				newest = max(i, newest)
				s.waitActive(clients[newest])
				if loser < 0 {
					continue
				}
				<-clients[loser].conn.Done()
				var ce *h2conn.CloseError
				if err := clients[loser].conn.Err(); !errors.As(err, &ce) || ce.Code != int(wire.CloseReplaced) {
					t.Errorf("registration %d ended with %v", loser, err)
				}
			}
			s.waitActive(clients[2])
			waitFor(t, func() bool { return len(s.registry.sessions()) == 1 })
		})
	}
}

// TestRefusedAfterHandshake: what happens between the 101 of a registration and
// its first ping counts.
func TestRefusedAfterHandshake(t *testing.T) {
	for name, tc := range map[string]struct {
		meanwhile func(*testService, *testClient)
		want      wire.CloseCode
	}{
		"evicted":   {func(s *testService, _ *testClient) { s.Evict("a") }, wire.CloseEvicted},
		"draining":  {func(s *testService, _ *testClient) { s.registry.drain() }, wire.CloseDraining},
		"violation": {func(_ *testService, c *testClient) { c.conn.SendControl([]byte("{")) }, wire.CloseProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t, Config{})
			token := mint(t, "a")
			var clients [2]*testClient
			for i := range clients {
				c, _, err := s.dial("a", token)
				if err != nil {
					t.Fatal(err)
				}
				defer c.conn.Close()
				if clients[i] = c; i == 0 {
					c.serve(echoHandler)
					s.waitActive(c)
				}
			}
			tc.meanwhile(s, clients[1])
			clients[1].serve(echoHandler)
			<-clients[1].conn.Done()
			var ce *h2conn.CloseError
			if err := clients[1].conn.Err(); !errors.As(err, &ce) || ce.Code != int(tc.want) {
				t.Errorf("it ended with %v, want %d", err, tc.want)
			}
		})
	}
}
