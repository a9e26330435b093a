# Clients that this project did not write, each in an environment of its own from committed lock files;
# the tests in tests/clients run them against the embedded replica.
CLIENTS := build/clients
.PHONY: clients

$(CLIENTS)/%/.ready: tests/clients/python/%.txt
	@echo "setting up $(CLIENTS)/$* ..."
	@$(PYTHON) make/run.py venv --clear $(CLIENTS)/$*
	@$(CLIENTS)/$*/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@touch $@

$(CLIENTS)/node/.ready: tests/clients/node/package.json tests/clients/node/package-lock.json
	@if ! command -v npm >/dev/null; then \
	  echo "npm is missing: install Node 20 or later; the tests that need it are skipped" >&2; \
	else \
	  echo "setting up $(CLIENTS)/node ..."; \
	  mkdir -p $(@D) && cp $^ tests/clients/node/.npmrc $(@D)/ && cd $(@D) && npm ci --silent && touch .ready; \
	fi

clients: $(CLIENTS)/node/.ready $(CLIENTS)/ic-py/.ready $(CLIENTS)/icp-py-core/.ready ## the official clients that tests run against the replica

test: clients

.PHONY: coverage-page
coverage-page: $(VENV)/.dev ## docs/replica-coverage.md, printed from the marks of the tests
	@mkdir -p build
	@$(BIN)/python tests/house/coverage_page.py > build/coverage.md && mv build/coverage.md docs/replica-coverage.md
