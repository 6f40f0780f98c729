package tunnelclient

import "github.com/websocktunnel/websocktunnel/target"

// ProxyOptions tunes [ProxyTo]. The zero value is ready to use.
type ProxyOptions = target.Options

// ProxyTo returns a handler that sends every request to addr, the target, such
// as "8080" or "https://app". It is [target.New], which has the details.
func ProxyTo(addr string, o ProxyOptions) (*target.Proxy, error) {
	return target.New(addr, o)
}
