"""The command ``ic-bridge``: a thin door. Each command lives in a module of its own, loaded on use.

The contract of every command: data on stdout, talk on stderr, ``--json`` where there is data; exit
code 0 yes, 1 a negative answer, 2 usage, 3 network, 4 not to be trusted, 130 interrupted. An error
of this package is one line and its hint, never a traceback.
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches

import click

from bridge._version import __version__
from bridge.cli import exits
from bridge.config import SHARED, Configuration, unknown_name, variable

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


_NO_WORK = {"-h", "--help", "--version"}
_PREFIX = "IC_BRIDGE_"
_OWN_VARIABLES = {"IC_BRIDGE_REPLICA_LOG"}  # what a replica in the background is told


class _LazyGroup(click.Group):
    """A group that knows its commands' names and imports only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            near = get_close_matches(cmd_name, _COMMANDS, n=1)
            if near and not ctx.resilient_parsing:
                ctx.fail(f"No such command {cmd_name!r}. Did you mean {near[0]!r}?")
            return None
        module, attribute, _ = entry
        command: click.Command = getattr(importlib.import_module(module), attribute)
        if isinstance(ctx.obj, Configuration):
            from bridge.cli.config import adopt, variables  # noqa: PLC0415 - not for --version

            if ctx.obj.is_loaded:
                _warn_of_unread(cmd_name, lambda: variables(command, ctx, (cmd_name,)))
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


def _warn_of_unread(name: str, read: Callable[[], set[str]]) -> None:
    """Say which variables seem to be meant for a command, and are read by nothing."""
    of_command = variable(name) + "_"
    for given in sorted(os.environ):
        if given.startswith(of_command) and given not in _OWN_VARIABLES and given not in read():
            _warn(given, read())


def _warn(given: str, known: Iterable[str]) -> None:
    by_rest = {name.removeprefix(_PREFIX): name for name in sorted(known)}  # that alone is telling
    near = get_close_matches(given.removeprefix(_PREFIX), by_rest, n=1)
    hint = f"did you mean {by_rest[near[0]]}?" if near else "ic-bridge config show lists settings"
    click.echo(f"ic-bridge: nothing reads the variable {given}; {hint}", err=True)


def _configuration() -> Configuration:
    """What the files say; names that nothing reads are refused."""
    words = sys.argv[1:]
    if "_IC_BRIDGE_COMPLETE" in os.environ or not words or not _NO_WORK.isdisjoint(words):
        return Configuration()  # who asks for help or completions hears no complaints
    settings = Configuration.load()
    known = {*_COMMANDS, *SHARED}
    for name, file in settings.names().items():
        if name not in known:
            raise unknown_name(name, known, str(file))
    for name in SHARED:
        settings.shared(name)
    shared = {variable(name) for name in SHARED}
    commands = tuple(variable(name) + "_" for name in _COMMANDS)
    for given in sorted(os.environ):
        meant = given.startswith(_PREFIX) and not given.startswith(commands)
        if meant and given not in shared:
            _warn(given, shared)
    return settings


def main(*, settings: bool = True) -> None:
    """Run the command line, and leave with its exit code.

    Args:
        settings: Whether variables and files are settings beside the options.
    """
    try:
        configuration = _configuration() if settings else None
        code = root.main(prog_name="ic-bridge", obj=configuration, standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - what it does not know it raises
        code = exits.tell(error)
    except KeyboardInterrupt as error:
        code = exits.tell(error)
    sys.exit(code if isinstance(code, int) else 0)
