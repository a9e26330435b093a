# What is published, and the suite on other Pythons.
.PHONY: dist test-pythons

RELEASE_ENV := build/release-env

$(RELEASE_ENV)/.ready: requirements/release.txt
	@$(PYTHON) make/run.py venv --clear $(RELEASE_ENV)
	@$(RELEASE_ENV)/bin/pip install --quiet --disable-pip-version-check \
	  --constraint requirements/constraints.txt --requirement $<
	@touch $@

dist: $(VENV)/.dev $(RELEASE_ENV)/.ready ## wheel and source distribution in dist/, the same bytes each time
	@rm -rf dist && mkdir -p build
	@$(BIN)/python -m build --no-isolation --outdir dist . >build/dist.log 2>&1 || { cat build/dist.log >&2; exit 1; }
	@$(RELEASE_ENV)/bin/twine check --strict dist/*
	@cd dist && sha256sum *.whl *.tar.gz | tee SHA256SUMS

# What depends on the Python version: syntax and typing at import, asyncio, ssl, sqlite3, the plugin.
PYTHONS_ARGS ?= tests/house tests/candid tests/flow tests/dialects tests/wire tests/agent tests/store \
  tests/service tests/network tests/plugin tests/end_to_end

test-pythons: | $(BIN)/pip ## what depends on it, on every other Python from 3.11 on that is installed
	@set -e; others="$(or $(PYTHONS),$$($(BIN)/python make/pythons.py $(BIN)/python))"; \
	for version in $$others; do $(MAKE) --no-print-directory test-python-$$version; done; \
	echo "tested on: $${others:-no other Python is installed}"

.PRECIOUS: build/python-%/.ready
build/python-%/.ready: pyproject.toml requirements/constraints.txt requirements/dev.txt | $(BIN)/pip
	@python=$$($(BIN)/python make/pythons.py --path $*) && rm -rf $(@D) && mkdir -p build && \
	  $$python make/run.py venv $(@D)
	@$(@D)/bin/python -m pip --quiet --disable-pip-version-check install \
	  --constraint requirements/constraints.txt --requirement requirements/dev.txt --editable '.[replica]'
	@touch $@

test-python-%: build/python-%/.ready
	@echo "Python $*:" && build/python-$*/bin/python -m pytest -q $(PARALLEL) $(PYTHONS_ARGS) $(PYTEST_ARGS)
