#!/usr/bin/env bash
# Formats the Go code; with --check only reports what is not formatted.
set -euo pipefail
source "$(dirname "$0")/env.sh"

if [[ ${1:-} != --check ]]; then
	exec gofmt -s -w .
fi
unformatted=$(gofmt -s -l .)
if [[ -n $unformatted ]]; then
	printf 'not formatted, run "make fmt":\n%s\n' "$unformatted" >&2
	exit 1
fi
