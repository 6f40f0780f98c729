package h2conn

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
)

// roundTripUpgrade sends the HTTP/1.1 upgrade request req, for protocol, in
// the form that the peer understands.
func (t *Transport) roundTripUpgrade(req *http.Request, protocol string) (*http.Response, error) {
	select {
	case <-t.peer.ready:
	case <-t.conn.Done():
		return nil, t.wrap(net.ErrClosed)
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	// The end of req's context does not break what has ended properly.
	ctx, cancel := context.WithCancel(context.WithoutCancel(req.Context()))
	pr, pw := io.Pipe()
	// x/net notices that ctx has ended only when its read of the body returns.
	context.AfterFunc(ctx, func() { pw.CloseWithError(ctx.Err()) })
	s := t.upgrades.add(pw, cancel)
	s.stop = context.AfterFunc(req.Context(), s.abandon)

	out := req.WithContext(ctx)
	out.Header = req.Header.Clone()
	out.Close = false
	deleteAll(out.Header, hopByHop[:])
	deleteAll(out.Header, privateHeaders[:])
	out.Header.Del("Content-Length")
	hasBody := req.Body != nil && req.Body != http.NoBody && req.ContentLength != 0
	out.ContentLength = -1
	out.GetBody = nil
	out.Trailer = nil
	rest := &toTarget{PipeReader: pr, sent: s.sent}
	out.Body = rest
	out.Header.Set(HeaderUpgradeID, s.id)

	accept, extended := t.extendedForm(out, protocol, hasBody)
	if !extended {
		out.Header.Set(HeaderUpgrade, protocol)
		if hasBody {
			out.Body = prependBody(out.Header, req, rest)
		}
	}
	resp, err := t.cc.RoundTrip(out)
	if err != nil {
		s.forget()
		if e := req.Context().Err(); e != nil {
			err = e
		}
		return nil, t.wrap(err)
	}
	s.res = resp.Body
	resp.Request = req

	protocol, switched, err := switchedTo(resp, protocol, extended)
	if err != nil {
		s.Close()
		return nil, err
	}
	deleteAll(resp.Header, hopByHop[:])
	deleteAll(resp.Header, privateHeaders[:])
	if !switched {
		pw.Close() // nothing will follow the request
		resp.Body = &refusal{resp.Body, s.forget}
		return resp, nil
	}
	asSwitching(resp, protocol, accept)
	resp.Body = s
	return resp, nil
}

// switchedTo reports whether resp, the answer to a request to upgrade to asked,
// says that the target has switched, and to what, in the target's spelling. Of a
// refusal by a status that stands for another one it restores that.
func switchedTo(resp *http.Response, asked string, extended bool) (protocol string, switched bool, err error) {
	chosen := resp.Header.Get(HeaderUpgrade)
	if !extended {
		return chosen, isSuccess(resp.StatusCode) && chosen != "", nil
	}
	if v := resp.Header.Get(HeaderUpgradeRefused); v != "" {
		status, err := strconv.Atoi(v)
		if err != nil || !isSuccess(status) {
			return "", false, fmt.Errorf("h2conn: the peer sent %q as a refusal's status: it must be 200 to 299", v)
		}
		resp.StatusCode, resp.Status = status, ""
		return "", false, nil
	}
	if strings.EqualFold(chosen, asked) {
		asked = chosen
	}
	return asked, isSuccess(resp.StatusCode), nil
}

// asSwitching makes resp a 101 as an HTTP/1.1 transport returns it, and so as
// ReverseProxy wants it. accept is its Sec-WebSocket-Accept, or "" if resp has
// what it needs.
func asSwitching(resp *http.Response, protocol, accept string) {
	resp.Status, resp.StatusCode = "101 Switching Protocols", http.StatusSwitchingProtocols
	resp.Proto, resp.ProtoMajor, resp.ProtoMinor = "HTTP/1.1", 1, 1
	resp.ContentLength = 0 // keeps Response.Write from adding "Connection: close"
	resp.Header.Del("Content-Length")
	resp.Header.Set("Connection", "Upgrade")
	resp.Header.Set("Upgrade", protocol)
	if accept != "" {
		resp.Header.Set("Sec-WebSocket-Accept", accept)
	}
}

// extendedForm turns out into an extended CONNECT request if the peer accepts
// those and they can express it: a GET without a body, and for a websocket
// with a well-formed key, for which it returns the accept value. (A malformed
// key is the target's to refuse, so it must see it.)
func (t *Transport) extendedForm(out *http.Request, protocol string, hasBody bool) (accept string, ok bool) {
	if !t.ExtendedConnect() || out.Method != http.MethodGet || hasBody || strings.ContainsAny(protocol, ", ") {
		return "", false
	}
	if strings.EqualFold(protocol, "websocket") {
		key, ok := websocketKey(out.Header)
		if !ok {
			return "", false
		}
		accept = websocketAccept(key)
		out.Header.Del("Sec-WebSocket-Key")
	}
	out.Method = http.MethodConnect
	out.Header[protocolHeader] = []string{protocol}
	return accept, true
}

// prependBody returns the stream of a fallback request that has a body: the
// body, then what comes through rest. It notes in h how the body is delimited.
func prependBody(h http.Header, req *http.Request, rest io.ReadCloser) io.ReadCloser {
	if req.ContentLength > 0 {
		h.Set(HeaderUpgradeBody, strconv.FormatInt(req.ContentLength, 10))
		return &bodyThenStream{io.MultiReader(&exactReader{req.Body, req.ContentLength}, rest), req.Body, rest}
	}
	h.Set(HeaderUpgradeBody, "chunked")
	pr, pw := io.Pipe()
	// Not before somebody reads: a request that is not sent keeps its body.
	start := sync.OnceFunc(func() {
		go func() {
			cw := httputil.NewChunkedWriter(pw)
			_, err := io.Copy(cw, req.Body)
			if err == nil {
				err = cw.Close()
			}
			if err == nil {
				_, err = io.WriteString(pw, "\r\n")
			}
			pw.CloseWithError(err)
		}()
	})
	chunked := readerFunc(func(p []byte) (int, error) {
		start()
		return pr.Read(p)
	})
	return &bodyThenStream{io.MultiReader(chunked, rest), req.Body, multiCloser{pr, rest}}
}

type bodyThenStream struct {
	io.Reader
	body io.Closer
	rest io.Closer
}

func (b *bodyThenStream) Close() error {
	b.body.Close()
	return b.rest.Close()
}

type multiCloser [2]io.Closer

func (m multiCloser) Close() error {
	m[0].Close()
	return m[1].Close()
}

// exactReader reads n bytes of r; fewer are an error, since the other end
// could not tell where the body ends.
type exactReader struct {
	r io.Reader
	n int64
}

func (e *exactReader) Read(p []byte) (int, error) {
	if e.n == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > e.n {
		p = p[:e.n]
	}
	n, err := e.r.Read(p)
	e.n -= int64(n)
	if err == io.EOF && e.n > 0 {
		err = io.ErrUnexpectedEOF
	} else if err == io.EOF {
		err = nil
	}
	return n, err
}

// refusal is the body of an answer that refuses an upgrade.
type refusal struct {
	io.ReadCloser
	forget func()
}

func (r *refusal) Close() error {
	err := r.ReadCloser.Close()
	r.forget()
	return err
}
