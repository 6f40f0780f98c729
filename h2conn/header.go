package h2conn

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Private headers of the fallback form of an upgrade. A Transport drops them
// from what its caller gives it, so that a viewer cannot forge them.
const (
	// HeaderUpgrade, on a request, is the value of the Upgrade header of the
	// upgrade that this request is. On a 2xx answer it says that the target
	// has switched, and to what.
	HeaderUpgrade = "X-Websocktunnel-Upgrade"

	// HeaderUpgradeBody, on such a request, says that the stream begins with
	// a request body: its length in bytes, or "chunked" for the chunked
	// coding of RFC 9112, section 7.1, without trailers.
	HeaderUpgradeBody = "X-Websocktunnel-Upgrade-Body"

	// HeaderUpgradeRefused, on the answer to an extended CONNECT, is the 2xx
	// status with which the target refused: there, a 2xx would mean success.
	HeaderUpgradeRefused = "X-Websocktunnel-Upgrade-Refused"

	// HeaderUpgradeID, on an upgrade request in either form, is the name by
	// which the answering end may refer to it in an upgrade_end message: see
	// transport_upgraded.go. Its presence says that the asking end understands those.
	HeaderUpgradeID = "X-Websocktunnel-Upgrade-Id"
)

// HeaderExpect, on a request, has the value of its Expect header. x/net's
// server takes that header away before a handler could see it.
const HeaderExpect = "X-Websocktunnel-Expect"

// uncarried are the fields of a request or an answer, and of their trailers, that
// do not cross: the private ones, and those that HTTP/2 has no use for (RFC 9113,
// section 8.2.2). "Connection: close" would even end the whole tunnel: x/net takes it
// as a wish to close the connection.
var uncarried = [...]string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade",
	"Http2-Settings", HeaderUpgrade, HeaderUpgradeBody, HeaderUpgradeRefused, HeaderUpgradeID, HeaderExpect,
}

func expectsContinue(h http.Header) bool {
	return httpguts.HeaderValuesContainsToken(h["Expect"], "100-continue")
}

func hasUncarried(h http.Header) bool {
	for _, k := range uncarried {
		if _, ok := h[k]; ok {
			return true
		}
	}
	return false
}

func deleteUncarried(h http.Header) {
	for _, k := range uncarried {
		delete(h, k)
	}
}

// clean removes from h what does not cross, and gives what does the form of
// HTTP/2.
func clean(h http.Header) {
	deleteUncarried(h)
	tidy(h)
}

// upgradeProtocol returns what an HTTP/1.1 request or response with header h
// wants to upgrade to, or "".
func upgradeProtocol(h http.Header) string {
	if !httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade") {
		return ""
	}
	return h.Get("Upgrade")
}

func offersSubprotocol(h http.Header, p string) bool {
	for _, v := range h["Sec-Websocket-Protocol"] {
		for s := range strings.SplitSeq(v, ",") {
			if strings.TrimSpace(s) == p {
				return true
			}
		}
	}
	return false
}

// websocketKey returns the Sec-WebSocket-Key of h if there is exactly one and
// it is well-formed (RFC 6455, section 4.2.1).
func websocketKey(h http.Header) (string, bool) {
	vv := h["Sec-Websocket-Key"]
	if len(vv) != 1 {
		return "", false
	}
	b, err := base64.StdEncoding.DecodeString(vv[0])
	return vv[0], err == nil && len(b) == 16
}

func newWebsocketKey() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return base64.StdEncoding.EncodeToString(b[:])
}

// websocketAccept returns the Sec-WebSocket-Accept for key (RFC 6455, section
// 4.2.2).
func websocketAccept(key string) string {
	h := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(h[:])
}

// WriteHeader is w.WriteHeader(status) for an x/net/http2 or net/http server,
// safe for interim answers (1xx): on return the server no longer uses w.Header.
//
// Called directly, an HTTP/2 server encodes an interim answer from the map
// itself and does not wait for that once the stream has been reset. The handler
// goes on and changes the map, as httputil.ReverseProxy does, and Go ends the
// process because of the concurrent access. Where there is a Content-Length, even
// an empty one, the server drops it from a copy and encodes that copy.
func WriteHeader(w http.ResponseWriter, status int) {
	if status < 200 {
		h := w.Header()
		if _, ok := h["Content-Length"]; !ok {
			h["Content-Length"] = nil
			defer delete(h, "Content-Length")
		}
	}
	w.WriteHeader(status)
}
