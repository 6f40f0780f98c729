package server

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// stateSession is a session in state st that has no connection.
func stateSession(st state, giveUp func()) *session {
	srv := new(Server)
	srv.live.Store(&live{settings: settings{Config: Config{DrainTimeout: time.Hour}}})
	return &session{
		srv: srv, conn: new(h2conn.Conn), giveUp: giveUp,
		state: st, retired: make(chan struct{}),
	}
}

// TestStates tries every move from one state to another.
func TestStates(t *testing.T) {
	names := []string{"starting", "active", "leaving", "draining", "closing", "ended"}
	for from, row := range []string{
		//   starting active leaving draining closing ended
		stateStarting: "- yes - - yes -",
		stateActive:   "- - yes yes yes yes",
		stateLeaving:  "- - - yes yes yes",
		stateDraining: "- - - - yes yes",
		stateClosing:  "- - - - - yes",
		stateEnded:    "- - - - - -",
	} {
		for to, cell := range strings.Fields(row) {
			from, to, want := state(from), state(to), cell == "yes"
			t.Run(names[from]+" to "+names[to], func(t *testing.T) {
				givenUp := false
				s := stateSession(from, func() { givenUp = true })
				was, ok := s.enter(to, 0, "")
				if was != from || ok != want {
					t.Fatalf("it was %s, and the move is allowed: %v", names[was], ok)
				}
				if ok && s.state != to || !ok && s.state != from {
					t.Errorf("it is %s now", names[s.state])
				}
				if want := ok && from == stateStarting && to != stateActive; givenUp != want {
					t.Errorf("the wait for the first ping is given up: %v", givenUp)
				}
				full := false
				select {
				case <-s.retired:
					full = true
				default:
				}
				if want := ok && from.serves() && !to.serves(); full != want {
					t.Errorf("requests that wait are sent away: %v", full)
				}
				if woken := s.running.Load() == again; woken != ok {
					t.Errorf("run is woken: %v", woken)
				}
			})
		}
	}
}

// TestCloseCodes: which of two reasons to end is told to the client.
func TestCloseCodes(t *testing.T) {
	type move struct {
		to   state
		code wire.CloseCode
	}
	leave, replaced := move{stateLeaving, wire.CloseDraining}, move{stateDraining, wire.CloseReplaced}
	broken, evicted := move{stateDraining, 0}, move{stateClosing, wire.CloseEvicted}
	violation, shutdown := move{stateClosing, wire.CloseProtocol}, move{stateClosing, wire.CloseDraining}
	for name, tc := range map[string]struct {
		moves []move
		want  wire.CloseCode
	}{
		"replaced":                        {[]move{replaced}, wire.CloseReplaced},
		"replaced while leaving":          {[]move{leave, replaced}, wire.CloseReplaced},
		"shut down while leaving":         {[]move{leave, shutdown}, wire.CloseDraining},
		"broken while leaving":            {[]move{leave, broken}, wire.CloseDraining},
		"shut down after replaced":        {[]move{replaced, shutdown}, wire.CloseReplaced},
		"evicted after replaced":          {[]move{replaced, evicted}, wire.CloseEvicted},
		"violation after replaced":        {[]move{replaced, violation}, wire.CloseProtocol},
		"replaced after broken":           {[]move{broken, replaced}, 0},
		"evicted after it began to close": {[]move{violation, evicted}, wire.CloseProtocol},
		"ended by itself":                 {[]move{{stateEnded, 0}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := stateSession(stateActive, nil)
			for _, m := range tc.moves {
				s.enter(m.to, m.code, "")
			}
			if s.code != tc.want {
				t.Errorf("the code is %d, want %d", s.code, tc.want)
			}
		})
	}
}

