package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frameConn is one end of HTTP/2, of frames: nothing is normalised, and nothing
// is checked beyond what a frame is. It carries one request at a time.
type frameConn struct {
	framer *http2.Framer
	enc    *hpack.Encoder
	block  bytes.Buffer // that enc writes to
}

func newFrameConn(c io.ReadWriter) *frameConn {
	f := &frameConn{framer: http2.NewFramer(c, bufio.NewReaderSize(c, 64<<10))}
	f.enc = hpack.NewEncoder(&f.block)
	f.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.framer.MaxHeaderListSize = 1 << 20
	return f
}

// start admits more than any exchange has, so that windows are no concern.
func (f *frameConn) start() {
	f.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	f.framer.WriteWindowUpdate(0, 1<<30)
}

// writeFields writes a header block.
func (f *frameConn) writeFields(stream uint32, fields []hpack.HeaderField, end bool) error {
	const maxFrame = 16 << 10
	f.block.Reset()
	for _, h := range fields {
		if err := f.enc.WriteField(h); err != nil {
			return err
		}
	}
	b := f.block.Bytes()
	first := b[:min(len(b), maxFrame)]
	b = b[len(first):]
	err := f.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: end, EndHeaders: len(b) == 0})
	for len(b) > 0 && err == nil {
		next := b[:min(len(b), maxFrame)]
		b = b[len(next):]
		err = f.framer.WriteContinuation(stream, len(b) == 0, next)
	}
	return err
}

// write sends an HTTP/1.1 message, behind pseudo, as HTTP/2 has it.
func (f *frameConn) write(stream uint32, m message, pseudo ...hpack.HeaderField) error {
	fields := append(pseudo, hpackFields(m.headers)...)
	if m.framing == "none" {
		return f.writeFields(stream, fields, !m.interim())
	}
	if err := f.writeFields(stream, fields, false); err != nil {
		return err
	}
	for part := range slices.Chunk([]byte(m.body), 16<<10) {
		if err := f.framer.WriteData(stream, false, part); err != nil {
			return err
		}
	}
	if len(m.trailer) > 0 {
		return f.writeFields(stream, hpackFields(m.trailer), true)
	}
	return f.framer.WriteData(stream, true, nil)
}

func hpackFields(lines []string) []hpack.HeaderField {
	var fields []hpack.HeaderField
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		fields = append(fields, hpack.HeaderField{Name: name, Value: value})
	}
	return fields
}

// acknowledge answers what has to be: settings and pings.
func (f *frameConn) acknowledge(frame http2.Frame) {
	switch frame := frame.(type) {
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			f.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !frame.IsAck() {
			f.framer.WritePing(true, frame.Data)
		}
	}
}

// read returns the messages of the next stream, or of the one given, until its
// end. method is that of the request if they are answers, else "".
func (f *frameConn) read(stream uint32, method string) (uint32, []message, error) {
	var all []message
	for {
		frame, err := f.framer.ReadFrame()
		if err != nil {
			return stream, all, err
		}
		ours := stream != 0 && frame.Header().StreamID == stream
		end := false
		f.acknowledge(frame)
		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			if frame.ErrCode != http2.ErrCodeNo {
				return stream, all, http2.ConnectionError(frame.ErrCode)
			}
		case *http2.RSTStreamFrame:
			if ours {
				return stream, all, http2.StreamError{StreamID: stream, Code: frame.ErrCode}
			}
		case *http2.MetaHeadersFrame:
			if stream == 0 {
				stream, ours = frame.StreamID, true
			}
			if frame.Truncated {
				return stream, all, errors.New("a header block over the limit")
			}
			end = ours && frame.StreamEnded()
			switch {
			case !ours:
			case len(all) == 0 || all[len(all)-1].interim():
				all = append(all, messageOf(frame, method))
			default:
				all[len(all)-1].trailer = fieldsOf(frame)
			}
		case *http2.DataFrame:
			if ours {
				all[len(all)-1].body += string(frame.Data())
				end = frame.StreamEnded()
			}
		}
		if end {
			return stream, all, nil
		}
	}
}

