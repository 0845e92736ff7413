# Two commands matter: `make demo` and `make test`. Both set everything up in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
LOCKING := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url

.PHONY: demo test live lint types check bench docs picture lock clean

demo: $(READY)
	$(BIN)/reconciler demo $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

# the same suites against real systems; each is skipped unless the environment names its system
live: $(READY)
	$(BIN)/python -m pytest tests/live $(ARGS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

check: lint types test

bench: $(READY)
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(READY)
	$(BIN)/python -m docs.generate

picture: $(READY)
	$(BIN)/reconciler --color demo --picture docs/demo.svg

# The environment is made anew when the lock or the project file changes; nothing is taken from the machine but Python and git.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

lock: $(READY)
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile $(LOCKING) --extra dev --extra postgres --output-file requirements.lock pyproject.toml
	$(BIN)/uv pip compile $(LOCKING) --constraint requirements.lock --extra postgres --output-file deploy/requirements.lock pyproject.toml
	echo hatchling | $(BIN)/uv pip compile $(LOCKING) --constraint requirements.lock --output-file deploy/build.lock -

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
