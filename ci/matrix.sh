#!/usr/bin/env bash
# The packages that speak HTTP/2, once more with a newer Go, with the build tag
# http2legacy and without it: without it golang.org/x/net/http2 is a wrapper
# around net/http there, and upgrades must take their fallback form.
# MATRIX_GO and MATRIX_PACKAGES choose others. Arguments go to go test.
set -euo pipefail
source "$(dirname "$0")/env.sh"

export GOTOOLCHAIN=${MATRIX_GO:-go1.27.0}
read -ra packages <<<"${MATRIX_PACKAGES:-./h2conn/... ./server/... ./target/... ./tunnelclient/... ./internal/e2e/... ./internal/hostile/...}"

go version
echo "with the tag http2legacy"
go test -shuffle=on "$@" "${packages[@]}"
echo "without the tag"
go test -tags= -shuffle=on "$@" "${packages[@]}"
