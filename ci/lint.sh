#!/usr/bin/env bash
# Static checks: go vet, also for other systems, go fix (which must have nothing
# left to modernise), and golangci-lint with .golangci.yml.
set -euo pipefail
source "$(dirname "$0")/env.sh"

for module in $(modules); do
	(
		cd "$module"
		go vet ./...
		if ! go fix -diff ./...; then
			echo 'not modernised, run "go fix ./..." and look at what it did' >&2
			exit 1
		fi
		tool golangci-lint run --config="$top/.golangci.yml" ./...
	)
done

# No release has the commands for these systems, but users build them there.
for os in windows darwin; do
	CGO_ENABLED=0 GOOS=$os go vet ./cmd/...
done
