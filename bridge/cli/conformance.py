"""``ic-bridge conformance``: which implementations work together, told as they are played.

The table and what did not pass go to stdout, progress to stderr. Leaves with 0 only if every
required cell passed; without ``--require`` that is every cell, an unsupported one is as good, but
of each end that an option names some cell has to be played.
"""

import asyncio
import contextlib
import json
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.text import Text

from bridge.agent import Identity
from bridge.cli.conformance_cast import (
    cast_of,
    refuse_what_cannot_be_played,
    slowness,
    unplayed,
    unreachable,
)
from bridge.cli.conformance_view import print_report, telling
from bridge.conformance import reports
from bridge.conformance.entries import SHIPPED, shipped
from bridge.conformance.place import Place
from bridge.conformance.results import Report, RunEnded
from bridge.conformance.runner import plan_tasks, run
from bridge.conformance.scenarios import catalogue
from bridge.conformance.world import Worlds
from bridge.dialects import DIALECTS
from bridge.errors import TransportError, UsageError
from bridge.network import open_network
from bridge.network.choice import parse_root_key

_FORMS: Final[dict[str, Callable[[Report], str]]] = {
    "json": lambda report: json.dumps(reports.to_document(report), indent=1) + "\n",
    "junit": reports.to_junit,
    "markdown": reports.to_markdown,
    "html": reports.to_page,
}
# One more than cores: each waits a while for what its replica and its programs do.
_JOBS: Final = (os.cpu_count() or 1) + 1
_UNREACHABLE: Final = 3
_UNMET: Final = 1


def _report_option(form: str, what: str) -> Callable[[Any], Any]:
    return click.option(
        f"--{form}",
        f"{form}_file",
        metavar="FILE",
        type=click.Path(dir_okay=False, writable=True, allow_dash=True),
        help=f"Write {what} to this file; - is stdout.",
    )


def _print_and_leave(text: Callable[[], str]) -> Callable[[click.Context, Any, bool], None]:
    def callback(ctx: click.Context, _parameter: Any, asked: bool) -> None:
        if asked and not ctx.resilient_parsing:
            click.echo(text())
            ctx.exit()

    return callback


def _catalogue() -> str:
    lines = [f"{name:10}{shipped(name).about}" for name in SHIPPED]
    lines += ["", *(f"{one.id:5} {one.title}: {one.requirement}" for one in catalogue())]
    return "\n".join(lines)


@click.command()
@click.option(
    "--sender",
    "senders",
    multiple=True,
    metavar="WHO",
    help=f"Who sends: {', '.join(SHIPPED)}, a .toml entry or a .wasm module. May be repeated.",
)
@click.option(
    "--receiver",
    "receivers",
    multiple=True,
    metavar="WHO",
    help="Who receives, likewise. May be repeated.",
)
@click.option(
    "--entry",
    "entry_files",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An implementation to be played, in each role it has, with those of this package.",
)
@click.option(
    "--dialect",
    "dialects",
    multiple=True,
    type=click.Choice(list(DIALECTS)),
    help="Only this dialect; what a bare .wasm speaks. May be repeated.",
)
@click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    metavar="ID",
    help="Only this scenario, such as F1. May be repeated.",
)
@click.option(
    "--network",
    default="embedded",
    show_default=True,
    metavar="WHERE",
    help="embedded, local, dfx, icp, ic or a URL.",
)
@click.option("--root-key", metavar="KEY", help="The root key of a network by URL, if not local.")
@click.option(
    "--identity",
    metavar="PEM",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Who deploys and asks there; a fresh identity if left out.",
)
@click.option("--seed", type=int, help="Play as the run with this seed; a fresh one if left out.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    default=_JOBS,
    show_default="one a core, and one more",
    help="Scenarios played side by side.",
)
@click.option(
    "--require",
    "require_file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The cells that have to pass (TOML); every cell if left out.",
)
@click.option(
    "--from",
    "from_file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Play nothing: tell, write and judge the report in this file, which --json wrote.",
)
@_report_option("json", "the report as JSON")
@_report_option("junit", "the report as JUnit XML")
@_report_option("markdown", "the report as a Markdown page")
@_report_option("html", "the report as one HTML page")
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_and_leave(lambda: json.dumps(reports.schema(), indent=2)),
    help="Print the JSON Schema of --json, and leave.",
)
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_and_leave(_catalogue),
    help="Print the implementations and scenarios there are, and leave.",
)
def conformance(
    senders: tuple[str, ...],
    receivers: tuple[str, ...],
    entry_files: tuple[Path, ...],
    dialects: tuple[str, ...],
    scenarios: tuple[str, ...],
    network: str,
    root_key: str | None,
    identity: Path | None,
    seed: int | None,
    jobs: int,
    require_file: Path | None,
    from_file: Path | None,
    **files: str | None,
) -> None:
    """Play the protocol's scenarios between pairs of implementations.

    Without any of --sender, --receiver and --entry, those of this package are played with each
    other; with one of them, what is given is played with those of this package.

    The exit code is 0 if every required cell passed and something was played of each end that was
    named, 1 if not, 2 if nothing can be played as it was asked for, 3 if the network cannot be
    reached.
    """
    outputs = _outputs(files)
    required = _requirements(require_file)
    console = Console(stderr=True, highlight=False)
    if from_file is not None:
        if senders or receivers or entry_files or dialects or scenarios or seed is not None:
            raise UsageError(
                "--from plays nothing, so there is nobody and nothing to choose",
                hint="leave out --sender, --receiver, --entry, --dialect, --scenario and --seed",
            )
        _tell(_read(from_file), required, outputs, console)
        return
    cast = cast_of(senders, receivers, entry_files, dialects)
    chosen = secrets.randbelow(1 << 32) if seed is None else seed
    tasks, _ = plan_tasks(
        cast.senders,
        cast.receivers,
        scenarios=scenarios or None,
        dialects=dialects or None,
        seed=chosen,
        about=cast.about,
    )

    async def play() -> tuple[Report, bool, TransportError | None]:
        place, reachable = await _place(network, root_key, identity)
        async with contextlib.aclosing(Worlds()) as worlds:
            await refuse_what_cannot_be_played(cast, tasks, place, worlds)
            nowhere = await unreachable(tasks, place, worlds)
        if nowhere is not None and not outputs:
            raise nowhere
        expect = slowness(tasks, place) if reachable else None
        async with telling(console, expect) as teller:
            async for event in run(
                cast.senders,
                cast.receivers,
                scenarios=scenarios or None,
                dialects=dialects or None,
                place=place,
                seed=chosen,
                jobs=jobs,
                about=cast.about,
                called=cast.called,
                options=_again(root_key, identity),
            ):
                if nowhere is None:
                    teller.see(event)
                if isinstance(event, RunEnded):
                    return event.report, reachable, nowhere
        raise AssertionError("a run ends with its report")

    report, reachable, nowhere = asyncio.run(play())
    if nowhere is not None:
        _write(report, outputs)
        raise nowhere  # said once; each cell of the reports says it too
    missed = [] if require_file else unplayed(report, cast, tasks)
    _tell(report, required, outputs, console, missed=missed, reachable=reachable)


