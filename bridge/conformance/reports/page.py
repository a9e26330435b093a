"""A report as one HTML page that needs nothing beside itself: no network, no server, no fonts.

The matrix is plain HTML. What a cell opens is data in the page, put together by its script; of what
strangers' canisters said, nothing is ever read as HTML.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from typing import Any, Final

from bridge.conformance.reports.document import digest
from bridge.conformance.reports.words import (
    IN_PART,
    IN_PART_MEANS,
    MEANINGS,
    SIGNS,
    Pair,
    by_key,
    count_of,
    groups,
    in_part,
    judged,
    pairs,
    sign,
    tally,
)
from bridge.conformance.results import Cell, CellKey, Implementation, Report, Verdict
from bridge.monitor import MessageRecord, arrow_heads, draw_timeline

_MOST_PANELS: Final = 4
_MOST_MESSAGES: Final = 40
# Pixels of the matrix: a column, what each pair has beside its columns, the names, the margins.
_COLUMN: Final = 27
_PAIR: Final = 10
_NAMES: Final = 290
_AROUND: Final = 80


def to_page(report: Report) -> str:
    """A report as the text of an HTML document."""
    script = _asset("page.js")
    columns = _columns(report)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">
<title>Async Flow conformance: {escape(tally(report))}</title>
<style>{_asset("page.css")}{_widths(columns)}</style>
</head>
<body>
<a class="skip" href="#matrix">Skip to the matrix</a>
<div class="top">
{_head(report)}
{_overview(report)}
</div>
<main>
{_matrix(report, columns)}
{_hazards(report)}
{_in_part(report)}
{_implementations(report.implementations)}
</main>
{_foot(report)}
{_DIALOG}
<div class="heads">{arrow_heads()}</div>
<script type="application/json" id="data">{_data(report)}</script>
<script>{script}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return (resources.files("bridge.conformance.reports") / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


# --- The head -------------------------------------------------------------------------------------


def _head(report: Report) -> str:
    total = len(report.cells)
    facts = [
        count_of(len(report.implementations), "implementation"),
        count_of(len(pairs(report)), "pair"),
        count_of(len(report.dialects), "dialect"),
        count_of(len(report.scenarios), "scenario"),
    ]
    where = "embedded replicas" if report.network == "embedded" else report.network
    segments = "".join(
        f'<span class="{verdict}" style="flex-grow:{report.count(verdict)}"></span>'
        for verdict in Verdict
        if report.count(verdict)
    )
    everything = f'all<span class="n">{total}</span>'
    buttons = [
        f'<button type="button" class="chip" data-show="" aria-pressed="true">{everything}</button>'
    ]
    for verdict in Verdict:
        count = report.count(verdict)
        off = "" if count else " disabled"
        buttons.append(
            f'<button type="button" class="chip {verdict}" data-show="{verdict}" '
            f'aria-pressed="false" title="{escape(MEANINGS[verdict])}"{off}>'
            f'<span class="sign" aria-hidden="true">{SIGNS[verdict]}</span>{verdict}'
            f'<span class="n">{count}</span></button>'
        )
    return f"""<header>
<p class="brow">Async Flow</p>
<h1>Which implementations work together</h1>
<p class="lede">{", ".join(facts)}, played on {escape(where)} with seed
<code>{report.seed}</code> by ic-bridge {escape(report.version)}.</p>
<div class="meter" role="img" aria-label="{escape(tally(report))}">{segments}</div>
<div class="chips" role="group" aria-label="Show only cells that are">{"".join(buttons)}</div>
</header>"""


# --- Who with whom --------------------------------------------------------------------------------


def _overview(report: Report) -> str:
    known = pairs(report)
    senders = list(dict.fromkeys(pair.sender for pair in known))
    receivers = list(dict.fromkeys(pair.receiver for pair in known))
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in receivers)
    rows = []
    for sender in senders:
        fields = "".join(_pair(report, Pair(sender, receiver), known) for receiver in receivers)
        rows.append(f'<tr><th scope="row">{escape(sender)}</th>{fields}</tr>')
    return f"""<section class="overview" aria-labelledby="who">
