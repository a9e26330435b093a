# The documentation as a static site.
DOCS_ENV := build/docs-env
.PHONY: docs docs-check docs-reference

$(DOCS_ENV)/.ready: requirements/docs.txt docs/_site/package-lock.json pyproject.toml | $(BIN)/pip
	@command -v npm >/dev/null || { echo "npm is missing: install Node 18 or later" >&2; exit 1; }
	@$(PYTHON) make/run.py venv --clear $(DOCS_ENV)
	@$(DOCS_ENV)/bin/pip install --quiet --disable-pip-version-check \
	  --constraint requirements/constraints.txt --requirement requirements/docs.txt --editable '.[monitor,replica]'
	@cp docs/_site/package.json docs/_site/package-lock.json docs/_site/.npmrc $(DOCS_ENV)/
	@cd $(DOCS_ENV) && npm ci --silent
	@touch $@

docs-reference: $(VENV)/.base ## rewrite the pages of docs/reference from the code
	@$(RUN) docs/_site/generated.py

docs: $(DOCS_ENV)/.ready ## the documentation as a site in build/site; a broken link is an error
	@$(DOCS_ENV)/bin/python make/run.py docs/_site/stage.py
	@echo "build/site/index.html"

docs-check: docs browser $(VENV)/.dev ## build the site and look at each page in a browser, wide and narrow
	@DOCS_SITE=build/site $(BIN)/python -m pytest -q -p no:cacheprovider tests/docs/test_pages.py
