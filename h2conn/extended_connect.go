package h2conn

import (
	_ "unsafe" // for go:linkname

	_ "golang.org/x/net/http2" // whose variable this is
)

// disableExtendedConnectProtocol is what x/net/http2 sets in its init, from
// the environment variable GODEBUG, and looks at for every connection. While
// it is true a Server neither advertises extended CONNECT (RFC 8441) nor
// accepts it. There is no other switch (golang/go#53208, #71128).
//
// Reaching for the variable touches x/net alone; GODEBUG would change the host
// program's net/http too. With Go 1.27 and later x/net is a wrapper around
// net/http that ignores the variable, unless built with the tag http2legacy;
// then upgrades take the fallback form. A test pins both cases.
//
//go:linkname disableExtendedConnectProtocol golang.org/x/net/http2.disableExtendedConnectProtocol
var disableExtendedConnectProtocol bool

func init() { disableExtendedConnectProtocol = false }
