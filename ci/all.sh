#!/usr/bin/env bash
# Everything that must hold before a change goes in ("make test"). Every step
# runs alone too; the first that fails ends the run.
set -euo pipefail
source "$(dirname "$0")/env.sh"

step() {
	local start=$SECONDS
	printf '\n==> %s\n' "$*"
	"$@" </dev/null
	printf '    %s: ok (%d s)\n' "$1" $((SECONDS - start))
}

go version
step ci/deps.sh
step ci/fmt.sh --check
step ci/tidy.sh
step ci/build.sh
step ci/api.sh
step ci/lint.sh
step ci/race.sh
step ci/nodes.sh
step ci/conformance.sh
step ci/bench_test.sh
step ci/matrix.sh
step ci/vuln.sh
printf '\nall checks passed in %d s\n' "$SECONDS"
