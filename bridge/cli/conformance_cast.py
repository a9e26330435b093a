"""Who is played in ``ic-bridge conformance``: by the options' words, and whether it came to that.

Knows what options say and what a report holds; nothing of how anything is played or drawn.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bridge.cli.engine import check_engine
from bridge.conformance.entries import SHIPPED, Entry, brought, shipped
from bridge.conformance.place import Place
from bridge.conformance.results import Report, Verdict
from bridge.conformance.runner import Task
from bridge.conformance.world import Worlds
from bridge.errors import TransportError, UsageError
from bridge.reference import SHORT_WAITS

_REASONS: Final = 3


@dataclass(frozen=True, slots=True)
class Cast:
    """Who is to be played.

    Attributes:
        senders: Who sends.
        receivers: Who receives.
        about: Names of those of which one has to be in each pair; ``None`` for all pairs.
        called: What the command line called those that are not this package's own, by name.
        ends: Those that an option names, each with the role in which it is to be played.
    """

    senders: list[Entry]
    receivers: list[Entry]
    about: frozenset[str] | None
    called: dict[str, str]
    ends: list[tuple[str, Entry]]


def cast_of(
    senders: Sequence[str],
    receivers: Sequence[str],
    files: Sequence[Path],
    dialects: tuple[str, ...],
) -> Cast:
    """Who is to be played, as options say it.

    Args:
        senders: The words of ``--sender``.
        receivers: The words of ``--receiver``.
        files: The files of ``--entry``.
        dialects: What a bare module speaks.

    Raises:
        UsageError: If a word names nobody, or a file that is not there.
    """
    ours = [shipped(name) for name in SHIPPED]
    given = {
        "sender": [(text, brought(text, role="sender", dialects=dialects)) for text in senders],
        "receiver": [
            (text, brought(text, role="receiver", dialects=dialects)) for text in receivers
        ],
        "both": [(str(path), brought(str(path), role="both", dialects=dialects)) for path in files],
    }
    called = {
        entry.name: text for found in given.values() for text, entry in found if text not in SHIPPED
    }
    sending, receiving, either = ([entry for _, entry in found] for found in given.values())
    ends = [("sender", entry) for entry in sending]
    ends += [("receiver", entry) for entry in receiving]
    ends += [("sender", entry) for entry in either if entry.sends]
    ends += [("receiver", entry) for entry in either if entry.receives]
    if not either:
        return Cast(sending or ours, receiving or ours, None, called, ends)
    named = frozenset(entry.name for entry in either)
    return Cast(
        _distinct([*either, *(sending or ours)]),
        _distinct([*either, *(receiving or ours)]),
        named | {entry.name for entry in [*sending, *receiving]},
        called,
        ends,
    )


def _distinct(entries: list[Entry]) -> list[Entry]:
    return [entry for number, entry in enumerate(entries) if entry not in entries[:number]]


async def refuse_what_cannot_be_played(
    cast: Cast, tasks: Sequence[Task], place: Place, worlds: Worlds
) -> None:
    """Say once, before anything is played, what would be the error of every cell that is asked for.

    Where some of those that an option names can be played they are, and the others say in their
    cells what is wrong with them.

    Args:
        cast: Who was named.
        tasks: What is to be played.
        place: Where.
        worlds: Opens the networks on which canisters of others are looked for.

    Raises:
        UsageError: If none of those named in a role has a file that is there, is an entry and a
            module, or a place where it stands.
        ReplicaError: If all is played on embedded replicas, and there can be none.
    """
    for role in ("sender", "receiver"):
        named = {entry.name for part, entry in cast.ends if part == role}
        jobs = [task.job for task in tasks]
        about = [job for job in jobs if (end := getattr(job, role)) and end.name in named]
        pairs = {job.name[1:]: job for job in about}.values()  # whatever the scenario
        reasons = [job.hindrance(place) or await job.absence(place, worlds) for job in pairs]
        if reasons and all(reasons):
            raise UsageError("; ".join(dict.fromkeys(filter(None, reasons))))
    if all(task.job.place(place).url is None for task in tasks):
        check_engine()


async def unreachable(tasks: Sequence[Task], place: Place, worlds: Worlds) -> TransportError | None:
    """Why no network on which something is to be played can be reached; ``None`` if one can.

    Args:
        tasks: What is to be played.
        place: Where.
        worlds: Opens the networks.
    """
    first: TransportError | None = None
    places = [task.job.place(place) for task in tasks]
    for there in {there.url: there for there in places}.values():
        if there.url is None:
            return None
        world = await worlds.at(there)
        if not isinstance(world, TransportError):
            return None
        first = first or world
    return first


def unplayed(report: Report, cast: Cast, tasks: Sequence[Task]) -> list[str]:
    """What is said of ends that options name, and of which no cell could be played.

    Unsupported cells are as good as passed ones, but nothing was learnt of an end that has no
    others. Cells of scenarios that are about the other end alone say nothing of it either way.

    Args:
        report: What came of the run.
        cast: Who was named.
        tasks: What was to be played.
    """
    jobs = {key: task.job for task in tasks for key in task.keys}
    said = []
    for role, entry in cast.ends:
        named = [cell for cell in report.cells if getattr(cell.key, role) == entry.name]
        if not named:
            said.append(
                f"nothing of {entry.name} as a {role} was played: it has not that role, or speaks "
                "no dialect that is played"
            )
            continue
        cells = [cell for cell in named if getattr(jobs[cell.key], role) is not None]
        if not cells or any(cell.verdict is not Verdict.UNSUPPORTED for cell in cells):
            continue
        count = f"all {len(cells)} cells" if len(cells) > 1 else "the one cell"
        said.append(
            f"nothing of {entry.name} as a {role} could be played; unsupported: {count} about it"
        )
        reasons = Counter(cell.observed for cell in cells)
        said += [f"  {reason}" for reason, _ in reasons.most_common(_REASONS)]
        if role == "sender" and not _can_be_asked_to_send(entry):
            said.append(f"  {_how_to_send(entry)}")
    return said


def slowness(tasks: Sequence[Task], place: Place) -> str | None:
    """What to expect where time cannot be moved; ``None`` where it can."""
    real = [task.job for task in tasks if task.job.place(place).url is not None]
    if not real:
        return None
    entries = [entry for job in real for entry in (job.sender, job.receiver) if entry is not None]
    slowest = max(entries, key=_first_retry)
    retry = _first_retry(slowest) // 1_000_000_000
    least = -(-4 * retry // 60)
    return (
        f"time cannot be moved on {real[0].place(place).name}: a scenario takes {least} min or "
        f"more, for silence is waited for as long as {slowest.name} may repeat a message "
        f"(first_retry, {retry} s); one that fails takes several times that"
    )


def _first_retry(entry: Entry) -> int:
    """How long it waits before it first sends again, where time is not virtual (nanoseconds)."""
    if entry.install == "reference" and entry.canister is None:
        return int(SHORT_WAITS["first_retry"])
    return entry.first_retry


def _can_be_asked_to_send(entry: Entry) -> bool:
    return bool(entry.send or entry.command or entry.asked == "watch")


def _how_to_send(entry: Entry) -> str:
    begin = "give, instead of the bare module, a .toml entry with" if entry.silent else "give it"
    return (
        f'{begin} send = {{ method = "its method", arguments = "({{to}}, {{payload}})" }}, '
        "which says how it is made to open a flow"
    )
