# The server for the tests of the store in PostgreSQL: Debian's. Tests start one of their own from it.
.PHONY: postgres
POSTGRES_CLUSTERS := /etc/postgresql-common/createcluster.d

# Debian's package would also make a server of its own and start it: not for the sake of tests.
postgres: ## PostgreSQL for the tests of the store in it
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
	if ! command -v apt-get >/dev/null; then \
	  echo "PostgreSQL is missing: install it; tests that need it are skipped, which CI does not allow" >&2; \
	elif [ "$$(id -u)" != 0 ]; then \
	  echo "PostgreSQL is missing: as root, apt-get install postgresql; tests that need it are skipped, which CI does not allow" >&2; \
	else \
	  echo "installing PostgreSQL ..."; \
	  mkdir -p $(POSTGRES_CLUSTERS) && \
	  trap 'rm -f $(POSTGRES_CLUSTERS)/ic-bridge.conf' EXIT && \
	  trap 'exit 130' INT && trap 'exit 143' TERM && \
	  echo "create_main_cluster = false" > $(POSTGRES_CLUSTERS)/ic-bridge.conf; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	      --no-install-recommends postgresql >/dev/null; } || \
	    echo "PostgreSQL could not be installed; tests that need it are skipped, which CI does not allow" >&2; \
	fi

test: postgres
