package hostile

import (
	"fmt"
	"log"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
)

// TestFight: two clients that both have a token for one id and never wait. The
// newest always serves, and the log tells of the rest in a few lines.
func TestFight(t *testing.T) {
	s := newService(t, server.Config{})
	token := tunneltest.Token(t, attackerID)
	var mu sync.Mutex
	var all []*client
	var fighters, wg sync.WaitGroup
	fought := make(chan struct{})
	for range 2 {
		fighters.Go(func() {
			for range 150 {
				c, err := dial(s.Addr, attackerID, token)
				if err != nil {
					t.Error(err)
					return
				}
				c.begin(attack{})
				wg.Go(func() { c.serve(nil) })
				mu.Lock()
				all = append(all, c)
				mu.Unlock()
			}
		})
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-fought:
				return
			default:
			}
			if o := s.ask(http.MethodGet, "/"+attackerID+"/", nil); o.status != http.StatusOK && o.status != http.StatusNotFound && o.status != http.StatusBadGateway {
				t.Errorf("a viewer got %v, %v", o, o.err)
			}
			if err := s.neighbour(); err != nil {
				t.Errorf("the neighbour got %v", err)
			}
		}
	}()
	fighters.Wait()
	close(fought)
	<-watched
	if !tunneltest.Poll(patience, func() bool { return s.ask(http.MethodGet, "/"+attackerID+"/", nil).body == "ok" }) {
		t.Error("after the fight nobody serves")
	}
	for _, c := range all {
		c.close()
	}
	wg.Wait()
	if n := busiest(s.log, `"id":"`+attackerID); n > 6 {
		t.Errorf("%d log lines within a second", n)
	}
	// The next line, in another second, has the count. (A fight may be over
	// within one.)
	<-time.After(1100 * time.Millisecond)
	last, err := dial(s.Addr, attackerID, token)
	if err != nil {
		t.Fatal(err)
	}
	last.begin(attack{})
	if !tunneltest.Poll(patience, func() bool { return s.log.Contains(`"suppressed_lines":`) }) {
		t.Error("the lines that were left out are not counted")
	}
	last.close()
}

// TestLinesOfOthers: what x/net and net/http log about a tunnel client, one
// line for each of its answers, is bounded too.
func TestLinesOfOthers(t *testing.T) {
	var others tunneltest.Log
	log.SetOutput(server.NewErrorLog(zerolog.New(&others)).Writer())
	defer log.SetOutput(&standard)
	s := newService(t, server.Config{})
	c, err := dial(s.Addr, attackerID, tunneltest.Token(t, attackerID))
	if err != nil {
		t.Fatal(err)
	}
	c.begin(attack{})
	served := make(chan struct{})
	go func() {
		defer close(served)
		c.serve(func(c *client, r request) { c.data(r.stream, false, "x") }) // before HEADERS
	}()
	defer func() {
		c.close()
		<-served
	}()
	if !tunneltest.Poll(patience, func() bool { _, ok := s.Tunnel(attackerID); return ok }) {
		t.Fatal("the session is not published")
	}
	asked := 0
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); asked++ {
		if o := s.ask(http.MethodGet, "/"+attackerID+"/", nil); o.status != http.StatusBadGateway {
			t.Fatalf("a viewer got %v, %v", o, o.err)
		}
	}
	all := strings.Count(others.String(), "\n")
	if !others.Contains("DATA before a HEADERS frame") {
		t.Errorf("x/net has not said what it should, so this tests nothing: %s", others.String())
	}
	if n := busiest(&others, "net/http"); n > 2 {
		t.Errorf("%d lines of x/net within a second, %d in all for %d answers", n, all, asked)
	}
	if n := busiest(s.log, `"id":"`+attackerID) + busiest(s.log, "net/http"); n > 8 {
		t.Errorf("%d log lines within a second", n)
	}
	t.Log(fmt.Sprint(asked, " answers, ", all, " lines"))
}
