package e2e

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
)

// message is one HTTP message as recorded, of whatever version.
type message struct {
	start   string   // request line, or status and reason phrase
	names   []string // of headers, as they came
	headers []string // "name: value", names in lower case, sorted by name only
	body    string
	framing string // how the body's end is known: none, length, chunked, stream
	trailer []string
}

// lines are what is compared.
func (m message) lines() []string {
	lines := append([]string{m.start}, m.headers...)
	body := fmt.Sprintf("body: %q", m.body)
	if len(m.body) > 300 {
		body = fmt.Sprintf("body: %d bytes, %x", len(m.body), sha256.Sum256([]byte(m.body)))
	}
	lines = append(lines, "framing: "+m.framing, body)
	for _, f := range m.trailer {
		lines = append(lines, "trailer "+f)
	}
	return lines
}

// status is that of an answer.
func (m message) status() string {
	status, _, _ := strings.Cut(m.start, " ")
	return status
}

func (m message) interim() bool { return strings.HasPrefix(m.start, "1") }

// bodyless reports whether an answer to method has no body, whatever its
// headers say.
func (m message) bodyless(method string) bool {
	return method == "HEAD" || m.interim() || m.status() == "204" || m.status() == "304"
}

// drop removes headers whose presence may differ.
func (m *message) drop(names ...string) {
	m.headers = slices.DeleteFunc(slices.Clone(m.headers), func(h string) bool {
		name, _, _ := strings.Cut(h, ":")
		return slices.Contains(names, name)
	})
}

// header returns the values of a header.
func (m message) header(name string) (values []string) {
	for _, h := range m.headers {
		if v, ok := strings.CutPrefix(h, name+": "); ok {
			values = append(values, v)
		}
	}
	return values
}

// overHTTP2 is an HTTP/1.1 message as HTTP/2 has it.
func (m message) overHTTP2(answer bool) message {
	if answer {
		m.start = m.status()
	} else {
		m.start = strings.TrimSuffix(m.start, " HTTP/1.1")
	}
	m.drop("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")
	if m.framing == "chunked" {
		m.framing = "stream"
	}
	return m
}

// compare returns what differs between two messages, as in
// exchange.atTarget.
func compare(direct, tunnelled message) []string {
	d, g := direct.lines(), tunnelled.lines()
	minus := func(a, b []string) (left []string) {
		b = slices.Clone(b)
		for _, line := range a {
			if i := slices.Index(b, line); i >= 0 {
				b = slices.Delete(b, i, i+1)
			} else {
				left = append(left, line)
			}
		}
		return left
	}
	gone, come := minus(d, g), minus(g, d)
	if !slices.Equal(minus(d, gone), minus(g, come)) {
		return []string{fmt.Sprintf("the order of %q is %q", d, g)}
	}
	var all []string
	for _, line := range gone {
		all = append(all, "-"+line)
	}
	for _, line := range come {
		all = append(all, "+"+line)
	}
	return all
}

// readMessage reads one HTTP/1.1 message. method is that of the request if it
// is an answer, else "".
func readMessage(br *bufio.Reader, method string) (m message, err error) {
	if m.start, err = readLine(br); err != nil {
		return m, err
	}
	if method != "" {
		var proto string
		if proto, m.start, _ = strings.Cut(m.start, " "); proto != "HTTP/1.1" {
			return m, fmt.Errorf("the answer begins with %q", proto)
		}
	}
	if m.headers, m.names, err = readFields(br); err != nil {
		return m, err
	}
	length, chunked := -1, false
	for _, h := range m.headers {
		if v, ok := strings.CutPrefix(h, "content-length: "); ok {
			length, _ = strconv.Atoi(v)
		}
		chunked = chunked || h == "transfer-encoding: chunked"
	}
	var body []byte
	switch {
	case method != "" && m.bodyless(method):
		m.framing = "none"
	case chunked:
		m.framing = "chunked"
		if body, err = io.ReadAll(httputil.NewChunkedReader(br)); err == nil {
			m.trailer, _, err = readFields(br)
		}
	case length >= 0:
		m.framing = "length"
		body = make([]byte, length)
		_, err = io.ReadFull(br, body)
	case method != "": // HTTP/2 tells the end, so that HTTP/1.1 can
		m.framing = "chunked"
		m.headers = append(m.headers, "transfer-encoding: chunked")
		slices.SortStableFunc(m.headers, byName)
		body, err = io.ReadAll(br)
	default:
		m.framing = "none"
	}
	m.body = string(body)
	return m, err
}

// readAnswer reads an answer to method with the interim ones before it.
func readAnswer(br *bufio.Reader, method string) (all []message, err error) {
	for {
		m, err := readMessage(br, method)
		if err != nil {
			return all, fmt.Errorf("%w, after %q and %q", err, all, m)
		}
		all = append(all, m)
		if !m.interim() || m.status() == "101" {
			return all, nil
		}
	}
}

func readLine(br *bufio.Reader) (string, error) {
	line, err := br.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

// readFields reads headers or trailers, and returns them sorted, and their
// names as they came.
func readFields(br *bufio.Reader) (fields, names []string, err error) {
	for {
		line, err := readLine(br)
		if err != nil {
			return nil, nil, err
		}
		if line == "" {
			slices.SortStableFunc(fields, byName)
			return fields, names, nil
		}
		name, value, _ := strings.Cut(line, ":")
		names = append(names, name)
		fields = append(fields, field(name, strings.Trim(value, " \t")))
	}
}

// field is a header or trailer as it is compared.
func field(name, value string) string {
	name = strings.ToLower(name)
	if name == "trailer" { // a set, and kept as one
		names := strings.Split(value, ",")
		for i := range names {
			names[i] = strings.TrimSpace(names[i])
		}
		slices.Sort(names)
		value = strings.Join(names, ", ")
	}
	return name + ": " + value
}

func byName(a, b string) int {
	na, _, _ := strings.Cut(a, ":")
	nb, _, _ := strings.Cut(b, ":")
	return strings.Compare(na, nb)
}
