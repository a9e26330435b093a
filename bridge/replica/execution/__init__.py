"""Running canister Wasm: compiling, the System API, instances that can be rolled back."""
