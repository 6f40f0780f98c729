package admin

import (
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"time"
)

//go:embed assets
var assets embed.FS

var page = template.Must(template.ParseFS(assets, "assets/page.html"))

// eventInterval is how often the page is told what happens.
const eventInterval = 2 * time.Second

// servePage answers with the status page, which fills itself from /events.
func (a *Admin) servePage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = page.Execute(w, struct {
		Version string
		Login   bool
	}{a.cfg.Version.Version, a.cfg.Token != ""})
}

// asset serves a file of the page.
func asset(name, kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		b, err := assets.ReadFile("assets/" + name)
		if err != nil {
			problem(w, http.StatusNotFound, "there is no such file")
			return
		}
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(b)
	}
}

// pageEvent is what the page is told.
type pageEvent struct {
	Status Status        `json:"status"`
	List   TunnelList    `json:"list"`
	Tunnel *TunnelDetail `json:"tunnel,omitempty"` // the one it asked for

	Blocked      []string `json:"blocked"` // ids with blocked tokens, no more than maxBlocked
	BlockedTotal int      `json:"blocked_total"`

	Nodes NodeList `json:"nodes"`
}

// maxBlocked is how many ids with blocked tokens the page shows.
const maxBlocked = 100

// serveEvents tells the page what happens, until it goes away or the listener ends.
func (a *Admin) serveEvents(w http.ResponseWriter, r *http.Request) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	id, asked := q.Get("id"), q.Has("id")
	q.Del("id")
	var l listing
	if err == nil {
		l, err = parseListing(q)
	}
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx in front
	rc := http.NewResponseController(w)
	tick := time.NewTicker(eventInterval)
	defer tick.Stop()
	for {
		blocked := a.evicted()
		event := pageEvent{Status: a.status(), List: l.of(a.cfg.Service), Blocked: blocked[:min(len(blocked), maxBlocked)], BlockedTotal: len(blocked), Nodes: a.nodes()}
		if asked {
			if d, ok := a.tunnel(id); ok {
				event.Tunnel = &d
			}
		}
		b, err := json.Marshal(event)
		if err != nil {
			return
		}
		// A browser that takes nothing is not to keep this for ever.
		rc.SetWriteDeadline(time.Now().Add(readTimeout))
		if _, err := fmt.Fprintf(w, "data: %s\n\n", b); err != nil || rc.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		case <-a.closing:
			return
		}
	}
}
