package hostile

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// The tunnels of each test.
const (
	attackerID  = "attacker"
	neighbourID = "neighbour"
)

// service is a service with a neighbour: an honest tunnel client, made of the
// real thing.
type service struct {
	*tunneltest.Service
	viewer *http.Client
	log    *tunneltest.Log
	end    func() // ends it; the test's end does that too
}

func newService(t testing.TB, cfg server.Config) *service {
	t.Helper()
	s := &service{viewer: tunneltest.NewViewer(t), log: new(tunneltest.Log)}
	s.viewer.Timeout = 30 * time.Second
	s.viewer.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	cfg.Logger = zerolog.New(s.log).Level(zerolog.DebugLevel)
	s.Service = tunneltest.NewService(t, cfg)
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	neighbour := s.Client(neighbourID, hello, tunnelclient.Config{})
	// On a busy machine the first session may come to nothing: x/net wants the
	// service's settings within 2 s.
	var err error
	if !tunneltest.Poll(30*time.Second, func() bool { err = s.neighbour(); return err == nil }) {
		t.Fatalf("the neighbour's tunnel: %v", err)
	}
	s.end = sync.OnceFunc(func() {
		neighbour.Stop()
		s.viewer.CloseIdleConnections()
		s.Stop()
		if s.log.Contains(`"level":"error"`) || s.log.Contains("panic") {
			t.Errorf("the service has panicked:\n%s", s.log)
		}
	})
	t.Cleanup(s.end)
	return s
}

// neighbour makes one request to the neighbour.
func (s *service) neighbour() error {
	switch got := s.ask(http.MethodGet, "/"+neighbourID+"/", nil); {
	case got.err != nil:
		return got.err
	case got.status != http.StatusOK || got.body != "hello":
		return fmt.Errorf("%d %q", got.status, got.body)
	}
	return nil
}

// outcome is what a viewer gets.
type outcome struct {
	status  int // zero: nothing
	header  http.Header
	trailer http.Header
	body    string
	err     error // the answer broke off
}

// String is what the table of attacks has: "200", "502", "broken" after the
// answer's begin, or "nothing".
func (o outcome) String() string {
	switch {
	case o.status == 0:
		return "nothing"
	case o.err != nil:
		return "broken"
	}
	return fmt.Sprint(o.status)
}

func (s *service) ask(method, path string, body io.Reader, header ...string) outcome {
	req, err := http.NewRequest(method, "http://"+s.Addr+path, body)
	if err != nil {
		return outcome{err: err}
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.viewer.Do(req)
	if err != nil {
		return outcome{err: err}
	}
	defer resp.Body.Close()
	o := outcome{status: resp.StatusCode, header: resp.Header}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
		o.body, o.err = string(b), err
	}
	o.trailer = resp.Trailer
	return o
}
