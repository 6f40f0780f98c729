package target

import (
	"net/http"
	"net/http/httputil"

	"golang.org/x/net/http/httpguts"
)

// This file only undoes what httputil.ReverseProxy and net/http do to a message
// although nobody asked for it. Two more such things need the state of
// their type and are there:
//
//	ReverseProxy takes the Close from a request's body    requestBody.Close has it
//	ReverseProxy flushes an answer that is complete       writer.FlushError does not

// forwarded are the headers with which the service describes the viewer.
var forwarded = [...]string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}

// restoreRequest puts back what a ReverseProxy leaves out of a request.
func restoreRequest(pr *httputil.ProxyRequest) {
	for _, k := range forwarded {
		if vv, ok := pr.In.Header[k]; ok {
			pr.Out.Header[k] = vv
		}
	}
	if len(pr.In.Trailer) > 0 {
		pr.Out.ContentLength = -1 // HTTP/1.1 has trailers in the chunked coding only
	}
}

// chooseProtocol narrows what an Upgrade header offers to the one protocol that
// the target has chosen, since a ReverseProxy accepts only what was asked for.
func chooseProtocol(h http.Header, chosen string) {
	if httpguts.HeaderValuesContainsToken(h["Upgrade"], chosen) {
		h["Upgrade"] = []string{chosen}
	}
}

// dropBody takes the length from a 304, which has no body even if it names a
// length. If it comes over HTTP/2, net/http takes that body for one that broke off.
func dropBody(resp *http.Response, body *answerBody) {
	body.Reader = http.NoBody
	resp.ContentLength = 0
	delete(resp.Header, "Content-Length")
}

// addNothing keeps net/http from adding headers to an answer that lacks them: for
// it, a nil entry means just that. silent says that the answer has no body and
// names no length.
func addNothing(h http.Header, silent bool) {
	if silent {
		h["Content-Length"] = nil
	}
	for _, k := range [...]string{"Content-Type", "Date"} {
		if _, ok := h[k]; !ok {
			h[k] = nil
		}
	}
}
