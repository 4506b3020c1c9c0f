# Everything happens in the virtual environment .venv; each verb sets it up first.
# Options of the gateway: make run ARGS='--http 127.0.0.1:9025 --smtp 127.0.0.1:9525'
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
ARGS :=
# Options of the tests: make test TESTS='-k backup'; and of the slow ones besides.
TESTS :=
SLOW :=
# Half of what the tests do is waiting: two workers more than there are cores.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 2)
# Compiled files of tests and package are kept: without them every process of a run compiles all of it anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup run test test-full check bench docs package

setup: .venv/ready

run: .venv/ready
	@exec $(BIN)/mail-gateway dev $(ARGS)

test: .venv/ready-dev
	@GATEWAY_FUZZ_EXAMPLES=25 $(BIN)/pytest -q $(TESTS) -n $(WORKERS)

# All tests, with more examples. The slow ones, one after the other: they use real daemons and measure themselves.
test-full: .venv/ready-dev
	@GATEWAY_FUZZ_EXAMPLES=200 $(BIN)/pytest -q $(TESTS) -n $(WORKERS); fast=$$?; $(BIN)/pytest -q $(TESTS) $(SLOW) -m slow && exit $$fast

check: .venv/ready-dev
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache >/dev/null || $(BIN)/lint-imports --no-cache
	@$(BIN)/pytest -q $(TESTS) -n $(WORKERS) tests/unit tests/store tests/bad_configs

bench: .venv/ready-dev
	@$(BIN)/python -m benchmarks.run

# The reference, from the code. tests/docs fails where it is stale.
docs: .venv/ready
	@$(BIN)/python -m docs.generate

package: .venv/ready
	@$(PIP) wheel --no-deps --wheel-dir dist . && ls dist/*.whl

# The first Python that is new enough and can make environments; else what to install.
.venv/bin/python:
	@found=; bare=; for candidate in python3.13 python3.12 python3.11 python3; do \
	  $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	  if $$candidate -c 'import venv, ensurepip' >/dev/null 2>&1; then found=$$candidate; break; fi; \
	  bare=$${bare:-$$candidate}; \
	done; \
	if [ -n "$$found" ]; then \
	  trap 'rm -rf .venv' INT TERM; \
	  $$found -m venv .venv || { rm -rf .venv; exit 1; }; \
	elif [ -n "$$bare" ]; then \
	  echo "$$bare has no venv. Debian, Ubuntu: apt install $$bare-venv" >&2; exit 1; \
	else \
	  echo "Python 3.11 or newer is needed. Debian, Ubuntu: apt install python3 python3-venv; Fedora: dnf install python3" >&2; exit 1; \
	fi

.venv/ready: .venv/bin/python pyproject.toml
	@echo "Setting up .venv (once, a minute) ..."
	@$(PIP) install -e . || { echo "Setting up failed: pip, above, says why." >&2; exit 1; }
	@touch $@

.venv/ready-dev: .venv/bin/python pyproject.toml
	@echo "Setting up .venv with the tools of the tests (once, a minute) ..."
	@$(PIP) install -e '.[dev]' || { echo "Setting up failed: pip, above, says why." >&2; exit 1; }
	@touch .venv/ready $@
