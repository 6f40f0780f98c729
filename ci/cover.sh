#!/usr/bin/env bash
# Coverage of every package by all tests: the totals on stdout, the page to
# look at in cover.html.
set -euo pipefail
source "$(dirname "$0")/env.sh"

go test -coverpkg=./... -coverprofile=cover.out ./...
go tool cover -html=cover.out -o cover.html
go tool cover -func=cover.out | tail -n 1
