# receiptd's errands. On a fresh machine: python3 (3.11 or later) with venv and pip, make, and a
# package index that pip is configured for. `make demo` is the place to begin.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV ?= $(firstword $(wildcard $(BIN)/uv) uv)
ARGS ?=

PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK := $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url

# Stamps, so that each installation is done once, and again when its lock changes.
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev

.PHONY: help venv demo test torture soak bench guard check format lock clean audit
.DELETE_ON_ERROR:

help:
	@echo 'make demo    see receiptd at work: no account, no configuration'
	@echo 'make venv    receiptd in $(VENV), to use it: . $(BIN)/activate'
	@echo 'make test    all tests (ARGS="-k word" for some of them)'
	@echo 'make torture 1,575 kills and failing system calls: up to 15 minutes, both cores'
	@echo 'make soak    a million receipts with 1 % of faults, and what leaks: 20 minutes'
	@echo 'make bench   measure against the promises: 40 minutes and more (ARGS=--quick: some minutes)'
	@echo 'make guard   fail if receiptd has become slower: two minutes'
	@echo 'make check   lint, format and types'
	@echo 'make format  format the code'
	@echo 'make audit   look for known faults of the pinned dependencies (needs the network)'
	@echo 'make lock    pin the dependencies anew'
	@echo 'make clean   remove what the tools left behind (not the environment)'

venv: $(RUN)

demo: $(RUN)
	$(BIN)/receiptd demo $(ARGS)

# In the order of their names: the long ones (acceptance/) begin first, and none is left at the end.
test: $(DEV)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

torture: $(DEV)
	$(BIN)/python -m torture $(ARGS)

soak: $(DEV)
	$(BIN)/python -m torture.soak $(ARGS)

bench: $(DEV)
	$(BIN)/python -m benchmarks $(ARGS)

guard: $(DEV)
	$(BIN)/python -m benchmarks.guard $(ARGS)

check: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# It asks a service on the network; .ci/run goes on where that cannot be reached.
audit:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip --quiet install --require-hashes -r requirements/audit.txt
	.venv-audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/run.txt

format: $(DEV)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock:
	$(LOCK) requirements/build.in -o requirements/build.txt
	$(LOCK) requirements/audit.in -o requirements/audit.txt
	$(LOCK) pyproject.toml --extra postgres -o requirements/run.txt
	$(LOCK) pyproject.toml --group test --group lint -c requirements/run.txt -o requirements/dev.txt

clean:
	rm -rf .venv-audit build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find benchmarks deploy receiptd tests torture -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'receiptd needs Python 3.11 or later: make PYTHON=python3.12 …' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# First what builds: one dependency ships no wheel, and --require-hashes does not reach into pip's
# own build isolation, so that is off and the build runs on what is pinned here.
$(RUN): requirements/build.txt requirements/run.txt pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements/build.txt
	$(PIP) install --no-build-isolation --require-hashes -r requirements/run.txt
	$(PIP) install --no-build-isolation --no-deps -e .
	touch $@

$(DEV): requirements/build.txt requirements/dev.txt pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements/build.txt
	$(PIP) install --no-build-isolation --require-hashes -r requirements/dev.txt
	$(PIP) install --no-build-isolation --no-deps -e .
	touch $@
