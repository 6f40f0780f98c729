// Command bench measures websocktunnel beside other ways to carry HTTP to a
// target, in one run and in alternating rounds, so that each figure has its
// yardstick next to it. docs/performance.md explains how to run it and how to
// read its output.
//
//	controller ──starts──▶ target, proxies, service, clients, relay   (contestants)
//	     │
//	     └──for each round and contestant──▶ load: connects, measures, reports JSON
//
// All of them are processes of their own, most of them this binary again in
// another role. The controller alone starts them and ends them: each is in a
// process group of its own and is killed when the measurement ends, when the
// user presses Ctrl-C, and by the kernel if the controller dies.
//
// The workloads loss-* need root: their processes run in network namespaces, at the
// two ends of a link that a process makes of two TUN devices (lossylink.go).
//
// It runs on Linux, because it reads /proc.
package main
