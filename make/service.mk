# The bridge service.
.PHONY: bench-service

bench-service: $(VENV)/.dev postgres ## durable flows beside the store's own commits, PostgreSQL's beside SQLite's
	@$(RUN) benchmarks.service.run

bench: bench-service
