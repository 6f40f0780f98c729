# Every target is a script in ci/ or one go command, and all of them set the
# build tag http2legacy: ci/env.sh does it for the scripts, and for the rest it
# is asked here.
SHELL := bash
export GOFLAGS := $(shell . ci/env.sh && echo "$$GOFLAGS")

FUZZTIME ?= 30s

.DEFAULT_GOAL := help
.PHONY: help build demo test test-short test-long test-matrix lint vuln fuzz release bench bench-code fmt cover clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build both commands, static, into bin/
	ci/build.sh

demo: ## run service, tunnel client and demo site in one process
	@go build -o bin/ ./cmd/websocktunnel
	@exec bin/websocktunnel demo

test: ## everything that CI checks (some minutes)
	ci/all.sh

test-short: ## the quick tests only, for the edit loop
	go test -short ./...

test-long: ## all tests, with those of gigabytes and hours, and the figures of docs/reliability.md
	WST_LONG=1 ci/race.sh -p 1 -timeout 3h
	WST_LONG=1 go test -count=1 -v -run 'TestStorm|TestSwaps|TestStalled' ./internal/reliability
	WST_LONG=1 go test -count=1 -v -run 'TestAttacks|TestNeighbourLatency|TestSiege' -timeout 2h ./internal/hostile
	FUZZ='^Fuzz[A-Za-z]*Stream$$' FUZZTIME=2m ci/fuzz.sh -race
	WST_LONG=1 ci/conformance.sh -p 1 -timeout 2h
	WST_LONG=1 ci/nodes.sh -p 1 -timeout 2h

test-matrix: ## the HTTP/2 packages with Go 1.27, with and without the tag
	ci/matrix.sh

lint: ## go vet and golangci-lint
	ci/lint.sh

vuln: ## govulncheck
	ci/vuln.sh

fuzz: ## every fuzz target for FUZZTIME each (30s), or all within FUZZTOTAL seconds
	FUZZTIME=$(FUZZTIME) FUZZTOTAL=$(FUZZTOTAL) ci/fuzz.sh

release: ## what a release consists of, reproducible, into dist/
	rm -rf dist
	ci/release.sh dist

bench: ## measure beside other tunnels and proxies (BENCH="--quick"; docs/performance.md)
	ci/bench.sh $(BENCH)

bench-code: ## the benchmarks beside the code
	go test -run '^$$' -bench . -benchmem ./...

fmt: ## format the code
	ci/fmt.sh

cover: ## test coverage, to cover.html
	ci/cover.sh

clean: ## remove what the targets above made
	rm -rf bin dist cover.out cover.html
