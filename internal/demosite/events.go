package demosite

import (
	"fmt"
	"net/http"
	"time"
)

// tickInterval is the time between two events of the clock.
const tickInterval = time.Second

// serveEvents sends the time as server-sent events: at once, and then every
// tickInterval until the viewer goes.
func serveEvents(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // For an nginx in front: do not buffer.
	if r.Method == http.MethodHead {
		return
	}
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	response := http.NewResponseController(w)
	fmt.Fprint(w, "retry: 1000\n\n")
	for n := 1; ; n++ {
		fmt.Fprintf(w, "id: %d\ndata: {\"n\": %d, \"unix_ms\": %d}\n\n", n, n, time.Now().UnixMilli())
		if err := response.Flush(); err != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		}
	}
}
