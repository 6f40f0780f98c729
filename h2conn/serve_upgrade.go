package h2conn

import (
	"bufio"
	"cmp"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
)

// An upgradeForm is one of the two forms of an upgrade, as the end sees it
// that has to answer it.
type upgradeForm interface {
	// request turns r, its own copy, into the HTTP/1.1 upgrade request that
	// the handler sees, and returns what follows it from the peer.
	request(r *http.Request) (rest io.Reader, err error)
	// switched puts h, the header of the handler's 101, into the form in
	// which a 200 says the same. accepted is its Upgrade header, or "".
	switched(h http.Header, accepted string)
	// refused puts the answer that refuses the upgrade into its form and
	// returns the status to send.
	refused(h http.Header, status int) int
}

// extendedUpgrade is the form of RFC 8441.
type extendedUpgrade struct {
	protocol string
	viewer   bool // the request is a viewer's, to whom private headers mean nothing
}

func (u *extendedUpgrade) request(r *http.Request) (io.Reader, error) {
	delete(r.Header, protocolHeader)
	r.Method = http.MethodGet
	asUpgrade(r, u.protocol)
	if strings.EqualFold(u.protocol, "websocket") {
		// RFC 8441, section 5.1, leaves out the key, whose only use is to
		// prove that a handshake was understood. HTTP/1.1 needs one.
		r.Header.Set("Sec-WebSocket-Key", newWebsocketKey())
	}
	rest := r.Body
	r.Body = http.NoBody
	return rest, nil
}

func (u *extendedUpgrade) switched(h http.Header, accepted string) {
	h.Del("Sec-WebSocket-Accept")
	if !u.viewer && accepted != u.protocol && strings.EqualFold(accepted, u.protocol) {
		h.Set(HeaderUpgrade, accepted) // spelt in the target's way
	}
}

func (u *extendedUpgrade) refused(h http.Header, status int) int {
	if isSuccess(status) {
		if !u.viewer {
			h.Set(HeaderUpgradeRefused, strconv.Itoa(status))
		}
		return http.StatusNotImplemented
	}
	return status
}

// fallbackUpgrade is the form with the private header.
type fallbackUpgrade struct {
	protocol string
}

func (u *fallbackUpgrade) request(r *http.Request) (io.Reader, error) {
	body := r.Header.Get(HeaderUpgradeBody)
	clean(r.Header)
	asUpgrade(r, u.protocol)
	stream := r.Body
	switch body {
	case "":
		r.Body = http.NoBody
		return stream, nil
	case "chunked":
		br := bufio.NewReader(stream)
		b := &leadingBody{r: &chunkedBody{br: br, r: httputil.NewChunkedReader(br)}}
		r.Body = b
		r.ContentLength = -1
		return &afterBody{body: b, rest: br}, nil
	default:
		n, err := strconv.ParseInt(body, 10, 64)
		if err != nil || n < 0 {
			return nil, errors.New(HeaderUpgradeBody + " must be a length or \"chunked\"")
		}
		b := &leadingBody{r: io.LimitReader(stream, n)}
		r.Body = b
		r.ContentLength = n
		return &afterBody{body: b, rest: stream}, nil
	}
}

func (u *fallbackUpgrade) switched(h http.Header, accepted string) {
	h.Set(HeaderUpgrade, cmp.Or(accepted, u.protocol))
}

func (u *fallbackUpgrade) refused(_ http.Header, status int) int { return status }

// chunkedBody is a request body in the chunked coding, without trailers.
type chunkedBody struct {
	br  *bufio.Reader
	r   io.Reader
	err error
}

func (b *chunkedBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	if err == io.EOF { // the reader leaves the last line's end
		var crlf [2]byte
		if _, e := io.ReadFull(b.br, crlf[:]); e != nil || string(crlf[:]) != "\r\n" {
			err = io.ErrUnexpectedEOF
		}
	}
	b.err = err
	return n, err
}

// leadingBody is the body of an upgrade request, which comes before what the
// connection carries, on the same stream. Two may want to read it: the handler, or
// a Transport that it has given the request to, and the reader of the hijacked
// connection, before the body is whole.
//
//	open     Read returns the body
//	ended    a Read, or skip, has come to its end or an error, which Read returns
//	skipped  skip has taken some of it: Read fails, for its bytes are missing
type leadingBody struct {
	mu  sync.Mutex // held while the stream is read
	r   io.Reader
	err error // nil: open
}

func (b *leadingBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	b.err = err
	return n, err
}

// skip reads the rest. After that Read does not touch the stream.
func (b *leadingBody) skip() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		if errors.Is(b.err, io.EOF) {
			return nil
		}
		return b.err
	}
	n, err := io.Copy(io.Discard, b.r)
	switch {
	case err != nil:
		b.err = err
	case n > 0:
		b.err = http.ErrBodyReadAfterClose
	default:
		b.err = io.EOF
	}
	return err
}

func (b *leadingBody) Close() error { return nil }

