package server

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/websocktunnel/websocktunnel/internal/logevent"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// MetricsConfig configures [Metrics].
type MetricsConfig struct {
	// Registerer is what the metrics are registered with. Required.
	Registerer prometheus.Registerer

	// DroppedLogLines, if not nil, returns how many log lines have been lost so
	// far. It may be called by several goroutines at a time.
	DroppedLogLines func() uint64

	// CertificateExpiry, if not nil, returns when the TLS certificate that is in
	// force expires. It may be called by several goroutines at a time.
	CertificateExpiry func() time.Time

	// PerTunnel is how many tunnels have metrics of their own, with their client
	// ids as the label id: those whose sessions have carried the most bytes. Zero
	// or negative: none.
	PerTunnel int
}

// Metrics are the Prometheus metrics of one [Server]: docs/metrics.md lists them.
// No label has an address or anything else that a peer can choose freely, and none
// a client id, unless MetricsConfig.PerTunnel asks for it. Create it with [NewMetrics] and put it into [Config.Metrics]. A nil
// *Metrics measures nothing.
type Metrics struct {
	server atomic.Pointer[Server] // nil until it is made

	registrations *prometheus.CounterVec // outcome
	handshake     prometheus.Histogram
	replacements  prometheus.Counter
	reconnects    *prometheus.CounterVec // after
	ends          *prometheus.CounterVec // reason
	pings         prometheus.Histogram

	requests  *prometheus.CounterVec // method, code, failed_hop
	failures  *prometheus.CounterVec // error_code
	durations [2]duration            // of ordinary requests, and of upgrades
	waits     prometheus.Histogram

	store *prometheus.HistogramVec // op, outcome

	perTunnel int
}

// duration has the histograms of one kind of request.
type duration struct{ firstByte, whole prometheus.Observer }

// Buckets of the classic histograms, in seconds.
var (
	requestBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
	wireBuckets    = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
)

// histogram returns the options of a histogram in both forms: with buckets of its
// own for every Prometheus, and native for those that know it.
func histogram(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
	}
}

// NewMetrics registers the metrics. It returns the Registerer's error if one of
// them is registered there already.
func NewMetrics(cfg MetricsConfig) (*Metrics, error) {
	if cfg.Registerer == nil {
		return nil, errors.New("server: MetricsConfig.Registerer is required")
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	firstByte := prometheus.NewHistogramVec(histogram("websocktunnel_request_first_byte_seconds",
		"Time from a request's headers until those of its answer went to the viewer.", requestBuckets), []string{"kind"})
	whole := prometheus.NewHistogramVec(histogram("websocktunnel_request_duration_seconds",
		"Time from a request's headers until all was over.", requestBuckets), []string{"kind"})
	m := &Metrics{
		registrations: counters("websocktunnel_registrations_total",
			"Registrations of tunnel clients by outcome: registered, failed (after the 101), or refused_ with the status.", "outcome"),
		handshake: prometheus.NewHistogram(histogram("websocktunnel_handshake_seconds",
			"Time from a registration's headers until its session takes requests.", wireBuckets)),
		replacements: prometheus.NewCounter(prometheus.CounterOpts{Name: "websocktunnel_session_replacements_total",
			Help: "Sessions that took the place of one that was still active: clients that reconnect, or several with one id."}),
		reconnects: counters("websocktunnel_reconnects_total",
			"Sessions of tunnels that had one already, or within ten minutes before, by the reason for which that one ended.", "after"),
		ends: counters("websocktunnel_session_ends_total", "Sessions that ended, by reason.", "reason"),
		pings: prometheus.NewHistogram(histogram("websocktunnel_ping_round_trip_seconds",
			"Time that tunnel clients took to answer pings.", wireBuckets)),
		requests: counters("websocktunnel_requests_total",
			"Requests by method, status that the viewer got (none: nothing), and the party because of which there is no whole answer (none: there is one).",
			"method", "code", "failed_hop"),
		failures: counters("websocktunnel_failures_total",
			"Requests without a whole answer of the target, and registrations that were refused or failed, by error code: docs/errors.md.", "error_code"),
		durations: [2]duration{
			{firstByte.WithLabelValues("request"), whole.WithLabelValues("request")},
			{firstByte.WithLabelValues("upgrade"), whole.WithLabelValues("upgrade")},
		},
		waits: prometheus.NewHistogram(histogram("websocktunnel_queue_wait_seconds",
			"Time that requests waited because their tunnel was at its request limit. Those that did not wait are not in it.", wireBuckets)),
		store: prometheus.NewHistogramVec(histogram("websocktunnel_cluster_store_seconds",
			"Time that operations of the directory's store took, by operation and outcome: ok or failed.", wireBuckets), []string{"op", "outcome"}),
		perTunnel: cfg.PerTunnel,
	}
	for _, outcome := range registrationKinds {
		m.registrations.WithLabelValues(outcome) // so that rates see the first one
	}
	for _, reason := range endReasons {
		m.ends.WithLabelValues(reason)
		m.reconnects.WithLabelValues(reason)
	}
	for _, code := range errorCodes {
		m.failures.WithLabelValues(string(code))
	}
	all := []prometheus.Collector{
		m.registrations, m.handshake, m.replacements, m.reconnects, m.ends, m.pings, m.requests, m.failures, firstByte, whole, m.waits, m.store,
		serverCollector{m}, clusterCollector{m},
	}
	if m.perTunnel > 0 {
		all = append(all, tunnelCollector{m})
	}
	if f := cfg.DroppedLogLines; f != nil {
		all = append(all, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "websocktunnel_log_lines_dropped_total",
			Help: "Log lines that were lost because nobody took them in time."}, func() float64 { return float64(f()) }))
	}
	if f := cfg.CertificateExpiry; f != nil {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "websocktunnel_certificate_expiry_timestamp_seconds",
			Help: "When the TLS certificate in force expires."}, func() float64 { return float64(f().Unix()) }))
	}
	for i, c := range all {
		if err := cfg.Registerer.Register(c); err != nil {
			for _, done := range all[:i] {
				cfg.Registerer.Unregister(done)
			}
			return nil, fmt.Errorf("server: registering metrics: %w", err)
		}
	}
	return m, nil
}

