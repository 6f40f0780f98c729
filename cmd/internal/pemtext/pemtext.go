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
// padding, in one line or several. It returns false if there is none. Line breaks
// may be written as \n, as they are in JSON and in files of variables.
func Decode(text string) ([]byte, bool) {
	if strings.Contains(text, begin) {
		return []byte(unescape(text)), true
	}
	compact := strings.TrimRight(strings.Join(strings.Fields(text), ""), "=")
	b, err := base64.RawStdEncoding.DecodeString(compact)
	if err != nil || !bytes.Contains(b, []byte(begin)) {
		return nil, false
	}
	return []byte(unescape(string(b))), true
}

// unescape makes line breaks of \n and \r\n if they stand behind the dashes that
// a line of PEM ends in. Nothing inside PEM has a backslash.
func unescape(text string) string {
	if !strings.Contains(text, `-----\n`) && !strings.Contains(text, `-----\r\n`) {
		return text
	}
	return strings.NewReplacer(`\r\n`, "\n", `\n`, "\n").Replace(text)
}
