# Wordmill. `make` without a target lists all targets.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

# Settings of `make run`; deploy/local/run.py explains them.
export PORT ?= 8080
export NATS_PORT ?= 4222
export WORKERS ?= 2
export DATA_DIR ?= .data
export BIN_DIR ?= target/debug
export TRACE ?=
# Id of a job or trace, for `make trace`.
export JOB ?=
# Settings of `make chaos`. Without SEED each run has a random one.
export MINUTES ?= 3
export SEED ?=
# Folder of real pages that the fuzz tests damage, in addition to docs/samples.
FUZZ_PAGES ?= $(shell rustc --print sysroot)/share/doc/rust/html/book
# With KEEP=1 `make test-fresh` does not remove its root directory.
export KEEP ?=
# Arguments of `make bench`.
BENCH ?=

COMPOSE := docker compose --env-file deploy/compose.env
SERVICES := --package wordmill-gateway --package wordmill-worker --package wordmill-nats
# More threads than processors, because black-box tests mostly wait.
TEST_THREADS ?= $(shell echo $$(($$(nproc) < 8 ? $$(nproc) * 3 : 24)))
STAGES := lint test-unit test-functional test-memory test-external test-parser test-deploy test-containers

# Targets do not run in parallel, because `next` moves binaries that other targets build and run.
.NOTPARALLEL:

.PHONY: help services build release release-like next run jaeger nats-cli trace test test-unit test-functional test-memory test-external test-parser test-deploy test-containers test-images test-all test-large test-fresh stages test-slow chaos fuzz fuzz-api bench bench-full bench-count bench-trace coverage lint format up upgrade down clean

help: ## list all targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

services: ## build the programs of `make run` into target/debug
	cargo build $(SERVICES)

build: ## build the services and the command wordmill into target/debug
	cargo build --workspace --bins

release: ## build the services and the command into target/release, as shipped
	cargo build --release $(SERVICES) --package wordmill --features jemalloc

release-like: ## build the services without link-time optimization, for test-memory
	cargo build --profile release-like $(SERVICES) --features jemalloc

# Both versions are built in target/debug, to share dependencies. The binaries of the next version
# are then moved, so that they are not mistaken for the current ones; `make build` restores those
# without recompiling. Earlier binaries in target/next are removed first, because mv fails if source
# and destination are hard links to the same file.
next: ## build the "next" version into target/next, for tests with two versions
	cargo build --workspace --bin wordmill-gateway --bin wordmill-worker --features next-version \
		--config profile.dev.package.wordmill-count.opt-level=0
	rm -rf target/next
	mkdir -p target/next
	mv target/debug/wordmill-gateway target/debug/wordmill-worker target/next/

run: services ## run all services until Ctrl-C (PORT, NATS_PORT, WORKERS, DATA_DIR, TRACE=1)
	@exec python3 deploy/local/run.py

jaeger: ## build Jaeger into .tools/bin unless it exists (takes minutes)
	@deploy/install-jaeger

nats-cli: ## build the nats CLI into .tools/bin unless it exists
	@nats/install-cli

trace: ## show the trace of a job of `make run TRACE=1` in a terminal (JOB)
	@python3 deploy/local/show_trace.py "$$JOB"

test: test-unit test-functional ## run all tests that need no additional programs

test-unit: ## run unit tests, documentation tests and the tests of deploy/local
	cargo test --workspace --lib --bins
	cargo test --workspace --doc
	python3 -B -m unittest discover --start-directory deploy/local

test-functional: next ## run black-box tests of the services with a real nats-server
	$(MAKE) build
	NATS_SERVER="$$(nats/install-server)" cargo test --workspace --test e2e -- --test-threads=$(TEST_THREADS)

test-memory: release-like ## test the memory use of the services, with the allocator of releases
	NATS_SERVER="$$(nats/install-server)" WORDMILL_BIN_DIR="$(CURDIR)/target/release-like" \
		cargo test --workspace --test memory -- --nocapture

test-external: build ## run tests with a browser, nats CLI, Jaeger, Prometheus and nginx
	tests/external/install
	NATS_SERVER="$$(nats/install-server)" NATS_CLI="$$(nats/install-cli)" JAEGER="$$(deploy/install-jaeger)" \
		AXE_CORE="$$(tests/external/axe-core)" \
		SCHEMATHESIS="$$(tests/external/schemathesis/install)" \
		cargo test --workspace --test external -- --nocapture --test-threads=2

