// Package h2spec runs h2spec (github.com/summerwind/h2spec), the public suite
// for HTTP/2 and HPACK, all sections and strict cases, against each place where
// this project speaks HTTP/2: what faces viewers, in cleartext and over TLS;
// the answering end, which is the tunnel client's; and the asking end, which is
// the service's, with the suite's part for clients.
//
// The last two live in websockets, which the suite knows nothing of. There its
// TCP connection is relayed into the binary messages of a websocket.
//
// Servers and clients of golang.org/x/net/http2 and net/http without any of
// this project run as controls. A case may only fail here if it fails there,
// for the reason given in exclusions_test.go.
//
//	go test -tags http2legacy ./h2spec
package h2spec
