# One line a target: `make` alone lists them.
.DEFAULT_GOAL := help
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
STAMP := .venv/.ready

# An environment holds absolute paths: in a tree that was moved it is made anew.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): FORCE
FORCE:
endif

.PHONY: help setup demo test slow check lint types contracts load failover chaos lock clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

$(STAMP): requirements.lock requirements-setup.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Darkstore needs Python 3.11 or newer: install it (or run make PYTHON=/path/to/python3.11) and try again." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Darkstore needs Python 3.11 or newer, and $(PYTHON) is older: install it or run make PYTHON=/path/to/python3.11." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "This Python has no venv module: install it (on Debian: apt-get install python3-venv) and try again." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-setup.lock
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@printf '%s\n' "$(CURDIR)" > $(STAMP)

setup: $(STAMP) ## prepare .venv (and nothing else)

demo: $(STAMP) ## a living city on this machine, until Ctrl-C
	$(BIN)/darkstore demo

test: $(STAMP) ## every test, on embedded engines
	$(BIN)/python -m pytest -n 2 --dist loadgroup

slow: $(STAMP) ## the tests that take minutes each
	$(BIN)/python -m pytest -m slow

check: lint types contracts test ## all that CI runs

lint: $(STAMP) ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## strict mypy
	$(BIN)/mypy

contracts: $(STAMP) ## who may import whom
	$(BIN)/lint-imports

load: $(STAMP) ## a minute of customers, pickers and riders against a system of its own
	$(BIN)/python -m loadtests.run

failover: $(STAMP) ## a dispatcher is killed or stopped, 50 times under traffic (ROUNDS=50 SEED=1)
	$(BIN)/python -m loadtests.failover --rounds $(or $(ROUNDS),50) --seed $(or $(SEED),1)

chaos: $(STAMP) ## everything breaks under traffic, and nothing may be lost (MINUTES=10 SEED=1)
	$(BIN)/python -m loadtests.chaos --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1)

lock: $(STAMP) ## compile the lock files anew
	$(BIN)/python -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 pyproject.toml --group dev -o requirements.lock
	echo uv | $(BIN)/python -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 - -o requirements-setup.lock

clean: ## remove the environment, the data and the caches
	rm -rf .venv .darkstore .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache reports
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
