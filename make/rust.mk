# The Rust crate and its canisters. Only a change of their sources needs this, and the pinned toolchain,
# which is installed where it is missing: built Wasm is in the tree.
RUST := rust_reference
RUST_TARGET := $(CURDIR)/build/rust-target
# Modules to build or check, such as "both chaos"; empty for all.
MODULES ?=
.PHONY: canisters canisters-rust canisters-rust-check test-rust lint-rust bench-rust chaos

# `make canisters` is of both languages, as `make canisters-check` is.
canisters: canisters-rust

canisters-rust: $(MOTOKO)/node_modules/.package-lock.json ## rebuild the Rust canisters, or the MODULES named
	@$(PYTHON) make/run.py $(RUST)/build.py $(MODULES)

canisters-rust-check: $(MOTOKO)/node_modules/.package-lock.json ## rebuild the Rust canisters and compare the bytes
	@$(PYTHON) make/run.py $(RUST)/build.py --check $(MODULES)

test-rust: ## the Rust crate's own tests, with every test vector
	@$(PYTHON) make/run.py $(RUST)/toolchain.py test
	@cd $(RUST) && CARGO_TARGET_DIR=$(RUST_TARGET) cargo test --locked --quiet

lint-rust: ## format check and linter of the Rust crate
	@$(PYTHON) make/run.py $(RUST)/toolchain.py lint
	@cd $(RUST) && cargo fmt --all --check
	@cd $(RUST) && CARGO_TARGET_DIR=$(RUST_TARGET) cargo clippy --locked --quiet --workspace --all-targets -- -D warnings

bench-rust: $(VENV)/.base ## what a flow costs a Rust canister, with OPEN_FLOWS flows open
	@OPEN_FLOWS=$(OPEN_FLOWS) $(RUN) benchmarks.rust.run

chaos: $(VENV)/.dev ## FLOWS (1,000) Motoko to Rust and back through the chaos canister at 20 % faults
	@CHAOS_FLOWS=$(if $(FLOWS),$(FLOWS),1000) $(if $(SEED),CHAOS_SEED=$(SEED)) $(BIN)/python -m pytest \
	  tests/rust/test_chaos.py -k twenty_percent $(PYTEST_ARGS)
