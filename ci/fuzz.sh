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

failed=()
for entry in "${targets[@]}"; do
	read -r package target <<<"$entry"
	echo "== $package $target, $each"
	# An interesting input is made smaller before others are tried, for up to a
	# minute if not told otherwise: that would be all of the time.
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$each" -fuzzminimizetime 1s "$@" "$package" </dev/null || failed+=("$entry")
done
echo "${#targets[@]} fuzz targets, $each each; failed: ${#failed[@]}"
if ((${#failed[@]} > 0)); then
	printf '  %s\n' "${failed[@]}" >&2
	git status --short -- '*/testdata/fuzz/*' || true
	exit 1
fi
