package wire

import (
	"encoding/json"
	"fmt"
	"time"
)

// MaxControlMessage is the size in bytes of the largest control message.
const MaxControlMessage = 16 << 10

// Types of control messages. A receiver ignores types that it does not know.
const (
	TypeToken  = "token"
	TypeGoaway = "goaway"
)

// Reasons of a goaway that the service sends.
const (
	ReasonDraining   = "draining"
	ReasonOverloaded = "overloaded"
	ReasonExpired    = "expired"
)

// Control is one control message: a JSON object in a websocket text message.
// Which fields are set depends on Type and direction.
type Control struct {
	Type string `json:"type"`

	// Token, from the client: fresh credentials for this tunnel.
	Token string `json:"token,omitempty"`
	// OK, from the service: whether the fresh credentials are now in force.
	OK *bool `json:"ok,omitempty"`
	// Exp, from the service with OK true: when they run out, Unix seconds.
	Exp int64 `json:"exp,omitempty"`

	// Reason, from the service in a goaway: one of the Reason constants.
	Reason string `json:"reason,omitempty"`
	// ReconnectAfterMS, from the service in a goaway: how long the client
	// waits before it connects anew, in milliseconds.
	ReconnectAfterMS int64 `json:"reconnect_after_ms,omitempty"`
}

// ReconnectAfter returns ReconnectAfterMS as a duration, never negative and
// at most an hour: a peer cannot park a client for longer.
func (c Control) ReconnectAfter() time.Duration {
	ms := min(max(c.ReconnectAfterMS, 0), time.Hour.Milliseconds())
	return time.Duration(ms) * time.Millisecond
}

// Encode returns c as it goes over the wire.
func (c Control) Encode() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic("wire: a Control always encodes: " + err.Error())
	}
	return b
}

// ParseControl decodes a control message. Unknown fields are ignored, and of a
// message of unknown type all but the type, so that later versions can add
// some. The error never quotes the message, which may hold a token.
func ParseControl(b []byte) (Control, error) {
	if len(b) > MaxControlMessage {
		return Control{}, fmt.Errorf("control message has %d bytes: the limit is %d", len(b), MaxControlMessage)
	}
	malformed := fmt.Errorf("control message of %d bytes is not a JSON object of the expected form", len(b))
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(b, &kind); err != nil {
		return Control{}, malformed
	}
	switch kind.Type {
	case "":
		return Control{}, fmt.Errorf("control message of %d bytes has no type", len(b))
	case TypeToken, TypeGoaway:
	default: // its fields may mean anything
		return Control{Type: kind.Type}, nil
	}
	var c Control
	if err := json.Unmarshal(b, &c); err != nil {
		return Control{}, malformed
	}
	return c, nil
}
