"""Runs a program, and ends it without a stack trace at an interrupt from the terminal.

``run.py MODULE ARGUMENTS`` as ``python -m`` does, in the folder or with the ``PYTHONPATH`` where
the module is found; ``run.py FILE.py ARGUMENTS`` as ``python FILE.py`` does.
"""

import runpy
import sys
from pathlib import Path

INTERRUPTED = 130  # as a shell has it


def main() -> None:
    """See the module."""
    del sys.argv[0]
    program = sys.argv[0]
    is_file = program.endswith(".py")
    sys.path[0] = str(Path(program).resolve().parent if is_file else Path.cwd())
    try:
        if is_file:
            runpy.run_path(program, run_name="__main__")
        else:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
