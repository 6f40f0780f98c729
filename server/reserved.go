package server

import (
	"encoding/json"
	"io"
	"net/http"
)

// serveReserved answers GET and HEAD for the paths in [wire.ReservedIDs]. It returns
// the status.
func (s *Server) serveReserved(w http.ResponseWriter, r *http.Request, id string) (status int) {
	leaveRest(w, r)
	w.Header().Set("Cache-Control", "no-store")
	if id == "__version__" {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.cfg.Version)
		return http.StatusOK
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if s.isDraining() {
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "draining\n")
		return http.StatusServiceUnavailable
	}
	io.WriteString(w, "ok\n")
	return http.StatusOK
}
