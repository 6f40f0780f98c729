#!/usr/bin/env bash
# What goes through a tunnel, once more with two nodes: viewers come to one of them, and
# tunnel clients to the other. A good part of it; with WST_LONG=1, all. Arguments go to
# go test.
set -euo pipefail
source "$(dirname "$0")/env.sh"

export WST_NODES=2
e2e=(-run 'Differential|Expect|Interim|HalfClose|WebSocket|HopByHop|Smuggl|Cancel|Trailer|Raw|Upgrade|BrokenHop|HostMode|Prefix|Restart')
grpc=(-run 'Interop|Cancel|Deadline|Trailer|Status')
if [[ -n ${WST_LONG:-} ]]; then
	e2e=() grpc=()
	go test -count=1 -shuffle=on "$@" ./target/... ./tunnelclient/...
fi
go test -count=1 -shuffle=on ${e2e[@]+"${e2e[@]}"} "$@" ./internal/e2e
cd conformance
go test -count=1 -shuffle=on ${grpc[@]+"${grpc[@]}"} "$@" ./grpc
go test -count=1 -shuffle=on "$@" ./websocket
if [[ -n ${WST_LONG:-} ]]; then
	go test -count=1 -shuffle=on "$@" ./browser ./clients ./h2spec ./promtool
fi
