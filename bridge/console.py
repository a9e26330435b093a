"""The console script ``ic-bridge``: an interrupt ends it without a trace, also while it loads.

Loading takes a good part of a second, and Python would answer an interrupt with a trace of its
imports; so this module takes the signal before it imports anything of weight. Only the script
imports it: a program that uses the package keeps its own handlers.
"""

import os
import signal

_INTERRUPTED = 130


def _leave(_number: int, _frame: object) -> None:
    os._exit(_INTERRUPTED)


# Who starts a program with the signal ignored, as a shell does in the background, means it.
_HEEDED = signal.getsignal(signal.SIGINT) is signal.default_int_handler
if _HEEDED:
    signal.signal(signal.SIGINT, _leave)


def main() -> None:
    """Run the command line; while it works an interrupt lets it clean up."""
    from bridge.cli import main as run  # noqa: PLC0415 - the signal is taken first

    if _HEEDED:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    finally:
        if _HEEDED:
            signal.signal(signal.SIGINT, _leave)
