// Package budget keeps account of the memory that peers make a process hold, in
// bytes, and bounds it: for each peer and in all.
//
// Limits in numbers (connections, streams, requests) do not bound memory, since
// one of them may hold a thousand times what another does. So whatever a peer can
// make the process hold is a [Holding], charged to the account of the peer behind it
// (an address, a tunnel) and to the [Budget] of all:
//
//	Budget ── limit of all
//	  ├─ 192.0.2.7 ── limit of an address
//	  │    ├─ Holding: a connection
//	  │    └─ Holding: a request
//	  └─ build-42 ── limit of a tunnel
//	       ├─ Holding: a session
//	       └─ Holding: what the request waits for there
//
// New work is refused when it does not fit ([Holding.Admit]). What arrives for
// work that has been admitted cannot be refused any more ([Holding.Add]): its
// reader waits while there is too much ([Holding.Room]), and what keeps bytes
// waiting without taking any is cut, those first that hold most and have moved
// least. A holding with nothing waiting, such as a quiet event stream, is never
// cut, and neither is one that moves.
//
// The figures are estimates of what the runtime holds, not what was on the wire.
package budget
