# make demo: the main job on real input.  make test: the tests.  make check: lint, types, tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install lint types test test-slow test-nightly check demo clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet -e '.[dev]'
	touch $(STAMP)

install: $(STAMP)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

test: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadgroup

test-slow: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadgroup -m slow

test-nightly: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadgroup -m nightly

check: lint types test

demo: $(STAMP)
	$(BIN)/python sample_apps/digits/demo.py

clean:
	rm -rf $(VENV) build dist *.egg-info out
