// Package reliability holds the campaigns: service, tunnel clients, targets and
// viewers in one process, under load, while things break. Each file says which
// faults it covers, by these numbers, and the command that reproduces its
// figures:
//
//	F1   the network to a tunnel client goes half-open
//	F2   a tunnel client, or the way to it, is frozen for a while
//	F3   one end takes no bytes, but goes on sending
//	F5   the service or a session dies without a word
//	F6   the same id connects again in the middle of requests
//	F7   all tunnel clients come back at once
//	F8   viewers do not read their downloads
//	F9   a target does not read its uploads
//	F10  stalled streams hold all of a connection's window
//	F15  a target closes or resets connections
//	F17  viewers leave in the middle of something
//	F18  a tunnel client dies in the middle of an answer
//	F24  slow links
//
// A viewer's request is lost if it has not exactly one correct end: the right
// bytes, or an honest error. Hanging, a body that looks complete and is not,
// wrong bytes, and a second delivery of a POST are none of these.
//
// By itself each test runs a short version with fixed seeds. With WST_LONG=1 it
// runs the one that its figures come from.
package reliability
