package server

import (
	"cmp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// tunnelCollector has the metrics of single tunnels. They are read off the sessions
// when somebody asks, so that requests pay nothing for them.
type tunnelCollector struct{ m *Metrics }

var (
	descTunnelInFlight     = desc("tunnel_requests_in_flight", "Requests that the tunnel carries now.", "id")
	descTunnelFailed       = desc("tunnel_failed_requests_total", "Requests without a whole answer because of the service, the tunnel client or the target, since the tunnel came up.", "id")
	descTunnelReceived     = desc("tunnel_received_bytes_total", "Bytes of bodies and upgraded connections from viewers, by the active session.", "id")
	descTunnelSent         = desc("tunnel_sent_bytes_total", "Bytes of bodies and upgraded connections to viewers, by the active session.", "id")
	descTunnelPing         = desc("tunnel_ping_round_trip_seconds", "Time that the tunnel client took to answer the last ping.", "id")
	descTunnelConnected    = desc("tunnel_connected_timestamp_seconds", "When the active session registered. It changes with each reconnection.", "id")
	descTunnelExpires      = desc("tunnel_token_expiry_timestamp_seconds", "When the token in force expires.", "id")
	descTunnelReplacements = desc("tunnel_session_replacements_total", "How often a session has taken the place of one that was still active, since the tunnel came up.", "id")
	descLeftOut            = desc("tunnels_without_series", "Tunnels that have no metrics of their own because others have carried more bytes.")
	tunnelDescs            = []*prometheus.Desc{
		descTunnelInFlight, descTunnelFailed, descTunnelReceived, descTunnelSent, descTunnelPing,
		descTunnelConnected, descTunnelExpires, descTunnelReplacements, descLeftOut,
	}
)

// Describe implements [prometheus.Collector].
func (tunnelCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range tunnelDescs {
		ch <- d
	}
}

// Collect implements [prometheus.Collector]. The tunnels that are left out are not
// summed up: such a sum would fall whenever one of them got series of its own, which
// Prometheus takes for a restart. The metrics of the service have all of them.
func (c tunnelCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.m.server.Load()
	if s == nil {
		return
	}
	tunnels := slices.Collect(s.Tunnels())
	slices.SortFunc(tunnels, func(a, b TunnelInfo) int {
		return cmp.Or(cmp.Compare(b.Received+b.Sent, a.Received+a.Sent), cmp.Compare(a.ID, b.ID))
	})
	shown := tunnels[:min(len(tunnels), c.m.perTunnel)]
	for _, t := range shown {
		for _, v := range []struct {
			desc  *prometheus.Desc
			kind  prometheus.ValueType
			value float64
		}{
			{descTunnelInFlight, prometheus.GaugeValue, float64(t.InFlight)},
			{descTunnelFailed, prometheus.CounterValue, float64(t.Failed)},
			{descTunnelReceived, prometheus.CounterValue, float64(t.Received)},
			{descTunnelSent, prometheus.CounterValue, float64(t.Sent)},
			{descTunnelPing, prometheus.GaugeValue, t.RoundTrip.Seconds()},
			{descTunnelConnected, prometheus.GaugeValue, float64(t.ConnectedAt.UnixMilli()) / 1000},
			{descTunnelExpires, prometheus.GaugeValue, float64(t.TokenExpires.Unix())},
			{descTunnelReplacements, prometheus.CounterValue, float64(t.Replacements)},
		} {
			ch <- prometheus.MustNewConstMetric(v.desc, v.kind, v.value, t.ID)
		}
	}
	ch <- prometheus.MustNewConstMetric(descLeftOut, prometheus.GaugeValue, float64(len(tunnels)-len(shown)))
}
