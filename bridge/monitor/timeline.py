"""Draws a message trace as sequence diagrams: one panel a flow, time running down.

The picture is plain SVG without scripts or fonts of its own, so that any page or viewer shows it,
light or dark as the reader's scheme is. Every line and word has a class by which a page that it
stands in may colour it.
Distances are by order, not by time: a wait of a second and one of an hour read equally well, and
the time stands beside each arrow.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from bridge.monitor.trace import MessageRecord

_PANEL_WIDTH: Final = 400
_PANEL_GAP: Final = 20
_MARGIN: Final = 20
_ROW: Final = 40
_HEAD: Final = 84
_LEFT: Final = 92
_RIGHT: Final = 332
_COLOURS: Final = {"NEW": "#2563eb", "ACK": "#15803d", "FIN": "#6d28d9"}
_LOST: Final = "#b91c1c"
_LONGEST_NAME: Final = 12
_MINUTE: Final = 60_000_000_000

_STYLE: Final = """
text { font-family: ui-sans-serif, system-ui, sans-serif; font-size: 12px; fill: #1f2937; }
.title { font-size: 14px; font-weight: 600; }
.peer { font-weight: 600; text-anchor: middle; }
.label { text-anchor: middle; }
.label.lost { fill: #b91c1c; }
.time { fill: #6b7280; text-anchor: end; font-size: 11px; }
.life { stroke: #9ca3af; stroke-dasharray: 3 4; }
.panel { fill: #ffffff; stroke: #d1d5db; }
.box { fill: #f3f4f6; stroke: #9ca3af; }
.ground { fill: #f9fafb; }
@media (prefers-color-scheme: dark) {
text { fill: #e5e7eb; }
.time { fill: #9ca3af; }
.life { stroke: #6b7280; }
.panel { fill: #111827; stroke: #374151; }
.box { fill: #1f2937; stroke: #6b7280; }
.ground { fill: #0b0f19; }
line.NEW { stroke: #60a5fa; } .head.NEW { fill: #60a5fa; }
line.ACK { stroke: #4ade80; } .head.ACK { fill: #4ade80; }
line.FIN { stroke: #a78bfa; } .head.FIN { fill: #a78bfa; }
line.lost, path.lost { stroke: #f87171; }
.label.lost { fill: #f87171; }
}
"""


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    records: Sequence[MessageRecord]

    @property
    def height(self) -> int:
        return _HEAD + _ROW * len(self.records) + 12


def draw_timeline(
    records: Iterable[MessageRecord], *, columns: int = 2, standalone: bool = True
) -> str:
    """The records as one SVG document.

    Args:
        records: Messages in the order in which they were seen.
        columns: How many flows stand side by side.
        standalone: Whether it brings its style, arrow heads, background and margin; where not,
            those are the page's, the arrow heads by `arrow_heads`.

    Returns:
        The text of an SVG document.
    """
    panels = _panels(records)
    # Each panel goes into the shortest column, which keeps the page short and the order readable.
    heights = [0] * max(1, min(columns, len(panels)))
    placed: list[tuple[int, int, _Panel]] = []
    for panel in panels:
        column = heights.index(min(heights))
        placed.append((column, heights[column], panel))
        heights[column] += panel.height + _PANEL_GAP
    margin = _MARGIN if standalone else 1  # half of a line's width would be cut off
    width = 2 * margin + len(heights) * (_PANEL_WIDTH + _PANEL_GAP) - _PANEL_GAP
    height = 2 * margin + max(heights) - _PANEL_GAP if panels else 2 * margin
    body = "".join(
        _draw_panel(panel, x=margin + column * (_PANEL_WIDTH + _PANEL_GAP), y=margin + top)
        for column, top, panel in placed
    )
    if standalone:
        body = f'<rect width="{width}" height="{height}" class="ground"/>{body}'
    brought = f"<style>{_STYLE}</style>{_heads()}" if standalone else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="Messages of {len(panels)} flows">'
        f"{brought}{body}</svg>\n"
    )


def _panels(records: Iterable[MessageRecord]) -> list[_Panel]:
    flows: dict[str, list[MessageRecord]] = {}
    for record in records:
        flows.setdefault(record.flow, []).append(record)
    return [_Panel(name, sorted(rows, key=lambda row: row.time)) for name, rows in flows.items()]


def arrow_heads() -> str:
    """An SVG document without any size, for a page that shows drawings which bring none."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="0" height="0" aria-hidden="true" '
        f'style="position:absolute">{_heads()}</svg>'
    )


def _heads() -> str:
    heads = "".join(
        f'<marker id="head-{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        f'markerHeight="8" orient="auto">'
        f'<path class="head {name}" d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
        for name, colour in _COLOURS.items()
    )
    return f"<defs>{heads}</defs>"


def _draw_panel(panel: _Panel, *, x: int, y: int) -> str:
    first = panel.records[0]
    # The flow's sender stands left, whoever's message happens to come first in the trace.
    left, right = (
        (first.receiver, first.sender) if first.message == "ACK" else (first.sender, first.receiver)
    )
    bottom = panel.height - 12
    parts = [
        f'<g transform="translate({x} {y})">',
        f'<rect class="panel" width="{_PANEL_WIDTH}" height="{panel.height}" rx="8"/>',
        f'<text class="title" x="16" y="26">{escape(panel.title)}</text>',
    ]
    for centre, name in ((_LEFT, left), (_RIGHT, right)):
        parts.append(
            f'<line class="life" x1="{centre}" y1="66" x2="{centre}" y2="{bottom}"/>'
            f'<rect class="box" x="{centre - 50}" y="40" width="100" height="26" rx="4"/>'
            f'<text class="peer" x="{centre}" y="57">{_name(name)}</text>'
        )
    for row, record in enumerate(panel.records):
        parts.append(
            _draw_message(
                record,
                y=_HEAD + _ROW * row + 22,
                rightward=record.sender == left,
                elapsed=record.time - first.time,
            )
        )
    parts.append("</g>")
    return "".join(parts)


def _name(name: str) -> str:
    """A name that fits its box; the whole of it is told where it is pointed at."""
    if len(name) <= _LONGEST_NAME:
        return escape(name)
    return f"{escape(name[: _LONGEST_NAME - 1])}…<title>{escape(name)}</title>"


def _draw_message(record: MessageRecord, *, y: int, rightward: bool, elapsed: int) -> str:
    start, end = (_LEFT, _RIGHT) if rightward else (_RIGHT, _LEFT)
    middle = (_LEFT + _RIGHT) // 2
    label: str = record.message
    if record.size:
        label += f" · {record.size} B"
    if record.attempt > 1:
        label += f" · attempt {record.attempt}"
    if record.by == "outbox":
        label += " · from the outbox"
    time = f'<text class="time" x="{_LEFT - 10}" y="{y + 4}">{_span(elapsed)}</text>'
    if record.outcome == "lost":
        return (
            f'{time}<line class="lost" x1="{start}" y1="{y}" x2="{middle}" y2="{y}" '
            f'stroke="{_LOST}" stroke-width="1.6"/>'
            f'<path class="lost" d="M{middle - 5} {y - 5}l10 10m0 -10l-10 10" '
            f'stroke="{_LOST}" stroke-width="2" fill="none"/>'
            f'<text class="label lost" x="{middle}" y="{y - 9}">'
            f"{escape(label)} · lost</text>"
        )
    colour = _COLOURS[record.message]
    return (
        f'{time}<line class="{record.message}" x1="{start}" y1="{y}" x2="{end}" y2="{y}" '
        f'stroke="{colour}" stroke-width="1.6" marker-end="url(#head-{record.message})"/>'
        f'<text class="label" x="{middle}" y="{y - 7}">{escape(label)}</text>'
    )


def _span(nanoseconds: int) -> str:
    if nanoseconds < 10_000_000_000:
        return f"{nanoseconds / 1e6:,.0f} ms"
    if nanoseconds < 20 * _MINUTE:
        return f"{nanoseconds / 1e9:,.0f} s"
    if nanoseconds < 600 * _MINUTE:
        return f"{nanoseconds / _MINUTE:,.0f} min"
    return f"{nanoseconds / (60 * _MINUTE):,.0f} h"
