package wire

// Subprotocol is the websocket subprotocol of a tunnel, version 1.
const Subprotocol = "websocktunnel.h2.v1"

// Headers of the registration handshake.
const (
	// HeaderID carries the client id of a registration. Its presence on
	// "GET /" is what makes a request a registration.
	HeaderID = "X-Websocktunnel-Id"

	// HeaderBarePath says what becomes of a navigation to the bare "/<id>", in
	// path mode. With BarePathPass it is passed on, for a target that decides
	// itself. Without the header, and with all other values, it is redirected
	// to "/<id>/".
	HeaderBarePath = "X-Websocktunnel-Bare-Path"
	BarePathPass   = "pass"

	// HeaderInstance names the tunnel client's process in a registration, and
	// HeaderAttempt counts the registrations of that process: the higher attempt
	// is the newer one, whichever node of the service learns of it first. Clients
	// may leave them out.
	HeaderInstance = "X-Websocktunnel-Instance"
	HeaderAttempt  = "X-Websocktunnel-Attempt"

	// HeaderJoins is the attempt number of an earlier registration of the same
	// instance. The registration that has it opens a further websocket beside that
	// session, and replaces none.
	HeaderJoins = "X-Websocktunnel-Joins"

	// HeaderClientURL, on the 101 answer, is the URL that viewers use.
	HeaderClientURL = "X-Websocktunnel-Client-Url"

	// HeaderPing, on the 101 answer, says how often the service wants to be pinged:
	// see FormatPing. Tunnel clients that are configured otherwise ignore it.
	HeaderPing = "X-Websocktunnel-Ping"

	// HeaderConnections, on the 101 answer, is how many websockets the service lets a
	// tunnel client have for one tunnel at a time, this one included. Without it there
	// is one.
	HeaderConnections = "X-Websocktunnel-Connections"
)

// Headers of a viewer's request and its answer inside a tunnel.
const (
	// HeaderPrefix is what every private header's name begins with, in
	// canonical form. The service drops a viewer's own copies of all of them.
	HeaderPrefix = "X-Websocktunnel-"

	// HeaderOriginalPath is the raw path, without the query, that the viewer
	// requested of the service.
	HeaderOriginalPath = "X-Websocktunnel-Original-Path"

	// HeaderRequestID names the request, in the log of the service too.
	HeaderRequestID = "X-Websocktunnel-Request-Id"

	// MaxRequestID is how many bytes of it a tunnel client has to take.
	MaxRequestID = 128

	// HeaderTargetProto is set by a tunnel client on the answer of its target, where
	// the request has [HeaderRequestID]: what was spoken with the target, HTTP/1.0,
	// HTTP/1.1 or HTTP/2.0. It is for the service's records, which ignore all else.
	HeaderTargetProto = "X-Websocktunnel-Target-Proto"

	// HeaderError is set by a tunnel client on an answer that it made itself
	// because it could not get one from its target. The value is an RFC 9209
	// proxy error type, such as "connection_refused". The service replaces
	// such an answer by its own error page and never lets the header through.
	HeaderError = "X-Websocktunnel-Error"

	// HeaderHop is what one node of the service tells another about a request or an
	// answer. It means nothing outside of connections between nodes.
	HeaderHop = "X-Websocktunnel-Hop"

	// HeaderNode is the node, and the process of it, that a connection between nodes
	// is for, and HeaderNodeFrom those that it comes from.
	HeaderNode     = "X-Websocktunnel-Node"
	HeaderNodeFrom = "X-Websocktunnel-Node-From"
)
