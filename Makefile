# Needs Python 3.11, 3.12 or 3.13 (with venv), make and a package index that pip or uv reaches; everything else goes
# into .venv. Another Python than the first of them that is found: make venv PYTHON=python3.12
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help venv test instructions arm lint fix demo reference lock clean other-python

VENV := .venv
LOCK := requirements/workstation.txt
BIN := $(VENV)/bin
RELEASE = $(1) -c 'import sys; print(sys.version)' 2>/dev/null
ifdef PYTHON # asked for by name: an environment of another one is made anew
OTHER := $(shell [ "$$($(call RELEASE,$(PYTHON)))" = "$$($(call RELEASE,$(BIN)/python))" ] || echo other-python)
else
PYTHON = $(shell for name in python3.11 python3.12 python3.13; do \
	$$name -c 'import ensurepip' 2>/dev/null && echo $$name && break; done)
endif
PIP := $(BIN)/python -m pip -qq --no-input --disable-pip-version-check --require-virtualenv
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --generate-hashes \
	--constraint requirements/constraints.txt --custom-compile-command "make lock"
WORKSTATION := $(COMPILE) --python-platform x86_64-manylinux_2_28 --extra all --group dev

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

venv: $(VENV)/.project ## make .venv with the locked packages and this project, editable
	@true

# The stamps are touched last, so that an install which failed or was interrupted starts over.
$(VENV)/.locked: $(LOCK) $(OTHER)
	@$(or $(PYTHON),false) -c 'import ensurepip' 2>/dev/null || { echo "make: no $(or $(PYTHON),Python 3.11, 3.12 or \
	3.13) with venv is installed; on Debian and Ubuntu, run as root: apt-get install python3-venv" >&2; exit 4; }
	@$(PYTHON) requirements/install.py $(VENV) --lock $(LOCK)
	@touch $@

other-python:

$(VENV)/.project: $(VENV)/.locked pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

test: lint instructions ## style, types, import contracts, the count of instructions, then the tests
	@$(BIN)/python -m pytest

instructions: $(VENV)/.project ## hold the instructions of an answer to the baseline; says so where it cannot
	@$(BIN)/python tests/benchmarks/count_instructions.py

arm: $(VENV)/.project ## build the ARM machines on which the tests run the device's side, in the user's cache folder
	@$(BIN)/python tests/emulation/build_root.py

lint: $(VENV)/.project ## style, types and import contracts
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "run: make fix" >&2; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

fix: $(VENV)/.project ## format, and mend what ruff can mend
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

demo: $(VENV)/.project ## the whole chain on images it makes itself
	@$(BIN)/slimscan demo

reference: $(VENV)/.project ## train and export the reference bundle again: make reference DATA=chest_xray LUNGS=outlines
	@test -d "$(DATA)" || { echo "make: say where the X-rays lie: make reference DATA=folder LUNGS=folder" >&2; exit 2; }
	@test -d "$(LUNGS)" || { echo "make: say where the outlines of the lungs lie: make reference DATA=folder LUNGS=folder" >&2; exit 2; }
	@$(BIN)/slimscan train "$(DATA)" --recipe pneumonia --lungs "$(LUNGS)" --out runs/pneumonia
	@$(BIN)/slimscan export runs/pneumonia --out runs/pneumonia-0.8.0.slimscan
	@rm -f edge_runtime/slimscan_edge/reference/*.slimscan
	@cp runs/pneumonia-0.8.0.slimscan edge_runtime/slimscan_edge/reference/

lock: $(VENV)/.locked ## resolve requirements/ again; pins that still fit stay
	@$(WORKSTATION) --python-version 3.11 -o $(LOCK)
	@for python in 3.12 3.13; do \
		cp $(LOCK) $(VENV)/lock.txt; \
		$(WORKSTATION) --python-version $$python -o $(VENV)/lock.txt; \
		diff $(LOCK) $(VENV)/lock.txt || { echo "make: Python $$python needs other pins than 3.11" >&2; exit 1; }; \
	done
	@$(COMPILE) --python-version 3.11 --universal -o requirements/device.txt

clean: ## remove .venv, caches and build products
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
