#!/usr/bin/env bash
# Runs every fuzz target for FUZZTIME (default 30s) each, or all of them together
# for FUZZTOTAL seconds. FUZZ, a regular expression, chooses some by name; further
# arguments go to go test. An input that fails is kept under
# testdata/fuzz/<target>/ of its package, where every later "go test" tries it
# again: commit it with the mend. The other targets still run; then this fails.
set -euo pipefail
source "$(dirname "$0")/env.sh"

# "go test -list" prints a package's targets and then "ok <package> <time>".
targets=() found=()
listing=$(go test -list '^Fuzz' ./...)
while read -r first package _; do
	case $first in
	Fuzz*) if [[ $first =~ ${FUZZ:-.} ]]; then found+=("$first"); fi ;;
	ok)
		for target in ${found[@]+"${found[@]}"}; do
			targets+=("$package $target")
		done
		found=()
		;;
	esac
done <<<"$listing"
if [[ ${#targets[@]} == 0 ]]; then
	echo "no fuzz target matches ${FUZZ:-.}" >&2
	exit 1
fi

each=${FUZZTIME:-30s}
if [[ -n ${FUZZTOTAL:-} ]]; then
	each=$((FUZZTOTAL / ${#targets[@]}))
	if ((each < 1)); then
		echo "FUZZTOTAL=$FUZZTOTAL is less than a second for each of ${#targets[@]} targets" >&2
		exit 1
	fi
	each+=s
fi

# Go before 1.27 may take the end of the time for a failure (golang/go#75804). An
# input that fails is always named.
timed_out() { grep -q '^    context deadline exceeded$' "$1" && ! grep -Eq 'Failing input|seed corpus entry|panic:|DATA RACE' "$1"; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=()
for entry in "${targets[@]}"; do
	read -r package target <<<"$entry"
	echo "== $package $target, $each"
	# An interesting input is made smaller before others are tried, for up to a
	# minute if not told otherwise: that would be all of the time.
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$each" -fuzzminimizetime 1s "$@" "$package" </dev/null 2>&1 | tee "$log" && continue
	if timed_out "$log"; then
		echo "no input has failed: the time was over (golang/go#75804)"
	else
		failed+=("$entry")
	fi
done
echo "${#targets[@]} fuzz targets, $each each; failed: ${#failed[@]}"
if ((${#failed[@]} > 0)); then
	printf '  %s\n' "${failed[@]}" >&2
	git status --short -- '*/testdata/fuzz/*' || true
	exit 1
fi
