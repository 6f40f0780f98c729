//go:build linux

package processes

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// detection is how long an end may take to notice that the other is gone: 15 s
// of silence and 10 s for the answer to a ping. The slack is for what measures.
const (
	detection      = 25 * time.Second
	detectionSlack = time.Second
)

// serviceDetection is the same for the service, which can be told to be
// quicker, and serviceBound is with slack: a short run shares the machine.
var (
	serviceDetection = pick(2*time.Second, detection)
	serviceBound     = serviceDetection + pick(3*time.Second, detectionSlack)
	quickPings       = pick([]string{"PING_INTERVAL=1s", "PING_TIMEOUT=1s"}, nil)
)

// traffic is one of each kind of exchange through a tunnel, begun before a
// fault that is to pass without a trace.
func traffic(t *testing.T, viewer *http.Client, url string) []*exchange {
	const size = 4 << 20
	return []*exchange{
		inBackground("download", func() (int, string, error) {
			status, body, err := get(t.Context(), viewer, fmt.Sprintf("%s/bytes?%d", url, size))
			if err == nil && hashOf(strings.NewReader(body)) != contentHash(size) {
				err = fmt.Errorf("the download has %d bytes, or wrong ones", len(body))
			}
			return status, "", err
		}),
		inBackground("upload", func() (int, string, error) {
			status, body, err := upload(t.Context(), viewer, url, "")
			if err == nil && body != contentHash(uploadSize) {
				err = fmt.Errorf("the upload arrived as %s", body)
			}
			return status, "", err
		}),
	}
}

// TestFrozen (F2): a process that stands still for less than the liveness bound
// loses nothing, and disturbs nobody else.
func TestFrozen(t *testing.T) {
	needProcesses(t)
	for _, who := range []string{"tunnel client", "service"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			addr := newAddr()
			tg := newTarget(t, here, "127.0.0.1")
			svc := startService(t, addr, serviceOptions{})
			clients := startClients(t, here, "http://"+addr, 2, tg.addr)
			frozen := clients[0].process
			if who == "service" {
				frozen = svc.process
			}
			viewer := newViewer(t, here)
			for _, c := range clients {
				served(t, viewer, c.url)
			}

			for range pick(1, 20) {
				list := traffic(t, viewer, clients[0].url)
				<-time.After(300 * time.Millisecond) // they are under way
				frozen.freeze()
				thaw := time.After(5 * time.Second)
				for i := range 10 {
					list = append(list, inBackground(fmt.Sprint("small ", i), func() (int, string, error) {
						return get(t.Context(), viewer, fmt.Sprintf("%s/echo?%d", clients[0].url, i))
					}))
				}
				stop := probe(t, viewer, clients[1].url, 20*time.Millisecond)
				<-thaw
				took, failed := stop()
				frozen.signal(syscall.SIGCONT)
				if who != "service" {
					none(t, "failed requests to another tunnel", failed)
					p99 := quantile(took, 0.99)
					summary(t, "another tunnel meanwhile: %d requests, p99 %v", len(took), ms(p99))
					if p99 > time.Second {
						t.Errorf("another tunnel's p99 was %v", p99)
					}
				}
				for _, e := range list {
					if e.wait(t, patience); e.status != 200 || e.err != nil {
						t.Errorf("%s: %d %v", e.name, e.status, e.err)
					}
				}
			}
			for _, c := range clients {
				if n := c.sessions(); n != 1 {
					t.Errorf("%s has had %d sessions: it has lost one", c.id, n)
				}
			}
		})
	}
}

// TestFrozenClientIsGivenUp (F2): beyond the liveness bound, viewers of a
// frozen tunnel client get an answer instead of a hang.
func TestFrozenClientIsGivenUp(t *testing.T) {
	needProcesses(t)
	addr := newAddr()
	tg := newTarget(t, here, "127.0.0.1")
	svc := startService(t, addr, serviceOptions{env: quickPings})
	clients := startClients(t, here, "http://"+addr, 2, tg.addr)
	viewer := newViewer(t, here)
	for _, c := range clients {
		served(t, viewer, c.url)
	}
	before := inBackground("begun before", func() (int, string, error) { return get(t.Context(), viewer, clients[0].url+"/hold") })
	<-tg.begun
	mark := svc.mark()
	clients[0].freeze()
	begun := time.Now()
	after := inBackground("begun after", func() (int, string, error) { return get(t.Context(), viewer, clients[0].url+"/echo?x") })
	stop := probe(t, viewer, clients[1].url, 20*time.Millisecond)
	for _, e := range []*exchange{before, after} {
		e.wait(t, 2*detection)
		if e.status != 502 && e.status != 504 || e.err != nil {
			t.Errorf("%s: %d %v, want 502 or 504", e.name, e.status, e.err)
		}
		if d := e.at.Sub(begun); d > serviceBound {
			t.Errorf("%s: the viewer was told after %v", e.name, d)
		}
	}
	took, failed := stop()
	none(t, "failed requests to another tunnel", failed)
	p99 := quantile(took, 0.99)
	if p99 > time.Second {
		t.Errorf("another tunnel's p99 was %v", p99)
	}
	svc.says(mark, "session ended", patience)

	<-time.After(pick(0, 60*time.Second-time.Since(begun)))
	mark = clients[0].mark()
	clients[0].signal(syscall.SIGCONT)
	thawed := time.Now()
	asleep := thawed.Sub(begun)
	back := clients[0].says(mark, connected, patience).At.Sub(thawed)
	served(t, viewer, clients[0].url)
	summary(t, "viewers were told after %v and %v; another tunnel: %d requests, p99 %v; after %v the client was back within %v",
		ms(before.at.Sub(begun)), ms(after.at.Sub(begun)), len(took), ms(p99), ms(asleep), ms(back))
	if back > backBound {
		t.Errorf("the client was back after %v", back)
	}
}

// TestFrozenServiceIsGivenUp (F2): tunnel clients notice it, and come back by
// themselves when it wakes up.
func TestFrozenServiceIsGivenUp(t *testing.T) {
	needProcesses(t)
	needLong(t)
	addr := newAddr()
	tg := newTarget(t, here, "127.0.0.1")
	svc := startService(t, addr, serviceOptions{})
	clients := startClients(t, here, "http://"+addr, 5, tg.addr)
	viewer := newViewer(t, here)
	marks := make([]int, len(clients))
	for i, c := range clients {
		served(t, viewer, c.url)
		marks[i] = c.mark()
	}
	svc.freeze()
	begun := time.Now()
	asleep := inBackground("asked of the frozen service", func() (int, string, error) {
		return get(t.Context(), viewer, clients[0].url+"/echo?x")
	})
	var noticed, back time.Duration
	for i, c := range clients {
		d := c.says(marks[i], "the session ended", 2*detection).At.Sub(begun)
		if noticed = max(noticed, d); d > detection+detectionSlack {
			t.Errorf("%s noticed after %v", c.id, d)
		}
	}
	<-time.After(max(0, 60*time.Second-time.Since(begun)))
	svc.signal(syscall.SIGCONT)
	thawed := time.Now()
	for i, c := range clients {
		back = max(back, c.says(marks[i], connected, 2*patience).At.Sub(thawed))
	}
	asleep.wait(t, patience)
	for _, c := range clients {
		served(t, viewer, c.url)
	}
	summary(t, "clients noticed within %v; after 60 s they were back within %v; a viewer who had asked meanwhile got %d %v",
		ms(noticed), ms(back), asleep.status, asleep.err)
	// The wait of a retry is up to 30 s by then.
	if back > 32*time.Second {
		t.Errorf("the clients were back after %v", back)
	}
}
