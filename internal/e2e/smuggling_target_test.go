package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// strictTarget reads requests as strictly as no server does, so that whatever
// one server may read otherwise than the next is a fault. What it has read is
// in requests, as seen by whole requests; of requests that broke off it keeps
// the beginnings.
type strictTarget struct {
	requests chan string

	mu     sync.Mutex
	broken []string
	faults []string
}

func newStrictTarget() *strictTarget { return &strictTarget{requests: make(chan string, 100)} }

// saw is how a request is written in the corpus.
func saw(method, target, body string) string {
	if strings.ContainsFunc(target, func(r rune) bool { return r >= utf8.RuneSelf }) {
		target = strings.Trim(strconv.QuoteToASCII(target), `"`)
	}
	s := method + " " + target
	if body != "" {
		s += " " + strconv.Quote(body)
	}
	return s
}

func (s *strictTarget) brokeOff(start string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = append(s.broken, start)
}

func (s *strictTarget) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

// report reports what no target may get.
func (s *strictTarget) report(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		t.Errorf("at the target: %s", f)
	}
	for _, b := range s.broken {
		if strings.Contains(b, "smuggled") {
			t.Errorf("the target got the beginning %q", b)
		}
	}
	s.faults, s.broken = nil, nil
}

// serveHTTP1 answers each request with what it was. A path with "early" is
// answered before the body is read, and one with "refuse" instead of that.
func (s *strictTarget) serveHTTP1(c net.Conn) {
	br := bufio.NewReaderSize(c, 128<<10)
	for {
		start, fields, err := s.readHead(br)
		if err != nil {
			if start != "" {
				s.brokeOff(start)
			}
			return
		}
		method, target, _ := strings.Cut(strings.TrimSuffix(start, " HTTP/1.1"), " ")
		early := strings.Contains(target, "early")
		if early {
			answerStrictly(c, method, target, "")
		}
		if strings.Contains(target, "refuse") {
			answerStrictly(c, method, target, "Connection: close\r\n")
			s.brokeOff(start)
			return
		}
		if fields["expect"] != nil {
			io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		body, err := s.readBody(br, fields)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !isNetError(err) {
				s.fault("%s: %v", start, err)
			}
			s.brokeOff(start)
			return
		}
		s.requests <- saw(method, target, body)
		if !early {
			answerStrictly(c, method, target, "")
		}
	}
}

func isNetError(err error) bool {
	var ne net.Error
	return errors.As(err, &ne)
}

func answerStrictly(w io.Writer, method, target, header string) {
	body := method + " " + target
	fmt.Fprintf(w, "HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n", header, len(body))
	if method != "HEAD" {
		io.WriteString(w, body)
	}
}

// readLine reads a line that ends as lines have to, without its end.
func (s *strictTarget) readLine(br *bufio.Reader) (string, error) {
	line, err := br.ReadString('\n')
	if err != nil {
		return line, err
	}
	line, ok := strings.CutSuffix(line, "\r\n")
	if !ok || strings.ContainsAny(line, "\r\n\x00") {
		s.fault("the line %q has no proper end", line)
	}
	return line, nil
}

func (s *strictTarget) readHead(br *bufio.Reader) (start string, fields map[string][]string, err error) {
	if start, err = s.readLine(br); err != nil {
		return start, nil, err
	}
	parts := strings.Split(start, " ")
	if len(parts) != 3 || !httpguts.ValidHeaderFieldName(parts[0]) || parts[1] == "" || parts[2] != "HTTP/1.1" || strings.ContainsFunc(start, isControl) {
		s.fault("the request line is %q", start)
	}
	if fields, err = s.readFields(br); err != nil {
		return start, nil, err
	}
	if len(fields["host"]) != 1 {
		s.fault("%s has the hosts %q", start, fields["host"])
	}
	length, te := fields["content-length"], fields["transfer-encoding"]
	if len(length)+len(te) > 1 || len(te) == 1 && te[0] != "chunked" || len(length) == 1 && !allDigits(length[0]) {
		s.fault("%s has the lengths %q and transfer encodings %q", start, length, te)
	}
	return start, fields, nil
}

