# The protocol core: proofs, vectors, pictures, speed.
FLOW_LAB := PYTHONPATH=tests/flow $(RUN) flow_lab
SEED ?=
FLOWS ?= 20000

.PHONY: explore simulate vectors diagrams mutate-flow bench-flow

explore: $(VENV)/.dev ## every interleaving of a small world of flows, a million states and more
	@$(FLOW_LAB).explore

simulate: $(VENV)/.dev ## a virtual network under faults: SEED=... FLOWS=...
	@$(FLOW_LAB).run_simulation $(if $(SEED),--seed $(SEED)) --flows $(FLOWS)

vectors: $(VENV)/.dev ## rewrite the generated test vectors from the tables
	@$(FLOW_LAB).vectors

diagrams: $(VENV)/.dev ## redraw the state diagrams of the documentation from the tables
	@$(FLOW_LAB).diagrams

mutate-flow: $(VENV)/.dev ## mutation testing of the protocol core
	@$(FLOW_LAB).mutate

bench-flow: $(VENV)/.dev ## speed and memory of the protocol core
	@$(RUN) benchmarks.flow.run
