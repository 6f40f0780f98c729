// Package browser drives Chromium through tunnels: the demo page, websockets
// over HTTP/1.1 and HTTP/2, server-sent events, fetch, and what keeps tunnels
// of one origin apart.
//
// ci/deps.sh installs the browser. Without one the tests are skipped; in CI,
// where CI is set, they fail.
package browser
