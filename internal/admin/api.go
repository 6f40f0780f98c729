package admin

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/websocktunnel/websocktunnel/internal/logevent"
)

// answer writes v as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encode(w, v)
}

func encode(w http.ResponseWriter, v any) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // it is not HTML, and says so
	_ = e.Encode(v)
}

// problem writes an error (RFC 9457).
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	encode(w, Problem{Status: status, Title: http.StatusText(status), Detail: detail})
}

// wrongMethod answers requests for the path of an operation that has another method.
func wrongMethod(right string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", right)
		problem(w, http.StatusMethodNotAllowed, r.Method+" is not possible here: the operation is "+right)
	}
}

const noTunnel = "no tunnel with this id is connected, or has been within the last ten minutes"

func (a *Admin) getTunnel(w http.ResponseWriter, r *http.Request) {
	d, ok := a.tunnel(r.PathValue("id"))
	if (!ok || d.Active == nil) && a.elsewhere(w, r, r.PathValue("id")) {
		return
	}
	if !ok {
		problem(w, http.StatusNotFound, noTunnel)
		return
	}
	answer(w, http.StatusOK, d)
}

func (a *Admin) evict(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !a.cfg.Service.Evict(id) {
		problem(w, http.StatusNotFound, noTunnel)
		return
	}
	a.logChange(r, "evict", id)
	answer(w, http.StatusOK, Done{ID: id, Done: "evicted"})
}

func (a *Admin) unblock(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !a.cfg.Service.Unblock(id) {
		problem(w, http.StatusNotFound, "no token of this id is blocked")
		return
	}
	a.logChange(r, "unblock", id)
	answer(w, http.StatusOK, Done{ID: id, Done: "unblocked"})
}

func (a *Admin) getEvicted(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, Evicted{IDs: a.evicted()})
}

// evicted returns the ids with blocked tokens in order.
func (a *Admin) evicted() []string {
	ids := append([]string{}, a.cfg.Service.Evicted()...)
	slices.Sort(ids)
	return ids
}

func (a *Admin) getStatus(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, a.status())
}

func (a *Admin) drain(w http.ResponseWriter, r *http.Request) {
	if a.cfg.Drain == nil {
		problem(w, http.StatusNotImplemented, "this service cannot be drained from here")
		return
	}
	a.logChange(r, "drain", "")
	a.cfg.Drain()
	answer(w, http.StatusAccepted, Done{Done: "draining"})
}

func (a *Admin) reload(w http.ResponseWriter, r *http.Request) {
	if a.cfg.Reload == nil {
		problem(w, http.StatusNotImplemented, "this service cannot read its configuration again from here")
		return
	}
	a.logChange(r, "reload", "")
	done, faults := a.cfg.Reload()
	if len(faults) > 0 {
		const status = http.StatusUnprocessableEntity
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		encode(w, Problem{Status: status, Title: http.StatusText(status), Detail: "the configuration has faults, so nothing has changed", Faults: faults})
		return
	}
	answer(w, http.StatusOK, done)
}

func (a *Admin) getVersion(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, a.cfg.Version)
}

func (a *Admin) getConfig(w http.ResponseWriter, _ *http.Request) {
	settings := *a.settings.Load()
	if settings == nil {
		settings = []Setting{}
	}
	answer(w, http.StatusOK, ConfigList{Settings: settings})
}

// logChange writes who has changed something.
func (a *Admin) logChange(r *http.Request, action, id string) {
	e := a.cfg.Logger.Info().Str(logevent.Field, logevent.Admin).Str("action", action).Str("remote", r.RemoteAddr)
	if id != "" {
		e = e.Str("id", id)
	}
	e.Msg("an operator has used the admin listener")
}
