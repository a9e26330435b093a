"""Which cells have to pass: what ``--require`` reads, and what a gate says of a report.

    [[required]]
    sender = ["python", "rust"]      # what is left out fits all; * and ? as in file names
    scenario = ["F*", "S1"]

    [[except]]
    receiver = "theirs"
    scenario = "S4"
    reason = "it has no lifetime"

A row of ``required`` may say ``unsupported = true``: a cell of it that is unsupported is as good.
Without such a file every cell is required, and those that are unsupported are as good.
"""

import fnmatch
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from bridge.conformance.results import Cell, CellKey, Report, Verdict
from bridge.errors import UsageError

_PLACES: Final = ("sender", "receiver", "dialect", "scenario")
_HINT: Final = "rows are [[required]] and [[except]], with " + ", ".join(_PLACES)


@dataclass(frozen=True, slots=True)
class Row:
    """Some cells, by patterns of where they stand.

    Attributes:
        patterns: By place, such as ``scenario``; a place without patterns fits all.
        unsupported: Whether an unsupported cell is as good as one that passed.
    """

    patterns: tuple[tuple[str, tuple[str, ...]], ...] = ()
    unsupported: bool = False

    def fits(self, key: CellKey) -> bool:
        """Whether a cell is among them."""
        return all(
            any(fnmatch.fnmatchcase(getattr(key, place), pattern) for pattern in patterns)
            for place, patterns in self.patterns
        )

    def __str__(self) -> str:
        words = [f"{place} {' or '.join(patterns)}" for place, patterns in self.patterns]
        return ", ".join(words) or "every cell"


@dataclass(frozen=True, slots=True)
class Unmet:
    """Something required that is not there.

    Attributes:
        what: What was required.
        why: What is there instead.
        cell: The cell, if there is one.
    """

    what: str
    why: str
    cell: Cell | None = None


class Requirements:
    """Which cells have to pass.

    Args:
        required: Rows of cells that have to.
        excepted: Rows of cells that need not, whatever the former say.
    """

    def __init__(self, required: Sequence[Row], excepted: Sequence[Row] = ()) -> None:
        self._required = tuple(required)
        self._excepted = tuple(excepted)

    @classmethod
    def everything(cls) -> Self:
        """Every cell, where unsupported is as good as passed."""
        return cls([Row(unsupported=True)])

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read them from a TOML file.

        Raises:
            UsageError: If it cannot be read, or a row is wrong; the text names the row.
        """
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read: {error}", hint=_HINT) from error
        for name in raw:
            if name not in ("required", "except"):
                raise UsageError(f"{path}: {name} is no kind of row", hint=_HINT)
        required = _rows(path, "required", raw.get("required", []))
        if not required:
            raise UsageError(f"{path} requires nothing", hint="add a row [[required]]")
        return cls(required, _rows(path, "except", raw.get("except", [])))

    def unmet(self, report: Report) -> list[Unmet]:
        """What is required and not there: cells that did not pass, rows that fit no cell."""
        found = [
            Unmet(str(cell.key), str(cell.verdict), cell)
            for cell in report.cells
            if not self._is_met(cell)
        ]
        return found + [
            Unmet(str(row), "no such cell was played")
            for row in self._required
            if not any(row.fits(cell.key) for cell in report.cells)
        ]

    def _is_met(self, cell: Cell) -> bool:
        if cell.verdict is Verdict.PASSED or any(row.fits(cell.key) for row in self._excepted):
            return True
        rows = [row for row in self._required if row.fits(cell.key)]
        return all(row.unsupported and cell.verdict is Verdict.UNSUPPORTED for row in rows)


def _rows(path: Path, kind: str, raw: Any) -> list[Row]:
    if not isinstance(raw, list) or not all(isinstance(row, Mapping) for row in raw):
        raise UsageError(f"{path}: {kind} is no list of rows", hint=f"write it as [[{kind}]]")
    return [_row(f"{path}: {kind} {number}", kind, row) for number, row in enumerate(raw, 1)]


def _row(called: str, kind: str, raw: Mapping[str, Any]) -> Row:
    patterns = []
    unsupported = False
    for name, value in raw.items():
        if name in _PLACES:
            texts = [value] if isinstance(value, str) else value
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise UsageError(f"{called}: {name} is neither a text nor a list of texts")
            patterns.append((name, tuple(texts)))
        elif name == "unsupported" and kind == "required" and isinstance(value, bool):
            unsupported = value
        elif name != "reason" or kind != "except" or not isinstance(value, str):
            raise UsageError(f"{called}: {name} = {value!r:.60} has no place there", hint=_HINT)
    if kind == "except" and "reason" not in raw:
        raise UsageError(f"{called} gives no reason", hint='add reason = "..."')
    return Row(tuple(patterns), unsupported)