// attach makes m that of s, and reports false if it is another Server's.
func (m *Metrics) attach(s *Server) bool { return m == nil || m.server.CompareAndSwap(nil, s) }

// registrationKinds are all outcomes of registrations.
var registrationKinds = []string{
	logevent.Registered, logevent.Failed,
	refusedKind(http.StatusBadRequest), refusedKind(http.StatusUnauthorized), refusedKind(http.StatusConflict), refusedKind(http.StatusUpgradeRequired),
	refusedKind(http.StatusTooManyRequests), refusedKind(http.StatusServiceUnavailable),
}

// registration counts a registration that took so long.
func (m *Metrics) registration(outcome string, took time.Duration) {
	if m == nil {
		return
	}
	m.registrations.WithLabelValues(outcome).Inc()
	if outcome == logevent.Registered {
		m.handshake.Observe(took.Seconds())
	}
}

// arrival counts a session that has come into service, if it is not its tunnel's first.
func (m *Metrics) arrival(as arrival) {
	if m == nil {
		return
	}
	if as.replaced != nil {
		m.replacements.Inc()
	}
	if as.after != "" {
		m.reconnects.WithLabelValues(as.after).Inc()
	}
}

// endReasons are the words for why sessions end.
var endReasons = []string{
	endLost, endStopped, endReason(wire.CloseReplaced), endReason(wire.CloseTokenExpired), endReason(wire.CloseDraining),
	endReason(wire.CloseEvicted), endReason(wire.CloseProtocol), endReason(wire.CloseOverloaded),
}

// sessionEnd counts the end of a session.
func (m *Metrics) sessionEnd(reason string) {
	if m != nil {
		m.ends.WithLabelValues(reason).Inc()
	}
}

// ping counts the answer to a ping.
func (m *Metrics) ping(took time.Duration) {
	if m != nil {
		m.pings.Observe(took.Seconds())
	}
}

// wait counts a request that waited for a slot.
func (m *Metrics) wait(took time.Duration) {
	if m != nil {
		m.waits.Observe(took.Seconds())
	}
}

// request counts a request that is over.
func (m *Metrics) request(method string, o *outcome) {
	if m == nil {
		return
	}
	by := hop("none")
	if f := o.reason(); f != nil {
		by = f.hop
		m.failed(f.code)
	}
	m.requests.WithLabelValues(methodLabel(method), codeLabel(o.status), string(by)).Inc()
	d := &m.durations[0]
	if o.status == http.StatusSwitchingProtocols {
		d = &m.durations[1]
	}
	if !o.begun.IsZero() {
		d.firstByte.Observe(o.begun.Sub(o.start).Seconds())
	}
	d.whole.Observe(o.end.Sub(o.start).Seconds())
}

