# Which implementations work together: the matrix of our own.
.PHONY: conformance conformance-check conformance-broken
MATRIX := docs/conformance-matrix.md

conformance: $(VENV)/.base ## the matrix of our own implementations, and its page in the documentation: SEED=...
	@mkdir -p build/conformance
	@$(BIN)/ic-bridge conformance --seed $(if $(SEED),$(SEED),1) \
	  --json build/conformance/report.json --junit build/conformance/report.xml \
	  --html build/conformance/report.html --markdown $(MATRIX)

# The page bears no clock's word: a run with its seed gives it to the byte.
conformance-check: ## play the matrix again: its page is the one that stands in the documentation
	@$(MAKE) --no-print-directory conformance MATRIX=build/conformance/matrix.md
	@diff -u docs/conformance-matrix.md build/conformance/matrix.md || { \
	  echo "docs/conformance-matrix.md is not what a run gives: make conformance, and commit the page" >&2; exit 1; }

conformance-broken: $(VENV)/.dev ## every fault of the broken canister is found, for its reason, and nothing else
	@CONFORMANCE_BROKEN=all $(BIN)/python -m pytest $(PARALLEL) tests/conformance/test_broken.py $(PYTEST_ARGS)
