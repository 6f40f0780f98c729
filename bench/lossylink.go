package main

import (
	"context"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

// lossyLinkSettings describe a link that loses packets and are those of the
// role lossy-link.
type lossyLinkSettings struct {
	Delay time.Duration `json:"delay"` // each way
	Rate  int           `json:"rate"`  // bytes per second each way
	Queue time.Duration `json:"queue"` // longest queue in front of the link, as time at Rate
	Loss  float64       `json:"loss"`  // share of the packets that are lost, each by itself, each way

	// Congestion is what the kernel's TCP at both ends uses.
	Congestion string `json:"congestion"`
}

// lossyLinkEnds is the line that the role prints when the link is there.
type lossyLinkEnds struct {
	Near place `json:"near"`
	Far  place `json:"far"`
}

// place is where processes run. The zero value is where the controller runs.
type place struct {
	Namespace string `json:"namespace"` // file of a network namespace
	Host      string `json:"host"`      // address at which processes there listen
}

// host is the address at which processes of p listen.
func (p place) host() string {
	if p.Host == "" {
		return "127.0.0.1"
	}
	return p.Host
}

// hostVariable tells a role at which address to listen.
const hostVariable = "BENCH_HOST"

// command returns what to run for a program to run in p. self is this binary.
func (p place) command(self, program string, args []string) (string, []string) {
	if p.Namespace == "" {
		return program, args
	}
	return self, append([]string{"enter", p.Namespace, p.Host, program}, args...)
}

// carryPackets moves packets from one TUN device to another over a link, until
// from is closed. Unlike the relay, a full queue drops what comes.
func carryPackets(ctx context.Context, s lossyLinkSettings, to, from *os.File) {
	way := link{rate: s.Rate, queue: s.Queue}
	flight := newFlight(relayInFlight)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer flight.finish()
	wg.Go(func() {
		for {
			packet, due, ok := flight.next()
			if !ok || pause(ctx, time.Until(due)) != nil {
				return
			}
			// The far end drops what it has no room for.
			_, _ = to.Write(packet)
		}
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		now := time.Now()
		if way.wait(now) > 0 {
			continue
		}
		// What is lost on the way has taken its time on the link.
		leaves := way.send(now, n)
		if rand.Float64() < s.Loss {
			continue
		}
		if !flight.put(append([]byte(nil), buf[:n]...), leaves.Add(s.Delay)) {
			return
		}
	}
}
