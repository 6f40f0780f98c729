package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// clusterCollector has the metrics of a node in its cluster. There are none for a service
// that is alone.
type clusterCollector struct{ m *Metrics }

var (
	descNodes        = desc("cluster_nodes", "Nodes of the cluster, this one included, by what they seem to be: up, draining or suspect.", "state")
	descReachable    = desc("cluster_directory_reachable", "1 while the directory answers, otherwise 0.")
	descWhole        = desc("cluster_directory_whole", "1 while an id that the directory does not have is absent for certain, otherwise 0.")
	descAnnounced    = desc("cluster_announced_ids", "Ids that this node serves.")
	descPending      = desc("cluster_pending_ids", "Ids of which the directory has not heard the last news yet.")
	descCached       = desc("cluster_cached_ids", "Ids of which this node remembers which other node serves them.")
	descLookups      = desc("cluster_lookups_total", "Lookups of ids that are not here, by how they ended: cached, absent, unknown (no answer), limited (too many) or found.", "result")
	descClaims       = desc("cluster_claims_total", "Entries of this node that the directory has taken: for new sessions, or restored after it had lost them.", "kind")
	descSuperseded   = desc("cluster_superseded_total", "Sessions of this node that a newer one on another node has replaced.")
	descForged       = desc("cluster_forged_total", "Entries and nodes in the directory without a valid signature.")
	descResyncs      = desc("cluster_resyncs_total", "How often this node has announced everything again because the directory may have lost it.")
	descNodeRequests = desc("cluster_node_requests_total", "Requests of viewers of this node that have gone to another one.", "node")
	descNodeInFlight = desc("cluster_node_requests_in_flight", "Requests of viewers of this node that are on their way to another one now.", "node")
	descNodeLinks    = desc("cluster_node_links", "Connections to another node.", "node")
	descNodePing     = desc("cluster_node_ping_round_trip_seconds", "Time that the last ping to another node took.", "node")
	descNodeReceived = desc("cluster_node_received_bytes_total", "Bytes of bodies and upgraded connections from viewers to another node.", "node")
	descNodeSent     = desc("cluster_node_sent_bytes_total", "Bytes of bodies and upgraded connections from another node to viewers.", "node")
	clusterDescs     = []*prometheus.Desc{
		descNodes, descReachable, descWhole, descAnnounced, descPending, descCached, descLookups, descClaims, descSuperseded, descForged,
		descResyncs, descNodeRequests, descNodeInFlight, descNodeLinks, descNodePing, descNodeReceived, descNodeSent,
	}
)

// Describe implements [prometheus.Collector].
func (clusterCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range clusterDescs {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c clusterCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.m.server.Load()
	if s == nil || s.cluster == nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	truth := map[bool]float64{true: 1}
	st := s.cluster.member.Status()
	gauge(descReachable, truth[st.Reachable])
	gauge(descWhole, truth[st.Whole])
	gauge(descAnnounced, float64(st.Announced))
	gauge(descPending, float64(st.Pending))
	gauge(descCached, float64(st.Cached))
	counter(descLookups, st.CacheHits, "cached")
	counter(descLookups, st.Absent, "absent")
	counter(descLookups, st.Unknown, "unknown")
	counter(descLookups, st.Limited, "limited")
	counter(descLookups, st.Lookups-min(st.Lookups, st.CacheHits+st.Absent+st.Unknown+st.Limited), "found")
	counter(descClaims, st.Claims, "new")
	counter(descClaims, st.Restored, "restored")
	counter(descSuperseded, st.Superseded)
	counter(descForged, st.Forged)
	counter(descResyncs, st.Resyncs)
	states := map[string]int{"up": 0, "draining": 0, "suspect": 0}
	for _, other := range s.Nodes() {
		states[string(other.Seen)]++
		if other.Self {
			continue
		}
		counter(descNodeRequests, other.Requests, other.Name)
		gauge(descNodeInFlight, float64(other.InFlight), other.Name)
		gauge(descNodeLinks, float64(other.Links), other.Name)
		gauge(descNodePing, other.RoundTrip.Seconds(), other.Name)
		counter(descNodeReceived, uint64(max(other.Received, 0)), other.Name)
		counter(descNodeSent, uint64(max(other.Sent, 0)), other.Name)
	}
	for state, n := range states {
		gauge(descNodes, float64(n), state)
	}
}

// Store counts an operation of the directory's store, which took so long: one of a few
// names. It is made for redisdir.Config.Observe. A nil *Metrics counts nothing.
func (m *Metrics) Store(op string, took time.Duration, err error) {
	if m == nil {
		return
	}
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	m.store.WithLabelValues(op, outcome).Observe(took.Seconds())
}
