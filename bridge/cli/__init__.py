"""The command ``ic-bridge``: a thin door. Each command lives in a module of its own, loaded on use.

The contract of every command: data on stdout, talk on stderr, ``--json`` where there is data; exit
code 0 yes, 1 a negative answer, 2 usage, 3 network, 4 not to be trusted. An error of this package
is one line and its hint, never a traceback.
"""

import contextlib
import importlib
import os
import sys

import click

from bridge._version import __version__
from bridge.config import SHARED, Configuration, unknown_name
from bridge.errors import BridgeError

# Name -> (module, attribute, one line of help). Nothing is imported before it is asked for.
_COMMANDS = {
    "candid": (
        "bridge.cli.candid",
        "candid",
        "Encode, decode and compare Candid.",
    ),
    "conformance": (
        "bridge.cli.conformance",
        "conformance",
        "Which implementations work together.",
    ),
    "config": ("bridge.cli.config", "config", "Which settings hold, and from where."),
    "demo": (
        "bridge.cli.demo",
        "demo",
        "Flows between Python and Motoko, on an own replica.",
    ),
    "replica": ("bridge.cli.replica", "replica", "Start an embedded replica."),
    "timeline": ("bridge.cli.timeline", "timeline", "Draw a run's trace as a picture."),
    "watch": ("bridge.cli.watch", "watch", "Watch flows of canisters and stores."),
}


class _LazyGroup(click.Group):
    """A group that knows its commands' names and imports only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, attribute, _ = entry
        command: click.Command = getattr(importlib.import_module(module), attribute)
        if isinstance(ctx.obj, Configuration):
            from bridge.cli.config import adopt  # noqa: PLC0415 - not for --version and --help

            values = adopt(ctx.obj, command, ctx, (cmd_name,))
            ctx.default_map = {**(ctx.default_map or {}), cmd_name: values}
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in sorted(_COMMANDS.items())])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ic-bridge")
def root() -> None:
    """Async Flow for the Internet Computer: agents, canisters, and a replica to try them on."""


def _configuration() -> Configuration:
    """What the files say; names that nothing reads are refused."""
    if "_IC_BRIDGE_COMPLETE" in os.environ:  # a shell that asks for completions hears no complaints
        return Configuration()
    settings = Configuration.load()
    known = {*_COMMANDS, *SHARED}
    for name, file in settings.names().items():
        if name not in known:
            raise unknown_name(name, known, str(file))
    for name in SHARED:
        settings.shared(name)
    return settings


def main(*, settings: bool = True) -> None:
    """Run the command line; the console script's entry point.

    Args:
        settings: Whether variables and files are settings beside the options.
    """
    try:
        root(prog_name="ic-bridge", obj=_configuration() if settings else None)
    except BridgeError as error:
        click.secho(f"ic-bridge: {error.message}", fg="red", err=True)
        if error.hint:
            click.echo(f"  {error.hint}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:  # a file that was opened and cannot be read or written to its end
        place = f"{error.filename}: " if error.filename else ""
        words = error.strerror or error
        if isinstance(error, FileNotFoundError) and not error.filename:
            words = "the working directory is no longer there; change into another one"
        click.secho(f"ic-bridge: {place}{words}", fg="red", err=True)
        _drop_unwritten_output()
        sys.exit(2)


def _drop_unwritten_output() -> None:
    """Let Python not complain at its end once more of what standard output does not take."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
