# Which implementations work together: the matrix of our own.
.PHONY: conformance conformance-broken

conformance: $(VENV)/.base ## the matrix of our own implementations, and its page in the documentation: SEED=...
	@mkdir -p build/conformance
	@$(BIN)/ic-bridge conformance --seed $(if $(SEED),$(SEED),1) \
	  --json build/conformance/report.json --junit build/conformance/report.xml \
	  --html build/conformance/report.html --markdown docs/conformance-matrix.md

conformance-broken: $(VENV)/.dev ## every fault of the broken canister is found, for its reason, and nothing else
	@CONFORMANCE_BROKEN=all $(BIN)/python -m pytest -n auto tests/conformance/test_broken.py $(PYTEST_ARGS)
