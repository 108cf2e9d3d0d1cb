# One line per target; `make` alone lists them. The work itself is in xtask/ and in cargo.
.DEFAULT_GOAL := help
.PHONY: help dev test chaos teeth fuzz bench fmt lint clean

ANSWERS ?= 1000
SEED    ?= 1
CASES   ?= 1000000

help: ## Show this list
	@if [ -t 1 ] && [ -z "$$NO_COLOR" ]; then b=$$(printf '\033[1;36m'); n=$$(printf '\033[0m'); fi; \
	printf '\n  ChatCluster: answers that stream, and are never lost, doubled or reordered\n\n'; \
	awk -F ':.*## ' -v b="$$b" -v n="$$n" \
		'/^[a-z]+:.*## / { printf "  %smake %-7s%s %s\n", b, $$1, n, $$2 }' $(MAKEFILE_LIST); \
	printf '\n  Start with `make dev`, then open the address it prints.\n\n'

dev: ## Run the playground: three nodes and the chat page; STORES=redis: as processes over Redis
	@sh xtask/setup.sh
	@cargo build --workspace --bin dataplane --bin chatctl
	@exec "$${CARGO_TARGET_DIR:-target}/debug/dataplane" playground

test: ## Check everything that CI checks
	@sh xtask/setup.sh test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace
	@# The deliberate bugs are compiled in by a feature, so their tests are a build of their own.
	cargo test --workspace --features dataplane/bugs --test integration teeth_one

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
