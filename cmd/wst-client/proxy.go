package main

import (
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
	"github.com/websocktunnel/websocktunnel/internal/redact"
)

// proxy returns the function that chooses the proxy to the service. The flag
// applies to every service; the environment's proxies do not apply to this machine
// itself.
func proxy(flag, serverURL string, faults *cliapp.Faults) func(*http.Request) (*url.URL, error) {
	if flag == "" {
		checkProxyVariable(serverURL, faults)
		return http.ProxyFromEnvironment
	}
	return http.ProxyURL(parseProxy("--proxy", flag, faults))
}

// checkProxyVariable notes faults of the variable that names the proxy to the
// service. net/http would ignore a faulty one and connect directly, or treat any
// scheme as http.
func checkProxyVariable(serverURL string, faults *cliapp.Faults) {
	u, err := url.Parse(serverURL)
	if err != nil {
		return // already noted as a fault
	}
	names := []string{"HTTP_PROXY", "http_proxy"}
	switch u.Scheme {
	case "http", "ws":
		u.Scheme = "http"
	case "https", "wss":
		u.Scheme = "https"
		names = []string{"HTTPS_PROXY", "https_proxy"}
	default:
		return
	}
	rules := httpproxy.FromEnvironment()
	rules.HTTPProxy, rules.HTTPSProxy = "http://any", "http://any"
	if p, err := rules.ProxyFunc()(u); p == nil || err != nil {
		return // NO_PROXY, or this machine itself
	}
	for _, name := range names {
		value := os.Getenv(name)
		if value == "" {
			continue
		}
		if !strings.Contains(value, "://") {
			value = "http://" + value // as net/http does
		}
		parseProxy(name, value, faults)
		return
	}
}

// parseProxy returns the URL of a proxy. name is the flag or variable that has it.
func parseProxy(name, s string, faults *cliapp.Faults) *url.URL {
	const example = "http://proxy.example.com:3128"
	u, err := url.Parse(s)
	shown := redact.URL(s) // as s and the error of url.Parse may hold a password
	switch {
	case err != nil || u.Hostname() == "":
		faults.Add("%s %q: it must be a URL such as %s", name, shown, example)
		return nil
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" && u.Scheme != "socks5h":
		faults.Add("%s %q: it must begin with http://, https:// or socks5://", name, shown)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			faults.Add("%s %q: its port must be 1 to 65535", name, shown)
		}
	}
	return u
}
