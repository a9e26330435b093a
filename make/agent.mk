# The agent: its benchmark, and its tests with the other major line of the CBOR library.
AGENT_PEERS := build/bench/agent
.PHONY: bench-agent test-old-cbor

$(AGENT_PEERS)/%/.ready: benchmarks/agent/peers/%.txt
	@$(PYTHON) make/run.py venv --clear $(AGENT_PEERS)/$*
	@$(AGENT_PEERS)/$*/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(AGENT_PEERS)/javascript/.ready: benchmarks/agent/peers/package.json benchmarks/agent/peers/package-lock.json
	@mkdir -p $(@D)
	@if command -v npm >/dev/null; then cp $^ $(@D)/ && cd $(@D) && npm ci --silent; \
	  else echo "npm is missing: the JavaScript agent is left out" >&2; fi
	@touch $@

bench-agent: $(VENV)/.base $(AGENT_PEERS)/ic-py/.ready $(AGENT_PEERS)/icp-py-core/.ready $(AGENT_PEERS)/javascript/.ready ## the agent beside bare HTTP and other agents
	@$(RUN) benchmarks.agent.run

build/cbor2-5/.ready: $(VENV)/.dev
	@$(PIP) install --no-deps --target build/cbor2-5 'cbor2>=5.6,<6'
	@touch $@

test-old-cbor: build/cbor2-5/.ready ## the wire and agent tests with cbor2 5
	@PYTHONPATH=build/cbor2-5 $(BIN)/python -c 'import cbor2; assert not hasattr(cbor2, "frozendict"), cbor2'
	@PYTHONPATH=build/cbor2-5 $(BIN)/python -m pytest $(PARALLEL) tests/wire tests/agent $(PYTEST_ARGS)
