# The Motoko reference canisters. Only a change of their sources needs this, and Node: built Wasm is in
# the tree.
MOTOKO := motoko_reference
.PHONY: canisters canisters-check canisters-motoko-check

$(MOTOKO)/node_modules/.package-lock.json: $(MOTOKO)/package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing: install Node 18 or later" >&2; exit 1; }
	@cd $(MOTOKO) && npm ci --silent

# The compiler recurses deeply: it needs more stack (in KiB) than Node gives by itself.
canisters: $(MOTOKO)/node_modules/.package-lock.json ## rebuild the canisters of both languages
	@cd $(MOTOKO) && node --stack-size=4000 build.mjs

# One compiler of Motoko takes one processor, cargo the other.
canisters-check: ## rebuild the canisters of both languages and compare the bytes; run the Motoko README's example
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target canisters-motoko-check canisters-rust-check

canisters-motoko-check: $(MOTOKO)/node_modules/.package-lock.json $(VENV)/.dev ## the same of the Motoko canisters alone
	@cd $(MOTOKO) && node --stack-size=4000 build.mjs ../build/canisters
	@diff $(MOTOKO)/wasm/SHA256SUMS build/canisters/SHA256SUMS && echo "the built canisters match their sources"
	@$(BIN)/python -m pytest -q -p no:cacheprovider tests/motoko/test_readme.py

OPEN_FLOWS ?= 100000
.PHONY: bench-motoko
bench-motoko: $(VENV)/.base ## what a flow costs a Motoko canister, with OPEN_FLOWS flows open
	@OPEN_FLOWS=$(OPEN_FLOWS) $(RUN) benchmarks.motoko.run
