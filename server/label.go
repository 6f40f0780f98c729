package server

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// label is what a client id is called in a host name: <label>.<viewer domain>.
// It is a valid DNS label in lower case, and no two ids have the same, also
// when labels are compared without case. So it is the registry's key too: a host
// name leads to its tunnel without the id, which not every label tells.
type label string

const (
	// encodedPrefix begins the labels of ids that cannot be labels themselves.
	// It is no prefix of "xn--" and its like (RFC 5891, section 4.2.3.1), which
	// have their hyphens one place further on.
	encodedPrefix = "x--"

	maxLabel = 63 // bytes; RFC 1035, section 2.3.4
)

// encodedID is what stands behind encodedPrefix. 256 bits take 52 characters.
var encodedID = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// labelOf returns the label of id: id itself if it is a plain label, and otherwise a
// hash of it. Ids have up to 256 bytes and labels 63, so a form that can be
// decoded would do for short ids only.
func labelOf(id string) label {
	if isPlainLabel(id) {
		return label(id)
	}
	sum := sha256.Sum256([]byte(id))
	return label(encodedPrefix + encodedID.EncodeToString(sum[:]))
}

// isPlainLabel reports whether id is its own label: lower-case letters, digits
// and, inside, hyphens. What begins like an encoded label is not, and neither is
// what IDNA has reserved: hyphens in the third and fourth place.
func isPlainLabel(id string) bool {
	reserved := len(id) >= 4 && id[2:4] == "--"
	return isLabel(id) && !reserved && !strings.HasPrefix(id, encodedPrefix)
}

// isLabel reports whether s is a DNS label of a host name (RFC 1123, section
// 2.1) in lower case.
func isLabel(s string) bool {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-':
		default:
			return false
		}
	}
	return true
}
