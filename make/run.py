"""Runs a module as ``python -m`` does; an interrupt at the terminal ends it without a stack trace.

``run.py MODULE ARGUMENTS``, in the folder or with the ``PYTHONPATH`` where the module is found.
"""

import runpy
import sys
from pathlib import Path

INTERRUPTED = 130  # as a shell has it


def main() -> None:
    """See the module."""
    sys.path[0] = str(Path.cwd())
    del sys.argv[0]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
