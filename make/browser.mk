# The browser that the tests of the report's page are run in: Debian's Chromium.
.PHONY: browser

browser: ## the browser for the tests of the report's page
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	if ! command -v apt-get >/dev/null; then \
	  echo "Chromium is missing: install it; the tests that need it are skipped" >&2; \
	elif [ "$$(id -u)" != 0 ]; then \
	  echo "Chromium is missing: as root, apt-get install chromium; the tests that need it are skipped" >&2; \
	else \
	  echo "installing Chromium ..."; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	      --no-install-recommends chromium fonts-dejavu-core >/dev/null; } || \
	    echo "Chromium could not be installed; the tests that need it are skipped" >&2; \
	fi

test: browser
