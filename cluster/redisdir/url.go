package redisdir

import (
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/websocktunnel/websocktunnel/internal/configerror"
	"github.com/websocktunnel/websocktunnel/internal/redact"
)

// kind is how the store is run.
type kind string

const (
	standalone kind = "standalone"
	socket     kind = "socket"
	sentinel   kind = "sentinel"
	shards     kind = "cluster"
)

// location is what a URL says.
type location struct {
	kind           kind
	secure         bool
	addrs          []string // host:port, or the path of the socket
	user, password string
	master         string // what sentinels call the servers
	db             int
}

var schemes = map[string]location{
	"redis":           {kind: standalone},
	"rediss":          {kind: standalone, secure: true},
	"unix":            {kind: socket},
	"redis+sentinel":  {kind: sentinel},
	"rediss+sentinel": {kind: sentinel, secure: true},
	"redis+cluster":   {kind: shards},
	"rediss+cluster":  {kind: shards, secure: true},
}

const exampleURL = "redis://redis.example.com:6379"

// parseURL reads a store's URL. If it notes a fault, what it returns has no kind.
func parseURL(s string, faults *configerror.Faults) location {
	if s == "" {
		faults.Add("URL", "", "is required, such as "+exampleURL)
		return location{}
	}
	l, rule := splitURL(s)
	if rule != "" {
		faults.Add("URL", redact.URL(s), rule)
		return location{}
	}
	return l
}

// splitURL returns what s says, or the rule that it breaks.
func splitURL(s string) (l location, rule string) {
	scheme, rest, _ := strings.Cut(s, "://")
	l, ok := schemes[strings.ToLower(scheme)]
	if !ok {
		return l, "its scheme must be redis, rediss, unix, or redis or rediss with +sentinel or +cluster, as in " + exampleURL
	}

	// net/url knows one host only: it gets the rest without them.
	end := len(rest)
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		end = i
	}
	start := strings.LastIndexByte(rest[:end], '@') + 1
	hosts := rest[start:end]
	u, err := url.Parse("redis://" + rest[:start] + "host" + rest[end:])
	if err != nil {
		return l, "it cannot be parsed as a URL: characters other than letters and digits in user and password must be escaped, as in %40 for @"
	}
	l.user = u.User.Username()
	l.password, _ = u.User.Password()
	if u.Fragment != "" {
		return l, "it must have no fragment: escape # as %23"
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || len(query) > 0 && l.kind != socket {
		return l, "it must have no query"
	}

	path := strings.TrimSuffix(strings.TrimPrefix(u.Path, "/"), "/")
	switch l.kind {
	case socket:
		if hosts != "" || path == "" {
			return l, "it must have three slashes and a path, as in unix:///run/redis/redis.sock"
		}
		l.addrs = []string{u.Path}
		path = query.Get("db")
		query.Del("db")
		if len(query) > 0 {
			return l, "its query can have db only"
		}
	case sentinel:
		l.master, path, _ = strings.Cut(path, "/")
		if l.master == "" {
			return l, "its path must have the name of the master, as in redis+sentinel://sentinel.example.com/mymaster"
		}
	case shards:
		if path != "" {
			return l, "it must have no path: a Redis Cluster has one database"
		}
	}
	if path != "" {
		if l.db, err = strconv.Atoi(path); err != nil || l.db < 0 {
			return l, "its database must be a number, 0 or higher"
		}
	}
	if l.kind == socket {
		return l, ""
	}
	for host := range strings.SplitSeq(hosts, ",") {
		addr, ok := l.addr(host)
		if !ok {
			return l, "each host must be a name or an address with or without a port, as in redis.example.com:6379 or [::1]:6379"
		}
		l.addrs = append(l.addrs, addr)
	}
	if l.kind == standalone && len(l.addrs) > 1 {
		return l, "it can have one host only; several are for redis+sentinel and redis+cluster"
	}
	return l, ""
}

// addr returns host, which may have a port, as host:port.
func (l location) addr(host string) (string, bool) {
	u, err := url.Parse("redis://" + host)
	if err != nil || u.Hostname() == "" || u.Host != host || host[0] != '[' && strings.Count(host, ":") > 1 {
		return "", false
	}
	port := u.Port()
	switch {
	case strings.HasSuffix(host, ":"):
		return "", false
	case port != "":
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", false
		}
	case l.kind == sentinel:
		port = "26379"
	default:
		port = "6379"
	}
	return net.JoinHostPort(u.Hostname(), port), true
}
