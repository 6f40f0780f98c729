// Package harness runs a service and tunnel clients in the test's own process,
// on real listeners, for the suites from outside:
//
//	s := harness.Start(t, harness.Options{TLS: true})
//	url := s.Target("id", "h2c://127.0.0.1:5000", tunnelclient.ProxyOptions{})
//	// https://127.0.0.1:port/id now leads to the target
//
// It is tunneltest with what these suites have in common.
package harness
