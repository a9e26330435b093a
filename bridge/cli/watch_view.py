"""How ``ic-bridge watch`` shows what it found: tables on a terminal, plain columns elsewhere, JSON.

Whatever others chose, names, versions, reasons, goes to a terminal without control characters.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge.cli import exits
from bridge.cli.watch_conditions import code_of
from bridge.errors import BridgeError
from bridge.monitor.records import (
    ContactLost,
    ContactRegained,
    EventsMissed,
    FlowEvent,
    FlowList,
    FlowView,
    HistoryReset,
    Restarted,
    Seen,
    SideUsage,
    Status,
    Trust,
    printable,
)
from bridge.monitor.watch import Watch

_WIDEST: Final = 1_000
_SPANS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_TYPES: Final[dict[type[Any], str]] = {
    FlowEvent: "event",
    EventsMissed: "missed",
    HistoryReset: "history_reset",
    Restarted: "restarted",
    ContactLost: "contact_lost",
    ContactRegained: "contact_regained",
}
_ATTENTION: Final = frozenset({"dead_letter", "stalled", "corrupt", "abandoned", "failed"})


def shown(name: str) -> str:
    """Somebody's text, fit for a terminal."""
    return printable(name)


def say(source: str, words: str) -> None:
    """Say something about a source on stderr."""
    click.echo(f"{shown(source)}: {printable(words, 2_000)}", err=True)


def say_trust(trusts: Iterable[Trust]) -> None:
    """Say on stderr why what is told may be believed."""
    for trust in sorted(set(trusts)):
        click.echo(f"trust: {trust}", err=True)


def complain(source: str, error: BridgeError) -> int:
    """Say what went wrong with a source; the exit code that it asks for."""
    hint = printable(error.hint, 2_000) if error.hint else None
    exits.say(f"{shown(source)}: {printable(error.message, 2_000)}", hint)
    return code_of(error)


def _span(nanoseconds: int) -> str:
    """A duration by its largest unit."""
    seconds = abs(nanoseconds) // 1_000_000_000
    for size, unit in _SPANS:
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return "0 s"


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: set[str]) -> None:
    """Print rows: as a table on a terminal, else as columns with two spaces between them."""
    texts = [[printable(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        # An id that is cut or spread over lines cannot be copied: rather let the terminal wrap.
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in columns:
            table.add_column(Text(name), justify="right" if name in right else "left", no_wrap=True)
        for row in texts:
            style = "red" if _ATTENTION & {cell.split(" ")[0] for cell in row} else None
            table.add_row(*(Text(cell) for cell in row), style=style)
        console = Console(highlight=False)
        wide = console.options.update(max_width=_WIDEST)
        needed = console.measure(table, options=wide).maximum
        # A width alone is not heeded on every terminal.
        width, height = max(console.width, needed), console.height
        Console(highlight=False, width=width, height=height).print(table)
        return
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    for row in [list(columns), *texts]:
        cells = (
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(columns, row, widths, strict=True)
        )
        click.echo("  ".join(cells).rstrip())


# --- Status ---------------------------------------------------------------------------------------


def _of(part: int, limit: int | None) -> str:
    return f"{part:,}" if limit is None else f"{part:,} of {limit:,}"


def show_statuses(found: Sequence[Status]) -> None:
    """Print what each takes of its quotas, and what it counted."""
    rows = [
        (
            one.source,
            one.trust,
            side.role,
            _of(side.open, one.limits.open),
            _of(side.tombstones, one.limits.tombstones),
            _of(side.bytes, one.limits.bytes),
            f"{side.peers:,}",
        )
        for one in found
        for side in one.usage
    ]
    columns = ("source", "trust", "role", "open", "tombstones", "bytes", "peers")
    _table(columns, rows, right={"open", "tombstones", "bytes", "peers"})
    counted = [
        (one.source, name, f"{count:,}")
        for one in found
        for name, count in sorted(one.counters.items())
    ]
    if counted:
        click.echo()
        _table(("source", "counted", "times"), counted, right={"times"})


def status_document(one: Status) -> dict[str, Any]:
    """A status as JSON has it."""
    return {
        "source": one.source,
        "trust": str(one.trust),
        "time": one.time,
        "version": one.version,
        "starts": one.starts,
        "horizon": one.horizon,
        "next_due": one.next_due,
        "usage": {str(side.role): _side(side) for side in one.usage},
        "limits": asdict(one.limits),
        "counters": dict(one.counters),
        "gauges": dict(one.gauges),
        "peers": [
            {
                "peer": None if row.peer is None else str(row.peer),
                "sent": row.sent,
                "received": row.received,
                "refused": row.refused,
            }
            for row in one.traffic
        ],
    }


def _side(side: SideUsage) -> dict[str, int]:
    return {name: getattr(side, name) for name in ("open", "tombstones", "bytes", "peers")}


# --- Flows ----------------------------------------------------------------------------------------


def show_flows(found: Sequence[tuple[FlowList, int]]) -> None:
    """Print flows, with how long ago things were by the clocks of their sources."""
    rows = [
        (
            one.source,
            flow.role,
            f"{flow.state} ({flow.failure})" if flow.failure else flow.state,
            flow.peer,
            flow.msg_id,
            flow.attempts,
            _span(now - flow.opened),
            _span(now - flow.changed),
            _due(flow, now),
        )
        for one, now in found
        for flow in one
    ]
    columns = ("source", "role", "state", "peer", "msg_id", "attempts", "age", "unchanged", "due")
    if rows:
        _table(columns, rows, right={"attempts", "age", "unchanged", "due"})
    else:
        click.echo("no flows", err=True)
    say_trust(one.trust for one, _ in found)


def _due(flow: FlowView, now: int) -> str:
    if flow.due is None:
        return "-"
    return f"in {_span(flow.due - now)}" if flow.due >= now else f"{_span(now - flow.due)} ago"


def flows_document(one: FlowList) -> dict[str, Any]:
    """Flows as JSON has them; ids as text, since they can exceed what others take as a number."""
    return {
        "source": one.source,
        "trust": str(one.trust),
        "complete": one.complete,
        "flows": [_plain(flow) for flow in one],
    }


def _plain(record: Any) -> dict[str, Any]:
    """A record's fields as JSON has them."""
    return {field.name: _value(field.name, getattr(record, field.name)) for field in fields(record)}


def _value(name: str, value: Any) -> Any:
    if isinstance(value, BridgeError):
        return {"error": type(value).__name__, "message": str(value)}
    if value is None or isinstance(value, bool) or (isinstance(value, int) and name != "msg_id"):
        return value
    return str(value)


# --- Events ---------------------------------------------------------------------------------------


def event_document(watch: Watch, seen: Seen) -> dict[str, Any]:
    """One thing that was seen, as JSON has it: ``type`` says what it is."""
    trust = Trust.CERTIFIED if isinstance(seen, HistoryReset) else watch.trust
    return {
        "source": watch.name,
        "trust": str(trust),
        "type": _TYPES[type(seen)],
        **_plain(seen),
    }
