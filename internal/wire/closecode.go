package wire

// CloseCode is a websocket close code of the private range (RFC 6455, section
// 7.4.2) that says why the service ends a session.
type CloseCode int

const (
	// CloseReplaced: a newer connection registered the same id.
	CloseReplaced CloseCode = 4000
	// CloseTokenExpired: the session's token ran out and no fresh one came.
	CloseTokenExpired CloseCode = 4001
	// CloseDraining: the service, or the tunnel client's request, drained it.
	CloseDraining CloseCode = 4002
	// CloseEvicted: an operator ended it; id and token stay blocked.
	CloseEvicted CloseCode = 4003
	// CloseProtocol: the peer broke the tunnel protocol.
	CloseProtocol CloseCode = 4004
	// CloseOverloaded: the service sheds load.
	CloseOverloaded CloseCode = 4005
)

// String returns the word that logs and close reasons use for the code.
func (c CloseCode) String() string {
	switch c {
	case CloseReplaced:
		return "replaced"
	case CloseTokenExpired:
		return "token expired"
	case CloseDraining:
		return "draining"
	case CloseEvicted:
		return "evicted"
	case CloseProtocol:
		return "protocol violation"
	case CloseOverloaded:
		return "overloaded"
	}
	return "unknown"
}
