"""``ic-bridge demo``: the guided run, told on the terminal."""

import asyncio
import json
import sys
import time
from dataclasses import asdict
from typing import IO

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge.demo import DemoReport, run_demo
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
        Console(highlight=False, width=width).print(_table(report))
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
        text.append(f"{record.sender} → {record.receiver}")
        if record.size:
            text.append(f"  {record.size} B")
        if record.attempt > 1:
            text.append(f"  attempt {record.attempt}")
        if record.by == "outbox":
            text.append("  fetched from the outbox", style="dim")
        if lost:
            text.append("  lost by the replica", style="red")
        self._line(text)


def _table(report: DemoReport) -> Table:
    table = Table(title="Flows")
    for name in ("flow", "messages", "NEW / ACK sent", "elapsed", "sender", "receiver"):
        table.add_column(
            name, justify="left" if name in ("flow", "sender", "receiver") else "right"
        )
    table.add_column("response")
    for flow in report.flows:
        table.add_row(
            flow.title,
            str(flow.messages),
            f"{flow.attempts[0]} / {flow.attempts[1]}",
            f"{flow.elapsed / 1e9:.2f} s",
            flow.sender_state or "-",
            flow.receiver_state or "-",
            "right" if flow.right else "WRONG",
            style=None if flow.fault is None else "red",
        )
    return table
