// Command wst-client is the tunnel client: it lets viewers reach a target, an
// HTTP server that only this machine can reach, through a websocktunnel
// service.
//
//	wst-client SERVER-URL CLIENT-ID TARGET [flags]
//
// "wst-client --help" lists the flags and says where the token comes from. It
// runs until a signal ends it, and reconnects for as long as that can help.
// Exit statuses: 0 after a signal, 1 when the service has refused the tunnel
// for good, 2 for a faulty command line or if no token came.
package main

import "os"

func main() { os.Exit(run(os.Args)) }
