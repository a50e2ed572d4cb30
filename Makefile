# What a person, and CI, runs. `make` alone lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Programs that .ci/run installs live outside the tree, and are found from here too.
CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/buildgate
export PATH := $(CACHE)/bin:$(PATH)

TOOLS := integration-tests/tools
BIN   := $(TOOLS)/bin

CARGO  := cargo
LOCKED := --locked
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

# The conformance cases to run: a folder of *.json.
CASES ?= integration-tests/conformance
# A file of more cases for bench and bench-peer.
BENCH_CASES ?=
# A checkout of sigstore-conformance.
DIR ?=
# Seconds that each fuzz target gets.
FUZZ_SECONDS ?= 60

##@ Use

.PHONY: demo
demo: ## Three denials with their reasons, then the mended Dockerfile: no daemon, no network
	$(CARGO) build $(LOCKED) --quiet
	BUILDGATE="$(abspath $(TARGET)/debug/buildgate)" policies/demo/run.sh

.PHONY: build
build: ## The release binary
	$(CARGO) build $(LOCKED) --release

# Where `make image` pushes to, and the org's policies that it bakes in.
IMAGE    ?=
POLICIES ?=
# An image by digest, or `pinned` for the Dockerfile frontend of the pinned Go tools; see frontend-image/README.md.
CHILD    ?=
STATIC    = $(shell rustc -vV | sed -n 's/^host: //p')
# Bytes that the frontend's binary may have.
MAX_BINARY := 20000000
# Bytes that the frontend's image may have in all.
MAX_IMAGE := 40000000

.PHONY: static
static: ## The release binary, statically linked
	RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs" $(CARGO) build $(LOCKED) --release --bin buildgate --target $(STATIC)

.PHONY: static-size
static-size: static ## That the static binary has at most MAX_BINARY bytes, and runs
	size=$$(stat -c %s "$(TARGET)/$(STATIC)/release/buildgate"); \
	  echo "buildgate has $$size bytes of $(MAX_BINARY)"; test "$$size" -lt $(MAX_BINARY)
	"$(TARGET)/$(STATIC)/release/buildgate" --version

.PHONY: image
image: static-size $(BIN)/.buildkit.stamp ## The frontend's image: make image IMAGE=127.0.0.1:5000/buildgate:dev [POLICIES=DIR] [CHILD=IMAGE]
	test -n "$(IMAGE)" || { echo "IMAGE=HOST/NAME:TAG is missing" >&2; exit 2; }
	CHILD="$(CHILD)" POLICIES="$(POLICIES)" MAX_IMAGE=$(MAX_IMAGE) BIN="$(abspath $(BIN))" \
	  BINARY="$(abspath $(TARGET)/$(STATIC)/release/buildgate)" frontend-image/build.sh "$(IMAGE)"

##@ Check

.PHONY: check
check: ## What CI runs: format, lints, dependencies, tests
	$(CARGO) fmt --check
	$(CARGO) clippy $(LOCKED) --all-targets -- -D warnings
	$(CARGO) deny $(LOCKED) check bans licenses sources
	$(MAKE) --no-print-directory test

.PHONY: test
test: ## Unit, doc and integration tests; a real registry and BuildKit where they can be had
	$(MAKE) --no-print-directory tools || echo "SKIPPED: the pinned tools cannot be built here; tests against real peers say so below" >&2
	$(CARGO) test $(LOCKED) --no-fail-fast

.PHONY: e2e
e2e: ## The tests against real peers alone; closes with a count
	$(MAKE) --no-print-directory tools || echo "SKIPPED: the pinned tools cannot be built here" >&2
	integration-tests/e2e.sh

.PHONY: conformance
conformance: ## Run the cases of a folder: make conformance CASES=DIR
	$(CARGO) run $(LOCKED) --quiet --release --example conformance -- "$(CASES)"

.PHONY: conformance-sigstore
conformance-sigstore: ## The bundle-verify cases of sigstore-conformance: make conformance-sigstore DIR=CHECKOUT
	test -n "$(DIR)" || { echo "DIR=CHECKOUT of sigstore-conformance is missing" >&2; exit 2; }
	$(CARGO) run $(LOCKED) --quiet --example sigstore -- "$(DIR)"

.PHONY: advisories
advisories: ## Known vulnerabilities in dependencies (needs the network, so not a part of check)
	$(CARGO) deny $(LOCKED) check advisories

.PHONY: fuzz
fuzz: fuzz-seeds ## Each fuzz target for FUZZ_SECONDS
	for target in $$(RUSTC_BOOTSTRAP=1 $(CARGO) fuzz list); do \
	  RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS) -dict=fuzz/signatures.dict || exit 1; \
	done

