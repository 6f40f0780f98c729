package h2conn

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
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
	s := t.upgrades.add(pw, cancel)
	body := &upgradeBody{stream: pr, sent: s.sent}
	s.body = body
	// x/net notices that ctx has ended only when its read of the body returns.
	context.AfterFunc(ctx, func() {
		pw.CloseWithError(ctx.Err())
		body.stop()
	})
	s.stop = context.AfterFunc(req.Context(), s.abandon)

	out := req.WithContext(ctx)
	out.Header = req.Header.Clone()
	out.Close = false
	clean(out.Header)
	out.Header.Del("Content-Length")
	hasBody := req.Body != nil && req.Body != http.NoBody && req.ContentLength != 0
	out.ContentLength = -1
	out.GetBody = nil
	out.Trailer = nil
	out.Body = body
	out.Header.Set(HeaderUpgradeID, s.id)

	accept, extended := t.extendedForm(out, protocol, hasBody)
	s.form = ExtendedForm
	if !extended {
		s.form = FallbackForm
		out.Header.Set(HeaderUpgrade, protocol)
		if hasBody {
			body.begin(out.Header, req)
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
	clean(resp.Header)
	if !switched {
		pw.Close() // nothing will follow the request
		resp.Body = refusedStream{s, s.form}
		return resp, nil
	}
	if hasBody {
		// The caller reads the viewer's connection once it has the 101. It must not
		// do so while the request's body is still read from there, although a target
		// may switch before it has that.
		if err := body.waitOwn(req.Context(), t.conn.Done()); err != nil {
			s.Close()
			return nil, t.wrap(err)
		}
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