<h2 id="who">Who with whom</h2>
<p class="hint">Senders by row, receivers by column. Choose a pair to see it alone.</p>
<div class="scroll"><table class="pairs"><thead><tr><td></td>{head}</tr></thead>
<tbody>{"".join(rows)}</tbody></table></div>
</section>"""


def _pair(report: Report, pair: Pair, known: Sequence[Pair]) -> str:
    if pair not in known:
        return "<td></td>"
    cells = [
        cell
        for cell in report.cells
        if (cell.key.sender, cell.key.receiver) == (pair.sender, pair.receiver)
    ]
    counts = {verdict: sum(cell.verdict is verdict for cell in cells) for verdict in Verdict}
    asked = len(cells) - counts[Verdict.UNSUPPORTED]
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    bar = "".join(
        f'<span class="{verdict}" style="flex-grow:{count}"></span>'
        for verdict, count in counts.items()
        if count
    )
    bad = " bad" if counts[Verdict.FAILED] or counts[Verdict.ERROR] else ""
    return (
        f'<td><button type="button" class="pair{bad}" data-pair="{known.index(pair)}" '
        f'aria-pressed="false" aria-label="{escape(str(pair))}: {escape(told)}">'
        f'<span class="of"><b>{counts[Verdict.PASSED]}</b>/{asked}</span>'
        f'<span class="meter">{bar}</span></button></td>'
    )


# --- The matrix -----------------------------------------------------------------------------------


def _columns(report: Report) -> list[tuple[Pair, list[str]]]:
    """The pairs, each with the dialects in which it was played."""
    spoken: dict[Pair, set[str]] = {}
    for cell in report.cells:
        pair = Pair(cell.key.sender, cell.key.receiver)
        spoken.setdefault(pair, set()).add(cell.key.dialect)
    return [(pair, [d for d in report.dialects if d in said]) for pair, said in spoken.items()]


def _widths(columns: Sequence[tuple[Pair, Sequence[str]]]) -> str:
    """From which width on the whole matrix fits, and how one pair of it is shown alone."""
    width = _AROUND + _NAMES + sum(_PAIR + _COLUMN * len(dialects) for _, dialects in columns)
    rules = [
        f'.matrix[data-pair="{number}"] [data-p]:not([data-p="{number}"]){{display:none}}'
        for number in range(len(columns))
    ]
    rules.append(
        f"@media (min-width:{width}px){{.matrix-scroll{{overflow:visible}}"
        ".matrix thead{position:sticky;top:0}}"
    )
    return "".join(rules)


def _matrix(report: Report, columns: Sequence[tuple[Pair, Sequence[str]]]) -> str:
    cells = by_key(report)
    numbers = {cell.key: number for number, cell in enumerate(report.cells)}
    over = "".join(
        f'<th scope="colgroup" colspan="{len(dialects)}" data-p="{number}" class="who">'
        f"<span>{escape(pair.sender)}</span> <span>→ {escape(pair.receiver)}</span></th>"
        for number, (pair, dialects) in enumerate(columns)
    )
    under = "".join(
        f'<th scope="col" data-p="{number}" class="dialect{_first(place)}">'
        f"<span>{dialect}</span></th>"
        for number, (_, dialects) in enumerate(columns)
        for place, dialect in enumerate(dialects)
    )
    bodies = []
    for group, scenarios in groups(report.scenarios).items():
        rows = [
            f'<tr class="group"><th scope="rowgroup" colspan="99">{escape(group)}</th></tr>',
        ]
        for scenario in scenarios:
            fields = []
            for number, (pair, dialects) in enumerate(columns):
                for place, dialect in enumerate(dialects):
                    key = CellKey(pair.sender, pair.receiver, dialect, scenario.id)
                    mark = _mark(cells[key], numbers[key]) if key in cells else ""
                    fields.append(f'<td data-p="{number}"{_class(place)}>{mark}</td>')
            rows.append(
                f'<tr><th scope="row"><b>{escape(scenario.id)}</b> '
                f"<span>{escape(scenario.title)}</span></th>{''.join(fields)}</tr>"
            )
        bodies.append(f"<tbody>{''.join(rows)}</tbody>")
    return f"""<section aria-labelledby="matrix">
