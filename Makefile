# Wordmill. `make` alone explains the targets.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

# Settings of `make run`.
export PORT ?= 8080
export NATS_PORT ?= 4222
export WORKERS ?= 2
export DATA_DIR ?= .data
export BIN_DIR ?= target/debug
# Settings of `make chaos`; without SEED each run is another one.
export MINUTES ?= 3
export SEED ?=

COMPOSE := docker compose --env-file deploy/compose.env
UNIT := cargo test --workspace --lib --bins
FUNCTIONAL := cargo test --workspace --test e2e

.PHONY: help build run test test-unit test-functional test-all chaos coverage lint format up down clean

help: ## show this
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the three binaries into target/debug
	cargo build --workspace --bins

run: build ## run everything on this machine, until Ctrl-C (PORT, NATS_PORT, WORKERS, DATA_DIR)
	@exec python3 deploy/local/run.py

test: test-unit test-functional ## all tests that need only cargo and python3 with pip

test-unit: ## tests of single modules, without I/O beyond loopback sockets
	$(UNIT)

test-functional: build ## black-box tests of the real binaries against a real nats-server
	NATS_SERVER="$$(nats/install-server)" $(FUNCTIONAL)

test-all: test ## `make test`, and what needs tools from outside: browser, nats CLI, Prometheus, Compose, nginx
	tests/external/install
	NATS_SERVER="$$(nats/install-server)" NATS_CLI="$$(nats/install-cli)" \
		cargo test --workspace --test external -- --nocapture --test-threads=1
	deploy/validate

chaos: build ## kill everything at random under load, and reconcile (MINUTES, SEED)
	NATS_SERVER="$$(nats/install-server)" \
		cargo test --workspace --test chaos -- --nocapture --test-threads=1

coverage: ## line coverage of the workspace by `make test`, service processes included
	NATS_SERVER="$$(nats/install-server)" .ci/coverage

lint: ## formatting, clippy, documentation, licences and layers, file lengths: no warnings
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --quiet
	.ci/deny
	.ci/lengths

format: ## format all code
	cargo fmt --all

up: ## run the production-like stack with Docker Compose (copy deploy/compose.env.example first)
	$(COMPOSE) up --build --detach --wait

down: ## stop that stack; volumes stay
	$(COMPOSE) down

clean: ## remove what was built; .data and .tools stay
	cargo clean
