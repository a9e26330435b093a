# The embedded replica: its benchmark, its fuzzer, and the page of its System API.
.PHONY: bench-replica fuzz-replica system-api

bench-replica: $(VENV)/.base ## the replica beside bare HTTP and the raw engine
	@$(RUN) benchmarks.replica.run

fuzz-replica: $(VENV)/.dev ## hostile requests to the replica for FUZZ_SECONDS; SEED=... repeats one round
	@PYTHONPATH=. $(RUN) tests/replica/fuzz/run.py $(or $(FUZZ_SECONDS),600) $(SEED)

fuzz: fuzz-replica

system-api: $(VENV)/.base ## docs/system-api.md, printed from the replica's table
	@$(BIN)/python -c "from bridge.replica.execution.system_api import coverage_page as page; \
	print(page(), end='')" > docs/system-api.md
