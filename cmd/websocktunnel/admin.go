package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/admin"
	"github.com/websocktunnel/websocktunnel/internal/buildinfo"
	"github.com/websocktunnel/websocktunnel/internal/redact"
	"github.com/websocktunnel/websocktunnel/server"
)

// minAdminToken is how many bytes the token has at least.
const minAdminToken = 16

// maxTunnelSeries is how many tunnels have metrics of their own if any has.
const maxTunnelSeries = 1000

// adminConfig is what the admin listener is made of.
type adminConfig struct {
	addr     string // ADMIN_ADDR; "" means that there is none
	token    string
	hosts    []string
	tunnels  bool // metrics of single tunnels too
	settings []admin.Setting
}

// readAdmin reads the settings of the admin listener.
func (c *config) readAdmin(s *settings) {
	c.admin.addr, c.admin.token = s.text("ADMIN_ADDR"), s.secret("ADMIN_TOKEN")
	c.admin.tunnels = s.on("METRICS_PER_TUNNEL", false)
	c.admin.hosts = strings.FieldsFunc(s.text("ADMIN_HOSTS"), func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	if c.admin.addr == "" {
		for _, name := range []string{"ADMIN_TOKEN", "ADMIN_TOKEN" + fileSuffix, "ADMIN_HOSTS", "METRICS_PER_TUNNEL"} {
			if s.text(name) != "" {
				c.warn("%s has no effect: there is no admin listener without ADMIN_ADDR", name)
			}
		}
		return
	}
	c.readAdminAddr(s)
	if n := len(c.admin.token); n > 0 && n < minAdminToken {
		s.fault("ADMIN_TOKEN", "is shorter than %d bytes, so that it can be guessed: use a longer one, such as the output of \"openssl rand -hex 16\"", minAdminToken)
	}
	for _, h := range c.admin.hosts {
		if !isHost(h) {
			s.fault("ADMIN_HOSTS", "%q: it must be host names, without ports, separated by commas", h)
		}
	}
}

// readAdminAddr checks where the admin listener is to be.
func (c *config) readAdminAddr(s *settings) {
	host, port, err := net.SplitHostPort(c.admin.addr)
	n, e := strconv.ParseUint(port, 10, 16)
	if err != nil || e != nil || host != "" && !isHost(host) {
		s.fault("ADMIN_ADDR", "%q: it must be host:port, such as 127.0.0.1:9090", c.admin.addr)
		return
	}
	if n != 0 && int(n) == c.port && sameAddress(host, c.addr) && os.Getenv("LISTEN_FDS") == "" {
		s.fault("ADMIN_ADDR", "%q: viewers and tunnel clients use port %d of that address already (PORT, LISTEN_ADDR): use another port", c.admin.addr, n)
	}
	if admin.IsLoopback(host) {
		return
	}
	if !s.isSet("ADMIN_TOKEN") {
		s.fault("ADMIN_TOKEN", "is required, or ADMIN_TOKEN%s: ADMIN_ADDR %q is no loopback address, so that others can reach it", fileSuffix, c.admin.addr)
	}
	if host != "" && net.ParseIP(host) == nil {
		c.admin.hosts = append(c.admin.hosts, host)
	}
}

// effective returns what each variable is set to and where that comes from. Secrets
// are masked in list, and in plain text in values.
func effective(s *settings) (list []admin.Setting, values map[string]string) {
	values = make(map[string]string)
	for _, v := range variables {
		value, from := s.lookup(v.name)
		set := admin.Setting{Name: v.name, Value: value, Source: from.String(), Secret: v.secret}
		file := ""
		if v.secret {
			file = s.fileOf(v.name)
		}
		if values[v.name] = value; file != "" {
			values[v.name] = s.files[v.name]
		}
		switch {
		case file != "":
			set.Source = "file " + file
		case value == "":
			set.Value, set.Source, set.Secret = v.def, origin{}.String(), false
		}
		switch {
		case set.Secret:
			set.Value = "********"
		case v.url && value != "":
			set.Value = redact.URL(value)
		}
		list = append(list, set)
	}
	return list, values
}

// showDefaults shows the defaults that are found out at the start, and those of one of
// several nodes if clustered is set.
func (c *config) showDefaults(clustered bool) {
	for i, set := range c.admin.settings {
		value := ""
		switch set.Name {
		case "PING_INTERVAL", "PING_TIMEOUT":
			if clustered {
				value = server.ClusterPing.String()
			}
		case "CLUSTER_NODE":
			if c.clustered() {
				value = c.server.Cluster.Node
			}
		case "CLUSTER_ADVERTISE":
			if c.clustered() {
				value = c.server.Cluster.Addr
			}
		}
		if value != "" && set.Source == (origin{}).String() {
			c.admin.settings[i].Value = value
		}
	}
}

// newRegistry returns the metrics of the service and of the process, and what
// serves them.
func newRegistry(c config, dropped func() uint64) (*server.Metrics, http.Handler, error) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	cfg := server.MetricsConfig{Registerer: reg, DroppedLogLines: dropped}
	if c.admin.tunnels {
		cfg.PerTunnel = maxTunnelSeries
	}
	if c.certificate != nil {
		cfg.CertificateExpiry = c.certificate.expiry
	}
	m, err := server.NewMetrics(cfg)
	return m, promhttp.HandlerFor(reg, promhttp.HandlerOpts{}), err
}

// listenAdmin opens the admin listener, if there is to be one.
func listenAdmin(c config) (net.Listener, error) {
	if c.admin.addr == "" {
		return nil, nil
	}
	ln, err := net.Listen("tcp", c.admin.addr)
	if err != nil {
		return nil, fmt.Errorf("ADMIN_ADDR %q: %w", c.admin.addr, err)
	}
	// A name may mean something else than it says.
	if a, ok := ln.Addr().(*net.TCPAddr); ok && c.admin.token == "" && !a.IP.IsLoopback() {
		ln.Close()
		return nil, fmt.Errorf("ADMIN_ADDR %q: it is %v, which is no loopback address, so ADMIN_TOKEN is required", c.admin.addr, a.IP)
	}
	return ln, nil
}

// adminOfNode returns the handler for what operators ask of this node at another one: that
// of adm, as soon as there is one.
func adminOfNode(adm *atomic.Pointer[admin.Admin]) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := adm.Load()
		if a == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		a.ForNodes().ServeHTTP(w, r)
	})
}

// newAdmin returns the admin listener's handler. drain must not block.
func newAdmin(c config, srv *server.Server, metrics http.Handler, drain func(), reload func() (admin.Reloaded, []string), log zerolog.Logger) *admin.Admin {
	build := buildinfo.Get()
	return admin.New(admin.Config{
		Service: srv, Cluster: srv, Token: c.admin.token, Hosts: slices.Clone(c.admin.hosts), Metrics: metrics, Drain: drain, Reload: reload,
		Settings: c.admin.settings, Logger: log,
		Version: server.Version{Version: build.Version, Commit: build.Commit, Build: build.Build},
	})
}
