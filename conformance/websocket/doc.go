// Package websocket lets the three websocket libraries for Go talk to each
// other through tunnels, each as viewer and as target, and looks at what else
// can become of an upgrade: late, refused, broken off. Whatever it does it does
// directly too, and compares.
package websocket
