package cliapp

import "strings"

// HTTP2Debug returns the setting in the value of the environment variable
// GODEBUG that makes Go's HTTP/2 print frames and headers, or "". Like
// net/http and golang.org/x/net/http2, which read the variable before main
// runs, it takes any occurrence for one.
func HTTP2Debug(godebug string) string {
	for _, setting := range []string{"http2debug=1", "http2debug=2"} {
		if strings.Contains(godebug, setting) {
			return setting
		}
	}
	return ""
}
