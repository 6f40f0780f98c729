//go:build linux

package processes

import (
	"syscall"
	"testing"
	"time"
)

// backBound is how soon after a short outage a tunnel has to be back, and some
// slack for a busy machine.
const backBound = 2*time.Second + time.Second

// TestServiceKilled (F5): viewers see that their answers are broken, and tunnel
// clients come back soon.
func TestServiceKilled(t *testing.T) {
	needProcesses(t)
	addr := newAddr()
	tg := newTarget(t, here, "127.0.0.1")
	svc := startService(t, addr, serviceOptions{})
	client := startClient(t, here, "http://"+addr, "x", tg.addr)
	viewer := newViewer(t, here)
	served(t, viewer, client.url)

	var worst time.Duration
	for round := range pick(1, 5) {
		if round > 0 {
			// A session that lives less than that is no end of the outage before,
			// and the waits go on growing.
			<-time.After(11 * time.Second)
		}
		kinds := []*exchange{
			inBackground("chunked", func() (int, string, error) { return rawGet(addr, "1.1", "/x/half") }),
			inBackground("length", func() (int, string, error) { return rawGet(addr, "1.1", "/x/half?length") }),
			inBackground("HTTP/1.0 with a length", func() (int, string, error) { return rawGet(addr, "1.0", "/x/half?length") }),
			inBackground("not begun", func() (int, string, error) { return rawGet(addr, "1.1", "/x/hold") }),
		}
		tg.awaitHalves(len(kinds))
		mark := client.mark()
		svc.kill()
		for _, e := range kinds {
			e.breaks(t)
		}
		<-time.After(time.Duration(round) * 500 * time.Millisecond)
		svc = startService(t, addr, serviceOptions{})
		back := client.says(mark, connected, patience).At.Sub(svc.up)
		worst = max(worst, back)
		if back > backBound {
			t.Errorf("round %d: the tunnel was back after %v", round, ms(back))
		}
		served(t, viewer, client.url)
	}
	summary(t, "worst time from the start of the service until the tunnel was back: %v", ms(worst))
}

// TestServiceKilledUnderHTTP10 (F5): the end of the connection is the end of an
// answer without a length there, so it must not look like an ordinary one.
func TestServiceKilledUnderHTTP10(t *testing.T) {
	needProcesses(t)
	addr := newAddr()
	tg := newTarget(t, here, "127.0.0.1")
	svc := startService(t, addr, serviceOptions{})
	client := startClient(t, here, "http://"+addr, "x", tg.addr)
	// As long as nothing happens, it is an ordinary end.
	whole := inBackground("whole", func() (int, string, error) { return rawGet(addr, "1.0", "/x/echo?all") })
	if whole.wait(t, patience); whole.status != 200 || whole.body != "all" || whole.err != nil {
		t.Errorf("HTTP/1.0: %d %q %v", whole.status, whole.body, whole.err)
	}
	half := inBackground("half", func() (int, string, error) { return rawGet(addr, "1.0", "/"+client.id+"/half") })
	tg.awaitHalves(1)
	svc.kill()
	half.breaks(t)
}

// TestClientKilled (F5): what was in flight ends at once, visibly, and then the
// id is free for another.
func TestClientKilled(t *testing.T) {
	needProcesses(t)
	addr := newAddr()
	tg := newTarget(t, here, "127.0.0.1")
	startService(t, addr, serviceOptions{})
	viewer := newViewer(t, here)
	var worst time.Duration
	for range pick(1, 20) {
		client := startClient(t, here, "http://"+addr, "x", tg.addr)
		served(t, viewer, client.url)
		begun := []*exchange{
			inBackground("chunked", func() (int, string, error) { return rawGet(addr, "1.1", "/x/half") }),
			inBackground("length", func() (int, string, error) { return rawGet(addr, "1.1", "/x/half?length") }),
			inBackground("HTTP/1.0", func() (int, string, error) { return rawGet(addr, "1.0", "/x/half") }),
		}
		waiting := inBackground("not begun", func() (int, string, error) { return get(t.Context(), viewer, client.url+"/hold") })
		tg.awaitHalves(len(begun) + 1)
		client.kill()
		killed := time.Now()
		for _, e := range begun {
			e.breaks(t)
			worst = max(worst, e.at.Sub(killed))
		}
		if waiting.wait(t, patience); waiting.status != 502 || waiting.err != nil {
			t.Errorf("a request without an answer: %d %v, want 502", waiting.status, waiting.err)
		}
		worst = max(worst, waiting.at.Sub(killed))
		if status, _, err := get(t.Context(), viewer, client.url+"/echo?x"); status != 404 || err != nil {
			t.Errorf("after that: %d %v, want 404", status, err)
		}
	}
	if worst > 2*time.Second {
		t.Errorf("a viewer was told after %v", ms(worst))
	}
	summary(t, "worst time until a viewer was told: %v", ms(worst))
}

// TestTermination walks the steps of a shutdown: what the service promises to
// the load balancer, to tunnel clients, to new viewers and to those it serves.
func TestTermination(t *testing.T) {
	needProcesses(t)
	addr := newAddr()
	tg := newTarget(t, here, "127.0.0.1")
	svc := startService(t, addr, serviceOptions{})
	client := startClient(t, here, "http://"+addr, "x", tg.addr)
	viewer := newViewer(t, here)
	served(t, viewer, client.url)
	inFlight := inBackground("download", func() (int, string, error) { return rawGet(addr, "1.1", "/x/bytes?1000000") })
	upload := inBackground("upload", func() (int, string, error) { return upload(t.Context(), viewer, client.url, "") })

	<-time.After(100 * time.Millisecond) // both have begun
	mark := svc.mark()
	svc.signal(syscall.SIGTERM)
	svc.says(mark, "shutting down", patience)
	for _, path := range []string{"/__heartbeat__", "/__lbheartbeat__"} {
		if status, _, err := get(t.Context(), viewer, "http://"+addr+path); status != 503 || err != nil {
			t.Errorf("%s: %d %v, want 503", path, status, err)
		}
	}
	other := launchClient(t, here, "http://"+addr, "y", tg.addr)
	other.says(0, "503", patience)
	served(t, viewer, client.url)
	if inFlight.wait(t, patience); inFlight.err != nil || inFlight.status != 200 || len(inFlight.body) != 1000000 {
		t.Errorf("the download in flight: %d, %d bytes, %v", inFlight.status, len(inFlight.body), inFlight.err)
	}
	if upload.wait(t, patience); upload.err != nil || upload.status != 200 || upload.body != contentHash(uploadSize) {
		t.Errorf("the upload in flight: %d, %q, %v", upload.status, upload.body, upload.err)
	}
	svc.exits(0, patience)
}
