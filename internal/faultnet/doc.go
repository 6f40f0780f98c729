// Package faultnet is a network that fails on demand, for tests.
//
// A [Link] is one connection between two ends. It has two directions, Up from
// the end that dialled and Down towards it, and each [Direction] is a bounded
// queue of bytes with [Faults]:
//
//	            ┌────────────── Link ──────────────┐
//	            │   Up    ───── queue ─────▶       │
//	dialled end │                                  │ accepted end
//	            │   Down  ◀──── queue ──────       │
//	            └──────────────────────────────────┘
//
// Faults are what a direction always does: delay, jitter, a rate, slicing. What
// happens once is a method: a direction stalls, resumes or is cut after some
// bytes; a link goes half-open or is reset.
//
// Links come from [Pair], from a [Listener], all of them in memory, or from a
// [Relay], which puts them between real sockets. The first two use nothing but
// channels and timers to wait, so they work inside testing/synctest bubbles.
// There, mind that a goroutine that waits for a mutex keeps the clock from
// moving: programs that hold one while they write to the network cannot meet
// back-pressure in a bubble.
//
// Everything random comes from the seed, with a generator for each direction,
// and is drawn by the writing end: the same writes meet the same faults.
package faultnet
