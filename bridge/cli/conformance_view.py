"""How a conformance run looks on a terminal: while it is played, and at its end."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bridge.conformance.reports.required import Unmet
from bridge.conformance.reports.words import SIGNS, Pair, count_of, groups, judged, tally
from bridge.conformance.results import (
    Cell,
    CellEnded,
    CellKey,
    CellStarted,
    Event,
    Report,
    RunStarted,
    Verdict,
)

_COLOURS: Final = {
    Verdict.PASSED: "green",
    Verdict.FAILED: "bold red",
    Verdict.UNSUPPORTED: "dim",
    Verdict.ERROR: "bold yellow",
}
_SHOWN_AT_ONCE: Final = 4
_REASONS: Final = 3
_MINUTE: Final = 60.0


class Teller:
    """Tells how a run goes: on a terminal as a live table, elsewhere what did not pass.

    Args:
        console: Where.
        expect: What is said of how long it may take.
    """

    def __init__(self, console: Console, expect: str | None = None) -> None:
        self._console = console
        self._expect = expect
        self._begun = time.monotonic()
        self._counts: dict[Pair, Counter[Verdict]] = {}
        self._due: Counter[Pair] = Counter()
        self._playing: dict[CellKey, None] = {}
        self._errors: set[str] = set()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._progress.add_task("cells", total=None)
        self._live = (
            Live(get_renderable=self._view, console=console, transient=True, refresh_per_second=8)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def see(self, event: Event) -> None:
        """Take note of an event of the run."""
        match event:
            case RunStarted():
                self._begin(event)
            case CellStarted(key):
                self._playing[key] = None
            case CellEnded(cell):
                self._end(cell)

    def _begin(self, started: RunStarted) -> None:
        self._due = Counter(Pair(key.sender, key.receiver) for key in started.keys)
        self._progress.update(self._task, total=len(started.keys))
        self._console.print(
            Text(
                f"{count_of(len(started.keys), 'cell')}: {count_of(len(self._due), 'pair')}, "
                f"{count_of(len(started.dialects), 'dialect')}, "
                f"{count_of(len(started.scenarios), 'scenario')}; seed {started.seed}"
            ),
            soft_wrap=True,
        )
        if self._expect is not None:
            self._console.print(Text(self._expect), soft_wrap=True)

    def give_sign(self) -> None:
        """Say, where no live table does, that it goes on, and what is being played."""
        if self._live is not None or not self._due:
            return
        ended = sum(counts.total() for counts in self._counts.values())
        minutes = round((time.monotonic() - self._begun) / _MINUTE)
        now = "; ".join(str(key) for key in list(self._playing)[:_SHOWN_AT_ONCE])
        self._console.print(
            Text(f"after {minutes} min {ended} of {self._due.total()} cells; now {now}"),
            soft_wrap=True,
        )

    def _end(self, cell: Cell) -> None:
        self._playing.pop(cell.key, None)
        pair = Pair(cell.key.sender, cell.key.receiver)
        self._counts.setdefault(pair, Counter())[cell.verdict] += 1
        self._progress.advance(self._task)
        if cell.verdict is Verdict.FAILED or (
            cell.verdict is Verdict.ERROR and cell.observed not in self._errors
        ):
            self._console.print(_headline(cell), soft_wrap=True)
        if cell.verdict is Verdict.ERROR:
            self._errors.add(cell.observed)

    def _view(self) -> Group:
        table = Table.grid(padding=(0, 2))
        for pair, due in self._due.items():
            counts = self._counts.get(pair, Counter())
            row = [Text(str(pair)), Text(f"{counts.total()}/{due}", style="dim")]
            row += [
                Text(f"{SIGNS[verdict]} {counts[verdict]}", style=_COLOURS[verdict])
                if counts[verdict]
                else Text("")
                for verdict in Verdict
            ]
            table.add_row(*row)
        now = [str(key) for key in list(self._playing)[:_SHOWN_AT_ONCE]]
        playing = Text("; ".join(now), style="dim", no_wrap=True, overflow="ellipsis")
        return Group(table, self._progress, playing)


@contextlib.asynccontextmanager
async def telling(console: Console, expect: str | None = None) -> AsyncIterator[Teller]:
    """A teller that gives a sign each minute, for as long as the block lasts.

    Args:
        console: Where.
        expect: As for `Teller`.
    """
    with Teller(console, expect) as teller:
        signs = asyncio.create_task(_give_signs(teller))
        try:
            yield teller
        finally:
            signs.cancel()


async def _give_signs(teller: Teller) -> None:
    while True:
        await asyncio.sleep(_MINUTE)
        teller.give_sign()


def _headline(cell: Cell) -> Text:
    words = Text(f"{SIGNS[cell.verdict]} {cell.key}: ", style=_COLOURS[cell.verdict])
    observed = cell.observed if cell.delivery is not Verdict.PASSED else cell.clean_up_observed
    return words + Text(_one_line(observed), style="default")


def print_report(console: Console, report: Report, unmet: Sequence[Unmet]) -> None:
    """The whole matrix in short, and each cell that did not pass with what to do about it."""
    console.print(_table(report))
    told = {id(one.cell) for one in unmet}
    errors: Counter[str] = Counter()
    for cell in report.cells:
        if cell.verdict is Verdict.ERROR:
            errors[cell.observed] += 1
            if errors[cell.observed] > 1:
                continue
        if cell.verdict in (Verdict.FAILED, Verdict.ERROR) or id(cell) in told:
            _print_cell(console, cell)
    for observed, times in errors.items():
        if times > 1:
            again = f"{SIGNS[Verdict.ERROR]} the same in {count_of(times - 1, 'more cell')}: "
            words = Text(f"\n{again}", style=_COLOURS[Verdict.ERROR]) + Text(
                _one_line(observed), style="default"
            )
            console.print(words, soft_wrap=True)
    for one in unmet:
        if one.cell is None:
            console.print(Text(f"required, but {one.why}: {one.what}", style="bold red"))
    console.print(Text(tally(report)))
    lacking = [cell for cell in report.cells if cell.verdict is Verdict.UNSUPPORTED]
    _print_reasons(console, "unsupported", Counter(cell.observed for cell in lacking))
    left_out = Counter(reason for cell in report.cells if cell.in_part for reason in cell.unjudged)
    _print_reasons(console, "not judged in all (°)", left_out)
    if unmet:
        console.print(Text(f"{len(unmet)} of what is required did not pass", style="bold red"))


def _print_reasons(console: Console, what: str, reasons: Counter[str]) -> None:
    """The commonest reasons of some cells, and how many others there are."""
    if not reasons:
        return
    console.print(Text(f"{what}, for these reasons:", style="dim"))
    for reason, times in reasons.most_common(_REASONS):
        line = f"  {count_of(times, 'cell')}: {_one_line(reason)}"
        console.print(Text(line, style="dim"), soft_wrap=True)
    if len(reasons) > _REASONS:
        more = count_of(len(reasons) - _REASONS, "more reason")
        console.print(Text(f"  {more}: see --html or --markdown", style="dim"))


def _table(report: Report) -> Table:
    """A row for each pair and dialect, a column for each group of scenarios."""
    table = Table(title="Conformance", title_justify="left")
    for name in ("sender → receiver", "dialect", *groups(report.scenarios)):
        table.add_column(name, no_wrap=name in ("sender → receiver", "dialect"))
    group_of = {one.id: name for name, found in groups(report.scenarios).items() for one in found}
    rows: dict[tuple[Pair, str], dict[str, list[Cell]]] = {}
    for cell in report.cells:
        row = rows.setdefault((Pair(cell.key.sender, cell.key.receiver), cell.key.dialect), {})
        row.setdefault(group_of[cell.key.scenario], []).append(cell)
    before = None
    for (pair, dialect), found in rows.items():
        fields = [_field(found.get(group, [])) for group in groups(report.scenarios)]
        table.add_row(Text("" if pair == before else str(pair)), Text(dialect), *fields)
        before = pair
    return table


def _field(cells: Sequence[Cell]) -> Text:
    """How many of the cells passed, and which did not."""
    asked = [cell for cell in cells if cell.verdict is not Verdict.UNSUPPORTED]
    if not asked:
        return Text(SIGNS[Verdict.UNSUPPORTED] if cells else "", style="dim")
    passed = sum(cell.verdict is Verdict.PASSED for cell in asked)
    field = Text(f"{passed}/{len(asked)}", style="green" if passed == len(asked) else "red")
    for cell in asked:
        if cell.verdict is not Verdict.PASSED:
            sign = f" {SIGNS[cell.verdict]}{cell.key.scenario}"
            field.append(sign, style=_COLOURS[cell.verdict])
    return field


def _print_cell(console: Console, cell: Cell) -> None:
    lines = [("requirement", cell.requirement), ("expected", cell.expected)]
    lines += [("observed", cell.observed), ("clean-up", cell.clean_up_observed)]
    lines += [("not judged", reason) for reason in cell.unjudged]
    if cell.hazard is not None:
        lines += [("hazard", f"{cell.hazard.name}: {cell.hazard.meaning}")]
        lines += [("what to do", cell.hazard.remedy)]
    lines += [("again", cell.rerun)]
    style = _COLOURS[cell.verdict]
    console.print(
        Text(f"\n{SIGNS[cell.verdict]} {cell.key}: {judged(cell)}", style=style), soft_wrap=True
    )
    for name, words in lines:
        if words:
            line = Text(f"  {name:12}", style="dim") + Text(_one_line(words), style="default")
            console.print(line, soft_wrap=True)


def _one_line(words: str) -> str:
    """Words of a stranger's canister, made safe for a terminal."""
    return "".join(c if c.isprintable() else " " for c in " ".join(words.split()))
