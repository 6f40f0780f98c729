package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// headerLoop is the header by which a request that goes round in circles is found
// (RFC 8586). Via would do as well, but servers compress no answer to a request
// with it: nginx and IIS take that for a proxy's.
const headerLoop = "Cdn-Loop"

// loopGuard finds requests that this service has carried before: each gets the
// service's name in CDN-Loop. The name is random, so that services may stand in a
// chain, and no viewer can guess it. One that gets to know it from a target can
// only make its own requests fail.
type loopGuard string

// The nodes of a cluster have one name, made of its first secret: a request may come
// round to any of them.
func newLoopGuard(c *ClusterConfig) loopGuard {
	name := rand.Text()
	if c != nil {
		h := hmac.New(sha256.New, c.Secrets[0])
		h.Write([]byte("websocktunnel cluster 1: loops"))
		name = hex.EncodeToString(h.Sum(nil)[:16])
	}
	return loopGuard("websocktunnel-" + strings.ToLower(name))
}

// passed reports whether the service has carried the request with header h before.
// Wherever the name stands, it counts: what a viewer has written before it, such as
// an open quotation mark, cannot hide it.
func (g loopGuard) passed(h http.Header) bool {
	for _, v := range h[headerLoop] {
		if strings.Contains(v, string(g)) {
			return true
		}
	}
	return false
}

// mark adds the name to out, the header of the request to the target. It makes one
// field of all, since some proxies pass on only one.
func (g loopGuard) mark(out http.Header) {
	if len(out[headerLoop]) == 0 {
		out[headerLoop] = []string{string(g)}
		return
	}
	var elements []string
	for _, v := range out[headerLoop] {
		if v != "" {
			elements = append(elements, v)
		}
	}
	out[headerLoop] = []string{strings.Join(append(elements, string(g)), ", ")}
}

// keepLoopEnd looks whether resp is a service's own answer to a request that came
// round. Then the whole way leads round, and this service says so itself, for what a
// target says in a service's name does not pass.
func keepLoopEnd(resp *http.Response) {
	if cause, _, _ := strings.Cut(resp.Header.Get("Proxy-Status"), detailsParam); resp.StatusCode == failLoop.status && cause == failLoop.proxyError() {
		resp.Header.Set(wire.HeaderError, failLoop.kind)
	}
}
