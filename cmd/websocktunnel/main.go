// Command websocktunnel is the service: the public program that tunnel clients
// connect to and that viewers' requests come to.
//
//	websocktunnel [serve] [flags]          run the service (no command: serve)
//	websocktunnel token --id ID            print a token for a tunnel client
//	websocktunnel demo                     try it: service, client and a small site
//	websocktunnel admin tunnels            see and change what a running service does
//	websocktunnel version
//	websocktunnel completion SHELL
//
// The service is configured by environment variables, each of which is also a
// flag and a line of a configuration file; "websocktunnel serve --help" lists
// them and docs/configuration.md explains them. Exit statuses: 0 after a clean end, 1 when something failed,
// 2 for a faulty configuration or command line.
package main

import "os"

func main() { os.Exit(run(os.Args)) }
