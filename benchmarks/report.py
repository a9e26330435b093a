"""What every benchmark shares: rows with targets, their table and JSON file, figures, processes.

Figures are ratios to a baseline of the same run, because machines differ and are noisy. The rows
stand in ``build/bench/NAME.json`` and in a table on stdout, which ends with ``N of M targets met``.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured work beside its baseline.

    Attributes:
        work: What was measured.
        baseline: What it is measured beside.
        ours: Our figure; None where it could not be measured.
        theirs: The baseline's figure; None where that could not be measured.
        ratio: ``ours / theirs``, or ``theirs / ours`` where ``faster`` is meant.
        target: What the ratio has to be; None for a row that only informs.
        at_least: Whether the target is a least and not a most.
        unit: ``s`` for seconds, else a word, or empty.
        spread: (worst - best) / best of our figure over the rounds.
        note: Why a figure is missing.
    """

    work: str
    baseline: str
    ours: float | None = None
    theirs: float | None = None
    ratio: float | None = None
    target: float | None = None
    at_least: bool = False
    unit: str = "s"
    spread: float = 0.0
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none, or nothing was measured."""
        if self.target is None or self.ratio is None:
            return None
        return self.ratio >= self.target if self.at_least else self.ratio <= self.target


def within(
    work: str,
    ours: float,
    baseline: str,
    theirs: float,
    target: float | None,
    *,
    unit: str = "s",
    spread: float = 0.0,
) -> Row:
    """A row for a cost that may be at most ``target`` times the baseline's."""
    return Row(
        work=work,
        baseline=baseline,
        ours=ours,
        theirs=theirs,
        ratio=ours / theirs,
        target=target,
        unit=unit,
        spread=spread,
    )


def faster(
    work: str,
    ours: float,
    baseline: str,
    theirs: float,
    target: float | None,
    *,
    unit: str = "s",
    spread: float = 0.0,
) -> Row:
    """A row for a time that has to be at least ``target`` times shorter than the baseline's."""
    row = within(work, ours, baseline, theirs, target, unit=unit, spread=spread)
    return replace(row, ratio=theirs / ours, at_least=True)


def missing(work: str, baseline: str, note: str, target: float | None = None) -> Row:
    """A row that says why nothing was measured; a target it had is not met."""
    return Row(work=work, baseline=baseline, note=note, target=target)


def best(rounds: Iterable[object], *path: str) -> tuple[float, float]:
    """The smallest of a figure over the rounds, and its spread.

    Args:
        rounds: What each round measured, as nested mappings.
        path: The keys that lead to the figure.
    """
    values = []
    for value in rounds:
        for key in path:
            value = value[key]  # type: ignore[index]  # noqa: PLW2901 - walking down
        values.append(float(value))  # type: ignore[arg-type]
    return min(values), (max(values) - min(values)) / min(values)


def publish(name: str, rows: list[Row]) -> None:
    """Keep the rows as ``build/bench/NAME.json`` and print their table."""
    BUILD.mkdir(parents=True, exist_ok=True)
    kept = [{**asdict(row), "met": row.met} for row in rows]
    (BUILD / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    width = max(len(row.work) for row in rows)
    beside = max(len(row.baseline) for row in rows)
    print(f"{'work':{width}} {'ours':>12} {'beside':>{beside}} {'theirs':>12} {'ratio':>8} target")
    for row in rows:
        print(_line(row, width, beside))
    judged = [row for row in rows if row.target is not None]
    print(f"{sum(row.met is True for row in judged)} of {len(judged)} targets met")


def _line(row: Row, width: int, beside: int) -> str:
    if row.ratio is None:
        return f"{row.work:{width}} {'-':>12} {row.baseline:>{beside}} {row.note}"
    target = "" if row.target is None else f"{'>=' if row.at_least else '<='}{row.target:g}"
    verdict = {True: "met", False: "missed", None: ""}[row.met]
    return (
        f"{row.work:{width}} {_figure(row.ours, row.unit):>12} {row.baseline:>{beside}} "
        f"{_figure(row.theirs, row.unit):>12} {row.ratio:8.2f} {target:>7} {verdict}"
    )


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit != "s":
        return f"{value:,.2f} {unit}".rstrip()
    for scale, name in ((1, "s"), (1e3, "ms"), (1e6, "us")):
        if value * scale >= 1:
            return f"{value * scale:,.1f} {name}"
    return f"{value * 1e9:,.0f} ns"


def amount(value: float | None, unit: str) -> str:
    """A figure as the pages of costs show it: bytes in full, all else in thousands and beyond."""
    if value is None:
        return "-"
    for scale, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if unit != "B" and value >= scale:
            return f"{value / scale:,.2f}{letter}"
    return f"{value:,.0f}{' B' if unit == 'B' else ''}"


@contextlib.contextmanager
def process(*command: str) -> Iterator[str]:
    """A program that prints one line when it is ready; ended afterwards.

    An interrupt at the terminal is told to this process alone, which then ends that one.
    """
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        assert running.stdout is not None
        line = running.stdout.readline().strip()
        if not line:
            sys.exit(f"{command[0]} did not start")
        try:
            yield line
        finally:
            running.terminate()


def measure(*command: str, given: object = None, seconds: float = 600) -> object:
    """What a program measured: the JSON on the last line of its output.

    Raises:
        RuntimeError: If the program failed; with its last words.
    """
    done = subprocess.run(
        command,
        input=None if given is None else json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
        start_new_session=True,
    )
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["it said nothing"]
        raise RuntimeError(words[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])
