# `make` lists the targets. Each one installs what it needs, or says what is missing and exits 3 (make itself
# then tells "Error 3" and ends with its own 2).

CARGO   := cargo
TARGET  := $(or $(CARGO_TARGET_DIR),target)
BINARY  := $(TARGET)/debug/sisyphus
VENV    := $(TARGET)/venv
PYTEST  := $(VENV)/bin/pytest

.DEFAULT_GOAL := help
.PHONY: help demo test lint fmt fmt-check clippy doc python-lint test-rust test-python bench-smoke \
        test-matrix chaos bench bench-calendar bench-spawn bench-lateness bench-footprint bench-database \
        stop-test-server build release need-server

help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: need-server build ## shows nine jobs on two hosts, one guardian killed, on a private PostgreSQL, in half a minute
	@$(BINARY) dev --demo

# One at a time and in this order, whatever -j says: the cheap checks fail first.
test: ## everything that CI runs
	@scripts/need postgres pgbench plpgsql_check pgbouncer venv
	@for step in fmt-check clippy doc python-lint test-rust test-python bench-smoke; do \
	    echo "== $$step"; $(MAKE) --no-print-directory $$step || { scripts/stop-test-server; exit 1; }; \
	done; scripts/stop-test-server; echo "== all passed"

lint: fmt-check clippy doc python-lint ## format, clippy, rustdoc, ruff and mypy without the tests

fmt: ## formats Rust and Python
	$(CARGO) fmt
	[ ! -x $(VENV)/bin/ruff ] || $(VENV)/bin/ruff format python

fmt-check:
	$(CARGO) fmt --check

clippy:
	$(CARGO) clippy --quiet --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --no-deps --document-private-items

test-rust: need-server ## the Rust tests alone, on a server of their own
	scripts/run-tests

python-lint: $(PYTEST)
	$(VENV)/bin/ruff check python
	$(VENV)/bin/ruff format --check python
	cd python && $(abspath $(VENV))/bin/mypy

test-python: need-server build $(PYTEST) ## the Python tests alone
	SISYPHUS_BIN=$(abspath $(BINARY)) $(PYTEST) -q python

MINUTES ?= 10
SEED    ?=

chaos: need-server build ## breaks all about a small fleet, then balances the books; MINUTES=10, SEED=… as printed
	SISYPHUS_CHAOS_MINUTES=$(MINUTES) SISYPHUS_CHAOS_SEED=$(SEED) \
	    $(CARGO) test --quiet --test integration chaos::run_chaos -- --nocapture

bench: need-server ## claim, finish and history against bare SQL: runs a second, and the ratio
	@scripts/need pgbench
	$(CARGO) bench --bench life_of_a_run

bench-calendar: need-server build ## next_fire beside cronsim, croniter and croner: microseconds a call
	@scripts/need venv
	[ -x $(TARGET)/bench-venv/bin/python ] || python3 -m venv $(TARGET)/bench-venv
	$(TARGET)/bench-venv/bin/pip install --quiet --disable-pip-version-check croniter==7.0.0 cronsim==2.8
	$(CARGO) build --quiet --release --manifest-path bench/calendar/croner/Cargo.toml --target-dir $(TARGET)/bench-croner
	$(BINARY) dev --data-dir "$$(scripts/scratch-dir bench-calendar)" -- $(abspath $(TARGET)/bench-venv/bin/python) \
	    bench/calendar/bench.py $(abspath $(TARGET)/bench-croner/release/bench-croner)

bench-spawn: need-server release ## /bin/true a second on one host, end to end, and where the processor time goes
	SISYPHUS_BIN=$(abspath $(TARGET))/release/sisyphus $(CARGO) test --quiet --bench spawn

bench-lateness: need-server release ## how late fifty starts a second are, with the database and without
	SISYPHUS_BIN=$(abspath $(TARGET))/release/sisyphus $(CARGO) test --quiet --bench lateness

bench-footprint: need-server release ## memory and processor time of a guardian and a keeper without work
	SISYPHUS_BIN=$(abspath $(TARGET))/release/sisyphus $(CARGO) test --quiet --bench footprint

bench-database: need-server release ## what 25 hosts and 10,000 jobs cost the database, with work and without
	SISYPHUS_BIN=$(abspath $(TARGET))/release/sisyphus $(CARGO) test --quiet --bench database

bench-smoke: need-server
	$(CARGO) test --quiet --bench life_of_a_run -- --smoke

test-matrix: ## the SQL tests on PostgreSQL 15, 16, 17 and 18 (servers from npm)
	scripts/pg-matrix

stop-test-server: ## ends the PostgreSQL that the tests share
	scripts/stop-test-server

build:
	$(CARGO) build --quiet

release:
	$(CARGO) build --quiet --release

need-server:
	@scripts/need postgres

$(PYTEST): python/pyproject.toml
	@scripts/need venv
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e 'python[dev]'
	touch $@
