//go:build linux

package hostile

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// What has to hold in a siege.
const (
	siegeMemory = 512 << 20 // the service has no more
	siegeRatio  = 1.5       // by which the neighbour's p99 may grow,
	siegeFloor  = 10 * time.Millisecond
	siegeTime   = 10 * time.Second
	siegeQuiet  = 5 * time.Second
	siegeTries  = 2 // what else the machine does is in the figures too

	// siegeGrowth is how much memory one address, or one token, may make the service
	// need beside what it had before.
	siegeGrowth = 200 << 20
)

// TestSiege runs each attack of a table, from a process of its own on one core,
// against a service that is a process too and has 512 MiB. Beside that a neighbour is
// served, and must not notice: for comparison the same attacker first sends to a sink.
//
// WST_SIEGE_FROM names the address that attackers come from, if it is not to be another
// one than the neighbour's. WST_SIEGE_ENV has settings of the service, with blanks between:
// with it there is no control group, and without MEMORY_LIMIT in it the default counts.
//
//	WST_LONG=1 go test -tags http2legacy -run TestSiege -v -timeout 1h ./internal/hostile
func TestSiege(t *testing.T) {
	if !long() || raceDetector {
		t.Skip("it takes minutes: with WST_LONG=1 and without the race detector")
	}
	binary := buildService(t)
	for _, s := range sieges {
		t.Run(s.name, func(t *testing.T) {
			for try := 1; ; try++ {
				faults := s.lay(t, binary)
				if len(faults) == 0 {
					return
				}
				if try == siegeTries {
					for _, f := range faults {
						t.Error(f)
					}
					return
				}
				t.Logf("once more, for: %v", faults)
			}
		})
	}
}

// lay besieges a fresh service, and returns what did not hold.
func (s siege) lay(t *testing.T, binary string) (faults []string) {
	svc := startSieged(t, binary, s.env)
	defer svc.stop()
	n := newSiegeNeighbour(t, svc)
	defer n.end()
	sink := besiege(t, "sink", "", 0)
	defer sink.stop()
	addr := sink.line()

	attacker := besiege(t, s.name, addr, siegeQuiet)
	quiet := n.measure(siegeQuiet)
	attacker.stop()
	before := svc.rss()

	attacker = besiege(t, s.name, svc.addr, siegeTime)
	attacked := n.measure(siegeTime)
	attacker.stop()
	after := n.measure(time.Second)

	limit := max(time.Duration(float64(quiet.p99)*siegeRatio), quiet.p99+siegeFloor)
	t.Logf("%d requests, p50 %v, p99 %v, slowest %v; with a sink p50 %v, p99 %v; RSS %d MiB at most, %d before",
		attacked.n, attacked.p50, attacked.p99, attacked.most, quiet.p50, quiet.p99, svc.peak()>>20, before>>20)
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if !svc.alive() {
		fault("the service has ended: %s", svc.tail())
		return faults
	}
	if attacked.p99 > limit {
		fault("the neighbour's p99 is %v under attack and %v beside a sink", attacked.p99, quiet.p99)
	}
	for _, m := range []struct {
		when string
		measured
	}{{"beside a sink", quiet}, {"under attack", attacked}, {"after it", after}} {
		if m.failed > 0 {
			fault("%d of %d requests of the neighbour failed %s: %v", m.failed, m.n, m.when, m.err)
		}
	}
	if p := svc.peak(); p > siegeMemory {
		fault("the service needed %d MiB", p>>20)
	}
	if grown := svc.peak() - before; s.name != everything && grown > siegeGrowth {
		fault("one peer made the service need %d MiB more", grown>>20)
	}
	return faults
}

// siegeNeighbour is an honest tunnel, and its viewer.
type siegeNeighbour struct {
	url    string
	viewer *http.Client
	end    func()
}

func newSiegeNeighbour(t *testing.T, svc *sieged) *siegeNeighbour {
	t.Helper()
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	c, err := tunnelclient.New(tunnelclient.Config{
		ServerURL: "http://" + svc.addr, ID: neighbourID, Tokens: tunnelclient.StaticToken(tunneltest.Token(t, neighbourID)), DrainTimeout: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := c.Serve(ctx, hello); err != nil {
			t.Error(err)
		}
	})
	tr := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) { // of the host in host mode, too
		return new(net.Dialer).DialContext(ctx, network, svc.addr)
	}}
	n := &siegeNeighbour{viewer: &http.Client{Transport: tr, Timeout: 30 * time.Second}}
	n.end = func() {
		cancel()
		serving.Wait()
		tr.CloseIdleConnections()
	}
	waiting, stop := context.WithTimeout(ctx, patience)
	defer stop()
	if n.url, err = c.URL(waiting); err != nil {
		n.end()
		t.Fatal(err)
	}
	return n
}

// measured is what a neighbour notices.
type measured struct {
	n, failed      int
	err            error // of one that failed
	p50, p99, most time.Duration
}

// measure asks one request after the other. Every hundredth comes on a fresh
// connection.
func (n *siegeNeighbour) measure(during time.Duration) (m measured) {
	var took []time.Duration
	for end := time.Now().Add(during); time.Now().Before(end); <-time.After(500 * time.Microsecond) {
		if m.n++; m.n%100 == 0 {
			n.viewer.CloseIdleConnections()
		}
		begun := time.Now()
		if err := n.ask(); err != nil {
			m.failed++
			m.err = err
		}
		took = append(took, time.Since(begun))
	}
	m.p99 = p99(took).Round(10 * time.Microsecond) // sorts
	m.p50, m.most = took[len(took)/2].Round(10*time.Microsecond), took[len(took)-1].Round(10*time.Microsecond)
	return m
}

func (n *siegeNeighbour) ask() error {
	resp, err := n.viewer.Get(n.url + "/")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || string(b) != "hello") {
		err = fmt.Errorf("%d %q", resp.StatusCode, b)
	}
	return err
}