// afterBody reads what follows a request body; what the handler has left of
// the body is skipped.
type afterBody struct {
	body *leadingBody // nil once skipped
	rest io.Reader
}

func (a *afterBody) Read(p []byte) (int, error) {
	if a.body != nil {
		if err := a.body.skip(); err != nil {
			return 0, err
		}
		a.body = nil
	}
	return a.rest.Read(p)
}

// asUpgrade makes r look like an HTTP/1.1 upgrade request for protocol.
func asUpgrade(r *http.Request, protocol string) {
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", protocol)
	r.ContentLength = 0
	r.Trailer = nil
}

// serveUpgrade runs h on the upgrade r, which is in the form u. When h has
// hijacked the connection it returns only after that has been closed, because
// an HTTP/2 stream ends with its handler. c is what the stream is on; it is nil
// if the asking end is a viewer.
func serveUpgrade(w http.ResponseWriter, r *http.Request, h http.Handler, u upgradeForm, c *Conn) {
	req := r.Clone(r.Context())
	id := req.Header.Get(HeaderUpgradeID)
	if c == nil {
		id = ""
	}
	delete(req.Header, HeaderUpgradeID)
	rest, err := u.request(req)
	if err != nil {
		http.Error(w, "bad upgrade: "+err.Error(), http.StatusBadRequest)
		return
	}
	uw := &upgradeWriter{w: w, rc: http.NewResponseController(w), form: u, req: req, rest: rest, body: r.Body, plain: r.ContentLength < 0 && any(rest) == any(r.Body), on: c, id: id}
	returned := false
	defer func() {
		if !returned && uw.conn != nil {
			// A panic: a goroutine that still has the connection must find it
			// closed, because the ResponseWriter under it ends now.
			uw.conn.Close()
			uw.conn.awaitWrite()
		}
	}()
	h.ServeHTTP(uw, req)
	returned = true
	switch {
	case uw.conn != nil:
		uw.conn.waitClosed(r.Context())
	case !uw.wroteHeader:
		uw.WriteHeader(http.StatusOK) // what net/http implies; here a refusal
	}
}

// upgradeWriter is the ResponseWriter of an upgrade request. Until it is
// hijacked it writes a refusal.
type upgradeWriter struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	form upgradeForm
	req  *http.Request
	rest io.Reader
	body io.Closer // of the stream: ends a Read of rest

	plain bool // rest is the stream's body, which may have any length

	on *Conn  // nil: a viewer's connection
	id string // HeaderUpgradeID; empty if the asking end understands no upgrade_end

	wroteHeader bool
	switched    bool
	conn        *hijackedConn // non-nil once hijacked
}

var _ http.Hijacker = (*upgradeWriter)(nil)

func (u *upgradeWriter) Header() http.Header { return u.w.Header() }

func (u *upgradeWriter) WriteHeader(status int) {
	if u.wroteHeader || u.conn != nil {
		return
	}
	if status == http.StatusSwitchingProtocols {
		u.switchProtocols()
		return
	}
	clean(u.Header())
	if status >= 200 {
		u.wroteHeader = true
		status = u.form.refused(u.Header(), status)
	}
	WriteHeader(u.w, status)
}

// switchProtocols sends what corresponds to the 101 whose header is set.
func (u *upgradeWriter) switchProtocols() {
	h := u.Header()
	accepted := h.Get("Upgrade")
	clean(h)
	h.Del("Content-Length")
	u.form.switched(h, accepted)
	// Nothing that the target did not send.
	for _, k := range [...]string{"Date", "Content-Type"} {
		if _, ok := h[k]; !ok {
			h[k] = nil
		}
	}
	u.wroteHeader, u.switched = true, true
	u.w.WriteHeader(http.StatusOK)
	u.rc.Flush()
}

func (u *upgradeWriter) Write(p []byte) (int, error) {
	if u.conn != nil {
		return 0, http.ErrHijacked
	}
	if !u.wroteHeader {
		u.WriteHeader(http.StatusOK)
	}
	return u.w.Write(p)
}

// Unwrap gives [http.ResponseController] the HTTP/2 ResponseWriter, for deadlines.
func (u *upgradeWriter) Unwrap() http.ResponseWriter { return u.w }

func (u *upgradeWriter) Flush() { _ = u.FlushError() }

// FlushError is what [http.ResponseController] looks for.
func (u *upgradeWriter) FlushError() error {
	if u.conn != nil {
		return http.ErrHijacked
	}
	if !u.wroteHeader {
		u.WriteHeader(http.StatusOK)
	}
	return u.rc.Flush()
}

// Hijack returns the stream as a connection. Unless the handler has sent 101
// through WriteHeader, the first thing it writes has to be an HTTP/1.1
// response head, as on a real connection.
func (u *upgradeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if u.conn != nil {
		return nil, nil, http.ErrHijacked
	}
	if u.wroteHeader && !u.switched {
		return nil, nil, errors.New("h2conn: Hijack after the upgrade was refused")
	}
	c := newHijackedConn(u)
	u.conn = c
	return c, bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c)), nil
}
