#!/usr/bin/env bash
# Builds the commands, static, into bin/ (or the directory given). VERSION,
# COMMIT and BUILD come from git where they are not set; BUILD is the time of
# the commit, so that the same commit always gives the same bytes.
set -euo pipefail
source "$(dirname "$0")/env.sh"

out=${1:-bin}
version=${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || true)}
commit=${COMMIT:-$(git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || true)}
build=${BUILD:-$(git log -1 --format=%cI 2>/dev/null || true)}

package=$(go list -m)/internal/buildinfo
mkdir -p "$out"
CGO_ENABLED=0 go build -trimpath -o "$out/" \
	-ldflags "-s -w -X $package.version=$version -X $package.commit=$commit -X $package.build=$build" \
	./cmd/...
