//go:build !go1.27 || http2legacy

package h2conn

// ExtendedConnect reports whether this build can send and accept extended
// CONNECT. Without it upgrades cross a tunnel in the fallback form.
const ExtendedConnect = true

// sendsGoaway reports whether x/net sends GOAWAY when a connection is shut
// down gracefully.
const sendsGoaway = true