<h2 id="matrix">The matrix</h2>
<p class="hint">{_legend()} <span class="keys">Arrow keys move, Enter opens a cell.</span></p>
<div class="scroll matrix-scroll"><table class="matrix">
<caption>Verdicts by scenario, pair and dialect</caption>
<thead><tr><td rowspan="2"></td>{over}</tr><tr>{under}</tr></thead>
{"".join(bodies)}
</table></div>
<p class="none" hidden>No cell of this kind here.</p>
</section>"""


def _first(place: int) -> str:
    return " first" if place == 0 else ""


def _class(place: int) -> str:
    return ' class="first"' if place == 0 else ""


def _mark(cell: Cell, number: int) -> str:
    half = " half" if cell.delivery is Verdict.PASSED and cell.verdict is Verdict.FAILED else ""
    key = cell.key
    label = f"{key.scenario}, {key.sender} to {key.receiver}, {key.dialect}: {judged(cell)}"
    return (
        f'<button type="button" class="mark {cell.verdict}{half}" data-cell="{number}" '
        f'tabindex="-1" aria-label="{escape(label)}">{sign(cell)}</button>'
    )


def _legend() -> str:
    words = [
        f'<span class="mark {verdict}" aria-hidden="true">{SIGNS[verdict]}</span> {verdict}'
        for verdict in Verdict
    ]
    words.append(
        f'<span class="mark failed half" aria-hidden="true">{SIGNS[Verdict.FAILED]}</span> '
        "delivered, but did not come to rest"
    )
    words.append(
        f'<span class="mark passed" aria-hidden="true">{SIGNS[Verdict.PASSED]}{IN_PART}</span> '
        f"{IN_PART_MEANS}"
    )
    return "".join(f'<span class="legend">{word}</span>' for word in words)


# --- Below it -------------------------------------------------------------------------------------


def _hazards(report: Report) -> str:
    found: dict[str, list[Cell]] = {}
    for cell in report.cells:
        if cell.hazard is not None:
            found.setdefault(cell.hazard.name, []).append(cell)
    if not found:
        return ""
    numbers = {cell.key: number for number, cell in enumerate(report.cells)}
    cards = []
    for name, cells in found.items():
        hazard = cells[0].hazard
        assert hazard is not None
        links = " ".join(
            f'<button type="button" class="link" data-cell="{numbers[cell.key]}">'
            f"{escape(cell.key.scenario)} {escape(cell.key.sender)} → "
            f"{escape(cell.key.receiver)} · {escape(cell.key.dialect)}</button>"
            for cell in cells
        )
        cards.append(
            f'<article class="card danger"><h3>{escape(name)}</h3>'
            f"<p>{escape(hazard.meaning)}</p>"
            f"<p><b>What to do.</b> {escape(hazard.remedy)}</p>"
            f"<details><summary>Seen in {count_of(len(cells), 'cell')}</summary>"
            f'<p class="links">{links}</p></details></article>'
        )
    return (
        '<section aria-labelledby="hazards"><h2 id="hazards">Hazards that this run shows</h2>'
        f'<div class="cards">{"".join(cards)}</div></section>'
    )


def _in_part(report: Report) -> str:
    found = in_part(report.cells)
    if not found:
        return ""
    numbers = {cell.key: number for number, cell in enumerate(report.cells)}
    items = []
    for (scenario, reason), cells in found.items():
        links = " ".join(
            f'<button type="button" class="link" data-cell="{numbers[cell.key]}">'
            f"{escape(cell.key.sender)} → {escape(cell.key.receiver)} · "
            f"{escape(cell.key.dialect)}</button>"
            for cell in cells
        )
        items.append(
            f"<details><summary><b>{escape(scenario)}</b> {escape(reason)} "
            f"({count_of(len(cells), 'cell')})</summary>"
            f'<p class="links">{links}</p></details>'
        )
    return (
        '<section aria-labelledby="in-part"><h2 id="in-part">What passed, but was not judged in all'
        f'</h2><div class="card">{"".join(items)}</div></section>'
    )


def _implementations(implementations: Iterable[Implementation]) -> str:
    cards = []
    for one in implementations:
        lacks = "".join(
            f"<li><b>{escape(scenario)}</b> {escape(reason)}</li>" for scenario, reason in one.lacks
        )
        rows = [
            ("role", one.role if one.role != "both" else "sender and receiver"),
            ("dialects", ", ".join(one.dialects)),
            ("from", one.source),
            (
                "can be asked",
                {"watch": "our watch interface", "own": "its own"}.get(one.asked, "nothing"),
            ),
            ("an unknown scenario", one.answered_unknown),
        ]
        facts = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in rows)
        cards.append(
            f'<article class="card"><h3>{escape(one.name)}</h3><p>{escape(one.about)}</p>'
            f"<dl>{facts}</dl>"
            + (f"<p>States that it lacks:</p><ul>{lacks}</ul>" if lacks else "")
            + "</article>"
        )
    return (
        '<section aria-labelledby="took-part"><h2 id="took-part">Who took part</h2>'
        f'<div class="cards">{"".join(cards)}</div></section>'
    )


def _foot(report: Report) -> str:
    return f"""<footer>
