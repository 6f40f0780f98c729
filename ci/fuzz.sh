#!/usr/bin/env bash
# Runs every fuzz target for FUZZTIME (default 30s) each. An input that fails
# is kept under testdata/fuzz: commit it with the mend.
set -euo pipefail
source "$(dirname "$0")/env.sh"

# "go test -list" prints a package's targets and then "ok <package> <time>".
go test -list '^Fuzz' ./... | while read -r first package _; do
	case $first in
	Fuzz*) targets+=("$first") ;;
	ok)
		for target in ${targets[@]+"${targets[@]}"}; do
			echo "== $package $target"
			go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-30s}" "$package" </dev/null
		done
		targets=()
		;;
	esac
done
