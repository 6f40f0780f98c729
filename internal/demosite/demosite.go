// Package demosite is the site that "websocktunnel demo" puts behind its
// tunnel: one page that shows, live, what passes through: request headers, a
// websocket, server-sent events, an upload and a download.
//
// All its URLs are relative to a base that the page takes from the header
// X-Forwarded-Prefix, so that it works under any path prefix, with or without
// the slash at its end.
package demosite

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"html/template"
	"net/http"
	"strings"
	"time"
)

var (
	//go:embed assets/index.html
	indexHTML string
	//go:embed assets/style.css
	styleCSS []byte
	//go:embed assets/app.js
	appJS []byte
	//go:embed assets/favicon.svg
	faviconSVG []byte

	indexPage = template.Must(template.New("index.html").Parse(indexHTML))
)

// contentSecurityPolicy allows only what the page brings itself.
// Some browsers do not count ws: and wss: to 'self'.
const contentSecurityPolicy = "default-src 'self'; connect-src 'self' ws: wss:; " +
	"base-uri 'self'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"

// Handler returns the demo site. It keeps no state between requests.
func Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", serveIndex)
	mux.HandleFunc("GET /style.css", asset("text/css; charset=utf-8", styleCSS))
	mux.HandleFunc("GET /app.js", asset("text/javascript; charset=utf-8", appJS))
	mux.HandleFunc("GET /favicon.svg", asset("image/svg+xml", faviconSVG))
	mux.HandleFunc("GET /ws", serveWebsocket)
	mux.HandleFunc("GET /events", serveEvents)
	mux.HandleFunc("POST /upload", serveUpload)
	mux.HandleFunc("PUT /upload", serveUpload)
	mux.HandleFunc("GET /download", serveDownload)

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		// Past the mux, which would redirect paths that are not clean: the
		// echo is to show them as they came.
		if r.URL.Path == "/echo" || strings.HasPrefix(r.URL.Path, "/echo/") {
			serveEcho(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func serveIndex(w http.ResponseWriter, r *http.Request) {
	var page bytes.Buffer
	if err := indexPage.Execute(&page, basePath(r.Header.Get("X-Forwarded-Prefix"))); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	asset("text/html; charset=utf-8", page.Bytes())(w, r)
}

// basePath makes of a prefix the path that the page's URLs are relative to. It
// begins with exactly one slash, so it cannot name another host, and ends with
// one, so that "/demo" works as "/demo/" does.
func basePath(prefix string) string {
	prefix = strings.Trim(prefix, "/")
	if prefix == "" {
		return "/"
	}
	return "/" + prefix + "/"
}

func asset(contentType string, content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}
