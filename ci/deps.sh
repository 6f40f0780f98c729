#!/usr/bin/env bash
# Provides what the tests need beyond Go. Installs only where that disturbs
# nobody: in CI, as root, with apt. Elsewhere it says what to install.
set -euo pipefail
source "$(dirname "$0")/env.sh"

# need COMMAND DEBIAN-PACKAGE PURPOSE
need() {
	local command=$1 package=$2 purpose=$3
	if command -v "$command" >/dev/null; then
		return
	fi
	if [[ -n ${CI:-} && $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
		echo "installing $package ($purpose)"
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$package"
		return
	fi
	skip "$command is missing: $purpose (Debian package: $package)"
}

cc=$(go env CC)
need "${cc%% *}" gcc "the race detector needs a C compiler"
