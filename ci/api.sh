#!/usr/bin/env bash
# Compares the exported API of the public packages with the baselines in ci/api/
# and fails on an incompatible change that ci/api/accepted.txt does not list.
# With --update it makes new baselines of the API as it is now.
#
# A baseline is the export data of a package, written by apidiff. apidiff reads
# and writes it by itself, in one format for every Go version, so it needs no
# history, no network and no second build.
set -euo pipefail
source "$(dirname "$0")/env.sh"

baselines=$top/ci/api accepted=$top/ci/api/accepted.txt
module=$(go list -m)

# Every package that others can import, and the one whose type they all show.
packages=()
while read -r path name; do
	case $path in
	*/internal/configerror) ;;
	*/internal/* | */internal) continue ;;
	esac
	if [[ $name != main ]]; then
		packages+=("${path#"$module/"}")
	fi
done < <(go list -f '{{.ImportPath}} {{.Name}}' ./...)

# baseline PACKAGE prints the name of its file.
baseline() { echo "$baselines/${1//\//_}.api"; }

# incompatible PACKAGE prints its incompatible changes, one a line, with the
# package before them.
incompatible() {
	local out
	out=$(tool apidiff -allow-internal -incompatible "$(baseline "$1")" "./$1") || return
	if [[ $1 == internal/* ]]; then
		out=$(grep ConfigError <<<"$out" || true) # the rest is not public
	fi
	sed -n "s|^- |$1: |p" <<<"$out"
}

update() {
	# Export data holds the names of source files: build a copy, so that none
	# of this machine's directories is among them.
	local package file changes
	copy=$(mktemp -d "${TMPDIR:-/tmp}/api.XXXXXX")
	trap 'rm -rf "$copy"' EXIT
	git ls-files -z --cached --others --exclude-standard -- go.mod go.sum '*.go' ':!conformance' |
		while IFS= read -r -d '' file; do
			if [[ -f $file ]]; then
				mkdir -p "$copy/$(dirname "$file")"
				cp "$file" "$copy/$file"
			fi
		done
	local kept=" "
	for package in "${packages[@]}"; do
		file=$(baseline "$package")
		kept+="$file "
		if [[ -f $file ]]; then
			changes=$(tool apidiff -allow-internal "$file" "./$package")
			[[ -n $changes ]] || continue # only a changed API changes the file
		fi
		(cd "$copy" && tool apidiff -allow-internal -w "$file" "./$package")
		echo "new baseline: ${file#"$top/"}"
	done
	for file in "$baselines"/*.api; do
		if [[ $kept != *" $file "* ]]; then
			rm "$file"
			echo "removed: ${file#"$top/"}"
		fi
	done
	# What was accepted is the baseline now.
	sed -i.old '/^[^#]/d' "$accepted"
	rm -f "$accepted.old"
}

check() {
	local failed=0 line changes="" package
	for package in "${packages[@]}"; do
		if [[ ! -f $(baseline "$package") ]]; then
			echo "$package has no baseline: run ci/api.sh --update" >&2
			failed=1
			continue
		fi
		changes+=$(incompatible "$package")$'\n'
	done
	local file
	for file in "$baselines"/*.api; do
		[[ -f $file ]] || continue
		package=$(basename "$file" .api)
		if [[ " ${packages[*]} " != *" ${package//_//} "* ]]; then
			changes+="${package//_//}: package removed"$'\n'
		fi
	done

	# "package: change # reason". A change may hold a "#" only after a space.
	local listed="" reason
	while IFS= read -r line; do
		[[ -n $line && $line != \#* ]] || continue
		reason=${line##* \# }
		if [[ $line != *" # "* || -z ${reason// /} ]]; then
			echo "ci/api/accepted.txt: no reason after \" # \": $line" >&2
			failed=1
		fi
		line=${line% \# *}
		listed+=$line$'\n'
		if ! grep -qxF -- "$line" <<<"$changes"; then
			echo "ci/api/accepted.txt: not a change any more, remove it: $line" >&2
			failed=1
		fi
	done <"$accepted"
	while IFS= read -r line; do
		if [[ -n $line ]] && ! grep -qxF -- "$line" <<<"$listed"; then
			echo "incompatible: $line" >&2
			failed=1
		fi
	done <<<"$changes"
	if [[ $failed != 0 ]]; then
		echo 'See "The Go API" in CONTRIBUTING.md.' >&2
	fi
	return "$failed"
}

case ${1:-} in
"") check ;;
--update) update ;;
*)
	echo "usage: ci/api.sh [--update]" >&2
	exit 2
	;;
esac
