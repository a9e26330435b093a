"""How an error ends the command line: what is said of it, and with which exit code.

The one place that knows: 0 yes, 1 a negative answer or a failure of the place, 2 usage, 3 network,
4 not to be trusted, 130 interrupted. Nothing here knows any command.
"""

import contextlib
import errno
import os
import sys
from typing import Final

import click

from bridge.errors import BridgeError

INTERRUPTED: Final = 130
_USAGE: Final = 2
_FAILED: Final = 1

# The place was right and is used up or broken: nothing in the command has to be changed.
_FAILURES_OF_THE_PLACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def tell(error: BaseException) -> int:
    """Say on stderr what ended a command; the exit code.

    Raises:
        BaseException: The error, if it is none that is told without a traceback.
    """
    match error:
        case BridgeError():
            say(error.message, error.hint)
            return error.exit_code
        case click.Abort() | KeyboardInterrupt():
            click.echo("Aborted!", err=True)
            return INTERRUPTED
        case click.FileError():
            hint = "name a file that can be opened, in a folder that is there"
            say(f"{error.ui_filename} cannot be opened: {error.message}", hint)
            return _USAGE
        case click.ClickException():
            error.show()
            return error.exit_code
        case OSError():
            return _tell_of_the_system(error)
    raise error


def _tell_of_the_system(error: OSError) -> int:
    """A file that was opened and cannot be read or written to its end, mostly."""
    _drop_unwritten_output()
    words = error.strerror or str(error)
    if error.errno in _FAILURES_OF_THE_PLACE:
        place = error.filename or "what the output goes to"
        say(f"{place} takes no more: {words}", "make room there, or write to another place")
        return _FAILED
    if isinstance(error, FileNotFoundError) and not error.filename:
        say("the working directory is no longer there", "change into another one")
        return _USAGE
    place = f"{error.filename}: " if error.filename else ""
    say(f"{place}{words}", "name a file or folder that is there, and that this user may use")
    return _USAGE


def say(words: str, hint: str | None) -> None:
    """Say on stderr what went wrong, and what to do; in colours where these are wanted."""
    colour = False if os.environ.get("NO_COLOR") else None  # None: on a terminal
    click.secho(f"ic-bridge: {words}", fg="red", err=True, color=colour)
    if hint:
        click.echo(f"  {hint}", err=True)


def _drop_unwritten_output() -> None:
    """Let Python not complain at its end once more of what standard output does not take."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
