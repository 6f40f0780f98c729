// Package promtool has Prometheus's own tool, promtool, look at what the service
// gives it: the metrics, and the alerts and dashboards in deploy/.
//
// ci/deps.sh installs promtool. A test that lacks it is skipped; in CI, where CI is
// set, it fails.
package promtool
