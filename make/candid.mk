# Candid: its benchmark beside other implementations, and long runs of its fuzzer.
CANDID_PEERS := build/bench/candid
FUZZ_SECONDS ?= 600
.PHONY: bench-candid fuzz fuzz-candid

$(CANDID_PEERS)/%/.ready: benchmarks/candid/peers/%.txt
	@$(PYTHON) make/run.py venv --clear $(CANDID_PEERS)/$*
	@$(CANDID_PEERS)/$*/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(CANDID_PEERS)/javascript/.ready: benchmarks/candid/peers/package.json benchmarks/candid/peers/package-lock.json
	@mkdir -p $(@D)
	@if command -v npm >/dev/null; then cp $^ $(@D)/ && cd $(@D) && npm ci --silent; \
	  else echo "npm is missing: the JavaScript implementation is left out" >&2; fi
	@touch $@

bench-candid: $(VENV)/.base $(CANDID_PEERS)/ic-py/.ready $(CANDID_PEERS)/icp-py-core/.ready $(CANDID_PEERS)/javascript/.ready ## Candid beside other implementations
	@$(RUN) benchmarks.candid.run

build/candid_fuzz/.ready: tests/candid/fuzz/requirements.txt
	@$(PYTHON) make/run.py venv --clear build/candid_fuzz
	@build/candid_fuzz/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@cp $< build/candid_fuzz/installed.txt && touch $@

fuzz-candid: build/candid_fuzz/.ready ## fuzz Candid for FUZZ_SECONDS; what is found is kept in build/fuzz/candid
	@mkdir -p build/fuzz/candid/corpus
	@PYTHONPATH=. build/candid_fuzz/bin/python make/run.py tests/candid/fuzz/target.py -max_total_time=$(FUZZ_SECONDS) \
	  -max_len=600 -timeout=120 -dict=tests/candid/fuzz/words.dict \
	  -artifact_prefix=build/fuzz/candid/ build/fuzz/candid/corpus

fuzz: fuzz-candid ## all fuzzers, for FUZZ_SECONDS each
