# Wordmill. `make` without a target lists all targets.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

# Settings of `make run`.
export PORT ?= 8080
export NATS_PORT ?= 4222
export WORKERS ?= 2
export DATA_DIR ?= .data
export BIN_DIR ?= target/debug
export TRACE ?=
# Id of the job or trace for `make trace`.
export JOB ?=
# Settings of `make chaos`. Without SEED each run has a random one.
export MINUTES ?= 3
export SEED ?=
# KEEP=1: `make test-fresh` keeps its root directory.
export KEEP ?=
# Arguments of `make bench`.
BENCH ?=

COMPOSE := docker compose --env-file deploy/compose.env
SERVICES := --package wordmill-gateway --package wordmill-worker --package wordmill-nats
# More threads than processors: black-box tests mostly wait.
TEST_THREADS ?= $(shell echo $$(($$(nproc) < 8 ? $$(nproc) * 3 : 24)))
STAGES := lint test-unit test-functional test-memory test-external test-parser test-deploy

# `next` moves binaries that other targets build and run.
.NOTPARALLEL:

.PHONY: help services build release release-like next run jaeger nats-cli trace test test-unit test-functional test-memory test-external test-parser test-deploy test-all test-large test-fresh stages test-slow chaos fuzz fuzz-api bench bench-full bench-count bench-trace coverage lint format up down clean

help: ## list all targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

services: ## build the three programs of `make run` into target/debug
	cargo build $(SERVICES)

build: ## build the services and the command wordmill into target/debug
	cargo build --workspace --bins

release: ## build the services and the command into target/release, as shipped
	cargo build --release $(SERVICES) --package wordmill --features jemalloc

release-like: ## build the services as shipped, but without link-time optimization, for tests of memory and speed
	cargo build --profile release-like $(SERVICES) --features jemalloc

# Both versions are built in target/debug, to share dependencies. The new binaries are moved away,
# so that they are not used as the current version; `make build` restores those without recompiling.
# The old binaries are removed first: mv refuses to overwrite hard links to the same files.
next: ## build gateway and worker as the next version into target/next, for tests with two versions
	cargo build --workspace --bin wordmill-gateway --bin wordmill-worker --features next-version \
		--config profile.dev.package.wordmill-count.opt-level=0
	rm -rf target/next
	mkdir -p target/next
	mv target/debug/wordmill-gateway target/debug/wordmill-worker target/next/

run: services ## run everything on this machine until Ctrl-C (PORT, NATS_PORT, WORKERS, DATA_DIR; TRACE=1 with Jaeger)
	@exec python3 deploy/local/run.py

jaeger: ## build Jaeger into .tools/bin unless it exists (takes minutes)
	@deploy/install-jaeger

nats-cli: ## build the nats CLI into .tools/bin unless it exists
	@nats/install-cli

trace: ## show the trace of a job of `make run TRACE=1` in the terminal (JOB)
	@python3 deploy/local/show_trace.py "$$JOB"

test: test-unit test-functional ## all tests without further requirements than `make run`

test-unit: ## unit and documentation tests of all crates, and tests of the supervisor of `make run`
	cargo test --workspace --lib --bins
	cargo test --workspace --doc
	python3 -B -m unittest discover --start-directory deploy/local

test-functional: next ## black-box tests of the real binaries against a real nats-server
	$(MAKE) build
	NATS_SERVER="$$(nats/install-server)" cargo test --workspace --test e2e -- --test-threads=$(TEST_THREADS)

test-memory: release-like ## memory use of the services, with the shipped allocator
	NATS_SERVER="$$(nats/install-server)" WORDMILL_BIN_DIR="$(CURDIR)/target/release-like" \
		cargo test --workspace --test memory -- --nocapture

test-external: build ## tests that need external tools: browser, nats CLI, Jaeger, Prometheus, nginx
	tests/external/install
	NATS_SERVER="$$(nats/install-server)" NATS_CLI="$$(nats/install-cli)" JAEGER="$$(deploy/install-jaeger)" \
		AXE_CORE="$$(tests/external/axe-core)" \
		SCHEMATHESIS="$$(tests/external/schemathesis/install)" \
		cargo test --workspace --test external -- --nocapture --test-threads=2

