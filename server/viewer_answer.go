package server

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// A tunnel client is an HTTP/2 server that nobody here trusts. What it sends is
// checked here, between the tunnel and ReverseProxy, and not left to libraries:
// which of these faults they catch depends on their versions.

// Bounds of the interim (1xx) answers to one request.
const (
	maxInterim      = 10
	maxInterimBytes = 32 << 10
)

// hopByHop are the connection's own headers (RFC 9110, section 7.6.1).
var hopByHop = [...]string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding",
	"Upgrade", "Te", "Proxy-Authenticate", "Proxy-Authorization", "Trailer",
}

// guardedContext is a context with another trace in the place of its own.
// httptrace.WithClientTrace could only add one, and both would be called.
type guardedContext struct {
	context.Context
	trace *httptrace.ClientTrace
}

func (c guardedContext) Value(key any) any {
	v := c.Context.Value(key)
	if _, ok := v.(*httptrace.ClientTrace); ok {
		return c.trace
	}
	return v
}

// traced returns ctx with a trace that calls wroteHeaders and, when all of the
// request has been written, wroteRequest, and that puts a guard before the
// Got1xxResponse hook in ctx, if there is one: ReverseProxy passes on whatever
// comes, also a 101 that would make a proxy in front take the connection for a
// raw pipe. What the guard lets pass goes through interim.
//
// What the guard finds is given to bad: x/net does not return it.
func traced(ctx context.Context, wroteHeaders, wroteRequest func(), interim func(code int, pass func() error) error, bad func(error)) context.Context {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: wroteHeaders,
		WroteRequest: func(i httptrace.WroteRequestInfo) {
			if i.Err == nil {
				wroteRequest()
			}
		},
	})
	trace := *httptrace.ContextClientTrace(ctx)
	next := trace.Got1xxResponse
	if next == nil {
		return ctx // x/net bounds what nobody looks at
	}
	var mu sync.Mutex
	count, size := 0, 0
	trace.Got1xxResponse = func(code int, h textproto.MIMEHeader) error {
		mu.Lock()
		defer mu.Unlock()
		if code < 100 || code > 199 || code == http.StatusSwitchingProtocols {
			err := fmt.Errorf("%w: status %d where only an interim one can be", errBadAnswer, code)
			bad(err)
			return err
		}
		count++
		for k, vv := range h {
			for _, v := range vv {
				size += len(k) + len(v) + 32
			}
		}
		if count > maxInterim || size > maxInterimBytes {
			err := fmt.Errorf("%w: more than %d interim answers or %d bytes of them", errBadAnswer, maxInterim, maxInterimBytes)
			bad(err)
			return err
		}
		cleanHeader(http.Header(h))
		delete(h, wire.HeaderError)
		return interim(code, func() error { return next(code, h) })
	}
	return guardedContext{ctx, &trace}
}

// checkAnswer returns an error if resp cannot go on to a viewer, and removes
// from it what must not.
func checkAnswer(resp *http.Response) error {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// Made by h2conn, with the two headers that it needs.
		cleanPrivate(resp.Header)
		return nil
	}
	if resp.StatusCode < 200 || resp.StatusCode > 599 {
		return fmt.Errorf("%w: status %d", errBadAnswer, resp.StatusCode)
	}
	if s := resp.Status; s != "" && (len(s) < 3 || !digits(s[:3]) || len(s) > 3 && s[3] != ' ') {
		return fmt.Errorf("%w: the status is not three digits", errBadAnswer)
	}
	if cl := resp.Header["Content-Length"]; len(cl) > 0 {
		for _, v := range cl {
			if v != cl[0] || !digits(v) {
				return fmt.Errorf("%w: Content-Length is contradictory or not a number", errBadAnswer)
			}
		}
		resp.Header["Content-Length"] = cl[:1]
	}
	if resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified {
		// They have no body, whatever length they name; x/net would wait for
		// one. And net/http does not carry the length to a viewer.
		resp.Body.Close()
		resp.Body, resp.ContentLength = http.NoBody, 0
		delete(resp.Header, "Content-Length")
	}
	// The trailers that the answer announces; x/net keeps them in Trailer.
	checkTrailer(resp.Trailer)
	cleanHeader(resp.Header)
	return nil
}

// cleanHeader removes the headers that no answer may carry on.
func cleanHeader(h http.Header) {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, k := range hopByHop {
		delete(h, k)
	}
	errType, failed := h[wire.HeaderError]
	cleanPrivate(h)
	if failed { // for serveViewer, which does not let it through
		h[wire.HeaderError] = errType
	}
}

func cleanPrivate(h http.Header) {
	for k := range h {
		if strings.HasPrefix(k, wire.HeaderPrefix) {
			delete(h, k)
		}
	}
}

// forbiddenTrailers are those that httpguts lets pass and that would mean
// something if a recipient merged them into the header.
var forbiddenTrailers = [...]string{
	"Set-Cookie", "Host", "Location", "Alt-Svc", "Clear-Site-Data", "Nel", "Origin-Agent-Cluster", "Public-Key-Pins",
	"Report-To", "Reporting-Endpoints", "Service-Worker-Allowed", "Strict-Transport-Security",
}

// checkTrailer removes from t what must not be a trailer (RFC 9110, section
// 6.5.1).
func checkTrailer(t http.Header) {
	for k := range t {
		if !httpguts.ValidTrailerHeader(k) || strings.HasPrefix(k, wire.HeaderPrefix) {
			delete(t, k)
		}
	}
	for _, k := range forbiddenTrailers {
		delete(t, k)
	}
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
