package admin

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/net/netutil"

	"github.com/websocktunnel/websocktunnel/server"
)

// Limits of the listener. There is none on the time of an answer: profiles and
// the stream of the page last.
const (
	readTimeout    = 10 * time.Second
	idleTimeout    = 60 * time.Second
	maxHeaderBytes = 16 << 10
	maxConnections = 256
	maxBody        = 4 << 10
)

// Service is what the listener shows and acts on: a [*server.Server].
type Service interface {
	// Status returns the totals.
	Status() server.Status
	// Tunnels returns those that take requests, in no particular order.
	Tunnels() iter.Seq[server.TunnelInfo]
	// Gone returns those that take none now, but have a short while ago.
	Gone() iter.Seq[server.TunnelInfo]
	// Tunnel returns what is known of one, or false.
	Tunnel(id string) (server.TunnelDetails, bool)
	// Evict ends one and blocks its token, and reports whether there was one.
	Evict(id string) bool
	// Unblock lets its token in again, and reports whether it was blocked.
	Unblock(id string) bool
	// Evicted returns the ids whose tokens are blocked.
	Evicted() []string
}

var _ Service = (*server.Server)(nil)

// Config configures an [Admin].
type Config struct {
	// Service is the one to show. Required.
	Service Service

	// Cluster, if not nil, shows other nodes, and leads to them.
	Cluster Cluster

	// Token is what callers must know. Empty: everybody who reaches the listener
	// may use it, so it must be on a loopback address.
	Token string

	// Hosts are the names, besides localhost and IP addresses, under which the
	// listener may be reached. Browsers are refused under others.
	Hosts []string

	// Metrics serves /metrics. Nil: 404.
	Metrics http.Handler

	// Drain is called when an operator asks the service to end. It must not
	// block. Nil: the API says that it cannot.
	Drain func()

	// Reload is called when an operator asks the service to read its configuration
	// again. Nil: the API says that it cannot.
	Reload func() (Reloaded, []string)

	// Settings are the effective configuration, with secrets masked already.
	Settings []Setting

	// Version names the build.
	Version server.Version

	// Logger receives a line for each change and for refused credentials.
	Logger zerolog.Logger
}

// Admin is the listener's handler. Create it with [New].
type Admin struct {
	cfg     Config
	guard   *guard
	handler http.Handler
	http    http.Server
	started time.Time

	settings atomic.Pointer[[]Setting]

	closing chan struct{} // closed by Close
	once    sync.Once
}

// New returns an Admin for cfg. It starts nothing.
func New(cfg Config) *Admin {
	a := &Admin{cfg: cfg, guard: newGuard(cfg), started: time.Now(), closing: make(chan struct{})}
	a.SetSettings(cfg.Settings)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if cfg.Service.Status().Draining {
			plain(w, http.StatusServiceUnavailable, "draining")
			return
		}
		plain(w, http.StatusOK, "ok")
	})
	if cfg.Metrics != nil {
		mux.Handle("GET /metrics", cfg.Metrics)
	}
	// Not pprof.Cmdline: flags may hold secrets.
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", http.NotFound)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /{$}", a.servePage)
	mux.HandleFunc("GET /assets/page.css", asset("page.css", "text/css; charset=utf-8"))
	mux.HandleFunc("GET /assets/page.js", asset("page.js", "text/javascript; charset=utf-8"))
	mux.HandleFunc("GET /events", a.serveEvents)
	mux.HandleFunc("POST /login", a.guard.login)
	mux.HandleFunc("POST /logout", a.guard.logout)
	for _, r := range a.routes() {
		mux.HandleFunc(r.method+" "+r.path, a.anywhere(r.serve))
		mux.HandleFunc(r.path, wrongMethod(r.method))
	}
	mux.HandleFunc("/api/", func(w http.ResponseWriter, _ *http.Request) {
		problem(w, http.StatusNotFound, "there is no such operation: /api/v1/openapi.json describes all")
	})
	a.handler = a.guard.around(mux)
	a.http = http.Server{
		Handler:           a,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(io.Discard, "", 0), // scanners and broken connections
	}
	return a
}

// SetSettings changes what the effective configuration is.
func (a *Admin) SetSettings(list []Setting) { a.settings.Store(&list) }

// SetAccess changes what callers must know, from now on. Another token ends all
// logins. It is not for concurrent use with itself.
func (a *Admin) SetAccess(token string, hosts []string) { a.guard.setAccess(token, hosts) }

// ServeHTTP serves one request.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Serve accepts connections on ln until Close. Then it returns nil.
func (a *Admin) Serve(ln net.Listener) error {
	err := a.http.Serve(netutil.LimitListener(ln, maxConnections))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close ends Serve and all its connections. What has been answered goes out, for a
// moment.
func (a *Admin) Close() {
	a.once.Do(func() { close(a.closing) })
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if a.http.Shutdown(ctx) != nil {
		a.http.Close()
	}
}

// plain answers with one line of text.
func plain(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	io.WriteString(w, text+"\n")
}

// IsLoopback reports whether a listener on this host, of host:port, can be reached
// from this machine only. An empty host means all addresses.
func IsLoopback(host string) bool {
	ip := net.ParseIP(cmp.Or(host, "0.0.0.0"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
