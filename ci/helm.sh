#!/usr/bin/env bash
# The Helm chart: it renders with what it promises, and refuses what cannot work, with a
# word that helps. The first run builds Helm, which takes minutes; or put helm on the PATH.
set -euo pipefail
source "$(dirname "$0")/env.sh"

helm() {
	if [[ $(type -P helm) ]]; then
		command helm "$@"
	else
		go run helm.sh/helm/v3/cmd/helm@v3.17.0 "$@"
	fi
}

chart=deploy/helm/websocktunnel
render() { helm template t "$chart" -f "$chart/ci/values.yaml" "$@"; }

# has TEXT ARGS… fails unless what ARGS render has TEXT in it.
has() {
	local want=$1
	shift
	if ! render "$@" | grep -qF -- "$want"; then
		printf 'no "%s" with %s\n' "$want" "$*" >&2
		exit 1
	fi
}

# refuses WORD ARGS… fails unless ARGS are refused with a message that has WORD.
refuses() {
	local word=$1 out
	shift
	if out=$(render "$@" 2>&1) || [[ $out != *"$word"* ]]; then
		printf 'not refused because of %s, with %s\n%s\n' "$word" "$*" "$(head -3 <<<"$out")" >&2
		exit 1
	fi
}

helm lint --strict "$chart" -f "$chart/ci/values.yaml"
has 'terminationGracePeriodSeconds: 90'
has 'terminationGracePeriodSeconds: 325' --set drainDelaySeconds=5,drainTimeoutSeconds=300
has 'fieldPath: status.podIP'
has '{ name: CLUSTER_REDIS_PASSWORD_FILE, value: "/secrets/redis" }' --set cluster.passwordKey=redis
has '{ name: MAX_STREAMS, value: "400" }' --set-string env.MAX_STREAMS=400
has 'host: "*.t.example.com"' --set 'ingress.enabled=true,ingress.hosts={*.t.example.com}'
has 'replicas: 1' --set replicas=1,cluster.redis=
refuses 'url is required' --set url=
refuses 'url' --set url=tunnel.example.com
refuses 'secret is required' --set secret=
refuses 'set cluster.redis' --set cluster.redis=
refuses 'cluster.redis' --set cluster.redis=valkey:6379
refuses 'ingress.hosts' --set ingress.enabled=true
refuses 'drainTimeoutSeconds' --set drainTimeoutSeconds=60s
refuses 'replica ' --set replica=3