test-parser: ## test the HTML scanner with html5lib's tests, and fuzz it for a few seconds
	HTML5LIB_TESTS="$$(tests/external/html5lib-tests)" \
		cargo test --workspace --lib html5libs -- --ignored
	FUZZ_SECONDS=5 FUZZ_SEED=1 cargo test --workspace --lib fuzz:: -- --ignored --nocapture --test-threads=1

test-deploy: ## check the files for Compose, Docker, nginx, NATS and Kubernetes, where possible with these programs
	deploy/validate

test-all: $(filter-out lint,$(STAGES)) ## all tests except the slow ones

stages: # prints the stages of .ci/run
	@echo $(STAGES)

test-slow: ## slow tests: long runs of chaos, fuzz and fuzz-api, a large batch, a fresh machine; run it before resolving an issue
	@.ci/slow

test-large: release-like ## test a batch of 100,000 jobs, and lists of 1,000,000 records
	NATS_SERVER="$$(nats/install-server)" WORDMILL_BIN_DIR="$(CURDIR)/target/release-like" \
		cargo test --workspace --test large -- --nocapture --test-threads=1

test-fresh: ## run the first commands of the README in a new Debian root directory; needs root (KEEP=1, PORT)
	@.ci/fresh

fuzz: ## fuzz decoder, scanner and counter with damaged documents (FUZZ_SECONDS each, FUZZ_SEED); test-all does it for seconds
	cargo test --profile fuzz --workspace --lib fuzz:: -- --ignored --nocapture --test-threads=1

fuzz-api: build ## send valid and invalid requests by the OpenAPI description; takes minutes (API_SEEDS)
	NATS_SERVER="$$(nats/install-server)" SCHEMATHESIS="$$(tests/external/schemathesis/install)" \
		cargo test --workspace --test external -- --nocapture openapi::

bench-count: ## measure the speed of counting and of alternatives: the table of docs/performance.md
	cargo run --release --manifest-path bench/count/Cargo.toml --target-dir target

chaos: build ## kill processes at random under load, and reconcile the results (MINUTES, SEED)
	NATS_SERVER="$$(nats/install-server)" \
		cargo test --workspace --test chaos -- --nocapture --test-threads=1

bench: ## measure the system and the broker alone: a table, target/bench/bench.json and .svg (BENCH="--only submissions", BENCH=--update)
	$(MAKE) release
	NATS_SERVER="$$(nats/install-server)" cargo bench --workspace --bench system --features jemalloc -- $(BENCH)

bench-full: ## like bench, with backlogs of 200,000 and 1,000,000 jobs
	$(MAKE) release
	NATS_SERVER="$$(nats/install-server)" cargo bench --workspace --bench system --features jemalloc -- --full $(BENCH)

bench-trace: ## measure the cost of tracing: CPU per job, and throughput (ROUNDS, JOBS)
	$(MAKE) release
	NATS_SERVER="$$(nats/install-server)" bench/trace.py

coverage: next ## measure the line coverage of `make test`, including service processes
	NATS_SERVER="$$(nats/install-server)" .ci/coverage

lint: ## check formatting, clippy, rustdoc, licences, features, layers, import circles, lengths and widths
	cargo fmt --all --check
	cargo fmt --manifest-path bench/count/Cargo.toml --check
	cargo clippy --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --quiet
	.ci/deny
	.ci/features
	.ci/layers
	.ci/lengths
	.ci/widths

format: ## format all code
	cargo fmt --all
	cargo fmt --manifest-path bench/count/Cargo.toml

up: ## run the production-like stack with Docker Compose (copy deploy/compose.env.example first)
	$(COMPOSE) up --build --detach --wait

down: ## stop that stack and keep its volumes
	$(COMPOSE) down

clean: ## remove build output; keep .data and .tools
	cargo clean
