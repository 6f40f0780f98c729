// Package grpc sends gRPC through tunnels: the public interoperability cases of
// google.golang.org/grpc/interop, and what they do not reach. The viewer is
// grpc-go's client over h2c and over TLS; the target is its server over h2c,
// over TLS, and as the tunnel client's own http.Handler. A connection without
// any tunnel is one more row of every test, so that a failure tells whose it
// is.
//
//	go test -tags http2legacy ./grpc
//	WST_LONG=1 go test -tags http2legacy ./grpc   # with the soak cases, and ten times as much of the others
package grpc
