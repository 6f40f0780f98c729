//go:build race

package tunnelclient_test

// mostHeld has room for what the race detector makes of everything.
const mostHeld = 128 << 20
