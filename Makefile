# Every target makes its own virtual environment first. Nothing outside this folder is changed.

PYTHON ?= python3
VENV ?= .venv
# Most tests wait for a broker most of the time.
WORKERS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
SUITE ?= trixie

BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := $(wildcard brokerq adapters tests examples)
DEALT := --numprocesses=$(WORKERS) --dist=loadscope --no-loadscope-reorder
CHECKS := check-pyright check-rest
APT := apt-get install -y python3 python3-venv make git

# pyright's Node.js and its program come with the wheels; without this it looks for news of itself.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

# Tests start hundreds of processes, each of which would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-rabbitmq-4 check $(CHECKS) bench chaos docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(READY) ## Make the virtual environment

demo: $(READY) ## See real work survive a killed worker, in under a minute
	$(BIN)/brokerq demo

test: $(READY) ## Run all tests but the long ones
	$(BIN)/pytest $(DEALT) --durations=15

test-rabbitmq-4: $(READY) ## Run RabbitMQ's tests on RabbitMQ 4 of a Debian SUITE (installs it once, outside this folder; root)
	root=$$(tests/services/rabbitmq4.sh $(SUITE)) && \
		$(BIN)/python -m tests.services.with_rabbitmq --root "$$root" \
		$(BIN)/pytest -k rabbitmq $(DEALT)

check: $(READY) ## Lint, check the format, the types and the import contracts
	@$(MAKE) --no-print-directory --jobs=2 $(CHECKS)

check-pyright: $(READY)
	$(BIN)/pyright --pythonpath $(BIN)/python

check-rest: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy $(SOURCES)

bench: $(READY) ## Measure the speed, beside the raw client
	$(BIN)/python -m tests.bench.run

docs: $(READY) ## Write the tables in the README that come from the code
	$(BIN)/python -m tests.docs

chaos: $(READY) ## Kill and pause workers at random for a long time, from a seed
	$(BIN)/pytest -m chaos --timeout=900 tests/failure tests/unit/test_model.py

clean: ## Remove the virtual environments and all caches
	rm -rf .venv .venv-* build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find brokerq adapters tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is as old as the last installation that went through, so a changed pyproject.toml
# installs again and a broken installation is never taken for a whole one.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null && command -v git >/dev/null || \
		{ echo 'Python with venv, or git, is missing. Install them: $(APT)' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'brokerq needs Python 3.11 or newer: make PYTHON=python3.11' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group dev
	@touch $@
