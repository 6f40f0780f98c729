#!/usr/bin/env bash
# Known vulnerabilities that the code can reach, by govulncheck. It needs the
# vulnerability database (https://vuln.go.dev, or what GOVULNDB names). Where
# that cannot be fetched the check is skipped, aloud; with VULN_REQUIRED=1 it
# fails instead. A vulnerability found always fails it.
set -euo pipefail
source "$(dirname "$0")/env.sh"

db=()
if [[ -n ${GOVULNDB:-} ]]; then
	db=(-db "$GOVULNDB")
fi
report=$(mktemp)
trap 'rm -f "$report"' EXIT

status=0
tool govulncheck ${db[@]+"${db[@]}"} -tags http2legacy ./... >"$report" 2>&1 || status=$?
cat "$report"
# 3 means that vulnerabilities were found; anything else, that it did not run.
if [[ $status != 0 && $status != 3 && -z ${VULN_REQUIRED:-} ]] && grep -q 'fetching vulnerabilities' "$report"; then
	skip "govulncheck: its database cannot be fetched"
	status=0
fi
exit "$status"
