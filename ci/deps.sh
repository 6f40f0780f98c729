#!/usr/bin/env bash
# Provides what the tests need beyond Go. Installs only where that disturbs
# nobody: on Debian as root, as in CI. Elsewhere it says what to install.
set -euo pipefail
source "$(dirname "$0")/env.sh"

PATH=$PATH:/usr/sbin # daemons are there

# may_install: whether apt-get may bring what is missing.
may_install() {
	command -v apt-get >/dev/null && [[ $(id -u) == 0 || -n ${CI:-} ]]
}

# as_root COMMAND… runs a command as root, if need be with sudo.
as_root() {
	if [[ $(id -u) == 0 ]]; then
		"$@"
	else
		sudo -n "$@"
	fi
}

packages=()

# need COMMAND DEBIAN-PACKAGE PURPOSE
need() {
	local command=$1 package=$2 purpose=$3
	if command -v "$command" >/dev/null; then
		return
	fi
	if may_install; then
		echo "to install: $package ($purpose)"
		packages+=("$package")
		return
	fi
	skip "$command is missing: $purpose (Debian package: $package)"
}

# install_packages installs what need found missing, in one go. Daemons among
# it are not started: the tests start their own.
install_packages() {
	[[ ${#packages[@]} -gt 0 ]] || return 0
	local policy=/usr/sbin/policy-rc.d made=
	if [[ ! -e $policy ]]; then
		printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
		as_root chmod 755 "$policy"
		made=1
	fi
	local status=0
	as_root apt-get update -qq &&
		as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null ||
		status=$?
	[[ -z $made ]] || as_root rm -f "$policy"
	return "$status"
}

# npm_packages DIRECTORY installs what the directory's package-lock.json lists,
# into the directory itself.
npm_packages() {
	local directory=$1
	if ! command -v npm >/dev/null; then
		skip "npm is missing: $directory needs the packages in its package.json"
	elif ! cmp -s "$directory/package-lock.json" "$directory/node_modules/.installed"; then
		if npm ci --prefix "$directory" --no-audit --no-fund --ignore-scripts --loglevel=error; then
			cp "$directory/package-lock.json" "$directory/node_modules/.installed"
		elif [[ -n ${CI:-} ]]; then
			return 1
		else
			skip "npm could not install what $directory/package.json lists"
		fi
	fi
}

cc=$(go env CC)
need "${cc%% *}" gcc "the race detector needs a C compiler"
if ! command -v chromium-browser >/dev/null && ! command -v google-chrome >/dev/null; then
	need chromium chromium "a browser, for conformance/browser"
fi
need curl curl "a viewer, for conformance/clients"
need python3 python3 "a viewer, for conformance/clients"
need node nodejs "viewer and target, for conformance/clients"
need npm npm "brings the packages that Node.js needs there"
need wrk wrk "load, for conformance/clients"
need ab apache2-utils "load, for conformance/clients"
need nginx nginx-light "a target, for conformance/clients"
if ! command -v httpd >/dev/null; then
	need apache2 apache2-bin "a target and a proxy, for conformance/clients"
fi
need svn subversion "a recipe, for conformance/clients"
if ! [[ -e /usr/lib/apache2/modules/mod_dav_svn.so ]]; then
	need mod_dav_svn libapache2-mod-svn "a recipe, for conformance/clients"
fi
need docker-registry docker-registry "a recipe, for conformance/clients"
need promtool prometheus "checks of alerts and dashboards, for conformance/promtool"
need etcd etcd-server "a recipe, for conformance/clients"
need fossil fossil "a recipe, for conformance/clients"
need radicale radicale "a recipe, for conformance/clients"
need rclone rclone "a recipe, for conformance/clients"
need transmission-daemon transmission-daemon "a recipe, for conformance/clients"
need websockify websockify "a recipe, for conformance/clients"
if ! [[ -e /usr/share/novnc ]]; then
	need novnc novnc "a recipe, for conformance/clients"
fi
need redis-server redis-server "a store, for cluster/redisdir and internal/processes"
if command -v apt-cache >/dev/null && apt-cache show valkey-server >/dev/null 2>&1; then # not in Debian 12
	need valkey-server valkey-server "a store, for cluster/redisdir and internal/processes"
fi
need haproxy haproxy "the balancer of deploy/cluster, for internal/processes"
need ip iproute2 "network namespaces, for internal/processes (they need root, too)"
install_packages
npm_packages conformance/clients/testdata/node