def _again(root_key: str | None, identity: Path | None) -> list[str]:
    """Options of the network's that a cell needs to be played again."""
    words = [] if root_key is None else ["--root-key", root_key]
    return words if identity is None else [*words, "--identity", str(identity)]


def _read(path: Path) -> Report:
    try:
        return reports.read_document(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text in UTF-8: {error.reason}") from error


def _tell(
    report: Report,
    required: reports.Requirements,
    outputs: dict[str, str],
    console: Console,
    *,
    missed: Sequence[str] = (),
    reachable: bool = True,
) -> None:
    """Print and write a report, and leave as it, what was missed, and its place deserve."""
    unmet = required.unmet(report)
    if "-" not in outputs.values():
        # A file or a pipe has no width of its own; this is what the table needs.
        width = None if sys.stdout.isatty() else 160
        print_report(Console(highlight=False, width=width), report, unmet)
    for words in missed:
        console.print(Text(words, style="bold red"), soft_wrap=True)
    _write(report, outputs)
    console.print(Text(f"seed {report.seed}, digest {reports.digest(report)}"), soft_wrap=True)
    if not reachable:
        raise SystemExit(_UNREACHABLE)
    if unmet or missed:
        raise SystemExit(_UNMET)


def _write(report: Report, outputs: dict[str, str]) -> None:
    """Write a report in each form that was asked for."""
    for form, path in outputs.items():
        text = _FORMS[form](report)
        if path == "-":
            click.echo(text, nl=False)
        else:
            Path(path).write_text(text, encoding="utf-8")


def _outputs(files: dict[str, str | None]) -> dict[str, str]:
    """Where each form goes; that it cannot go there is told before the run."""
    outputs = {form: path for form in _FORMS if (path := files[f"{form}_file"]) is not None}
    if list(outputs.values()).count("-") > 1:
        raise UsageError("two reports cannot both go to stdout", hint="name a file for one of them")
    for path in outputs.values():
        if path != "-" and not Path(path).resolve().parent.is_dir():
            raise UsageError(
                f"there is no folder for {path}", hint="make it, or name another place"
            )
        if path != "-":
            _try_to_write(Path(path))
    return outputs


def _try_to_write(path: Path) -> None:
    """Find out before a long run that its report could not be written; nothing is changed."""
    try:
        path = path.resolve()  # of a link, what it points to
        was_there = path.exists()
        if was_there and not path.is_file():
            return  # a pipe, whose reader would take the trial for the whole
        path.open("ab").close()
    except (OSError, RuntimeError) as error:  # the latter: links that lead in a circle
        words = error.strerror if isinstance(error, OSError) else None
        raise UsageError(
            f"{path} cannot be written: {words or error}", hint="name another place"
        ) from error
    if not was_there:
        path.unlink()


def _requirements(path: Path | None) -> reports.Requirements:
    if path is None:
        return reports.Requirements.everything()
    return reports.Requirements.load(path)


async def _place(choice: str, root_key: str | None, identity: Path | None) -> tuple[Place, bool]:
    """Where it is played, and whether that can be reached."""
    if choice == "embedded":
        if root_key is not None or identity is not None:
            raise UsageError(
                "embedded replicas have root keys and identities of their own",
                hint="give --root-key and --identity only with another --network",
            )
        return Place(), True
    key = None if root_key is None else parse_root_key(root_key)
    who = None if identity is None else Identity.from_pem(identity)
    place = Place(choice, key, who) if choice.startswith("http") else None
    try:
        async with open_network(choice, key) as network:
            word = "" if choice.startswith("http") else choice
            place = Place(network.url, network.root_key, who, word)
            async with network.agent(Identity.generate()) as agent:
                await agent.status()
    except TransportError:
        if place is None:
            raise
        return place, False
    return place, True
