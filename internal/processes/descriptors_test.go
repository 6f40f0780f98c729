//go:build linux

package processes

import (
	"net"
	"testing"
	"time"
)

// TestDescriptorsRunOut (F20): more connections come than the service may have
// files open, and MAX_CONNECTIONS is off. What is connected goes on, the service does not spin, and when
// the flood is over it takes new connections again.
func TestDescriptorsRunOut(t *testing.T) {
	needProcesses(t)
	addr := newAddr()
	tg := newTarget(t, here, "127.0.0.1")
	svc := startService(t, addr, serviceOptions{limit: 256, env: []string{"MAX_CONNECTIONS=off"}})
	client := startClient(t, here, "http://"+addr, "x", tg.addr)
	viewer := newViewer(t, here)
	served(t, viewer, client.url)
	stop := probe(t, viewer, client.url, 50*time.Millisecond) // on the connection that is there

	var flood []net.Conn
	defer func() {
		for _, c := range flood {
			c.Close()
		}
	}()
	for range pick(600, 2000) {
		c, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		flood = append(flood, c)
	}
	// A viewer without a connection has to wait.
	late := inBackground("during the flood", func() (int, string, error) { return rawGet(addr, "1.1", "/x/echo?late") })
	busy := svc.cpuTime()
	during := pick(3*time.Second, 10*time.Second) // before read timeouts end the flood's first connections
	<-time.After(during)
	busy = svc.cpuTime() - busy
	select {
	case <-late.done:
		t.Errorf("the service had not run out of descriptors: %d %v", late.status, late.err)
	default:
	}
	for _, c := range flood {
		c.Close()
	}
	over := time.Now()
	late.wait(t, patience)
	if late.status != 200 || late.err != nil {
		t.Errorf("the viewer who waited: %d %v", late.status, late.err)
	}
	took, failed := stop()
	none(t, "failed requests on a connection that was there", failed)
	served(t, newViewer(t, here), client.url)
	recovered := late.at.Sub(over)
	summary(t, "%d connections; CPU time %v of %v; requests on a connection that was there: %d, p99 %v; new connections %v after the flood",
		len(flood), busy, during, len(took), ms(quantile(took, 0.99)), ms(recovered))
	if busy > during/3 {
		t.Errorf("the service was busy for %v of %v", busy, during)
	}
	if recovered > 5*time.Second {
		t.Errorf("the first new connection was served %v after the flood", recovered)
	}
	if n := client.sessions(); n != 1 {
		t.Errorf("the tunnel client has had %d sessions", n)
	}
	if !svc.running() {
		t.Error("the service has ended")
	}
}

// TestIdleFlood: sockets that say nothing, more than the service may have files
// open, and five thousand where there is time, do nothing to anybody else: the
// service keeps within MAX_CONNECTIONS by closing the silent ones.
func TestIdleFlood(t *testing.T) {
	needProcesses(t)
	addr := newAddr()
	tg := newTarget(t, here, "127.0.0.1")
	svc := startService(t, addr, serviceOptions{limit: 256})
	client := startClient(t, here, "http://"+addr, "x", tg.addr)
	viewer := newViewer(t, here)
	served(t, viewer, client.url)

	var flood []net.Conn
	defer func() {
		for _, c := range flood {
			c.Close()
		}
	}()
	stop := probe(t, viewer, client.url, 20*time.Millisecond)
	busy := svc.cpuTime()
	start := time.Now()
	for range pick(600, 5000) {
		c, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		flood = append(flood, c)
	}
	for range 20 {
		if status, _, err := rawGet(addr, "1.1", "/x/echo?new"); status != 200 || err != nil {
			t.Errorf("a viewer without a connection: %d %v", status, err)
		}
	}
	second := startClient(t, here, "http://"+addr, "y", tg.addr)
	served(t, newViewer(t, here), second.url)
	took, failed := stop()
	busy = svc.cpuTime() - busy
	none(t, "failed requests during the flood", failed)
	summary(t, "%d silent connections in %v, service busy for %v; requests meanwhile: %d, p99 %v",
		len(flood), ms(time.Since(start)), busy, len(took), ms(quantile(took, 0.99)))
	if n := client.sessions(); n != 1 {
		t.Errorf("the tunnel client has had %d sessions", n)
	}
	if !svc.running() {
		t.Error("the service has ended")
	}
}
