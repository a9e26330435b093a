"""What a conformance run says: a cell for each scenario, pair and dialect, and its progress.

Pure records, without any judgement and without any rendering: the runner makes them, the reports
draw them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bridge.monitor import MessageRecord


class Verdict(StrEnum):
    """How one thing that was asked for came out.

    ``unsupported`` is what a dialect or an entry states that it lacks, never inferred from a
    failure. ``error`` is a run that could not be judged, such as a module that does not install.
    """

    PASSED = "passed"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"
    ERROR = "error"


_GRAVITY: Final = (Verdict.ERROR, Verdict.FAILED, Verdict.UNSUPPORTED, Verdict.PASSED)


def gravest(verdicts: Iterable[Verdict]) -> Verdict:
    """The gravest of some verdicts; passed if there are none."""
    return min(verdicts, key=_GRAVITY.index, default=Verdict.PASSED)


@dataclass(frozen=True, slots=True)
class Hazard:
    """A known danger that a failed cell shows.

    Attributes:
        name: What it is called, such as ``stranger's ACK believed``.
        meaning: What it means for who uses the implementation.
        remedy: What to do about it.
    """

    name: str
    meaning: str
    remedy: str


@dataclass(frozen=True, slots=True, order=True)
class CellKey:
    """Which cell of the matrix.

    Attributes:
        sender: Name of the implementation that sends.
        receiver: Name of the implementation that receives.
        dialect: What the two speak.
        scenario: Id of the scenario, such as ``S1``.
    """

    sender: str
    receiver: str
    dialect: str
    scenario: str

    def __str__(self) -> str:
        return f"{self.scenario} {self.sender} -> {self.receiver} ({self.dialect})"


@dataclass(frozen=True, slots=True)
class Cell:
    """What came of one scenario between one pair in one dialect.

    Attributes:
        key: Which cell.
        delivery: Whether what the scenario is about held.
        clean_up: Whether both ends, and the messages between them, came to rest as they must.
            Judged apart; as `delivery` where that is unsupported or an error.
        requirement: The requirement's text.
        expected: What had to be seen.
        observed: What was seen; the reason where unsupported, the cause where an error.
        clean_up_observed: What was wrong with the clean-up; empty where nothing was.
        hazard: The known danger that this shows, if any.
        unjudged: What of the scenario was not judged, and why not: a passed cell with any says less
            than one without.
        timeline: The messages of both ends, in the order in which they were seen.
        log: Lines about the run that a reader of a failure needs.
        seconds: How long it took, of real time.
        virtual: How long it took in the network's own time, in nanoseconds; 0 where unknown.
        seed: What reproduces it.
        rerun: The command line that plays this cell alone again.
    """

    key: CellKey
    delivery: Verdict
    clean_up: Verdict
    requirement: str
    expected: str
    observed: str
    clean_up_observed: str = ""
    hazard: Hazard | None = None
    unjudged: tuple[str, ...] = ()
    timeline: tuple[MessageRecord, ...] = ()
    log: tuple[str, ...] = ()
    seconds: float = 0.0
    virtual: int = 0
    seed: int = 0
    rerun: str = ""

    @property
    def in_part(self) -> bool:
        """Whether it passed, and something of it was not judged."""
        return self.verdict is Verdict.PASSED and bool(self.unjudged)

    @property
    def verdict(self) -> Verdict:
        """The graver of both verdicts; failed where the delivery failed, whatever came then."""
        if self.delivery is Verdict.FAILED:
            return Verdict.FAILED
        return gravest((self.delivery, self.clean_up))


@dataclass(frozen=True, slots=True)
class Implementation:
    """One implementation that took part.

    Attributes:
        name: Its name in cells.
        about: One line about it, from its entry.
        role: ``sender``, ``receiver`` or ``both``.
        dialects: What it speaks.
        source: Where it comes from: a module's file, a canister id, a command.
        asked: What it can be asked beside the messages: ``watch``, ``own`` or ``nothing``.
        answered_unknown: What it answered when asked for a scenario that does not exist; that it
            was not asked, where it is a canister.
        lacks: Scenarios that its entry states it lacks, with the reasons.
    """

    name: str
    about: str
    role: str
    dialects: tuple[str, ...]
    source: str
    asked: str
    answered_unknown: str
    lacks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ScenarioInfo:
    """One scenario of the matrix.

    Attributes:
        id: Its id in the protocol's matrix, such as ``S1``.
        group: Its group, such as ``sender``.
        title: What is played.
        requirement: What must hold, as the protocol says it.
    """

    id: str
    group: str
    title: str
    requirement: str


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run.

    Attributes:
        seed: What reproduces it.
        network: Where it was played: ``embedded`` or a URL.
        version: This package's version.
        implementations: Who took part, in the order given.
        scenarios: What was played, in the matrix's order.
        dialects: In which dialects, in order.
        cells: Every cell, ordered by sender, receiver, dialect and scenario as they are above.
        seconds: How long it took, of real time.
    """

    seed: int
    network: str
    version: str
    implementations: tuple[Implementation, ...]
    scenarios: tuple[ScenarioInfo, ...]
    dialects: tuple[str, ...]
    cells: tuple[Cell, ...]
    seconds: float = 0.0

    def count(self, verdict: Verdict) -> int:
        """How many cells have this verdict."""
        return sum(cell.verdict is verdict for cell in self.cells)


# --- Progress -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The first event: what is going to be played.

    Attributes:
        seed: What reproduces the run.
        network: As in `Report`.
        implementations: As in `Report`.
        scenarios: As in `Report`.
        dialects: As in `Report`.
        keys: Every cell that will come.
    """

    seed: int
    network: str
    implementations: tuple[Implementation, ...]
    scenarios: tuple[ScenarioInfo, ...]
    dialects: tuple[str, ...]
    keys: tuple[CellKey, ...]


@dataclass(frozen=True, slots=True)
class CellStarted:
    """A scenario begins to be played.

    Attributes:
        key: Its cell.
    """

    key: CellKey


@dataclass(frozen=True, slots=True)
class CellEnded:
    """A cell has its verdict; it may come without a start where nothing had to be played.

    Attributes:
        cell: The cell.
    """

    cell: Cell


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The last event.

    Attributes:
        report: The whole run.
    """

    report: Report


Event = RunStarted | CellStarted | CellEnded | RunEnded