.PHONY: fuzz-seeds
fuzz-seeds: ## Seeds for the fuzz targets of signatures, into fuzz/corpus
	$(CARGO) run --quiet --manifest-path fuzz/Cargo.toml --example seeds

##@ Measure

# How often `make bench-build` and `make bench-gate` measure each build, where not as often as they say themselves.
BENCH_PAIRS ?=

.PHONY: bench
bench: ## What a decision, a verification and a build cost, cold and warm (BENCH_CASES=FILE adds cases)
	BENCH_CASES="$(if $(BENCH_CASES),$(abspath $(BENCH_CASES)))" $(CARGO) bench $(LOCKED) --bench decision
	$(CARGO) bench $(LOCKED) --bench verify
	$(MAKE) --no-print-directory bench-build
	$(MAKE) --no-print-directory bench-gate

# The program that looks at the clock needs no optimisation; what it measures is the static release binary.
.PHONY: bench-build
bench-build: static tools ## What the frontend adds to a build, and what Buildx's own policy does (BENCH_PAIRS=25)
	BUILDGATE="$(abspath $(TARGET)/$(STATIC)/release/buildgate)" BENCH_PAIRS=$(BENCH_PAIRS) \
	  $(CARGO) test $(LOCKED) --bench frontend

# MiB of context that `make bench-gate` sends.
BENCH_CONTEXT ?= 1024
# Who asks as a daemon does is a part of what is measured: optimised, but built without LTO (Cargo.toml).
BENCH_PROFILE ?= asker

.PHONY: bench-gate
bench-gate: static tools ## What the gate adds to a build, holds under load and takes from a transfer; fails where a target is missed
	BUILDGATE="$(abspath $(TARGET)/$(STATIC)/release/buildgate)" BENCH_PAIRS=$(BENCH_PAIRS) \
	  BENCH_CONTEXT=$(BENCH_CONTEXT) $(CARGO) test $(LOCKED) --profile $(BENCH_PROFILE) --bench gate

.PHONY: bench-once
bench-once: export BENCH_ONCE := 1
bench-once: static-size tools ## That every benchmark runs: each once, unoptimised, judged by nobody; the static binary and its size
	$(CARGO) test $(LOCKED) --bench decision --bench verify
	PEER="$(abspath $(BIN)/peer)" $(CARGO) test $(LOCKED) --bench peer
	BUILDGATE="$(abspath $(TARGET)/$(STATIC)/release/buildgate)" BENCH_PAIRS=2 BENCH_CONTEXT=16 BENCH_MOST=8 \
	  $(CARGO) test $(LOCKED) --bench frontend --bench gate

.PHONY: bench-peer
bench-peer: tools ## The same by Buildx's engine and by ours, and the ratio (BENCH_CASES=FILE too)
	PEER="$(abspath $(BIN)/peer)" $(CARGO) bench $(LOCKED) --bench peer -- $(if $(BENCH_CASES),"$(abspath $(BENCH_CASES))")

##@ Tools

# Peers and oracles, pinned by a go.mod each, built from the Go module proxy into a
# folder that git ignores. A stamp is younger than the go.mod it was built from.
PINNED := buildkit buildx registry opa cosign
STAMPS := $(PINNED:%=$(BIN)/.%.stamp) $(BIN)/.buildkit-oldest.stamp $(BIN)/.peer.stamp
GO_INSTALL = GOBIN="$(abspath $(BIN))" CGO_ENABLED=0 go install -trimpath -buildvcs=false -ldflags '-s -w'

.PHONY: tools
tools: $(STAMPS) ## buildkitd (two versions), buildctl, dockerfile-frontend, buildx, registry, opa, cosign, peer, child

$(PINNED:%=$(BIN)/.%.stamp): $(BIN)/.%.stamp: $(TOOLS)/%/go.mod $(TOOLS)/%/go.sum
	mkdir -p $(BIN)
	cd $(TOOLS)/$* && $(GO_INSTALL) tool
	touch $@

# The oldest daemon that the gate takes, under a name of its own.
$(BIN)/.buildkit-oldest.stamp: $(TOOLS)/buildkit-oldest/go.mod $(TOOLS)/buildkit-oldest/go.sum
	mkdir -p $(BIN)
	cd $(TOOLS)/buildkit-oldest && CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' \
	  -o "$(abspath $(BIN))/buildkitd-oldest" github.com/moby/buildkit/cmd/buildkitd
	touch $@

$(BIN)/.peer.stamp: $(TOOLS)/peer/go.mod $(TOOLS)/peer/go.sum $(wildcard $(TOOLS)/peer/*.go $(TOOLS)/peer/*/*.go)
	mkdir -p $(BIN)
	cd $(TOOLS)/peer && go vet ./... && $(GO_INSTALL) ./...
	touch $@

.PHONY: clean
clean: ## Remove what was built
	$(CARGO) clean
	rm -rf $(BIN)

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
