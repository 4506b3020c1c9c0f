# Everything happens in the virtual environment .venv; each verb sets it up first.
PYTHON := $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$p && break; done)
BIN := .venv/bin

.PHONY: setup run test test-full check bench package

setup: .venv/ready

run: .venv/ready
	@exec $(BIN)/mail-gateway dev

test: .venv/ready-dev
	@$(BIN)/pytest -q -n auto

test-full: .venv/ready-dev
	@$(BIN)/pytest -q -m 'slow or not slow'

check: .venv/ready-dev
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache >/dev/null || $(BIN)/lint-imports --no-cache
	@$(BIN)/pytest -q -n auto tests/unit tests/store tests/bad_configs

bench: .venv/ready-dev
	@$(BIN)/python -m benchmarks.run

package: .venv/ready-dev
	@$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (Debian: apt install python3 python3-venv)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv is needed (Debian: apt install python3-venv)"; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/ready: .venv/bin/python pyproject.toml
	@echo "Setting up .venv (once) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -e . && touch $@

.venv/ready-dev: .venv/ready pyproject.toml
	@echo "Setting up the tools of the tests (once) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]' && touch $@
