// Package processes holds the tests in which the two commands run as processes
// of their own and the machine turns against them: they are killed, frozen,
// restarted under load, cut off from the network, or left without file
// descriptors. Tests of several nodes run three services with a redis-server.
// What can be tested within one process is in internal/e2e.
//
// The tests are for Linux. Those that make network namespaces need root and
// iproute2, and are skipped without. With WST_LONG=1 there are more rounds and
// heavier load, and the faults that take longer than a liveness bound to be
// seen; each of them prints one line with what it has measured.
package processes