// messageOf is the message that f begins.
func messageOf(f *http2.MetaHeadersFrame, method string) message {
	m := message{start: f.PseudoValue("status"), framing: "none", headers: fieldsOf(f)}
	if method == "" {
		m.start = f.PseudoValue("method") + " " + f.PseudoValue("path")
		m.headers = append(m.headers, field("host", f.PseudoValue("authority")))
		slices.SortStableFunc(m.headers, byName)
	}
	switch {
	case method != "" && m.bodyless(method):
	case m.header("content-length") != nil:
		m.framing = "length"
	case method != "" || !f.StreamEnded():
		m.framing = "stream"
	}
	return m
}

// fieldsOf returns the fields of f as readFields does. Cookies come in crumbs,
// which mean one line (RFC 9113, section 8.2.3).
func fieldsOf(f *http2.MetaHeadersFrame) []string {
	var fields, crumbs []string
	for _, h := range f.RegularFields() {
		if h.Name == "cookie" {
			crumbs = append(crumbs, h.Value)
			continue
		}
		fields = append(fields, field(h.Name, h.Value))
	}
	if crumbs != nil {
		fields = append(fields, field("cookie", strings.Join(crumbs, "; ")))
	}
	slices.SortStableFunc(fields, byName)
	return fields
}

// serveHTTP2 is serveHTTP1 for HTTP/2 with prior knowledge.
func (r *rawTarget) serveHTTP2(t *testing.T, c net.Conn) {
	preface := make([]byte, len(http2.ClientPreface))
	switch _, err := io.ReadFull(c, preface); {
	case err == io.EOF:
		return // dialled and not needed
	case err != nil || string(preface) != http2.ClientPreface:
		t.Errorf("the preface is %q, %v", preface, err)
		return
	}
	f := newFrameConn(c)
	f.start()
	for {
		stream, all, err := f.read(0, "")
		if err != nil {
			if stream != 0 {
				t.Errorf("the target cannot read the request: %v", err)
			}
			return
		}
		r.seen <- all[0]
		method, _, _ := strings.Cut(all[0].start, " ")
		answer, ok := r.answer()
		if !ok {
			return
		}
		answers, err := readAnswer(bufio.NewReader(strings.NewReader(answer)), method)
		if err != nil {
			t.Error(err)
			return
		}
		for _, m := range answers {
			m = m.overHTTP2(true)
			if err := f.write(stream, m, hpack.HeaderField{Name: ":status", Value: m.start}); err != nil {
				t.Errorf("the target cannot answer: %v", err)
				return
			}
		}
	}
}

// dialHTTP2 is a viewer's connection with prior knowledge.
func dialHTTP2(t *testing.T, addr string) *frameConn {
	t.Helper()
	f, err := startHTTP2(dialRaw(t, addr))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func startHTTP2(c net.Conn) (*frameConn, error) {
	_, err := io.WriteString(c, http2.ClientPreface)
	f := newFrameConn(c)
	f.start()
	return f, err
}

// askHTTP2 is askHTTP1 for HTTP/2: request is translated.
func askHTTP2(t *testing.T, addr, request string) []message {
	t.Helper()
	m, err := readMessage(bufio.NewReader(strings.NewReader(request)), "")
	if err != nil {
		t.Fatal(err)
	}
	m = m.overHTTP2(false)
	method, path, _ := strings.Cut(m.start, " ")
	authority := m.header("host")
	m.drop("host")
	f := dialHTTP2(t, addr)
	if err := f.write(1, m, requestPseudo(method, path, authority[0])...); err != nil {
		t.Fatal(err)
	}
	_, all, err := f.read(1, method)
	if err != nil {
		t.Fatalf("the viewer cannot read the answer: %v, after %q", err, all)
	}
	return all
}

// requestPseudo are the pseudo-headers of a request; without :authority if that
// is empty.
func requestPseudo(method, path, authority string) []hpack.HeaderField {
	fields := []hpack.HeaderField{{Name: ":method", Value: method}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: path}}
	if authority != "" {
		fields = append(fields, hpack.HeaderField{Name: ":authority", Value: authority})
	}
	return fields
}
