package tunneltest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

var hello = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello "+r.URL.Path) })

func get(t *testing.T, viewer *http.Client, url string) string {
	t.Helper()
	resp, err := viewer.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(resp.StatusCode, " ", tunneltest.ReadAll(t, resp))
}

func TestService(t *testing.T) {
	for name, cfg := range map[string]server.Config{"zero": {}, "TLS": {TLSConfig: tunneltest.ServerTLS()}} {
		t.Run(name, func(t *testing.T) {
			s := tunneltest.NewService(t, cfg)
			v := tunneltest.NewViewer(t)
			for id, c := range map[string]*tunneltest.Client{
				"handler": s.Client("handler", hello, tunnelclient.Config{}),
				"target":  s.Target("target", hello, tunnelclient.ProxyOptions{}),
			} {
				if got := get(t, v, c.URL+"/a"); got != "200 hello /a" {
					t.Errorf("%s: %s", id, got)
				}
				if info := s.WaitTunnel(id); info.ID != id {
					t.Errorf("%s: %+v", id, info)
				}
				if !tunneltest.Poll(10*time.Second, func() bool { return s.InFlight() == 0 }) {
					t.Errorf("%s: the request is still in flight", id)
				}
				c.Stop()
				if !tunneltest.Poll(10*time.Second, func() bool { _, ok := s.Tunnel(id); return !ok }) {
					t.Errorf("%s: the tunnel is still there", id)
				}
			}
		})
	}
}

// TestReconnect: a tunnel client comes back after its connection is cut and
// after the service is restarted.
func TestReconnect(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	up := make(chan struct{}, 10)
	c := s.Client("a", hello, tunnelclient.Config{OnStateChange: func(st tunnelclient.State) {
		if st.Phase == tunnelclient.PhaseConnected && st.Err == nil {
			up <- struct{}{}
		}
	}})
	v := tunneltest.NewViewer(t)
	for _, interrupt := range []func(){func() {}, s.CutTunnels, s.Restart, func() { s.CutOthers("") }} {
		interrupt()
		<-up
		s.WaitTunnel("a")
		if got := get(t, v, c.URL); got != "200 hello /" {
			t.Error(got)
		}
	}
}

func TestLog(t *testing.T) {
	var l tunneltest.Log
	io.WriteString(&l, "one\ntw")
	if !l.Contains("one") || l.Contains("tw") || l.String() != "one\ntw" || len(l.Lines()) != 1 {
		t.Errorf("%q, lines %v", l.String(), l.Lines())
	}
	go io.WriteString(&l, "o 2\nthree\n")
	line, err := l.Next(t.Context(), 0, regexp.MustCompile(`two (\d)`))
	if err != nil || line.Index != 1 || line.Groups[1] != "2" {
		t.Errorf("%+v, %v", line, err)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if line, err := l.Next(ctx, 1, regexp.MustCompile("two")); err != nil {
		t.Errorf("%+v, %v", line, err)
	}
	if _, err := l.Next(ctx, 2, regexp.MustCompile("two")); err != cause {
		t.Error(err)
	}
}
