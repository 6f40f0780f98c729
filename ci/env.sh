# Sourced by the other scripts here: goes to the top of the repository and
# makes every go command build with the tag http2legacy (docs/adr and
# CONTRIBUTING.md say why), whatever else GOFLAGS already asks for.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
top=$PWD

# $(go env GOFLAGS) and not $GOFLAGS: settings made with `go env -w` count too.
add_tag() {
	local flags flag kept=() seen=
	flags=$(go env GOFLAGS)
	for flag in $flags; do
		case $flag in
		-tags=*http2legacy* | --tags=*http2legacy*) seen=1 ;;
		-tags=* | --tags=*) flag=$flag,http2legacy seen=1 ;;
		esac
		kept+=("$flag")
	done
	[[ -n $seen ]] || kept+=(-tags=http2legacy)
	export GOFLAGS="${kept[*]}"
}
add_tag

# tool NAME ARGS… runs a tool at the version that tools/go.mod pins. The first
# use builds it, which for golangci-lint takes minutes; later ones are cached.
tool() {
	go tool -modfile="$top/tools/go.mod" "$@"
}

# skip MESSAGE… says aloud that a step did not do all it promises.
skip() {
	printf '\n*** SKIPPED: %s\n\n' "$*" >&2
	if [[ -n ${GITHUB_ACTIONS:-} ]]; then
		printf '::warning::skipped: %s\n' "$*"
	fi
}

# modules prints the directories of the modules that hold the project's own
# code. tools/ is not one of them: it only pins versions.
modules() {
	echo .
	echo conformance
	if [[ -f bench/go.mod ]]; then
		echo bench
	fi
}
