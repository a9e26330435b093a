# The embedded replica: its benchmark.
.PHONY: bench-replica

bench-replica: $(VENV)/.base ## the replica beside bare HTTP and the raw engine
	@$(BIN)/python benchmarks/replica/run.py
