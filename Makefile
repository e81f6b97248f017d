# Every target says what it needs and gets it: pinned versions, checked hashes, nothing installed twice.
# All Rust commands select the whole workspace, because another selection would compile the dependencies again with
# other features.
SHELL := bash
.DEFAULT_GOAL := help

export SQLX_OFFLINE ?= true
# A clone that lives for one CI run shares what it compiles with the next one.
ifeq ($(CI),true)
export CARGO_TARGET_DIR ?= $(HOME)/.cache/auspex/target
endif
MODEL = $(or $(AUSPEX_MODEL_DIR),$(or $(AUSPEX_TOOLS),$(HOME)/.cache/auspex/tools)/model)
AUSPEX = $(or $(CARGO_TARGET_DIR),target)/debug/auspex

.PHONY: help setup build demo dev test test-rust test-contracts test-subgraph test-long check bench bench-inference clean-worlds sqlx-prepare mutation fuzz bench-decoder bench-indexer bench-oracle bench-gpu

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

build:
	cargo build --workspace --locked

setup: build ## install PostgreSQL with pgvector, anvil, the model and a software Vulkan driver
	scripts/install-vulkan
	$(AUSPEX) setup

demo: build ## run the main job once: three paid requests, two answered, one refunded
	$(AUSPEX) demo --directory target/demo

dev: build ## start the same world and keep it running until Ctrl-C
	$(AUSPEX) dev --directory target/dev

test: test-contracts test-subgraph test-rust ## every test there is

test-rust: setup
	cargo test --workspace --locked

test-contracts:
	contracts/test-all

test-subgraph:
	cd subgraph && npm ci --no-audit --no-fund && npm test

test-long: setup ## the long profiles: more seeds, more fuzzing, more kills
	contracts/test-all --long
	AUSPEX_TEST_PROFILE=long cargo test --workspace --locked

fuzz: ## fuzz what strangers may send to the indexer, a minute for each of five targets
	indexer/fuzz/run

mutation: ## change the contracts bit by bit and expect their tests to fail; it goes on where it was stopped
	contracts/mutation

check: ## format, lints, docs, SQL, contracts' artifacts, licences
	scripts/check

bench: build ## measure the main job; the table is printed and written to target/bench
	$(dir $(AUSPEX))auspex-bench main-job

bench-inference: setup ## measure the encoder beside ONNX Runtime, which is installed into target/bench
	bench/peers/onnx/install
	$(dir $(AUSPEX))auspex-bench inference --model $(MODEL)

bench-decoder: build ## measure the decoder beside llama.cpp, which is compiled into target/bench
	bench/peers/llama/install
	target/bench/llama/bin/python bench/peers/llama/run.py $(AUSPEX)

bench-gpu: build ## measure models on a GPU; packs one file, which needs no network and can be taken to a machine that has one
	bench/pack-gpu $(dir $(AUSPEX))auspex-bench-gpu

bench-indexer: build ## measure the indexer beside PostgreSQL's COPY, and beside Ponder, which is installed into target/bench
	bench/peers/ponder/install || echo "Ponder cannot be installed here and is left out" >&2
	$(dir $(AUSPEX))auspex-bench-indexer

bench-oracle: setup ## measure the oracle node with a model that costs nothing, and with MiniLM; the table is written to target/bench
	$(dir $(AUSPEX))auspex-bench-oracle --model $(MODEL)

sqlx-prepare: ## write .sqlx after a query or a migration has changed
	scripts/sqlx-prepare
