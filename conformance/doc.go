// Package conformance is the top of a module of its own, so that the clients,
// servers and suites from outside that its tests need burden nobody who
// imports websocktunnel. Its tests send what was not written here through a
// real tunnel: gRPC's interoperability tests, h2spec, browsers, Node.js, curl,
// load generators, web servers.
package conformance
