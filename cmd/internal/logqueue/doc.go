// Package logqueue keeps a log from holding up the program that writes it.
//
// A write to standard output blocks while nobody reads the other end of its
// pipe. A [Queue] takes lines without waiting and has a goroutine of its own
// that writes them:
//
//	zerolog → Queue.Write → [lines] → goroutine → pipe, file, terminal, syslog
//
// Lines that come in large numbers, those of the access log, wait for each other for up
// to 100 ms: a wake and a system call for each would cost more than they do.
//
// When the queue is full, lines are dropped and counted. As soon as lines move
// again, a line says at that place how many are missing. The goroutine belongs
// to the queue and ends with [Queue.Close].
package logqueue
