// Package pemtext reads PEM the way it comes in environment variables.
package pemtext

import (
	"bytes"
	"encoding/base64"
	"strings"
)

const begin = "-----BEGIN "

// Decode returns the PEM in text: text itself, or what it holds in base64,
// which has no line breaks and so fits into any environment; with or without
// padding, in one line or several. It returns false if there is none.
func Decode(text string) ([]byte, bool) {
	if strings.Contains(text, begin) {
		return []byte(text), true
	}
	compact := strings.TrimRight(strings.Join(strings.Fields(text), ""), "=")
	b, err := base64.RawStdEncoding.DecodeString(compact)
	if err != nil || !bytes.Contains(b, []byte(begin)) {
		return nil, false
	}
	return b, true
}
