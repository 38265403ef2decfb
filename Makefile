# Needs Python 3.11 or newer and make.
#
#   make demo     the dashboard with the example jobs, on http://localhost:8181
#   make test     all checks: style, types, the dashboard's own, and every test
#   make lint     style and types only
#   make bench    measures speed, in about six minutes
#   make docs     the documentation as a site, in site/
#   make screenshots   takes the pictures in docs/images from the demo
#   make constraints   updates image/constraints.txt, the exact versions of the image
#   make wheel    the installable package, dashboard included, in dist/
#   make clean    removes what these commands created
#
# PYTHON=python3.13 selects the interpreter, VENV=folder the virtual environment, and
# TESTS="tests/core -x" the arguments of pytest.

.DEFAULT_GOAL := help
.PHONY: help demo test bench pytest lint ui browser servers ready docs constraints screenshots \
	wheel clean

# A name on PATH may be a launcher for a version that is not there: ask each one to run.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
TESTS ?= tests

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
USER_READY := $(VENV)/.ready-to-run
DEV_READY := $(VENV)/.ready-to-test

help:
	@sed -n 's/^#   make/make/p' Makefile

$(BIN)/python:
	$(or $(PYTHON),$(error goflow needs Python 3.11 or newer: make PYTHON=/path/to/python)) -m venv $(VENV)

# The build hook reads ui/ itself and builds the dashboard only if it has changed.
UI := $(shell find ui -name node_modules -prune -o -type f -print)

$(USER_READY): $(BIN)/python pyproject.toml hatch_build.py $(UI)
	$(PIP) install --editable .
	@touch $@

$(DEV_READY): $(BIN)/python pyproject.toml hatch_build.py $(UI)
	$(PIP) install --editable '.[dev]'
	@$(BIN)/python hatch_build.py requires | xargs -r $(PIP) install
	@touch $@

demo: $(USER_READY)
	$(BIN)/goflow demo

test: lint ready pytest

lint: $(DEV_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ui: $(DEV_READY)
	$(BIN)/python hatch_build.py build
	$(BIN)/python hatch_build.py check

browser: $(DEV_READY)
	$(BIN)/python tests/browser/chromium.py

servers: $(DEV_READY)
	$(BIN)/python tests/deploy/install.py

# All that the tests need, and no test.
ready: $(DEV_READY) ui browser servers

pytest: $(DEV_READY)
	$(BIN)/python -m pytest $(TESTS)

bench: $(USER_READY)
	$(BIN)/python -m benchmarks

docs: $(DEV_READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "view it: $(BIN)/python -m http.server --directory site"

screenshots: ui browser
	$(BIN)/python docs/screenshots.py

constraints: $(DEV_READY)
	$(BIN)/python image/constraints.py

wheel: $(BIN)/python
	$(PIP) wheel --no-deps --wheel-dir dist .

clean:
	rm -rf .venv* dist build site ui/node_modules goflow/web/static .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
