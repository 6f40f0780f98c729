#!/usr/bin/env bash
# The tests under the race detector, in random order. Arguments go to go test.
set -euo pipefail
source "$(dirname "$0")/env.sh"

race=(-race)
cc=$(go env CC)
if [[ $(go env CGO_ENABLED) != 1 ]] || ! command -v "${cc%% *}" >/dev/null; then
	if [[ -n ${CI:-} ]]; then
		echo "the race detector needs cgo and a C compiler" >&2
		exit 1
	fi
	skip "the race detector, which needs cgo and a C compiler; the tests run without it"
	race=()
	export CGO_ENABLED=0
fi
go test ${race[@]+"${race[@]}"} -shuffle=on "$@" ./...
