package hostile

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
)

// patience is how long the tests wait for what has to happen. Floods take as long
// as the machine needs to send and count them, and other tests run beside.
const patience = slowness * 20 * time.Second

// cutBound is how long an attacker may go on whose whole connection is the
// attack, where its row names no other bound: 5 s, which can be told only where
// nothing else runs, and without the race detector.
func cutBound() time.Duration {
	if long() && !raceDetector {
		return 5 * time.Second
	}
	return patience
}

// leaving is how long a client has to connect elsewhere that has sent GOAWAY.
const leaving = 10 * time.Second

// attack is one row of the table. The viewer's request is GET /attacker/, made
// once the session is published; /attacker/fine is answered properly.
type attack struct {
	name   string
	config server.Config

	settings []http2.Setting                // the first; nil: an ordinary client's
	quiet    bool                           // answers neither settings nor pings
	begin    func(c *client)                // in the place of the first SETTINGS
	run      func(c *client)                // what the attacker does once it is published
	answer   func(c *client, r request)     // what it does with the viewer's request
	ask      func(s *service) outcome       // another viewer's request
	viewer   string                         // what the viewer gets, alternatives separated by "|"; empty: nobody asks
	check    func(t *testing.T, o outcome)  // more about that
	after    func(t *testing.T, s *service) // what holds after it
	deaf     bool                           // nor does any other viewer get what it wants
	hidden   bool                           // the session must not be published
	cut      bool                           // the connection ends; else it serves the next viewer
	metered  bool                           // it is more than a budget has; the log says so
	code     int                            // close code; zero: any or none
	within   time.Duration                  // zero: cutBound
}

// TestAttacks runs each attack against a service of its own.
func TestAttacks(t *testing.T) {
	seen := make(map[string]bool)
	for _, group := range [][]attack{floods, violations, beginnings, answers, websockets, controls, upgrades, laters} {
		for _, a := range group {
			if seen[a.name] {
				t.Errorf("there are two of %q", a.name)
			}
			seen[a.name] = true
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				a.test(t)
			})
		}
	}
	if len(seen) < 60 {
		t.Errorf("there are %d attacks", len(seen))
	}
}

func (a attack) test(t *testing.T) {
	s := newService(t, a.config)
	c, err := dial(s.Addr, attackerID, tunneltest.Token(t, attackerID))
	if err != nil {
		t.Fatal(err)
	}
	c.quiet = a.quiet
	defer c.close()

	over := make(chan struct{})
	neighbours := make(chan error, 1)
	go func() { neighbours <- s.watchNeighbour(over) }()
	defer func() {
		close(over)
		if err := <-neighbours; err != nil {
			t.Errorf("the neighbour got %v\n%s", err, s.log)
		}
		if n := busiest(s.log, `"id":"`+attackerID) + busiest(s.log, "net/http"); n > 8 { // and two for x/net
			t.Errorf("%d log lines within a second:\n%s", n, s.log)
		}
	}()

	begun := time.Now()
	c.begin(a)
	if a.hidden {
		if a.awaitCut(t, s, c, begun); s.log.Contains(`tunnel connected","id":"` + attackerID) {
			t.Error("the session was published")
		}
		if _, ok := s.Tunnel(attackerID); ok {
			t.Error("the session is there")
		}
		return
	}
	if !tunneltest.Poll(patience, func() bool { _, ok := s.Tunnel(attackerID); return ok }) {
		t.Fatalf("the session is not published:\n%s", s.log)
	}

	answered := make(chan struct{})
	go func() {
		defer close(answered)
		c.serve(a.answer)
	}()
	begun = time.Now()
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		if a.run != nil {
			a.run(c)
		}
	}()
	defer func() {
		c.close()
		<-ran
		<-answered
	}()
	if a.viewer != "" {
		a.watch(t, s)
	}
	if a.cut {
		a.awaitCut(t, s, c, begun)
		if !tunneltest.Poll(patience, func() bool { _, ok := s.Tunnel(attackerID); return !ok }) {
			t.Error("the session is still there")
		}
		if a.metered {
			told(t, s)
		}
	} else if <-ran; !a.deaf {
		if got := s.ask(http.MethodGet, "/"+attackerID+"/fine", nil); got.String() != "200" || got.body != "ok" {
			t.Errorf("the next viewer got %v %q, %v; close code %d\n%s", got, got.body, got.err, c.closeCode(), s.log)
		}
	}
	if a.after != nil {
		a.after(t, s)
	}
}

// begin starts HTTP/2, or what the attack has in its place.
func (c *client) begin(a attack) {
	if a.begin == nil {
		settings := a.settings
		if settings == nil {
			settings = []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 100}}
		}
		c.h2(func(w *http2.Framer) { w.WriteSettings(settings...) })
	}
	c.start()
	if a.begin != nil {
		a.begin(c)
	}
}

// serve answers viewers until the connection is over.
func (c *client) serve(answer func(*client, request)) {
	for {
		select {
		case r := <-c.requests:
			if answer == nil || strings.HasSuffix(r.path, "/fine") {
				c.ok(r)
			} else {
				answer(c, r)
			}
		case <-c.closed:
			return
		}
	}
}

// watch is the viewer.
func (a attack) watch(t *testing.T, s *service) {
	t.Helper()
	ask := a.ask
	if ask == nil {
		ask = func(s *service) outcome { return s.ask(http.MethodGet, "/"+attackerID+"/", nil) }
	}
	o := ask(s)
	found := false
	for want := range strings.SplitSeq(a.viewer, "|") {
		found = found || o.String() == want
	}
	if !found {
		t.Errorf("the viewer got %v (%d %q, %v), want %s\n%s", o, o.status, o.body[:min(len(o.body), 200)], o.err, a.viewer, s.log)
	}
	if a.check != nil {
		a.check(t, o)
	}
}

func (a attack) awaitCut(t *testing.T, s *service, c *client, begun time.Time) {
	t.Helper()
	within := a.within
	if within == 0 {
		within = cutBound()
	}
	select {
	case <-c.closed:
		took := time.Since(begun).Round(time.Millisecond)
		// Where x/net ends the connection, its streams learn of that first, and
		// with them a session that has to look for a way to end.
		code := c.closeCode()
		if drained := a.viewer != "" && code == 4002; a.code != 0 && code != a.code && !drained {
			t.Errorf("the close code is %d, want %d (%v)\n%s", code, a.code, c.lost, s.log)
		} else {
			t.Logf("cut after %v with code %d", took, code)
		}
	case <-time.After(time.Until(begun.Add(within))):
		t.Errorf("the attacker is not cut within %v", within)
	}
}

// watchNeighbour makes one request after the other until over, and once more.
func (s *service) watchNeighbour(over <-chan struct{}) error {
	for {
		if err := s.neighbour(); err != nil {
			return err
		}
		select {
		case <-over:
			return s.neighbour()
		case <-time.After(5 * time.Millisecond):
		}
	}
}