// TestDrainIsNotProlonged: a session that leaves and then drains keeps the earlier
// of the two times at which it is cut.
func TestDrainIsNotProlonged(t *testing.T) {
	s := stateSession(stateActive, nil)
	s.leave(0)
	if s.state != stateLeaving || s.notBefore.IsZero() || len(s.outbox) != 1 {
		t.Fatalf("state %d, not before %v, %d messages", s.state, s.notBefore, len(s.outbox))
	}
	early := time.Now().Add(time.Minute)
	s.closeBy = early
	if s.enter(stateDraining, wire.CloseReplaced, ""); !s.closeBy.Equal(early) {
		t.Errorf("it is cut at %v, want %v", s.closeBy, early)
	}
	s.leave(0)
	if s.state != stateDraining || len(s.outbox) != 1 {
		t.Errorf("leave has put it into state %d, with %d messages", s.state, len(s.outbox))
	}
}

// TestEndOfClientThatTakesNothing: a session ends promptly when it is asked to,
// although a message to its client cannot be sent, and with no write timeout.
func TestEndOfClientThatTakesNothing(t *testing.T) {
	for name, end := range map[string]func(*testService, *session){
		"evicted": func(s *testService, _ *session) { s.Evict("a") },
		"cut":     func(_ *testService, sess *session) { sess.cut(wire.CloseReplaced, "") },
		"closed":  func(s *testService, _ *session) { s.Close() },
	} {
		t.Run(name, func(t *testing.T) { // not parallel: on a link that seems slow, more can be sent
			s := newService(t, Config{WriteTimeout: -1, PingInterval: -1, StallTimeout: -1})
			c := s.dialFramed("a")
			fr := c.fr
			defer c.conn.Close()
			fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
			fr.WriteWindowUpdate(0, 1<<30)
			for {
				f, err := fr.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				if p, ok := f.(*http2.PingFrame); ok && !p.IsAck() {
					fr.WritePing(true, p.Data)
					break
				}
			}
			s.waitActive(c) // and reads nothing from here on
			sess, _ := s.registry.lookup(t.Context(), "a")
			body, stop := io.Pipe()
			viewer := make(chan struct{})
			go func() {
				defer close(viewer)
				if resp, err := http.Post(s.url+"/a/", "", body); err == nil {
					resp.Body.Close()
				}
			}()
			go func() {
				for piece := make([]byte, 1<<20); ; {
					if _, err := stop.Write(piece); err != nil {
						return
					}
				}
			}()
			token := wire.Control{Type: wire.TypeToken, Token: mint(t, "a")}.Encode()
			waitFor(t, func() bool {
				c.conn.SendControl(token)
				sess.mu.Lock()
				defer sess.mu.Unlock()
				return len(sess.inbox) >= 3 // their answers cannot be sent
			})
			begun := time.Now()
			end(s, sess)
			waitFor(t, func() bool { return len(s.registry.sessions()) == 0 })
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			stop.Close()
			body.Close()
			<-viewer
		})
	}
}

// lockProbe is the writer of a log. It notes for each line about a token whether
// others could lock the session while the line was written.
type lockProbe struct {
	s     atomic.Pointer[session]
	lines chan bool
}

func (p *lockProbe) Write(line []byte) (int, error) {
	if s := p.s.Load(); s != nil && bytes.Contains(line, []byte("token")) {
		locked := make(chan struct{})
		go func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			close(locked)
		}()
		select {
		case <-locked:
			p.lines <- true
		case <-time.After(2 * time.Second):
			p.lines <- false
		}
	}
	return len(line), nil
}

// A log whose writer is slow must not keep the tunnel's viewers waiting for the
// session's lock.
func TestRefreshLogsWithoutLock(t *testing.T) {
	probe := &lockProbe{lines: make(chan bool, 10)}
	s := newService(t, Config{Logger: zerolog.New(probe)})
	c := s.connect("a", echoHandler)
	sess, err := s.registry.lookup(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	probe.s.Store(sess)
	for _, token := range []string{mint(t, "a"), "nonsense"} {
		c.conn.SendControl(wire.Control{Type: wire.TypeToken, Token: token}.Encode())
		if m := <-c.control; m.Type != wire.TypeToken {
			t.Errorf("got %+v", m)
		}
		if !<-probe.lines {
			t.Errorf("the line about token %.10q is written with the lock held", token)
		}
	}
}
