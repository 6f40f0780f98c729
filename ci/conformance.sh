#!/usr/bin/env bash
# The suites and programs from outside, through real tunnels. They are in a
# module of their own. Arguments go to go test.
set -euo pipefail
source "$(dirname "$0")/env.sh"

cd conformance
go test -shuffle=on "$@" ./...
