# The bridge service.
.PHONY: bench-service

bench-service: $(VENV)/.base ## durable flows beside the store's own commits
	@$(RUN) benchmarks.service.run

bench: bench-service
