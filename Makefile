# What CI runs, what the README names. Each target is short; what is longer is a script in deploy/.
.DEFAULT_GOAL := help
.PHONY: help run test soak lint bench demo up down logs purge

SHELL := /bin/sh
CARGO ?= cargo
# Where cargo builds.
TARGET := $(or $(CARGO_TARGET_DIR),$(CARGO_BUILD_TARGET_DIR),target)
BINARY := $(TARGET)/release/hookkeeper
SECRET_FILE := data/webhook_secret

# Sets the secret for a command that needs one: the one of the environment, or one in data/, created once.
define ensure_secret
(umask 077; mkdir -p data); \
if [ -z "$$WEBHOOK_SECRET" ] && [ -z "$$WEBHOOK_SECRET_FILE" ]; then \
	if [ ! -s $(SECRET_FILE) ]; then \
		(umask 077; od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > $(SECRET_FILE)); \
		echo "created a random WEBHOOK_SECRET in $(SECRET_FILE)" >&2; \
	fi; \
	export WEBHOOK_SECRET_FILE=$(SECRET_FILE); \
fi
endef

help: ## show this
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 8

run: ## build and serve on 127.0.0.1:8000, data in ./data
	@$(CARGO) build --release --locked -p api
	@$(ensure_secret); exec $(BINARY) serve

test: ## run all tests
	$(CARGO) test --locked --workspace

soak: ## the long tests, an hour and a half: kills, power cuts, random queries, orders of steps, attacks, fuzzing
	@$(CARGO) build --release --locked -p api -p bench
	$(BINARY) selftest $(TARGET) --kills 1000 --seed 42
	POWER_CUTS=20 $(CARGO) test --locked -p api --test it powercut -- --nocapture --test-threads 1
	MESSAGES=100000 QUESTIONS=10000 $(CARGO) test --locked -p adapters --test it -- differential::
	LOG_MEBIBYTES=2000 $(CARGO) test --locked -p adapters --test it -- questions::the_log --nocapture
	INTERLEAVINGS=100000 $(CARGO) test --locked -p adapters --test interleavings
	$(TARGET)/release/hookkeeper-bench attack --folder $(TARGET)
	.ci/fuzz 600

lint: ## formatting, clippy, docs, layers, what lies in deploy/; prints only what fails
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --quiet --locked --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --locked --workspace --no-deps --document-private-items
	@.ci/layers
	@.ci/layers_test
	@deploy/check.sh
	@.ci/readme list >/dev/null

demo: ## send a thousand messages, show what came in
	@$(CARGO) build --release --locked -p api -p bench
	@$(ensure_secret); $(TARGET)/release/hookkeeper-bench demo

bench: ## measure ingest: group commit, commit per request, no store (deploy/BENCHMARKS.md has the rest)
	@$(CARGO) build --release --locked -p bench
	@$(TARGET)/release/hookkeeper-bench ingest $(ARGS)

up: ## build the image, start it, wait until it is ready; makes a secret in deploy/.env if there is none
	@deploy/up.sh

down: ## stop it; the data stays
	@COMPOSE_PROFILES=observability deploy/compose.sh down

logs: ## follow the service's log
	@deploy/logs.sh --follow

purge: ## remove it and every stored message; asks first
	@deploy/purge.sh
