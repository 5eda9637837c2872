# Everything a person types. `make` alone lists it.
#
# One cargo profile (dev, which is optimised) and one target folder outside the checkout serve demo, tests and benches, and
# every command selects the whole workspace, so that no dependency is built twice with other features.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

export KARST_CACHE ?= $(HOME)/.cache/karst
export CARGO_TARGET_DIR ?= $(KARST_CACHE)/target

# Only a recipe that needs cargo asks where RocksDB's library is (and builds it, once per machine).
CARGO := . scripts/env.sh && cargo
# NAME='value' for each of the given variables that is set
given = $(foreach name,$(1),$(if $($(name)),$(name)='$($(name))'))

# The demo in Avro starts a schema registry, unless REGISTRY names one.
own_registry := $(if $(REGISTRY),,$(filter avro,$(FORMAT)))

comma := ,
# The benchmark of this name, in the profile of everything else
bench = scripts/setup.sh && $(CARGO) bench --profile dev --bench $(1) -- $(ARGS)

.PHONY: help setup build demo fraud test fmt fmt-check clippy unit doc-test oracle simulation simulate test-kafka crash soak test-registry sql tidy test-demo \
        bench-ingest bench-query bench-codec bench-windows bench-peers fuzz clean-state

help: ## list the targets
	@sed -nE 's/^([a-zA-Z%-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name what; do \
	  printf '  %-14s %s\n' "$$name" "$$what"; done

setup: ## install what a bare Debian machine lacks (root or sudo), also for the Kafka tests
	@scripts/setup.sh --test

build: ## build the karst command and the examples
	@scripts/setup.sh
	@$(CARGO) build --workspace --bins --examples

demo: ## the main job on real input; DEADLINE=6h LATE_LANE=correct FORMAT=avro PORT=8080 KEEP=0 KAFKA=host:port
	@scripts/setup.sh $(if $(own_registry),--kafka)
	@scripts/flights_data.sh >/dev/null
	@$(CARGO) build --example flights && \
	  if [ -n "$(own_registry)" ]; then \
	    export KARST_TEST_REGISTRY_RUN=$$(mktemp -d); trap 'scripts/registry.sh stop' EXIT; trap : INT; \
	    REGISTRY=$$(scripts/registry.sh start) || exit 1; export REGISTRY; \
	  fi && \
	  env $(call given,DEADLINE LATE_LANE FORMAT REGISTRY KEEP PORT KAFKA) cargo run --quiet --example flights

fraud: ## failed logins and card velocities, compared with a count of their own; EVENTS=20000
	@scripts/setup.sh
	@$(CARGO) build --example fraud && cargo run --quiet --example fraud

test: ## all of the following, with times, and what was skipped; the same as CI
	@scripts/setup.sh --test
	@scripts/test.sh

fmt: ## format the code in place
	@cargo fmt --all

fmt-check: ## is the code formatted?
	@scripts/test.sh format

clippy: ## lints of all targets, warnings are errors
	@scripts/test.sh clippy

unit: ## unit and integration tests; TEST=part-of-a-name
	@scripts/test.sh unit

doc-test: ## the examples in the documentation
	@scripts/test.sh doc

oracle: ## the flights' independent computation against its pinned figures
	@scripts/test.sh oracle

simulation: ## the simulated crash schedules; SEEDS=100000 for more of them
	@scripts/test.sh simulation

simulate: ## the engine itself, simulated on one thread; SEEDS=2000 FROM=0, or SEED=17 alone, step by step; ends with a line of figures
	@scripts/setup.sh
	@$(CARGO) test --workspace --test simulate --no-run --quiet && out=$$(mktemp) && \
	  env $(if $(SEED),KARST_SIM_SEED=$(SEED)) KARST_SIM_SEEDS=$(or $(SEEDS),2000) KARST_SIM_FROM=$(or $(FROM),0) \
	  cargo test --workspace --test simulate --quiet -- --nocapture --test-threads=1 $(if $(SEED),whatever) | tee $$out; \
	  result=$${PIPESTATUS[0]}; $(if $(SEED),,grep -E '^simulate seeds=' $$out || result=1;) rm -f $$out; exit $$result

