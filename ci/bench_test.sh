#!/usr/bin/env bash
# The tests of bench/, which is a module of its own. They show that it measures,
# not how fast anything is. Arguments go to go test.
set -euo pipefail
source "$(dirname "$0")/env.sh"

cd bench
go test -shuffle=on "$@" ./...
