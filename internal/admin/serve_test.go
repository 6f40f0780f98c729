package admin_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/admin"
)

// serve runs a on a real listener and returns its URL.
func serve(t *testing.T, a *admin.Admin) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- a.Serve(ln) }()
	t.Cleanup(func() {
		a.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String()
}

// TestLongAnswers: the time limit for a request is none for its answer: profiles
// last.
func TestLongAnswers(t *testing.T) {
	a := admin.New(admin.Config{Service: newService(0)})
	a.SetReadTimeout(100 * time.Millisecond)
	url := serve(t, a)
	begun := time.Now()
	resp, err := http.Get(url + "/debug/pprof/trace?seconds=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 || time.Since(begun) < time.Second {
		t.Errorf("status %d and %v after %v", resp.StatusCode, err, time.Since(begun))
	}
}

// TestSlowBody: a request whose body does not come ends.
func TestSlowBody(t *testing.T) {
	a := admin.New(admin.Config{Service: newService(0), Token: "t"})
	a.SetReadTimeout(100 * time.Millisecond)
	url := serve(t, a)
	c, err := net.Dial("tcp", url[len("http://"):])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ntoken=")
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Errorf("the connection has not ended: %v", err)
	}
}

// TestEvents: the page is told the totals, what it has searched for and the tunnel
// that it shows, and Close ends that.
func TestEvents(t *testing.T) {
	a := admin.New(admin.Config{Service: newService(10_000)})
	url := serve(t, a)
	resp, err := http.Get(url + "/events?search=tunnel-0000&limit=5&id=tunnel-00007")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("type %q", kind)
	}
	br := bufio.NewReader(resp.Body)
	line, err := br.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var event struct {
		Status admin.Status
		List   admin.TunnelList
		Tunnel *admin.TunnelDetail
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &event); err != nil {
		t.Fatal(err)
	}
	if event.Status.Tunnels != 10_000 || event.List.Total != 10 || len(event.List.Tunnels) != 5 || event.Tunnel == nil || event.Tunnel.ID != "tunnel-00007" {
		t.Errorf("event: %+v", event)
	}
	begun := time.Now()
	a.Close()
	io.Copy(io.Discard, br)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the stream ended %v after Close", took)
	}
}
