"""``ic-bridge demo``: the guided run, told on the terminal."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import IO, Final

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from bridge.demo import DemoReport, FlowReport, run_demo
from bridge.monitor import MessageRecord, write_trace

_COLOURS = {"NEW": "blue", "ACK": "green", "FIN": "magenta"}


@click.command()
@click.option("--seed", type=int, help="Draw the payloads from this seed.")
@click.option(
    "--trace",
    type=click.File("w", encoding="utf-8", lazy=False),  # a wrong path is told before the run
    help="Write each message to this file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout.")
def demo(seed: int | None, trace: IO[str] | None, as_json: bool) -> None:
    """Show five flows between Python and Motoko canisters on an own replica.

    Exits with 0 only if every flow ended acknowledged and finished with the right response.
    """
    console = Console(stderr=True, highlight=False)
    teller = _Teller(console)
    report = asyncio.run(run_demo(say=teller.say, see=teller.see, seed=seed))
    if trace is not None:
        write_trace(report.records, trace)
        trace.flush()  # a full disk is told here; at the close of the file nobody would hear of it
    if as_json:
        click.echo(json.dumps({"ok": report.ok, "flows": [asdict(flow) for flow in report.flows]}))
    else:
        # A file or a pipe has no width of its own; this is what the table needs.
        width = None if sys.stdout.isatty() else 120
        out = Console(highlight=False, width=width)
        out.print(_shown(report, out))
    for flow in report.flows:
        if flow.fault is not None:
            console.print(f"{flow.title}: {flow.fault}", style="red")
    if not report.ok:
        raise SystemExit(1)


class _Teller:
    """Says what happens on stderr, each line with the time since the start."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = time.monotonic()

    def _line(self, text: Text) -> None:
        elapsed = time.monotonic() - self._begun
        self._console.print(Text(f"{elapsed:7.2f} s  ", style="dim") + text, soft_wrap=True)

    def say(self, words: str) -> None:
        self._line(Text(words, style="bold"))

    def see(self, record: MessageRecord) -> None:
        text = Text("  ")
        lost = record.outcome == "lost"
        text.append(f"{record.message}  ", style="red" if lost else _COLOURS[record.message])
        arrow = "→" if self._console.encoding.startswith("utf") else "to"
        text.append(f"{record.sender} {arrow} {record.receiver}")
        if record.size:
            text.append(f"  {record.size} B")
        if record.attempt > 1:
            text.append(f"  attempt {record.attempt}")
        if record.by == "outbox":
            text.append("  fetched from the outbox", style="dim")
        if lost:
            text.append("  lost by the replica", style="red")
        self._line(text)


def _shown(report: DemoReport, console: Console) -> RenderableType:
    """As much of the table as fits: all of it, the columns that differ, or a line for each flow."""
    full = _table(report, tuple(_COLUMNS))
    short = _table(report, _FEW_COLUMNS)
    unbounded = console.options.update(max_width=_UNBOUNDED)
    for table in (full, short):
        if console.measure(table, options=unbounded).maximum <= console.width:
            return table
    return Text("\n").join(
        Text(
            f"{flow.title}: {_right(flow)}, {flow.messages} messages, {flow.elapsed / 1e9:.2f} s",
            style="red" if flow.fault is not None else "",
        )
        for flow in report.flows
    )


def _right(flow: FlowReport) -> str:
    return "right" if flow.right else "WRONG"


_COLUMNS: Final[Mapping[str, Callable[[FlowReport], str]]] = {
    "flow": lambda flow: flow.title,
    "messages": lambda flow: str(flow.messages),
    "NEW / ACK sent": lambda flow: f"{flow.attempts[0]} / {flow.attempts[1]}",
    "elapsed": lambda flow: f"{flow.elapsed / 1e9:.2f} s",
    "sender": lambda flow: flow.sender_state or "-",
    "receiver": lambda flow: flow.receiver_state or "-",
    "response": _right,
}
_FEW_COLUMNS: Final = ("flow", "NEW / ACK sent", "elapsed", "response")
_UNBOUNDED: Final = 1000
_NUMBERS: Final = ("messages", "NEW / ACK sent", "elapsed")


def _table(report: DemoReport, columns: tuple[str, ...]) -> Table:
    table = Table(title="Flows")
    for name in columns:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", no_wrap=True)
    for flow in report.flows:
        table.add_row(
            *(_COLUMNS[name](flow) for name in columns),
            style=None if flow.fault is None else "red",
        )
    return table
