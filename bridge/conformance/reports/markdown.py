"""A report as a Markdown page: the matrix by dialect, and why a cell is not green."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from bridge.conformance.reports.words import (
    IN_PART,
    IN_PART_MEANS,
    MEANINGS,
    SIGNS,
    Pair,
    by_key,
    groups,
    in_part,
    judged,
    of_note,
    pairs,
    sign,
    tally,
)
from bridge.conformance.results import Cell, CellKey, Report, ScenarioInfo, Verdict

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def to_markdown(report: Report, *, title: str = "Conformance") -> str:
    """A report as a page; no clock's word is on it.

    Args:
        report: The run.
        title: The page's heading.
    """
    parts = [
        f"# {_plain(title)}",
        _lead(report),
        _legend(),
    ]
    parts += [_dialect(report, dialect) for dialect in report.dialects]
    noted = of_note(report.cells)
    if noted:
        parts += ["## What did not pass", *(_story(cell) for cell in noted)]
    unjudged = in_part(report.cells)
    if unjudged:
        parts += ["## What passed, but was not judged in all", _grouped(unjudged)]
    lacking = [cell for cell in report.cells if cell.verdict is Verdict.UNSUPPORTED]
    if lacking:
        parts += ["## What is unsupported, and by whose word", _reasons(lacking)]
    parts += ["## Who took part", _implementations(report)]
    return "\n\n".join(parts) + "\n"


def _lead(report: Report) -> str:
    return (
        f"Played by `ic-bridge conformance` {_plain(report.version)} on "
        f"{_network(report.network)} with seed {report.seed}: **{tally(report)}**."
    )


def _legend() -> str:
    lines = [f"{SIGNS[verdict]} {verdict}: {MEANINGS[verdict]}" for verdict in Verdict]
    lines.append(f"{IN_PART} behind it: {IN_PART_MEANS}")
    return "; ".join(lines) + "."


def _network(name: str) -> str:
    return "embedded replicas" if name == "embedded" else f"`{_code(name)}`"


def _dialect(report: Report, dialect: str) -> str:
    cells = by_key(report)
    spoken = [
        pair
        for pair in pairs(report)
        if any(
            CellKey(pair.sender, pair.receiver, dialect, scenario.id) in cells
            for scenario in report.scenarios
        )
    ]
    head = ["scenario", *(_plain(str(pair)) for pair in spoken)]
    lines = [_row(head), _row([":--", *[":-:"] * len(spoken)])]
    for group, scenarios in groups(report.scenarios).items():
        rows = [_scenario(scenario, dialect, spoken, cells) for scenario in scenarios]
        played = [row for row in rows if row is not None]
        if played:
            lines += [_row([f"**{_plain(group)}**", *[""] * len(spoken)]), *played]
    return f"## Dialect {dialect}\n\n" + "\n".join(lines)


def _scenario(
    scenario: ScenarioInfo, dialect: str, spoken: Sequence[Pair], cells: dict[CellKey, Cell]
) -> str | None:
    found = [
        cells.get(CellKey(pair.sender, pair.receiver, dialect, scenario.id)) for pair in spoken
    ]
    if not any(found):
        return None
    signs = ["" if cell is None else sign(cell) for cell in found]
    return _row([f"{_plain(scenario.id)} {_plain(scenario.title)}", *signs])


def _row(fields: Sequence[str]) -> str:
    return "| " + " | ".join(fields) + " |"


def _story(cell: Cell) -> str:
    lines = [
        f"### {_plain(str(cell.key))}",
        "",
        f"- {judged(cell)}",
        f"- requirement: {_plain(cell.requirement)}",
        f"- expected: {_plain(cell.expected)}",
        f"- observed: {_plain(cell.observed)}",
    ]
    if cell.clean_up_observed:
        lines.append(f"- clean-up: {_plain(cell.clean_up_observed)}")
    if cell.hazard is not None:
        hazard = cell.hazard
        lines.append(f"- **{_plain(hazard.name)}**: {_plain(hazard.meaning)}")
        lines.append(f"- what to do: {_plain(hazard.remedy)}")
    if cell.rerun:
        lines.append(f"- again: `{_code(cell.rerun)}`")
    return "\n".join(lines)


def _reasons(cells: Sequence[Cell]) -> str:
    where: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        where.setdefault((cell.key.scenario, cell.observed), []).append(cell)
    return _grouped(where)


def _grouped(where: Mapping[tuple[str, str], Sequence[Cell]]) -> str:
    """Reasons by scenario, and the cells for which they stand."""
    lines = [_row(["scenario", "reason", "where"]), _row([":--"] * 3)]
    for (scenario, reason), found in where.items():
        dialects = dict.fromkeys(cell.key.dialect for cell in found)
        ends = dict.fromkeys(str(Pair(cell.key.sender, cell.key.receiver)) for cell in found)
        place = f"{', '.join(dialects)}: {', '.join(ends)}"
        lines.append(_row([_plain(scenario), _plain(reason), _plain(place)]))
    return "\n".join(lines)


def _implementations(report: Report) -> str:
    lines = [
        _row(["name", "role", "dialects", "what it is", "from", "asked"]),
        _row([":--"] * 6),
    ]
    for one in report.implementations:
        row = [one.name, one.role, ", ".join(one.dialects), one.about, one.source, one.asked]
        lines.append(_row([_plain(field) for field in row]))
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """Text for between backticks."""
    return " ".join(text.split()).replace("`", "'")
