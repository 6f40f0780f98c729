//go:build !race

package tunnelclient_test

// mostHeld is what a hostile service may make a client hold, with both ends of the test
// in one process.
const mostHeld = 64 << 20
