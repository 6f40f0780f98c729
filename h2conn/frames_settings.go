package h2conn

import (
	"encoding/binary"
	"sync"

	"golang.org/x/net/http2"
)

// peerSettings learns from the first SETTINGS frame of the peer what x/net
// does not tell: whether it accepts extended CONNECT, and how many streams.
// RFC 9113, section 3.4, obliges the peer to send it first of all.
type peerSettings struct {
	skip int    // bytes of the connection preface still to come
	buf  []byte // of the frame so far; nil when done
	done bool

	once            sync.Once
	ready           chan struct{} // closed when the fields below are final
	extendedConnect bool
	maxStreams      uint32 // given if hasMaxStreams
	hasMaxStreams   bool
	maxHeaderList   uint32 // 0: none given
}

const (
	frameHeaderLen   = 9
	maxSettingsFrame = 6 * 64
)

// newPeerSettings returns one for a peer that sends preface bytes before its
// first frame.
func newPeerSettings(preface int) *peerSettings {
	return &peerSettings{skip: preface, ready: make(chan struct{})}
}

// observe is given everything the peer sends, in order, by one goroutine.
func (s *peerSettings) observe(p []byte) {
	if s.done {
		return
	}
	if s.skip > 0 {
		n := min(s.skip, len(p))
		s.skip -= n
		p = p[n:]
	}
	s.buf = append(s.buf, p...)
	if len(s.buf) < frameHeaderLen {
		return
	}
	length := frameLength(s.buf[:])
	if http2.FrameType(s.buf[3]) != http2.FrameSettings || length > maxSettingsFrame {
		s.finish() // x/net will refuse the first, and we ignore the second
		return
	}
	if len(s.buf) < frameHeaderLen+length {
		return
	}
	for b := s.buf[frameHeaderLen : frameHeaderLen+length]; len(b) >= 6; b = b[6:] {
		v := binary.BigEndian.Uint32(b[2:])
		switch http2.SettingID(binary.BigEndian.Uint16(b)) {
		case http2.SettingEnableConnectProtocol:
			s.extendedConnect = v == 1
		case http2.SettingMaxConcurrentStreams:
			s.maxStreams, s.hasMaxStreams = v, true
		case http2.SettingMaxHeaderListSize:
			s.maxHeaderList = v
		}
	}
	s.finish()
}

func (s *peerSettings) finish() {
	s.done, s.buf = true, nil
	s.once.Do(func() { close(s.ready) })
}

// headerListLimit returns the largest header list that the peer takes, or 0 if
// it has named none.
func (s *peerSettings) headerListLimit() uint32 {
	select {
	case <-s.ready:
		return s.maxHeaderList
	default:
		return 0
	}
}

// frameLength returns how long the payload of a frame is, by its header (RFC
// 9113, section 4.1).
func frameLength(header []byte) int {
	return int(header[0])<<16 | int(header[1])<<8 | int(header[2])
}
