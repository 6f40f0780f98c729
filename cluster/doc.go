// Package cluster is what several nodes of the service share: a [Directory] of which
// node serves which id, and the [Member] that a node is of it.
//
// The process that holds a tunnel's websocket is the truth. The directory is a hint
// that expires, signed by the nodes, and pushed to them. What fails between nodes
// never drops a tunnel. docs/cluster.md has the whole picture.
package cluster
