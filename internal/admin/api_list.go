package admin

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/websocktunnel/websocktunnel/server"
)

const (
	defaultLimit = 50
	maxLimit     = 1000
)

// orders are the ways to sort tunnels.
var orders = map[string]func(a, b server.TunnelInfo) int{
	"id":                 func(a, b server.TunnelInfo) int { return cmp.Compare(a.ID, b.ID) },
	"remote_addr":        func(a, b server.TunnelInfo) int { return cmp.Compare(a.RemoteAddr, b.RemoteAddr) },
	"connected_at":       func(a, b server.TunnelInfo) int { return a.ConnectedAt.Compare(b.ConnectedAt) },
	"token_expires_at":   func(a, b server.TunnelInfo) int { return a.TokenExpires.Compare(b.TokenExpires) },
	"in_flight":          func(a, b server.TunnelInfo) int { return cmp.Compare(a.InFlight, b.InFlight) },
	"received_bytes":     func(a, b server.TunnelInfo) int { return cmp.Compare(a.Received, b.Received) },
	"sent_bytes":         func(a, b server.TunnelInfo) int { return cmp.Compare(a.Sent, b.Sent) },
	"round_trip_seconds": func(a, b server.TunnelInfo) int { return cmp.Compare(a.RoundTrip, b.RoundTrip) },
	"replacements":       func(a, b server.TunnelInfo) int { return cmp.Compare(a.Replacements, b.Replacements) },
	"failed_requests":    func(a, b server.TunnelInfo) int { return cmp.Compare(a.Failed, b.Failed) },
	"reconnects":         func(a, b server.TunnelInfo) int { return cmp.Compare(a.Reconnects, b.Reconnects) },
	"last_end_at":        func(a, b server.TunnelInfo) int { return a.LastEnd.Compare(b.LastEnd) },
	"state":              func(a, b server.TunnelInfo) int { return cmp.Compare(stateOf(a), stateOf(b)) },
}

// The states of a tunnel in the list.
const (
	stateConnected = "connected"
	stateGone      = "gone"
)

func stateOf(t server.TunnelInfo) string {
	if t.Gone {
		return stateGone
	}
	return stateConnected
}

// listing says which tunnels are asked for.
type listing struct {
	search        string // what id or address has to contain, in lower case
	state         string // "": all
	sort          string
	descending    bool
	offset, limit int
}

// parseListing reads a query. The error is for the caller.
func parseListing(q url.Values) (listing, error) {
	l := listing{sort: "id", limit: defaultLimit}
	for name, values := range q {
		value := values[0]
		var err error
		switch name {
		case "search":
			l.search = strings.ToLower(value)
		case "state":
			if l.state = value; value != stateConnected && value != stateGone && value != "" {
				return l, fmt.Errorf("state must be %s or %s", stateConnected, stateGone)
			}
		case "sort":
			l.sort, l.descending = strings.CutPrefix(value, "-")
			if orders[l.sort] == nil {
				return l, fmt.Errorf("sort must be one of %s, with - before it for the other way round",
					strings.Join(slices.Sorted(maps.Keys(orders)), ", "))
			}
		case "offset":
			l.offset, err = number(name, value, 0, 1<<31-1)
		case "limit":
			l.limit, err = number(name, value, 1, maxLimit)
		default:
			return l, fmt.Errorf("parameter %.50q is unknown: use search, state, sort, offset and limit", name)
		}
		if err != nil {
			return l, err
		}
		if len(values) > 1 {
			return l, fmt.Errorf("parameter %s is there more than once", name)
		}
	}
	return l, nil
}

func number(name, value string, low, high int) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%s must be a number from %d to %d", name, low, high)
	}
	return n, nil
}

// of returns the page of the service's tunnels that l asks for.
func (l listing) of(s Service) TunnelList {
	var found []server.TunnelInfo
	add := func(all iter.Seq[server.TunnelInfo]) {
		for t := range all {
			if l.search == "" || strings.Contains(strings.ToLower(t.ID), l.search) || strings.Contains(t.RemoteAddr, l.search) {
				found = append(found, t)
			}
		}
	}
	if l.state != stateGone {
		add(s.Tunnels())
	}
	if l.state != stateConnected {
		add(s.Gone())
	}
	order := orders[l.sort]
	slices.SortFunc(found, func(a, b server.TunnelInfo) int {
		c := order(a, b)
		if l.descending {
			c = -c
		}
		return cmp.Or(c, cmp.Compare(a.ID, b.ID)) // so that pages do not overlap
	})
	page := TunnelList{Tunnels: []Tunnel{}, Total: len(found), Offset: l.offset, Limit: l.limit}
	from := min(l.offset, len(found))
	for _, t := range found[from:min(from+l.limit, len(found))] {
		page.Tunnels = append(page.Tunnels, newTunnel(t))
	}
	return page
}

func (a *Admin) listTunnels(w http.ResponseWriter, r *http.Request) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	var l listing
	if err == nil {
		l, err = parseListing(q)
	}
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	answer(w, http.StatusOK, l.of(a.cfg.Service))
}