<p>Took {_seconds(report.seconds)} of real time. Two runs with one seed agree in everything but
such figures; what they agree in has the SHA-256 <code class="wrap">{digest(report)}</code>.</p>
</footer>"""


_DIALOG: Final = """<dialog id="cell" aria-labelledby="cell-title">
<div class="bar">
<div class="name"><p class="where"></p><h2 id="cell-title" tabindex="-1"></h2></div>
<button type="button" class="step" data-step="-1" aria-label="Previous cell">&lsaquo;</button>
<button type="button" class="step" data-step="1" aria-label="Next cell">&rsaquo;</button>
<button type="button" class="close" aria-label="Close">&times;</button>
</div>
<div class="body"><div class="facts"></div><div class="drawing"></div></div>
</dialog>"""


# --- What cells open ------------------------------------------------------------------------------


def _data(report: Report) -> str:
    panels: dict[str, int] = {}
    hazards: dict[str, int] = {}
    listed: list[dict[str, str]] = []
    cells = []
    for cell in report.cells:
        drawn, left_out = _panels(cell.timeline)
        hazard = None
        if cell.hazard is not None:
            if cell.hazard.name not in hazards:
                hazards[cell.hazard.name] = len(listed)
                listed.append(
                    {
                        "name": cell.hazard.name,
                        "meaning": cell.hazard.meaning,
                        "remedy": cell.hazard.remedy,
                    }
                )
            hazard = hazards[cell.hazard.name]
        cells.append(
            {
                "key": [
                    cell.key.scenario,
                    cell.key.sender,
                    cell.key.receiver,
                    cell.key.dialect,
                ],
                "verdict": str(cell.verdict),
                "judged": judged(cell),
                "expected": cell.expected,
                "observed": cell.observed,
                "clean_up": cell.clean_up_observed,
                "hazard": hazard,
                "unjudged": list(cell.unjudged),
                "log": list(cell.log),
                "rerun": cell.rerun,
                "took": _took(cell),
                "panels": [panels.setdefault(svg, len(panels)) for svg in drawn],
                "left_out": left_out,
            }
        )
    data: dict[str, Any] = {
        "cells": cells,
        "panels": list(panels),
        "hazards": listed,
        "scenarios": {one.id: [one.title, one.requirement] for one in report.scenarios},
        "signs": {str(verdict): sign for verdict, sign in SIGNS.items()},
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _panels(timeline: Sequence[MessageRecord]) -> tuple[list[str], str]:
    """One drawing for each flow, the longest ones where there are many; and what was left out."""
    flows: dict[str, list[MessageRecord]] = {}
    for record in timeline:
        flows.setdefault(record.flow, []).append(record)
    longest = sorted(flows, key=lambda flow: -len(flows[flow]))[:_MOST_PANELS]
    drawn = [name for name in flows if name in longest]
    notes = []
    if len(drawn) < len(flows):
        notes.append(f"Of {len(flows)} flows the {len(drawn)} with the most messages are drawn.")
    if any(len(flows[name]) > _MOST_MESSAGES for name in drawn):
        notes.append(f"Of each flow the first {_MOST_MESSAGES} messages are drawn.")
    if notes:
        notes.append("All are in the report in JSON.")
    svgs = [
        draw_timeline(flows[name][:_MOST_MESSAGES], columns=1, standalone=False) for name in drawn
    ]
    return svgs, " ".join(notes)


def _took(cell: Cell) -> str:
    words = []
    if cell.seconds:
        words.append(f"{_seconds(cell.seconds)} of real time")
    if cell.virtual:
        words.append(f"{_seconds(cell.virtual / 1e9)} of the network's own")
    return ", ".join(words)


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
