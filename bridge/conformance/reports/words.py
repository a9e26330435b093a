"""The few words and signs that every form of a report uses alike."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from bridge.conformance.results import Cell, CellKey, Report, ScenarioInfo, Verdict

SIGNS: Final = {
    Verdict.PASSED: "✓",
    Verdict.FAILED: "✗",
    Verdict.UNSUPPORTED: "\N{EN DASH}",
    Verdict.ERROR: "!",
}
MEANINGS: Final = {
    Verdict.PASSED: "what the protocol asks for was seen",
    Verdict.FAILED: "something else was seen",
    Verdict.UNSUPPORTED: "the dialect, the implementation or the place states that it lacks it",
    Verdict.ERROR: "it could not be judged",
}

IN_PART: Final = "\N{DEGREE SIGN}"
"""Stands behind the sign of a cell that passed, of which something was not judged."""

IN_PART_MEANS: Final = "passed, but not judged in all"


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Who sends to whom."""

    sender: str
    receiver: str

    def __str__(self) -> str:
        return f"{self.sender} → {self.receiver}"


def pairs(report: Report) -> list[Pair]:
    """The pairs of a report, in the order of its cells."""
    return list(dict.fromkeys(Pair(cell.key.sender, cell.key.receiver) for cell in report.cells))


def groups(scenarios: Iterable[ScenarioInfo]) -> dict[str, list[ScenarioInfo]]:
    """Scenarios by their group, both in the order given."""
    found: dict[str, list[ScenarioInfo]] = {}
    for scenario in scenarios:
        found.setdefault(scenario.group, []).append(scenario)
    return found


def by_key(report: Report) -> dict[CellKey, Cell]:
    """The cells by their place."""
    return {cell.key: cell for cell in report.cells}


def tally(report: Report) -> str:
    """How many cells have which verdict, as words."""
    counts = [(report.count(verdict), verdict) for verdict in Verdict]
    words = [f"{count:,} {verdict}" for count, verdict in counts if count]
    part = sum(cell.in_part for cell in report.cells)
    if part:
        words[0] += f" ({part:,} of them not judged in all)"
    return ", ".join(words) or "nothing was played"


def of_note(cells: Sequence[Cell]) -> list[Cell]:
    """Those that failed or could not be judged."""
    return [cell for cell in cells if cell.verdict in (Verdict.FAILED, Verdict.ERROR)]


def sign(cell: Cell) -> str:
    """The sign of a cell in the matrix."""
    return SIGNS[cell.verdict] + (IN_PART if cell.in_part else "")


def in_part(cells: Iterable[Cell]) -> dict[tuple[str, str], list[Cell]]:
    """What was not judged of cells that passed: cells by scenario and reason."""
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        for reason in cell.unjudged if cell.in_part else ():
            found.setdefault((cell.key.scenario, reason), []).append(cell)
    return found


def count_of(number: int, what: str) -> str:
    """A number with its noun."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def judged(cell: Cell) -> str:
    """Both verdicts of a cell, as words."""
    if cell.delivery is cell.clean_up:
        return IN_PART_MEANS if cell.in_part else str(cell.verdict)
    return f"delivery {cell.delivery}, clean-up {cell.clean_up}"
