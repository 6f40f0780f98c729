package redisdir

import (
	"bytes"
	"strconv"
)

// Bounds of one message. Values have 2 KiB at most; the longest answers are lists of
// nodes and of slots.
const (
	maxText    = 64 << 10 // bytes
	maxParts   = 64 << 10
	maxMessage = 4 << 20 // bytes

	maxDigits = 5 // of maxText and maxParts
)

// framing follows messages of Redis's protocol, RESP3. They are made of elements: a
// line, a line and a text behind it, or a line and further elements. The zero value is
// before the first message.
type framing struct {
	messages int64 // that have ended, without pushes
	noAuth   bool  // one of them is the error that a password is missing

	// Of the message:
	kind  byte // the first byte of its first line
	size  int  // bytes so far
	parts int  // elements so far
	open  int  // elements that are to come, with the one that has begun

	// Of the element:
	line   [1 + maxDigits]byte // the beginning of the line
	length int                 // bytes of the line so far
	last   byte                // of the line so far
	text   int                 // bytes of the text that are to come
}

// follow reports whether all is well-formed and within bounds so far. p is what comes
// next. After a false it must not be called again.
func (f *framing) follow(p []byte) bool {
	for len(p) > 0 {
		n := min(f.text, len(p))
		end := false
		if f.text == 0 {
			n = bytes.IndexByte(p, '\n') + 1
			if end = n > 0; !end {
				n = len(p)
			}
		}
		if f.size += n; f.size > maxMessage {
			return false
		}
		if f.text > 0 {
			if f.text -= n; f.text == 0 {
				f.endElement()
			}
		} else if !f.addLine(p[:n]) || end && !f.endLine() {
			return false
		}
		p = p[n:]
	}
	return true
}

// addLine adds p, up to and with a line feed, to the line.
func (f *framing) addLine(p []byte) bool {
	if f.length < len(f.line) {
		copy(f.line[f.length:], p)
	}
	f.length += len(p)
	if p[len(p)-1] == '\n' {
		if p = p[:len(p)-1]; len(p) == 0 {
			return f.last == '\r' && f.length > 2
		}
		return p[len(p)-1] == '\r' && f.length > 2
	}
	f.last = p[len(p)-1]
	return f.length <= maxText
}

// endLine begins the element whose line is complete, and ends it if there is no more
// of it.
func (f *framing) endLine() bool {
	kind, digits := f.line[0], f.length-len("$\r\n")
	f.length = 0
	if f.open == 0 {
		f.kind, f.open, f.parts = kind, 1, 0
		f.noAuth = f.noAuth || string(f.line[:]) == "-NOAUT" // NOAUTH, as far as it fits
	}
	f.parts++

	n := 0
	switch kind {
	case '+', '-', ':', ',', '(':
		f.endElement()
		return true
	case '_':
		f.endElement()
		return digits == 0
	case '#':
		f.endElement()
		return digits == 1
	case '$', '=', '!', '*', '~', '%', '>':
		if digits > maxDigits {
			return false
		}
		var err error
		if n, err = strconv.Atoi(string(f.line[1 : 1+digits])); err != nil {
			return false
		}
		if n == -1 && (kind == '$' || kind == '*') { // a null of RESP2
			f.endElement()
			return true
		}
	default: // Redis sends no attributes, and nothing whose end is not known
		return false
	}

	switch kind {
	case '$', '=', '!':
		f.text = n + len("\r\n")
		return 0 <= n && n <= maxText
	case '%':
		n *= 2
	}
	if n < 0 || f.parts+f.open+n > maxParts {
		return false
	}
	f.open += n
	f.endElement()
	return true
}

func (f *framing) endElement() {
	if f.open--; f.open == 0 {
		f.size = 0
		if f.kind != '>' {
			f.messages++
		}
	}
}
