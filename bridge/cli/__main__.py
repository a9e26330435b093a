"""``python -m bridge.cli``: the command line as programs start it.

It does what its options say, whatever settings whoever uses the program has.
"""

from bridge.cli import main

main(settings=False)
