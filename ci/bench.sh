#!/usr/bin/env bash
# Builds bench/ and runs it on this checkout. Arguments go to it; --help lists
# them. docs/performance.md explains the output.
set -euo pipefail
caller=$PWD
source "$(dirname "$0")/env.sh"

mkdir -p bin
(cd bench && go build -o ../bin/bench .)
# Where the caller stands, so that files are written where it means them to be,
# unless it stands outside of the checkout.
case $caller/ in "$top"/*) cd "$caller" ;; esac
exec "$top/bin/bench" "$@"