test-parser: ## run html5lib's tests, and fuzz the HTML parser for seconds
	HTML5LIB_TESTS="$$(tests/external/html5lib-tests)" \
		cargo test --workspace --lib html5libs -- --ignored --nocapture
	FUZZ_PAGES="$(FUZZ_PAGES)" FUZZ_SECONDS=5 FUZZ_SEED=1 cargo test --workspace --lib fuzz:: -- --ignored --nocapture --test-threads=1

test-deploy: ## check the files for Compose, Docker, nginx, NATS and Kubernetes
	deploy/validate

test-containers: next ## run docker-compose.yml on a Docker Engine; needs Debian and root
	$(MAKE) build
	NATS_SERVER="$$(nats/install-server)" JAEGER="$$(deploy/install-jaeger)" tests/containers/run

test-all: $(filter-out lint,$(STAGES)) ## run all tests except the slow ones

stages: # prints the stages for .ci/run
	@echo $(STAGES)

test-slow: ## run test-fresh, test-images, chaos, fuzz, fuzz-api, test-large (up to 2 hours)
	@.ci/slow

test-large: release-like ## test a batch of 100,000 jobs and lists of 1,000,000 records
	NATS_SERVER="$$(nats/install-server)" WORDMILL_BIN_DIR="$(CURDIR)/target/release-like" \
		cargo test --workspace --test large -- --nocapture --test-threads=1

test-images: next ## like test-containers, with images that the Dockerfile builds
	$(MAKE) build
	NATS_SERVER="$$(nats/install-server)" JAEGER="$$(deploy/install-jaeger)" tests/containers/run --dockerfile

test-fresh: ## run the README's commands on a fresh Debian; needs root (KEEP=1, PORT)
	@.ci/fresh

fuzz: ## fuzz decoder, tokenizer, tree and counter (FUZZ_SECONDS each, FUZZ_SEED)
	FUZZ_PAGES="$(FUZZ_PAGES)" cargo test --profile fuzz --workspace --lib fuzz:: -- --ignored --nocapture --test-threads=1

fuzz-api: build ## send requests generated from the OpenAPI description (API_SEEDS)
	NATS_SERVER="$$(nats/install-server)" SCHEMATHESIS="$$(tests/external/schemathesis/install)" \
		cargo test --workspace --test external -- --nocapture openapi::

bench-count: ## measure counting and its alternatives, for docs/performance.md
	cargo run --release --manifest-path bench/count/Cargo.toml --target-dir target

chaos: build ## kill processes under load, and check that no job is lost (MINUTES, SEED)
	NATS_SERVER="$$(nats/install-server)" \
		cargo test --workspace --test chaos -- --nocapture --test-threads=1

bench: ## measure the system against the broker alone (BENCH="--only submissions")
	$(MAKE) release
	NATS_SERVER="$$(nats/install-server)" cargo bench --workspace --bench system --features jemalloc -- $(BENCH)

bench-full: ## like bench, with backlogs of 200,000 and 1,000,000 jobs
	$(MAKE) release
	NATS_SERVER="$$(nats/install-server)" cargo bench --workspace --bench system --features jemalloc -- --full $(BENCH)

bench-trace: ## measure the cost of tracing in CPU time and throughput (ROUNDS, JOBS)
	$(MAKE) release
	NATS_SERVER="$$(nats/install-server)" bench/trace.py

coverage: next ## measure the line coverage of `make test`, including the services
	NATS_SERVER="$$(nats/install-server)" .ci/coverage

lint: ## check format, clippy, rustdoc, licences, features, layers, file lengths
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

up: ## run the stack of docker-compose.yml (needs deploy/compose.env)
	deploy/create-secrets
	$(COMPOSE) up --build --detach --wait

upgrade: ## upgrade the stack of `make up`, without refusing requests
	deploy/create-secrets
	$(COMPOSE) build
	deploy/upgrade

down: ## stop the stack of `make up`; keep its volumes
	$(COMPOSE) down

clean: ## remove build output; keep .data and .tools
	cargo clean
