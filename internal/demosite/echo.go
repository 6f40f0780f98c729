package demosite

import (
	"io"
	"net/http"
)

// echo is a request as the target received it.
type echo struct {
	Method string `json:"method"`
	// Target is the request line's path and query, to the byte.
	Target  string              `json:"target"`
	Host    string              `json:"host"`
	Proto   string              `json:"proto"`
	Headers map[string][]string `json:"headers"`
	// BodyBytes is the size of the request's body, Trailers what followed it.
	BodyBytes int64               `json:"body_bytes"`
	Trailers  map[string][]string `json:"trailers,omitempty"`
}

// serveEcho answers every method at every path under /echo.
func serveEcho(w http.ResponseWriter, r *http.Request) {
	size, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		http.Error(w, "the request's body broke off", http.StatusBadRequest)
		return
	}
	writeJSON(w, http.StatusOK, echo{
		Method:    r.Method,
		Target:    r.RequestURI,
		Host:      r.Host,
		Proto:     r.Proto,
		Headers:   r.Header,
		BodyBytes: size,
		Trailers:  r.Trailer,
	})
}
