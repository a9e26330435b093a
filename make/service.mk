# The bridge service.
.PHONY: bench-service

bench-service: $(VENV)/.base ## durable flows beside the store's own commits
	@$(BIN)/python -m benchmarks.service.run

bench: bench-service
