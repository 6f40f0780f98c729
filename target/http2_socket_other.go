//go:build !linux

package target

import "net"

// limitUnacknowledged does nothing: the system's own limits hold.
func limitUnacknowledged(net.Conn) {}
