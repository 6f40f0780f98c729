package target

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/net/http/httpguts"
)

// headReader looks at the header of each answer of an HTTP/1.1 connection, on its
// way to net/http, which parses it. It mends what a proxy must mend, and ends what
// net/http would misunderstand, or refuse without a word of where the fault is.
//
// It need not know where a body ends: net/http sends a request when it is done with
// the answer before, so that what comes after expect is a header, or several if
// they are of interim answers.
//
//	             begins as  becomes
//	expected     true       false behind the header of a final answer, or if it is none; true by expect
//	line         empty      the beginning of a line whose end is not here
//	left         empty      what has not found room in a Read
//	fault        nil        what ends the connection, once all before it has been read
//
// All but expected belong to the one goroutine that reads.
type headReader struct {
	expected atomic.Bool
	line     []byte
	left     []byte
	fault    error
	head     head // the one that is being read
}

// head is the part of a header that has been read.
type head struct {
	lines   int
	old     bool   // of an HTTP version below 1.1
	interim bool   // the answer is one
	name    []byte // of the last field
}

// maxLoggedName is how much of a header's name is told.
const maxLoggedName = 64

var (
	contentLength    = []byte("Content-Length")
	transferEncoding = []byte("Transfer-Encoding")
)

// headFault is an error about the header of an answer. It names the field, and not
// its value.
type headFault struct{ name, text string }

func (f *headFault) Error() string { return "the header of the target's answer is faulty: " + f.text }

// expect says that the next bytes are a header.
func (h *headReader) expect() { h.expected.Store(true) }

// read returns what a Read by read into p gives.
func (h *headReader) read(p []byte, read func([]byte) (int, error)) (int, error) {
	if len(h.left) > 0 {
		n := copy(p, h.left)
		h.left = h.left[n:]
		return n, nil
	}
	if h.fault != nil {
		return 0, h.fault
	}
	for {
		n, err := read(p)
		if !h.expected.Load() || n == 0 && len(h.line) == 0 {
			return n, err
		}
		data := p[:n]
		if len(h.line) > 0 {
			data = append(h.line, data...)
			h.line = nil
		}
		if h.fault = h.checked(&data); h.fault != nil { // for every Read: net/http's parser tries twice
			err = h.fault
		} else if err != nil {
			data = append(data, h.line...) // nothing follows
			h.line = nil
		}
		switch n = copy(p, data); { // of which most is there already
		case n < len(data) || n > 0 && err != nil:
			h.left, h.fault = data[n:], err
			return n, nil
		case n > 0 || err != nil || len(p) == 0:
			return n, err
		}
	}
}

// checked leaves in data what can go on, and keeps the beginning of a line in h.line.
func (h *headReader) checked(data *[]byte) error {
	in := *data
	out := in[:0]
	defer func() { *data = out }()
	for h.expected.Load() {
		i := bytes.IndexByte(in, '\n')
		if i < 0 {
			if len(in) > maxHeader {
				h.expected.Store(false) // net/http refuses it
				break
			}
			h.line = bytes.Clone(in)
			return nil
		}
		line, err := h.head.check(in[:i+1])
		if err != nil {
			return err
		}
		over := h.head.over(line)
		out = append(out, line...) // may overwrite line
		in = in[i+1:]
		if over {
			h.expected.Store(h.head.interim)
			h.head = head{name: h.head.name[:0]}
		}
	}
	out = append(out, in...)
	return nil
}

// over reports whether line, which check has returned, is the last of the header.
// Bytes that are no header at all are over at once.
func (h *head) over(line []byte) bool {
	return h.lines == 0 || h.lines > 1 && len(trimEnd(line)) == 0
}

// check returns line as it can go on to net/http, which it is part of, or a
// *headFault.
func (h *head) check(line []byte) ([]byte, error) {
	text := trimEnd(line)
	h.lines++
	switch {
	case h.lines == 1:
		h.status(string(text))
		return line, nil
	case len(text) == 0:
		return line, nil
	case text[0] == ' ' || text[0] == '\t':
		if h.lines == 2 {
			return nil, h.fault("its first line begins with a space")
		}
		return line, h.checkValue(text)
	}
	i := bytes.IndexByte(text, ':')
	if i < 0 {
		where := "its first line"
		if len(h.name) > 0 {
			where = "the line behind that header"
		}
		return nil, h.fault(where + " has no colon")
	}
	name := bytes.TrimRight(text[:i], " \t")
	h.name = append(h.name[:0], name...)
	coded := bytes.EqualFold(name, transferEncoding)
	switch {
	case len(name) < i && (coded || bytes.EqualFold(name, contentLength)):
		return nil, h.fault("space before the colon of a header that says where the body ends")
	case h.old && coded:
		return nil, h.fault("that header cannot be in HTTP/1.0: where does the body end?")
	case !plausible(name):
		return nil, h.fault("an impossible name")
	}
	if err := h.checkValue(text[i+1:]); err != nil {
		return nil, err
	}
	if len(name) < i {
		copy(line[len(name):], line[i:])
		line = line[:len(line)-(i-len(name))]
	}
	return line, nil
}

// status looks at the status line. If it is none, there is no header to look at.
func (h *head) status(line string) {
	proto, rest, _ := strings.Cut(line, " ")
	major, minor, ok := http.ParseHTTPVersion(proto)
	code, _, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
	if !ok || len(code) != 3 {
		h.lines = 0
		return
	}
	h.old = major < 1 || major == 1 && minor < 1
	h.interim = code[0] == '1' && code != "101"
}

// checkValue finds bytes that no value can have.
func (h *head) checkValue(v []byte) error {
	for _, c := range v {
		if c < ' ' && c != '\t' || c == 0x7f {
			return h.fault("a control character")
		}
	}
	return nil
}

func (h *head) fault(text string) error {
	name := h.name
	if len(name) > maxLoggedName {
		name = append(name[:maxLoggedName:maxLoggedName], "…"...)
	}
	return &headFault{string(name), text}
}

// plausible reports whether name is one of a header, or has spaces in it, which
// net/http lets pass and nothing else does: such a header is lost.
func plausible(name []byte) bool {
	for _, c := range name {
		if c != ' ' && !httpguts.IsTokenRune(rune(c)) {
			return false
		}
	}
	return true
}

// trimEnd returns line without its line break.
func trimEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}

// faultyHeader returns the name of the header because of which an answer was
// refused with err, or "". net/http has no types for it.
func faultyHeader(err error) string {
	var f *headFault
	if errors.As(err, &f) {
		return f.name
	}
	s := err.Error()
	for _, before := range [...]string{"invalid header field name ", "invalid header field value for "} { // of HTTP/2
		if _, name, ok := strings.Cut(s, before); ok {
			quoted, _ := strconv.QuotedPrefix(name)
			name, _ = strconv.Unquote(quoted)
			return name[:min(len(name), maxLoggedName)]
		}
	}
	switch {
	case strings.Contains(s, "Content-Length"):
		return "Content-Length"
	case strings.Contains(s, "transfer encoding"):
		return "Transfer-Encoding"
	}
	return ""
}
