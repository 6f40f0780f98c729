package server

import (
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"iter"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// errorPage is what browsers get. It loads nothing.
var errorPage = template.Must(template.New("error").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Status}} {{.Title}}</title>
<style>
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 15vh auto 0; padding: 0 1.5rem }
h1 { font-size: 1.5rem; margin: 0 }
p { margin: .75rem 0 }
code { opacity: .7 }
</style>
<h1>{{.Status}} {{.Title}}</h1>
<p>{{.Text}}</p>
<p><a href="{{.Help}}" rel="noreferrer">{{.Code}}</a> <code>{{.Hop}}: {{.Kind}}</code></p>
<p>Request <code>{{.ID}}</code> · <a href="{{.Symptom}}" rel="noreferrer">Troubleshooting</a></p>
</html>
`))

// failureTime is how long an HTTP/2 viewer may take for an answer of the service's
// own. Its stream is reset then: x/net waits for ever for a viewer that opens no
// window, with the whole request in memory. Over HTTP/1, viewerConn has a limit.
const failureTime = 10 * time.Second

// hurry limits the time of an answer of the service's own over HTTP/2. The function
// that it returns has to be called last: it returns when the answer has left, which
// x/net would otherwise wait for after the handler, where nobody counts the request.
func hurry(w http.ResponseWriter) (flush func()) {
	rc := http.NewResponseController(w)
	rc.SetWriteDeadline(time.Now().Add(failureTime))
	return func() { _ = rc.Flush() }
}

// write answers r, which is called id, with f: Proxy-Status (RFC 9209) for programs, and a body in
// the form that the viewer accepts. Pages of all origins can read it. It is the
// last that is done with r, whose headers are given up.
func (f *failure) write(w http.ResponseWriter, r *http.Request, id string) (sent int) {
	form := bodyNone
	if !f.bare {
		form = errorBody(r.Header["Accept"])
	}
	if r.ProtoMajor == 2 {
		defer hurry(w)()
		clear(r.Header)
	}
	h := w.Header()
	h.Set("Proxy-Status", f.proxyStatus(id))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if !f.reserved {
		// It holds no secret and nothing that the viewer sent, so any page may read
		// why its request failed. A preflight fails by its status all the same.
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "Proxy-Status, Retry-After")
	}
	if f.retryAfter > 0 {
		h.Set("Retry-After", retryAfter(f.retryAfter))
	}
	if f.allow != "" {
		h.Set("Allow", f.allow)
	}
	var body strings.Builder
	switch form {
	case bodyNone:
	case bodyHTML:
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		_ = errorPage.Execute(&body, struct {
			Status                                          int
			Title, Text, Hop, Kind, Code, Help, Symptom, ID string
		}{f.status, http.StatusText(f.status), f.text, f.reporter(), f.kind, string(f.code), f.code.help(), f.code.symptom(), id})
	case bodyJSON:
		h.Set("Content-Type", "application/json")
		_ = json.NewEncoder(&body).Encode(struct {
			Status    int       `json:"status"`
			Code      errorCode `json:"error_code"`
			Error     string    `json:"error"`
			Hop       string    `json:"hop"`
			Detail    string    `json:"detail"`
			Help      string    `json:"help"`
			RequestID string    `json:"request_id"`
		}{f.status, f.code, f.kind, f.reporter(), f.text, f.code.help(), id})
	default:
		h.Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(&body, "%s (%s, request %s)\n", f.text, f.code, id)
	}
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(f.status)
	if r.Method != http.MethodHead {
		sent, _ = io.WriteString(w, body.String())
	}
	return sent
}

type bodyForm int

const (
	bodyPlain bodyForm = iota
	bodyJSON
	bodyHTML
	bodyNone
)

// maxAccept is how much of Accept is looked at. Browsers send some 150 bytes, and
// what a refused request costs must not grow with what it says.
const maxAccept = 1024

// errorBody chooses the form of a body by an Accept header: HTML or JSON if the
// viewer names it, the one that it prefers, and otherwise plain text. Wildcards do
// not count.
func errorBody(accept []string) bodyForm {
	best, form := 0.0, bodyPlain
	for typ, q := range acceptedTypes(accept) {
		candidate := bodyPlain
		switch {
		case isHTML(typ):
			candidate = bodyHTML
		case typ == "application/json", strings.HasSuffix(typ, "+json"):
			candidate = bodyJSON
		case typ != "text/plain":
			continue
		}
		if q > best {
			best, form = q, candidate
		}
	}
	return form
}

func isHTML(typ string) bool { return typ == "text/html" || typ == "application/xhtml+xml" }

// acceptedTypes returns the media ranges, in lower case, and weights of an Accept
// header (RFC 9110, section 12.5.1), by its first maxAccept bytes.
func acceptedTypes(accept []string) iter.Seq2[string, float64] {
	return func(yield func(string, float64) bool) {
		left := maxAccept
		for _, v := range accept {
			v = v[:min(len(v), left)]
			left -= len(v)
			for part := range strings.SplitSeq(v, ",") {
				typ, params, err := mime.ParseMediaType(part)
				if err != nil {
					continue
				}
				q := 1.0
				if s, ok := params["q"]; ok {
					if q, err = strconv.ParseFloat(s, 64); err != nil {
						continue
					}
				}
				if !yield(typ, q) {
					return
				}
			}
		}
	}
}