// decline counts a request that the service has answered itself without looking
// for a tunnel.
func (m *Metrics) decline(method string, f *failure) {
	if m != nil {
		m.requests.WithLabelValues(methodLabel(method), codeLabel(f.status), string(f.hop)).Inc()
		m.failed(f.code)
	}
}

// failed counts a request or registration that failed, or was refused.
func (m *Metrics) failed(code errorCode) {
	if m != nil {
		m.failures.WithLabelValues(string(code)).Inc()
	}
}

// methodLabel bounds what viewers can make of methods.
func methodLabel(method string) string {
	switch method {
	case "":
		return http.MethodGet
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodConnect:
		return method
	}
	return "other"
}

// codeLabels has the label for each status that has a meaning.
var codeLabels = func() (labels [600]string) {
	for code := range labels {
		if http.StatusText(code) != "" {
			labels[code] = strconv.Itoa(code)
		}
	}
	return labels
}()

// codeLabel bounds what targets can make of statuses.
func codeLabel(status int) string {
	if status == 0 {
		return "none"
	}
	if status > 0 && status < len(codeLabels) && codeLabels[status] != "" {
		return codeLabels[status]
	}
	return "other"
}

// serverCollector has the metrics that are read off the Server.
type serverCollector struct{ m *Metrics }

var (
	descTunnels     = desc("tunnels", "Tunnels that take requests.")
	descFlapping    = desc("flapping_tunnels", "Tunnels that have connected anew five times or more within the last ten minutes, whether they take requests now or not.")
	descSessions    = desc("sessions", "Websockets of tunnel clients, by state.", "state")
	descInFlight    = desc("requests_in_flight", "Requests that the tunnels carry now.")
	descSlots       = desc("request_slots", "Requests that all tunnels together may carry at a time.")
	descWaiting     = desc("requests_waiting", "Requests that wait because their tunnel is at its request limit.")
	descConns       = desc("viewer_connections", "Open connections of viewers.")
	descMaxConns    = desc("viewer_connections_limit", "Highest number of open connections of viewers; 0 means no limit.")
	descMaxTunnels  = desc("tunnels_limit", "Highest number of tunnels; 0 means no limit.")
	descHeld        = desc("held_bytes", "Bytes of memory that viewers and tunnel clients make the service hold, by its own account.")
	descMaxHeld     = desc("held_limit_bytes", "Highest number of those; 0 means no limit.")
	descReceived    = desc("received_bytes_total", "Bytes of bodies and upgraded connections from viewers to tunnels.")
	descSent        = desc("sent_bytes_total", "Bytes of bodies and upgraded connections from tunnels to viewers.")
	descDraining    = desc("draining", "1 while the service shuts down, otherwise 0.")
	descBuild       = desc("build_info", "Always 1; the labels name the build.", "version", "commit")
	collectorsDescs = []*prometheus.Desc{
		descTunnels, descFlapping, descSessions, descInFlight, descSlots, descWaiting, descConns, descMaxConns, descMaxTunnels,
		descHeld, descMaxHeld, descReceived, descSent, descDraining, descBuild,
	}
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("websocktunnel_"+name, help, labels, nil)
}

// Describe implements [prometheus.Collector].
func (serverCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range collectorsDescs {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c serverCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.m.server.Load()
	if s == nil {
		return
	}
	st := s.Status()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	gauge(descTunnels, st.Tunnels)
	gauge(descFlapping, st.Flapping)
	for state, n := range st.Sessions {
		gauge(descSessions, n, state)
	}
	gauge(descInFlight, st.InFlight)
	gauge(descSlots, st.Slots)
	gauge(descWaiting, st.Waiting)
	gauge(descConns, st.Connections)
	gauge(descMaxConns, st.MaxConnections)
	gauge(descMaxTunnels, st.MaxTunnels)
	ch <- prometheus.MustNewConstMetric(descHeld, prometheus.GaugeValue, float64(st.Held))
	ch <- prometheus.MustNewConstMetric(descMaxHeld, prometheus.GaugeValue, float64(st.MaxHeld))
	draining := 0
	if st.Draining {
		draining = 1
	}
	gauge(descDraining, draining)
	gauge(descBuild, 1, s.cfg.Version.Version, s.cfg.Version.Commit)
	ch <- prometheus.MustNewConstMetric(descReceived, prometheus.CounterValue, float64(st.Received))
	ch <- prometheus.MustNewConstMetric(descSent, prometheus.CounterValue, float64(st.Sent))
}
