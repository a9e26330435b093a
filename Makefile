# Every command sets itself up; `make` alone lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
# A worker gets a run of tests that lie together, which share what was made for their file, and takes over
# what another has left.
PARALLEL := -n auto --dist worksteal
# Without this, pip writes one progress line per wheel; errors are still shown.
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# A module, ended without a stack trace by an interrupt at the terminal.
RUN := $(BIN)/python make/run.py

.DEFAULT_GOAL := help
.PHONY: help demo picture test lint bench format lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# Of pip, venv makes the command last. One that an interrupt left half-made is made anew: pip would take
# itself for installed.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "ic-bridge needs Python 3.11 or later; set PYTHON=python3.12, say" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "python3's venv module is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@[ ! -e $(VENV)/.half-made ] || rm -rf $(VENV)
	@mkdir -p $(VENV) && touch $(VENV)/.half-made
	@$(PYTHON) make/run.py venv $(VENV)
	@rm $(VENV)/.half-made

# The package alone, as a user has it: what the demo needs.
$(VENV)/.base: pyproject.toml requirements/constraints.txt | $(BIN)/pip
	@echo "setting up $(VENV) ..."
	@$(PIP) install --constraint requirements/constraints.txt --editable '.[replica]'
	@touch $@

# And what tests and lint need.
$(VENV)/.dev: $(VENV)/.base requirements/dev.txt
	@$(PIP) install --constraint requirements/constraints.txt --requirement requirements/dev.txt
	@touch $@

demo: $(VENV)/.base ## flows between Python and Motoko canisters, on the embedded replica
	@$(BIN)/ic-bridge demo

picture: $(VENV)/.base ## docs/images/demo.svg, drawn from the trace of a run
	@mkdir -p build
	@$(BIN)/ic-bridge demo --seed 1 --trace build/demo.jsonl
	@$(BIN)/ic-bridge timeline build/demo.jsonl --output docs/images/demo.svg

test: $(VENV)/.dev ## the whole suite, in parallel
	@$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

lint: $(VENV)/.dev ## format check, linter, strict types, import layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: bench-candid bench-flow bench-agent bench-replica ## every benchmark of the Python package, beside its peers

format: $(VENV)/.dev ## rewrite to the house's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean: ## remove what was built; keeps the lock files and the canisters
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

lock: ## rewrite requirements/constraints.txt with today's versions within the ranges
	@rm -rf build/lock && $(PYTHON) make/run.py venv build/lock
	@build/lock/bin/pip install --quiet --editable '.[replica]' --requirement requirements/dev.txt
	@{ echo "# The versions that are tested; pyproject.toml gives the ranges. Rewritten by: make lock"; \
	   build/lock/bin/pip freeze --exclude-editable; } > requirements/constraints.txt

# Each part's own commands.
include $(wildcard make/*.mk)
