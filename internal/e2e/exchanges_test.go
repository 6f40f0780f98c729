package e2e

import "strings"

// An exchange is one raw HTTP/1.1 request and what a raw target answers. It is
// made with the target directly and through a tunnel, by viewers and with
// targets of HTTP/1.1 and HTTP/2, and what each end recorded must be the same.
// To add a row, write down both messages as they go over the wire; in the
// request, the path is what the target is to see. For HTTP/2 they are
// translated, field by field, and lose what it has no place for (connection
// headers, the chunked coding, reason phrases).
type exchange struct {
	name    string
	request string // "METHOD /path HTTP/1.1\r\n…"; Host is added if it is missing
	answer  string // sent when the request has been read; "" means a plain 200

	// What differs, and only for reasons that docs/compatibility.md has: lines
	// of message.lines, "-name: value" for one that does not arrive and
	// "+name: value" for one that arrives instead. A "1" or "2" before that
	// restricts it to HTTP/1.1 or HTTP/2 at that end.
	atTarget, atViewer, atInterim []string

	// Rows about what only HTTP/1.1 has at that end.
	http1Viewer, http1Target bool
}

const plain200 = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

var exchanges = []exchange{
	{name: "plain", request: "GET / HTTP/1.1\r\n\r\n"},
	{name: "no user agent", request: "GET /ua HTTP/1.1\r\nAccept: */*\r\n\r\n"},
	{name: "user agent", request: "GET /ua HTTP/1.1\r\nUser-Agent: a/1 (b; c)\r\n\r\n"},
	{name: "empty user agent", request: "GET /ua HTTP/1.1\r\nUser-Agent:\r\n\r\n", atTarget: []string{"-user-agent: "}},
	{name: "accept-encoding kept", request: "GET / HTTP/1.1\r\nAccept-Encoding: br;q=1.0, gzip;q=0.8\r\n\r\n"},

	// Methods.
	{name: "HEAD", request: "HEAD /x HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"},
	{name: "HEAD chunked", request: "HEAD /x HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", atViewer: []string{"1-transfer-encoding: chunked"}},
	{name: "HEAD without a length", request: "HEAD /x HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\n"},
	{name: "HEAD of nothing", request: "HEAD /x HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{name: "HEAD with all headers", request: "HEAD /x HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nEtag: \"x\"\r\nContent-Length: 12\r\n\r\n"},
	{name: "HEAD, 404", request: "HEAD /x HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n"},
	{name: "HEAD, 304", request: "HEAD /x HTTP/1.1\r\nIf-None-Match: \"x\"\r\n\r\n", answer: "HTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\n\r\n"},
	{name: "OPTIONS", request: "OPTIONS /x HTTP/1.1\r\n\r\n"},
	{name: "TRACE", request: "TRACE /x HTTP/1.1\r\n\r\n"},
	{name: "unknown method", request: "PROPFIND /x HTTP/1.1\r\nDepth: 1\r\n\r\n"},
	{name: "method of odd characters", request: "A!#$%&'*+-.^_~1 /x HTTP/1.1\r\n\r\n"},
	{name: "QUERY with body", request: "QUERY /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"},
	{name: "lower-case method", request: "get /x HTTP/1.1\r\n\r\n"},
	{name: "DELETE with body", request: "DELETE /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"},
	{name: "GET with body", request: "GET /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"},
	{name: "GET, chunked", request: "GET /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},

	// Paths and queries.
	{name: "escaped slash", request: "GET /a%2Fb%2fc HTTP/1.1\r\n\r\n"},
	{name: "dots", request: "GET /a/../b/./c//d HTTP/1.1\r\n\r\n"},
	{name: "leading double slash", request: "GET //evil/x HTTP/1.1\r\n\r\n"},
	{name: "NUL escape", request: "GET /%00%ff%e4 HTTP/1.1\r\n\r\n"},
	{name: "reserved", request: "GET /;v=1,2/@:!$&'()*+=~ HTTP/1.1\r\n\r\n"},
	{name: "brackets", request: "GET /[a] HTTP/1.1\r\n\r\n"},
	{name: "odd characters in path", request: "GET /|\"{}<>^\\` HTTP/1.1\r\n\r\n"},
	{name: "8-bit path", request: "GET /\xc3\xa4/\xe4\xff HTTP/1.1\r\n\r\n"},
	{name: "number sign", request: "GET /a#b?c#d HTTP/1.1\r\n\r\n"},
	{name: "double slash and odd characters", request: "GET //x|y HTTP/1.1\r\n\r\n", atTarget: []string{"1-GET //x|y HTTP/1.1", "1+GET //x%7Cy HTTP/1.1", "2-GET //x|y", "2+GET //x%7Cy"}},
	{name: "long path", request: "GET /" + strings.Repeat("a/%2F", 1500) + " HTTP/1.1\r\n\r\n"},
	{name: "URL in path", request: "GET /http://other.example:80/?u=http://x/ HTTP/1.1\r\n\r\n"},
	{name: "semicolons in query", request: "GET /?a=1;b=2&c HTTP/1.1\r\n\r\n"},
	{name: "bad escape in query", request: "GET /?a=%zz&b=%&c=%2 HTTP/1.1\r\n\r\n"},
	{name: "empty query", request: "GET /x? HTTP/1.1\r\n\r\n"},
	{name: "question marks", request: "GET /x?a?b??c=/../ HTTP/1.1\r\n\r\n"},
	{name: "query of many", request: "GET /?" + strings.Repeat("a=b&", 500) + " HTTP/1.1\r\n\r\n"},
	{name: "8-bit query", request: "GET /?\xc3\xa4=1 HTTP/1.1\r\n\r\n"},
	{name: "non-UTF-8 and odd query", request: "GET /?q=\xe4\xff|\"{}<>^\\`[] HTTP/1.1\r\n\r\n"},
	{name: "non-UTF-8 escapes in query", request: "GET /?q=%e4%FF%00%0d%0a HTTP/1.1\r\n\r\n"},

	// Request headers.
	{name: "repeated", request: "GET / HTTP/1.1\r\nX-A: 1\r\nX-A: 2\r\nX-A: 1\r\n\r\n"},
	{name: "empty value", request: "GET / HTTP/1.1\r\nX-A:\r\n\r\n"},
	{name: "8-bit value", request: "GET / HTTP/1.1\r\nX-A: \xe4\xf6\r\n\r\n"},
	{name: "odd values, repeated", request: "GET / HTTP/1.1\r\nX-A: \xff\r\nX-A:\r\nX-A: \xc3\xa4\r\nX-A: a\tb  c\r\nX-A: \"\\\r\n\r\n"},
	{name: "60 KB of headers", request: "GET / HTTP/1.1\r\n" + strings.Repeat("X-A: "+strings.Repeat("a", 960)+"\r\n", 60) + "\r\n"},
	{name: "one header of 60 KB", request: "GET / HTTP/1.1\r\nX-A: " + strings.Repeat("a", 60000) + "\r\n\r\n"},
	{name: "commas", request: "GET / HTTP/1.1\r\nX-A: a, b,c ,d\r\n\r\n"},
	{name: "cookies", request: "GET / HTTP/1.1\r\nCookie: a=1; b=\"x y\"; c=\r\n\r\n"},
	{name: "several cookie lines", request: "GET / HTTP/1.1\r\nCookie: a=1\r\nCookie: b=2; c=3\r\nCookie: a=4\r\n\r\n", atTarget: []string{"-cookie: a=1", "-cookie: b=2; c=3", "-cookie: a=4", "+cookie: a=1; b=2; c=3; a=4"}},
	{name: "cookies without spaces", request: "GET / HTTP/1.1\r\nCookie: a=1;b=2\r\n\r\n", atTarget: []string{"-cookie: a=1;b=2", "+cookie: a=1; b=2"}},
	{name: "8-bit cookies", request: "GET / HTTP/1.1\r\nCookie: a=\xe4; b=\xc3\xa4; c,d\r\n\r\n"},
	{name: "empty cookie", request: "GET / HTTP/1.1\r\nCookie:\r\n\r\n", atTarget: []string{"-cookie: "}},
	{name: "cookies ended by a semicolon", request: "GET / HTTP/1.1\r\nCookie: a=1; b=2;\r\n\r\n", atTarget: []string{"-cookie: a=1; b=2;", "+cookie: a=1; b=2"}},
	{name: "authorization", request: "GET / HTTP/1.1\r\nAuthorization: Basic dTpw\r\n\r\n"},
	{name: "host with port", request: "GET / HTTP/1.1\r\nHost: Example.org:8443\r\n\r\n"},
	{name: "host in IPv6", request: "GET / HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\n\r\n"},
	{name: "host with a dot", request: "GET / HTTP/1.1\r\nHost: example.org.\r\n\r\n"},
	{name: "via and max-forwards", request: "GET / HTTP/1.1\r\nVia: 1.0 a, 1.1 b\r\nMax-Forwards: 3\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n"},
	{name: "who the viewer says it is", request: "GET / HTTP/1.1\r\nX-Real-IP: 192.0.2.1\r\nTrue-Client-IP: 192.0.2.1\r\nX-Forwarded-Port: 1\r\nX-Websocktunnel-Odd: 1\r\n\r\n", atTarget: []string{"-x-real-ip: 192.0.2.1", "-true-client-ip: 192.0.2.1", "-x-forwarded-port: 1", "-x-websocktunnel-odd: 1"}},
	{name: "proxy authorization", request: "GET / HTTP/1.1\r\nProxy-Authorization: Basic dTpw\r\n\r\n", atTarget: []string{"-proxy-authorization: Basic dTpw"}},
	{name: "te trailers", request: "GET / HTTP/1.1\r\nConnection: TE\r\nTE: trailers\r\n\r\n"},
	{name: "hop-by-hop of the viewer", request: "GET / HTTP/1.1\r\nConnection: TE, X-Hop, Keep-Alive\r\nTE: trailers, gzip\r\nX-Hop: 1\r\nX-Stays: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\r\n", http1Viewer: true, atTarget: []string{"-te: trailers, gzip", "+te: trailers", "-x-hop: 1", "1-proxy-connection: keep-alive"}},
	{name: "close and more of the viewer", request: "GET / HTTP/1.1\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\r\n", http1Viewer: true, atTarget: []string{"-x-hop: 1"}},
	{name: "range", request: "GET / HTTP/1.1\r\nRange: bytes=0-3\r\nIf-Range: \"x\"\r\n\r\n", answer: "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/10\r\nContent-Length: 4\r\n\r\n0123"},
	{name: "h2c offer", request: "GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", http1Viewer: true, atTarget: []string{"1-upgrade: h2c", "-http2-settings: AAMAAABk"}},

	// Request bodies.
	{name: "length", request: "POST /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"},
	{name: "length zero", request: "POST /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n"},
	{name: "PUT length zero", request: "PUT /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n"},
	{name: "PATCH length zero", request: "PATCH /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n"},
	{name: "DELETE length zero", request: "DELETE /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n", atTarget: []string{"-content-length: 0", "-framing: length", "+framing: none"}},
	{name: "GET length zero", request: "GET /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n", atTarget: []string{"-content-length: 0", "-framing: length", "+framing: none"}},
	{name: "POST without a body", request: "POST /x HTTP/1.1\r\n\r\n", atTarget: []string{"+content-length: 0", "-framing: none", "+framing: length"}},
	{name: "chunked", request: "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\n\r\n"},
	{name: "chunked empty", request: "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{name: "chunked with trailers", request: "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"},
	{name: "unannounced request trailers", request: "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n", atTarget: []string{"-trailer x-sum: 6"}},
	{name: "announced trailer that does not come", request: "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
	{name: "odd request trailers", request: "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: X-A, X-B\r\n\r\n3\r\nabc\r\n0\r\nX-A: 1\r\nX-A: \xe4\r\nX-B:\r\n\r\n"},
	{name: "forbidden request trailers", request: "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization, X-Sum\r\n\r\n3\r\nabc\r\n0\r\nAuthorization: Basic dTpw\r\nX-Sum: 6\r\n\r\n", http1Viewer: true, atTarget: []string{"-trailer: Authorization, X-Sum", "+trailer: X-Sum", "-trailer authorization: Basic dTpw"}},
	{name: "content-type kept", request: "POST /x HTTP/1.1\r\nContent-Type: application/x-thing;  q=1\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"},

	// Statuses.
	{name: "201", request: "POST /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n", answer: "HTTP/1.1 201 Created\r\nLocation: /x/1\r\nContent-Length: 0\r\n\r\n"},
	{name: "204", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n"},
	{name: "204 of nothing", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 204 No Content\r\n\r\n"},
	{name: "204 with a type and a length", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 204 No Content\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n", atViewer: []string{"-content-length: 0"}},
	{name: "205", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"},
	{name: "302", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n"},
	{name: "304", request: "GET / HTTP/1.1\r\nIf-None-Match: \"x\"\r\n\r\n", answer: "HTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\n\r\n"},
	{name: "304 of nothing", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 304 Not Modified\r\n\r\n"},
	{name: "304 with a type and a length", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 304 Not Modified\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\n", atViewer: []string{"1-content-type: text/plain", "-content-length: 12"}},
	{name: "401", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"\r\nWWW-Authenticate: Bearer\r\nContent-Length: 2\r\n\r\nno"},
	{name: "404", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"},
	{name: "404 without a body", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"},
	{name: "404 of HTML without a type", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n<html>\r\n0\r\n\r\n"},
	{name: "407", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", atViewer: []string{"-proxy-authenticate: Basic"}},
	{name: "451", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 451 Unavailable For Legal Reasons\r\nContent-Length: 2\r\n\r\nno"},
	{name: "502 of the target", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\nProxy-Status: mine\r\n\r\nmine"},
	{name: "599", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n", atViewer: []string{"1-599 Odd", "1+599 status code 599"}},
	{name: "reason phrase", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 Very Good\r\nContent-Length: 0\r\n\r\n", atViewer: []string{"1-200 Very Good", "1+200 OK"}},
	{name: "no reason phrase", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", atViewer: []string{"1-200 ", "1+200 OK"}},

	// Answers' headers: nothing added, nothing doubled.
	{name: "nothing but a length", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"},
	{name: "nothing at all", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{name: "HTML without a type, chunked", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n<html>\r\n0\r\n\r\n"},
	{name: "POST, 200 without a type", request: "POST /x HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", answer: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"},
	{name: "empty type and server", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Type:\r\nServer:\r\nContent-Length: 6\r\n\r\n<html>"},
	{name: "caching", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nEtag: W/\"x\"\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\nCache-Control: no-transform, max-age=1\r\nAge: 3\r\nAccept-Ranges: bytes\r\nVary: *\r\nExpires: 0\r\nContent-Length: 0\r\n\r\n"},
	{name: "60 KB of answer headers", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: "+strings.Repeat("a", 960)+"\r\n", 60) + "Content-Length: 0\r\n\r\n"},
	{name: "odd answer headers", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nX-A: \xff\r\nX-A:\r\nX-A: \xc3\xa4\r\nX-A: a\tb  c\r\nWarning: 199 - \"\xe4\"\r\nContent-Length: 0\r\n\r\n"},
	{name: "origin-wide headers", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nAlt-Svc: clear\r\nClear-Site-Data: *\r\nService-Worker-Allowed: /\r\nContent-Length: 0\r\n\r\n", atViewer: []string{"-strict-transport-security: max-age=1", "-alt-svc: clear", "-clear-site-data: *", "-service-worker-allowed: /"}},
	{name: "x-websocktunnel of the target", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nX-Websocktunnel-Odd: 1\r\nX-Websocktunnel-Error: dns_error\r\nContent-Length: 0\r\n\r\n", atViewer: []string{"-x-websocktunnel-odd: 1", "-x-websocktunnel-error: dns_error"}},
	{name: "date and server", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: mine\r\nContent-Length: 0\r\n\r\n"},
	{name: "repeated answer headers", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nX-A: 2\r\nX-A: 1\r\nVary: a\r\nVary: b\r\nLink: <a>; rel=b\r\nX-Empty:\r\nX-Bits: \xe4\r\nContent-Length: 0\r\n\r\n"},
	{name: "content-type with a body", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Type: text/x;  a=\"b\"\r\nContent-Length: 2\r\n\r\nok"},
	{name: "encoded body", request: "GET / HTTP/1.1\r\nAccept-Encoding: gzip\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8bx"},
	{name: "cookies without a path", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nSet-Cookie: a=1; HttpOnly\r\nSet-Cookie: b=2; SameSite=Lax; Expires=Thu, 01 Jan 2037 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n"},
	{name: "connection close of the target", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"},
	{name: "keep-alive of the target", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nok", http1Target: true, atViewer: []string{"1-keep-alive: timeout=5", "-x-hop: 1"}},
	// net/http's Transport removes Connection where it says close, and with it
	// the knowledge of what else is hop-by-hop.
	{name: "close and more of the target", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nok", http1Target: true},
	{name: "upgrade offer of the target", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: h2c, websocket\r\nContent-Length: 2\r\n\r\nok", atViewer: []string{"1-upgrade: h2c, websocket"}},

	// Answers' bodies.
	{name: "chunked answer", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
	{name: "empty chunked answer", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{name: "announced trailers", request: "GET / HTTP/1.1\r\nConnection: TE\r\nTE: trailers\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-More\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\nX-More: 1\r\n\r\n"},
	{name: "unannounced trailers", request: "GET / HTTP/1.1\r\nConnection: TE\r\nTE: trailers\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"},
	{name: "trailers that nobody asked for", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"},
	{name: "odd trailers", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A, X-B\r\n\r\n3\r\nabc\r\n0\r\nX-A: 1\r\nX-A: \xe4\r\nX-B:\r\n\r\n"},
	{name: "trailers of an empty answer", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n0\r\nX-Sum: 0\r\n\r\n"},
	{name: "forbidden trailers", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nSet-Cookie: a=1\r\nLocation: /\r\nContent-Type: a/b\r\nAuthorization: Basic dTpw\r\nX-Sum: 6\r\n\r\n", atViewer: []string{"-trailer set-cookie: a=1", "-trailer location: /", "-trailer content-type: a/b", "-trailer authorization: Basic dTpw"}},
	{name: "close-delimited answer", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end"},
	{name: "large answer", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + strings.Repeat("0123456789", 300000)},

	// Interim answers.
	{name: "102 and 103", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nLink: </b>; rel=preload\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-A: 1\r\n\r\n" + plain200},
	{name: "unknown 1xx", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 142 Odd\r\nX-A: 1\r\n\r\n" + plain200, atInterim: []string{"1-142 Odd", "1+142 status code 142"}},
	{name: "103 with content headers", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 103 Early Hints\r\nContent-Type: a/b\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nX-A: \xe4\r\nX-A:\r\n\r\n" + plain200},
	{name: "103 before 404", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>"},
	{name: "103 before 304 and HEAD", request: "HEAD /x HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 304 Not Modified\r\n\r\n"},
}