test-kafka: ## tests against a real Apache Kafka, started and stopped for them; TEST=part-of-a-name
	@scripts/test.sh kafka

soak: ## load, faults and queries together on a real Apache Kafka; MINUTES=60; ends with a line of figures
	@scripts/setup.sh --kafka
	@export KARST_TEST_KAFKA_RUN=$$(mktemp -d) && trap 'scripts/kafka.sh stop' EXIT && trap : INT && \
	  KARST_TEST_KAFKA=$$(scripts/kafka.sh start) && export KARST_TEST_KAFKA && . scripts/env.sh && \
	  out=$$(mktemp) && KARST_SOAK_MINUTES=$(or $(MINUTES),60) KARST_CRASH_SEED=$(or $(SEED),1) \
	  cargo test --workspace --test crash -- --nocapture --test-threads=1 for_as_long | tee $$out; \
	  result=$${PIPESTATUS[0]}; grep -E '^soak minutes=' $$out || result=1; rm -f $$out; exit $$result

crash: ## the karst process ended again and again on a real Apache Kafka; KILLS=500 SEED=1; ends with a line of figures
	@scripts/setup.sh --kafka
	@export KARST_TEST_KAFKA_RUN=$$(mktemp -d) && trap 'scripts/kafka.sh stop' EXIT && trap : INT && \
	  KARST_TEST_KAFKA=$$(scripts/kafka.sh start) && export KARST_TEST_KAFKA && . scripts/env.sh && \
	  out=$$(mktemp) && KARST_CRASH_KILLS=$(or $(KILLS),500) KARST_CRASH_SEED=$(or $(SEED),1) \
	  cargo test --workspace --test crash -- --nocapture --test-threads=1 however_it_is | tee $$out; \
	  result=$${PIPESTATUS[0]}; grep -E '^crash kills=' $$out || result=1; rm -f $$out; exit $$result

test-registry: ## tests against a real schema registry (Apicurio), started and stopped for them
	@scripts/test.sh registry

sql: ## the windows of the flights against SQL over their file, in DuckDB (from PyPI, in an environment of its own)
	@scripts/test.sh sql

tidy: ## the rules of the house: crate edges, docs that are current
	@scripts/test.sh tidy

test-demo: ## the demo, which ends by itself with exit status 0 only if its answers are right
	@scripts/test.sh demo

bench-ingest: ## events from file, mock cluster and real Kafka to durable state: events/s, CPU seconds per million, memory
	@scripts/setup.sh --kafka
	@$(call bench,ingest)
	@export KARST_TEST_KAFKA_RUN=$$(mktemp -d) && trap 'scripts/kafka.sh stop' EXIT && \
	  export KAFKA=$$(scripts/kafka.sh start) SOURCE=kafka && $(call bench,ingest)

bench-query: ## online queries over HTTP: latency and requests per second
	@$(call bench,query)

bench-codec: ## decoding a card event: ns per event and MB/s of JSON, Avro, Protobuf, next to plain libraries
	@$(call bench,codec)

bench-windows: ## windowed aggregates from file and mock cluster to durable state: CPU s/million; CASE=w1 SOURCE=kafka EVENTS=2000000 KAFKA=host:port
	@$(call bench,windows)

bench-peers: ## the same work by Karst, Flink, Bytewax and Polars in turn, with ratios; EVENTS=8000000 RUNS=1 PEERS=karst,flink,bytewax,polars
	@scripts/setup.sh --peers
	@set -a && eval "$$(benches/peers/prepare.sh $(or $(subst $(comma), ,$(PEERS)),flink bytewax polars))" && set +a && $(call bench,peers)

bench-%: ## any other benchmark of benches/, by its name; ARGS are passed to it
	@$(call bench,$*)

fuzz: ## fuzz the decoders, a minute each; SECONDS=240 TARGET=json (needs a nightly compiler and cargo-fuzz)
	@scripts/setup.sh
	@scripts/fuzz.sh $(or $(SECONDS),60) $(TARGET)

clean-state: ## remove the state of demo and benches (not the build, not the downloads)
	@rm -rf data "$(KARST_CACHE)/state"
