package h2conn

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// lingerTimeout bounds how long the Close of an upgrade whose directions have
// both ended waits for the peer to take the last bytes.
const lingerTimeout = time.Minute

// upgradedStream is the body of a 101 response: what the peer's target sends
// is read from it, what the viewer sends is written to it.
type upgradedStream struct {
	id     string
	form   string // see UpgradeForm
	table  *openUpgrades
	res    io.ReadCloser
	pw     *io.PipeWriter
	body   *upgradeBody       // the other end of pw
	sent   chan struct{}      // closed when nothing more is sent: all has left, or the stream broke
	cancel context.CancelFunc // resets the stream
	stop   func() bool        // detaches it from its request's context

	read       int64         // bytes returned by Read
	end        atomic.Int64  // where an upgrade_end message says the target's direction ends; negative: none came
	readEnded  chan struct{} // closed when Read has returned io.EOF
	onReadEnd  sync.Once
	writeEnded atomic.Bool // CloseWrite was called
	closeOnce  sync.Once
	closeErr   error
}

func (s *upgradedStream) Read(p []byte) (int, error) {
	if end := s.end.Load(); end >= 0 && s.read >= end {
		return 0, s.eof()
	}
	n, err := s.res.Read(p)
	// The message comes before the byte that marks the end.
	if end := s.end.Load(); end >= 0 && s.read+int64(n) > end {
		n = int(max(end-s.read, 0))
		err = nil
		if n == 0 {
			err = s.eof()
		}
	}
	s.read += int64(n)
	if errors.Is(err, io.EOF) {
		err = s.eof()
	}
	return n, err
}

func (s *upgradedStream) eof() error {
	s.onReadEnd.Do(func() { close(s.readEnded) })
	return io.EOF
}

func (s *upgradedStream) Write(p []byte) (int, error) { return s.pw.Write(p) }

// CloseWrite ends the direction towards the target and leaves the other open.
func (s *upgradedStream) CloseWrite() error {
	s.writeEnded.Store(true)
	return s.pw.Close()
}

// bothEnded reports whether there is nothing left to break off.
func (s *upgradedStream) bothEnded() bool {
	select {
	case <-s.readEnded:
		return s.writeEnded.Load()
	default:
		return false
	}
}

// abandon resets the stream because its request's context is over.
func (s *upgradedStream) abandon() {
	if !s.bothEnded() {
		s.cancel()
	}
}

// forget ends a stream that has not become a connection.
func (s *upgradedStream) forget() {
	s.stop()
	s.cancel()
	s.table.remove(s)
}

// Close ends both directions. Where one has not ended by itself, the peer
// sees the stream reset and not a clean end.
func (s *upgradedStream) Close() error {
	s.closeOnce.Do(func() {
		if s.bothEnded() {
			s.linger()
		}
		s.forget()
		s.closeErr = s.res.Close()
	})
	return s.closeErr
}

// linger waits until the peer has all bytes, and has ended the stream.
func (s *upgradedStream) linger() {
	t := time.AfterFunc(lingerTimeout, s.cancel)
	defer t.Stop()
	if _, err := io.Copy(io.Discard, s.res); err != nil {
		return
	}
	<-s.sent // also when cancelled
}

// typeUpgradeEnd is the type of the control message by which the answering end
// ends its direction of an upgrade and goes on reading the other. HTTP/2 has
// END_STREAM for that, but a handler of x/net's server cannot send it before
// it returns, which ends both directions.
const typeUpgradeEnd = "upgrade_end"

// upgradeEnd is that message. The direction has Bytes bytes of DATA; one more,
// of any value, follows after the message and is not part of it: it wakes the
// reader.
type upgradeEnd struct {
	Type    string `json:"type"`
	Upgrade string `json:"upgrade"` // value of the request's HeaderUpgradeID
	Bytes   int64  `json:"bytes"`
}

// openUpgrades are the upgrades of one Transport that are not over.
type openUpgrades struct {
	mu   sync.Mutex
	last uint64
	open map[string]*upgradedStream
}

// add makes a stream that pw writes to and cancel resets.
func (u *openUpgrades) add(pw *io.PipeWriter, cancel context.CancelFunc) *upgradedStream {
	s := &upgradedStream{table: u, pw: pw, cancel: cancel, sent: make(chan struct{}), readEnded: make(chan struct{})}
	s.end.Store(-1)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.last++
	s.id = strconv.FormatUint(u.last, 10)
	if u.open == nil {
		u.open = make(map[string]*upgradedStream)
	}
	u.open[s.id] = s
	return s
}

func (u *openUpgrades) remove(s *upgradedStream) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.open, s.id)
}

// control takes the upgrade_end messages. It runs in the goroutine that reads
// the connection, so before the byte that follows the message is read.
func (u *openUpgrades) control(b []byte) bool {
	var m upgradeEnd
	if err := json.Unmarshal(b, &m); err != nil || m.Type != typeUpgradeEnd {
		return false
	}
	u.mu.Lock()
	s := u.open[m.Upgrade]
	u.mu.Unlock()
	if s != nil && m.Bytes >= 0 {
		s.end.CompareAndSwap(-1, m.Bytes)
	}
	return true
}
