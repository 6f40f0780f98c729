// Package accesslog writes a line about each request of the service, when it is
// over.
//
//	server.Config.RequestDone → Log.Done → a line → logqueue.Queue → stdout or a file
//
// It never waits: the queue takes the line or drops it. No line has a query, a
// header but User-Agent and Referer, or, unless that is asked for, a path behind
// the name of the tunnel: paths carry secrets.
package accesslog