func (s *strictTarget) readFields(br *bufio.Reader) (map[string][]string, error) {
	fields := make(map[string][]string)
	for {
		line, err := s.readLine(br)
		if err != nil || line == "" {
			return fields, err
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			s.fault("the header line %q", line)
		}
		name = strings.ToLower(name)
		fields[name] = append(fields[name], value)
	}
}

func (s *strictTarget) readBody(br *bufio.Reader, fields map[string][]string) (string, error) {
	if fields["transfer-encoding"] == nil {
		if fields["content-length"] == nil {
			return "", nil
		}
		n, err := strconv.Atoi(fields["content-length"][0])
		if err != nil {
			return "", err
		}
		b := make([]byte, n)
		_, err = io.ReadFull(br, b)
		return string(b), err
	}
	var body strings.Builder
	for {
		line, err := s.readLine(br)
		if err != nil {
			return "", err
		}
		n, err := strconv.ParseUint(line, 16, 31)
		if err != nil || strings.ContainsAny(line, "+_") {
			return "", fmt.Errorf("the chunk size %q", line)
		}
		if n == 0 {
			_, err := s.readFields(br)
			return body.String(), err
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(br, b); err != nil {
			return "", err
		}
		if string(b[n:]) != "\r\n" {
			return "", fmt.Errorf("behind a chunk comes %q", b[n:])
		}
		body.Write(b[:n])
	}
}

// serveHTTP2 is serveHTTP1 for HTTP/2 with prior knowledge. It is x/net's
// framer that is strict here.
func (s *strictTarget) serveHTTP2(c net.Conn) {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c, preface); err != nil {
		return
	}
	if string(preface) != http2.ClientPreface {
		s.fault("the preface is %q", preface)
		return
	}
	f := newFrameConn(c)
	f.start()
	streams := make(map[uint32]*message)
	for {
		frame, err := f.framer.ReadFrame()
		var reset http2.StreamError
		if errors.As(err, &reset) {
			s.fault("a malformed stream: %v", err)
			continue
		}
		if err != nil {
			return
		}
		stream := frame.Header().StreamID
		m, ended := streams[stream], false
		f.acknowledge(frame)
		switch frame := frame.(type) {
		case *http2.RSTStreamFrame:
			if m != nil {
				s.brokeOff(m.start)
				delete(streams, stream)
			}
		case *http2.MetaHeadersFrame:
			if m == nil {
				first := messageOf(frame, "")
				m = &first
				streams[stream] = m
			}
			ended = frame.StreamEnded()
		case *http2.DataFrame:
			m.body += string(frame.Data())
			ended = frame.StreamEnded()
		}
		if !ended {
			continue
		}
		delete(streams, stream)
		if err := s.answerStream(f, stream, *m); err != nil {
			return
		}
	}
}

func (s *strictTarget) answerStream(f *frameConn, stream uint32, m message) error {
	for _, name := range []string{"connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection"} {
		if m.header(name) != nil {
			s.fault("%s has the header %s", m.start, name)
		}
	}
	if v := m.header("content-length"); len(v) > 1 || len(v) == 1 && v[0] != strconv.Itoa(len(m.body)) {
		s.fault("%s has a body of %d bytes and the lengths %q", m.start, len(m.body), v)
	}
	method, target, _ := strings.Cut(m.start, " ")
	s.requests <- saw(method, target, m.body)
	body := method + " " + target
	answer := message{framing: "length", headers: []string{"content-length: " + strconv.Itoa(len(body))}, body: body}
	if method == "HEAD" {
		answer.framing = "none"
	}
	return f.write(stream, answer, hpack.HeaderField{Name: ":status", Value: "200"})
}

// expect reports whether the requests that the target has seen since the last
// call are want and then last, and nothing else.
func (s *strictTarget) expect(t *testing.T, want []string, last string) {
	t.Helper()
	var got []string
	for {
		select {
		case r := <-s.requests:
			if r == "POST /maybe" { // its viewer is reset, sooner or later
				continue
			}
			if r != last {
				got = append(got, r)
				continue
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%q has not come", last)
		}
		break
	}
	if !slices.Equal(got, want) {
		t.Errorf("the target saw %q, want %q", got, want)
	}
	s.report(t)
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func allDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
