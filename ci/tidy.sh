#!/usr/bin/env bash
# Checks that every go.mod and go.sum is what "go mod tidy" would make of it.
set -euo pipefail
source "$(dirname "$0")/env.sh"

for module in $(modules) tools; do
	(cd "$module" && go mod tidy -diff)
done
