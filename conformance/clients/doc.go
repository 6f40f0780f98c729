// Package clients sends what common programs send, and serves what common
// programs serve, through a tunnel: curl, Python, Node.js and load generators
// as viewers; Node.js, nginx and Apache httpd as targets; Apache httpd as the
// proxy on the way to the service. Wherever it can, a
// test does the same directly and through the tunnel, and compares.
//
// ci/deps.sh installs the programs. A test whose program is missing is
// skipped; in CI, where CI is set, it fails.
package clients
