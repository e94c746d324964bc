# `make demo` and `make test` are all that a fresh machine needs; each sets up what is missing first.
#   make setup [PYTHON=python3.11] [TORCH_INDEX=URL]   TORCH_INDEX picks another torch build (CPU, CUDA)
#   make test    linters, types, unit, contract and integration tests, as CI runs them
#   make verify  everything, the slow tests included
#   make chaos   faults under training, by seed [ROUNDS=4] [SEED=0]; a disk of its own needs root
#   make demo    one job through the whole house, in minutes

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: setup lint format types test verify chaos demo clean

PYTHON ?= python3.11
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
ROUNDS ?= 4
SEED ?= 0
PARALLEL ?= -n 2 --dist loadgroup
# What needs a browser, a GPU or root is for `make verify`; each of these tests says why it skips.
SPECIAL := --ignore=tests/browser --ignore=tests/gpu --ignore=tests/cluster

setup: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep -E '^torch==' requirements.lock)"
	$(PIP) -r requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip --disable-pip-version-check check
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup
	$(BIN)/pyright

test: lint types
	$(PYTEST) $(PARALLEL) -m "not slow" $(SPECIAL) tests

verify: lint types
	$(PYTEST) $(PARALLEL) tests

chaos: setup
	$(BIN)/python -m benchmarks.chaos --rounds $(ROUNDS) --seed $(SEED)

demo: setup
	$(BIN)/python -m benchmarks.demo

clean:
	rm -rf build *.egg-info .pytest_cache .ruff_cache .hypothesis
