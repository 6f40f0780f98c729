// Package tunneltest has utilities for tests of programs behind a tunnel. It
// runs a service, tunnel clients and targets in the process of the test, on
// real listeners:
//
//	s := tunneltest.NewService(t, server.Config{})
//	c := s.Client("build-42", handler, tunnelclient.Config{})
//	resp, err := tunneltest.NewViewer(t).Get(c.URL + "/path")
//
// An empty Config works: required fields are filled in, and what is set in it
// stays.
//
// All that a test starts ends with the test, the last first, so that tunnel
// clients end before their service. An error on the way fails the test. Functions and
// methods that take part in setting up call t.Fatal, so only the test's own
// goroutine may call them, except where they say otherwise.
package tunneltest
