# The Rust crate and its canisters. Only a change of their sources needs this, and the pinned toolchain:
# built Wasm is in the tree.
RUST := rust_reference
RUST_TARGET := $(CURDIR)/build/rust-target
.PHONY: canisters-rust canisters-rust-check test-rust lint-rust

canisters-rust: $(MOTOKO)/node_modules/.package-lock.json ## rebuild the Rust canisters
	@$(PYTHON) $(RUST)/build.py

canisters-rust-check: $(MOTOKO)/node_modules/.package-lock.json ## rebuild the Rust canisters and compare the bytes
	@$(PYTHON) $(RUST)/build.py build/canisters-rust
	@diff $(RUST)/wasm/SHA256SUMS build/canisters-rust/SHA256SUMS && echo "the built canisters match their sources"

test-rust: ## the Rust crate's own tests, with every test vector
	@cd $(RUST) && CARGO_TARGET_DIR=$(RUST_TARGET) cargo test --locked --quiet

lint-rust: ## format check and linter of the Rust crate
	@cd $(RUST) && cargo fmt --all --check
	@cd $(RUST) && CARGO_TARGET_DIR=$(RUST_TARGET) cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
