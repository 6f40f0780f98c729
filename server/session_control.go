package server

import (
	"errors"

	"github.com/websocktunnel/websocktunnel/internal/logevent"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

const (
	// maxRefusals is how many fresh tokens may be refused in the life of a
	// session. Each is a line in the log.
	maxRefusals = 20

	// controlBacklog is how many control messages may wait for their answer.
	controlBacklog = 16
)

// errInLeeway refuses a fresh token that would not keep the session going: the
// close code that says that the token has expired would follow at once.
var errInLeeway = errors.New("token has expired, and the leeway is for registrations only")

// onControl is called by the goroutine that reads, and must not block.
func (s *session) onControl(b []byte) {
	fault := "too many control messages"
	m, err := wire.ParseControl(b)
	switch {
	case err != nil:
		fault = "malformed control message"
	case m.Type != wire.TypeToken && m.Type != wire.TypeGoaway:
		return // of a later version of the protocol
	default:
		if m.Type == wire.TypeGoaway {
			s.clientLeaves.Store(true)
		}
		if s.receive(m) {
			return
		}
		err = errors.New("they come faster than they can be answered")
	}
	if s.cut(wire.CloseProtocol, fault) { // more may come until it has ended
		s.log().Warn().Str(logevent.Field, logevent.Violation).Err(err).Msg(fault)
	}
}

// receive leaves m for run, and reports false if too many wait for their answer.
func (s *session) receive(m wire.Control) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.inbox) >= controlBacklog {
		return false
	}
	s.inbox = append(s.inbox, m)
	s.notify()
	return true
}

// handleControls is called by run.
func (s *session) handleControls() {
	s.mu.Lock()
	inbox := s.inbox
	s.inbox = nil
	s.mu.Unlock()
	for _, m := range inbox {
		s.handleControl(m)
	}
}

func (s *session) handleControl(m wire.Control) {
	switch m.Type {
	case wire.TypeToken:
		s.refresh(m.Token)
	case wire.TypeGoaway:
		if !s.hasLeft() && s.retire(wire.CloseDraining) {
			s.stopped.Store(true)
			s.log().Debug().Str(logevent.Field, logevent.ClientLeaves).Msg("tunnel client asked to be drained")
		}
	}
}

// refresh puts a fresh token in force, or keeps the old one.
func (s *session) refresh(token string) {
	var code errorCode
	g, err := s.srv.admitToken(token, s.id)
	switch {
	case err != nil:
		code = badToken(err).code
	case !s.srv.cfg.now().Before(g.expires):
		err, code = errInLeeway, codeTokenExpired
	}
	if err != nil {
		if s.refusals++; s.refusals > maxRefusals {
			const fault = "too many refused tokens"
			s.log().Warn().Str(logevent.Field, logevent.Violation).Msg(fault + ": session ends")
			s.cut(wire.CloseProtocol, fault)
			return
		}
	}
	if err = s.renew(g, err); err == nil {
		s.log().Debug().Str(logevent.Field, logevent.TokenRefreshed).Time("expires", g.expires).Msg("token refreshed")
	} else {
		line := s.log().Warn().Str(logevent.Field, logevent.TokenRefused).Err(err)
		if code != "" {
			line = line.Str("error_code", string(code))
		}
		line.Msg("fresh token refused; the old one stays in force")
	}
}

// renew puts g in force, unless err is set or the session will not be taken
// back into service, and leaves the answer for run to send.
func (s *session) renew(g grant, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && !s.state.serves() {
		err = errRetired
	}
	ok := err == nil
	answer := wire.Control{Type: wire.TypeToken, OK: &ok}
	if ok {
		s.grant = g
		answer.Exp = g.expires.Unix()
	}
	s.sendLocked(answer)
	return err
}

// sendLocked leaves m for run to send.
func (s *session) sendLocked(m wire.Control) {
	s.outbox = append(s.outbox, m)
	s.notify()
}

// send starts to send the outbox. The channel is closed when that is done; it is nil
// if there is nothing to send. A client that takes nothing blocks the
// sending until the connection ends, and run, which is to see to that, must not
// wait for it.
func (s *session) send() <-chan struct{} {
	s.mu.Lock()
	outbox := s.outbox
	s.outbox = nil
	s.mu.Unlock()
	if len(outbox) == 0 {
		return nil
	}
	sent := make(chan struct{})
	go func() {
		defer s.notify()
		defer close(sent)
		for _, m := range outbox {
			if err := s.conn.SendControl(m.Encode()); err != nil {
				s.log().Debug().Str(logevent.Field, logevent.ControlUnsent).Err(err).Str("type", m.Type).Msg("control message not sent")
			}
		}
	}()
	return sent
}
