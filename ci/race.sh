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

# The race detector itself fails now and then ("ThreadSanitizer: CHECK failed", a fault of
# its bookkeeping under very many short goroutines). Such a run says nothing about the
# package: it is run once more. A test that fails is not.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
go test ${race[@]+"${race[@]}"} -shuffle=on "$@" ./... 2>&1 | tee "$log" && exit
if ! grep -q '^ThreadSanitizer: CHECK failed' "$log" || grep -qE '^ *--- FAIL|^panic:|DATA RACE|build failed' "$log"; then
	exit 1
fi
mapfile -t broken < <(awk '$1 == "FAIL" && NF > 1 { print $2 }' "$log" | sort -u)
echo "the race detector failed: once more for ${broken[*]}"
go test ${race[@]+"${race[@]}"} -shuffle=on "$@" "${broken[@]}"
