# The first hour, on a machine that has nothing: a minimal Debian with what README.md asks for.
# COMMANDS is what make is asked for there as well, such as COMMANDS=test.
COMMANDS ?=
.PHONY: fresh-machine

fresh-machine: ## README's lines from a fresh clone in a minimal Debian; as root. COMMANDS=test runs that too
	@make/fresh_machine.sh $(COMMANDS)
