//go:build linux

package processes

import (
	"sync"
	"testing"
	"time"
)

// TestHalfOpen (F1): the network between the service and its tunnel clients is
// gone, and no packet says so. Both ends find out within the liveness bound,
// and until then nobody waits any longer than that. In the short run the service
// has a smaller bound, and of tunnel clients, which have not, nothing is asked.
func TestHalfOpen(t *testing.T) {
	needProcesses(t)
	t.Run("cut on the way", func(t *testing.T) { halfOpen(t, cut, mend) })
	t.Run("unplugged at the clients", func(t *testing.T) { halfOpen(t, unplug, plug) })
}

// left is a line of wst-client: a session ended, or will be replaced because
// the machine knows that its network is gone.
const left = `the session ended|replacing the session`

// halfOpen is one case of TestHalfOpen.
func halfOpen(t *testing.T, pull, repair func(*testing.T, [2]*host) time.Time) {
	if !long() { // else one by one: it is a hundred processes
		t.Parallel()
	}
	ends := newCable(t)
	serviceHost, clientHost := ends[0], ends[1]
	addr := serviceSide + ":8080"
	tg := newTarget(t, clientHost, "127.0.0.1")
	svc := startService(t, addr, serviceOptions{host: serviceHost, env: quickPings})
	n := pick(3, 100)
	clients := startClients(t, clientHost, "http://"+addr, n, tg.addr)
	viewer := newViewer(t, serviceHost)

	// Each tunnel has been silent for another while when the network goes.
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			<-time.After(time.Duration(i) * pick(time.Second, 15*time.Second) / time.Duration(n))
			served(t, viewer, c.url)
		})
	}
	wg.Wait()
	var held, asked, later []*exchange
	for _, c := range clients[:n/5+1] {
		held = append(held, inBackground("in flight", func() (int, string, error) { return get(t.Context(), viewer, c.url+"/hold") }))
	}
	for range held {
		<-tg.begun
	}
	serviceMark := svc.mark()
	marks := make([]int, n)
	for i, c := range clients {
		marks[i] = c.mark()
	}
	pulled := pull(t, ends)
	for _, c := range clients {
		asked = append(asked, inBackground("asked after", func() (int, string, error) { return get(t.Context(), viewer, c.url+"/echo?x") }))
	}

	var atService, atClients, viewers []time.Duration
	mark := serviceMark
	for range n {
		ln := svc.says(mark, "session ended", 2*detection)
		atService = append(atService, ln.At.Sub(pulled))
		mark = ln.Index + 1
	}
	for i, c := range clients {
		if !long() {
			break
		}
		atClients = append(atClients, c.says(marks[i], left, 2*detection).At.Sub(pulled))
	}
	for _, e := range append(held, asked...) {
		if e.wait(t, patience); e.status != 502 || e.err != nil {
			t.Errorf("%s: %d %v, want 502", e.name, e.status, e.err)
		}
		viewers = append(viewers, e.at.Sub(pulled))
	}
	for _, c := range clients {
		later = append(later, inBackground("asked when it was known", func() (int, string, error) { return get(t.Context(), viewer, c.url+"/echo?x") }))
	}
	for _, e := range later {
		if e.wait(t, patience); e.status != 404 || e.took > time.Second {
			t.Errorf("%s: %d %v after %v, want 404 at once", e.name, e.status, e.err, e.took)
		}
	}
	for _, d := range []struct {
		who   string
		times []time.Duration
		bound time.Duration
	}{
		{"the service", atService, serviceBound}, {"a viewer", viewers, serviceBound}, {"a client", atClients, detection + detectionSlack},
	} {
		if last := quantile(d.times, 1); last > d.bound {
			t.Errorf("%s noticed after %v", d.who, last)
		}
	}
	if !long() {
		return
	}

	repaired := repair(t, ends)
	var back []time.Duration
	for i, c := range clients {
		back = append(back, c.says(marks[i], connected, 3*patience).At.Sub(repaired))
	}
	for _, c := range clients {
		served(t, viewer, c.url)
	}
	summary(t, "%d tunnels; noticed by the service after %v to %v, by clients %v to %v, by %d viewers %v to %v; back %v after the repair",
		n, ms(quantile(atService, 0)), ms(quantile(atService, 1)), ms(quantile(atClients, 0)), ms(quantile(atClients, 1)),
		len(viewers), ms(quantile(viewers, 0)), ms(quantile(viewers, 1)), ms(quantile(back, 1)))
}
