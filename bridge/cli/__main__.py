"""``python -m bridge.cli``: the command line where no console script is installed."""

from bridge.cli import main

main()
