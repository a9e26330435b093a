"""Plays the matrix: pairs, dialects and scenarios side by side, and says how it goes.

A scenario that is about one end alone is played once for that end and dialect; its cell stands with
every partner.
"""

import asyncio
import contextlib
import shlex
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bridge import dialects as spoken
from bridge._version import __version__
from bridge.conformance.cell import Job, Programs, play_cell
from bridge.conformance.entry import Entry
from bridge.conformance.place import Place
from bridge.conformance.program import Program
from bridge.conformance.results import (
    Cell,
    CellEnded,
    CellKey,
    CellStarted,
    Event,
    Implementation,
    Report,
    RunEnded,
    RunStarted,
    Verdict,
)
from bridge.conformance.scenarios import Ends, Scenario, table
from bridge.conformance.verdicts import LackingError
from bridge.conformance.world import Worlds
from bridge.errors import BridgeError, UsageError

UNKNOWN: Final = "X0"
"""A scenario that does not exist: what every implementation is asked for first."""

UNSUPPORTED: Final = "unsupported"
NOT_ASKED: Final = "not asked: a canister"

_CELLS_OF_A_REPLICA: Final = 250


@dataclass(frozen=True, slots=True)
class Task:
    """One scenario to be played, and the cells that its outcome fills.

    Attributes:
        job: What is played.
        keys: The cells.
    """

    job: Job
    keys: tuple[CellKey, ...]


async def run(
    senders: Sequence[Entry],
    receivers: Sequence[Entry],
    *,
    scenarios: Sequence[str] | None = None,
    dialects: Sequence[str] | None = None,
    place: Place | None = None,
    seed: int = 0,
    jobs: int = 2,
    about: Collection[str] | None = None,
    called: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> AsyncIterator[Event]:
    """Play scenarios between every sender and every receiver.

    Args:
        senders: Who sends; entries without that role are left out.
        receivers: Who receives; entries without that role are left out.
        scenarios: Ids of the scenarios; all where ``None``.
        dialects: In which dialects; every one that a pair shares where ``None``.
        place: Where; embedded replicas of its own where ``None``.
        seed: Reproduces the run.
        jobs: How many scenarios are played at once, each on an embedded replica of its own.
        about: Names of entries: only pairs with one of these are played; all where ``None``.
        called: How a command line calls entries that it cannot call by their names, by name.
        options: What else the command line needs, to play a cell alone again.

    Yields:
        `RunStarted`, then a `CellStarted` and `CellEnded` for each cell, then `RunEnded` with the
        report.

    Raises:
        UsageError: If there is no such scenario or dialect, two entries have one name, or there is
            nothing to play.
    """
    begun = time.monotonic()
    place = place or Place()
    tasks, keys = plan_tasks(
        senders, receivers, scenarios=scenarios, dialects=dialects, seed=seed, about=about
    )
    names = _by_name([*senders, *receivers])
    again = Again(seed, place, called or {}, tuple(options))
    used = tuple(d for d in spoken.DIALECTS if any(key.dialect == d for key in keys))
    infos = tuple(scenario.info for scenario in _chosen(scenarios))
    implementations = tuple([await _implementation(entry) for entry in names.values()])
    told = {one.name: one.answered_unknown for one in implementations}
    tasks = [replace(task, job=replace(task.job, distrusted=distrusted(told))) for task in tasks]
    yield RunStarted(seed, place.name, implementations, infos, used, keys)
    cells: dict[CellKey, Cell] = {}
    async for event in _play(tasks, place, jobs, again):
        if isinstance(event, CellEnded):
            cells[event.cell.key] = event.cell
        yield event
    report = Report(
        seed=seed,
        network=place.name,
        version=__version__,
        implementations=implementations,
        scenarios=infos,
        dialects=used,
        cells=tuple(cells[key] for key in keys),
        seconds=time.monotonic() - begun,
    )
    yield RunEnded(report)


def plan_tasks(
    senders: Sequence[Entry],
    receivers: Sequence[Entry],
    *,
    scenarios: Sequence[str] | None,
    dialects: Sequence[str] | None,
    seed: int,
    about: Collection[str] | None = None,
) -> tuple[list[Task], tuple[CellKey, ...]]:
    """What a run would play, and the cells that come of it; arguments as for `run`.

    Raises:
        UsageError: As `run`.
    """
    _by_name([*senders, *receivers])
    tasks, keys = _tasks(senders, receivers, _chosen(scenarios), _tongues(dialects), seed, about)
    if not keys:
        raise UsageError(
            "there is nothing to play",
            hint="name a sender and a receiver that share a dialect",
        )
    return tasks, keys


# --- What is to be played -------------------------------------------------------------------------


def _chosen(ids: Sequence[str] | None) -> list[Scenario]:
    known = table()
    if ids is None:
        return list(known.values())
    for id_ in ids:
        if id_ not in known:
            raise UsageError(
                f"there is no scenario {id_!r}", hint="choose from " + ", ".join(known)
            )
    return [scenario for id_, scenario in known.items() if id_ in ids]


def _tongues(names: Sequence[str] | None) -> list[str]:
    for name in names or ():
        spoken.get(name)
    return [name for name in spoken.DIALECTS if names is None or name in names]


def _by_name(entries: Sequence[Entry]) -> dict[str, Entry]:
    names: dict[str, Entry] = {}
    for entry in entries:
        if names.setdefault(entry.name, entry) != entry:
            raise UsageError(
                f"two different entries are called {entry.name}", hint="rename one of them"
            )
    return names


async def _implementation(entry: Entry) -> Implementation:
    return Implementation(
        name=entry.name,
        about=entry.about,
        role=entry.role,
        dialects=entry.dialects,
        source=entry.source,
        asked=entry.asked,
        answered_unknown=await ask_for_unknown(entry),
        lacks=tuple(entry.lacks.items()),
    )


async def ask_for_unknown(entry: Entry) -> str:
    """What an implementation says when it is asked for a scenario that does not exist.

    A driver is asked; a canister, which knows nothing of scenarios, is not.
    """
    if not entry.command:
        return NOT_ASKED
    program = Program(entry.command)
    try:
        await program.ask("scenario", id=UNKNOWN)
    except LackingError:
        return UNSUPPORTED
    except BridgeError as error:
        return f"an error: {error}"
    finally:
        await program.end()
    return "supported"


def distrusted(told: Mapping[str, str]) -> dict[str, str]:
    """Of what implementations said to `ask_for_unknown`, by name, what is not to be trusted."""
    return {name: said for name, said in told.items() if said not in (UNSUPPORTED, NOT_ASKED)}


def _tasks(
    senders: Sequence[Entry],
    receivers: Sequence[Entry],
    scenarios: Sequence[Scenario],
    tongues: Sequence[str],
    seed: int,
    about: Collection[str] | None,
) -> tuple[list[Task], tuple[CellKey, ...]]:
    keys: list[CellKey] = []
    shared: dict[tuple[str, ...], list[CellKey]] = {}
    jobs: dict[tuple[str, ...], Job] = {}
    for sender in dict.fromkeys(entry.name for entry in senders if entry.sends):
        one = next(entry for entry in senders if entry.name == sender)
        for receiver in dict.fromkeys(entry.name for entry in receivers if entry.receives):
            other = next(entry for entry in receivers if entry.name == receiver)
            if about is not None and sender not in about and receiver not in about:
                continue
            for dialect in tongues:
                if dialect not in one.dialects or dialect not in other.dialects:
                    continue
                for scenario in scenarios:
                    if scenario.only and dialect not in scenario.dialects:
                        continue
                    key = CellKey(sender, receiver, dialect, scenario.info.id)
                    keys.append(key)
                    job = Job(
                        scenario,
                        dialect,
                        None if scenario.ends is Ends.RECEIVER else one,
                        None if scenario.ends is Ends.SENDER else other,
                        seed,
                    )
                    shared.setdefault(job.name, []).append(key)
                    jobs.setdefault(job.name, job)
    return [Task(jobs[name], tuple(found)) for name, found in shared.items()], tuple(keys)


@dataclass(frozen=True, slots=True)
class Again:
    """How one cell is played alone.

    Attributes:
        seed: What reproduces it.
        place: Where.
        called: How a command line calls entries that it cannot call by their names, by name.
        options: What else it needs.
    """

    seed: int
    place: Place
    called: Mapping[str, str]
    options: tuple[str, ...]

    def line(self, key: CellKey) -> str:
        """The command line."""
        sender, receiver = (self.called.get(name, name) for name in (key.sender, key.receiver))
        words = ["ic-bridge", "conformance", "--sender", sender, "--receiver", receiver]
        words += ["--dialect", key.dialect, "--scenario", key.scenario, "--seed", str(self.seed)]
        if self.place.choice is not None:
            words += ["--network", self.place.choice]
        return shlex.join([*words, *self.options])


# --- Playing --------------------------------------------------------------------------------------


async def _play(tasks: list[Task], place: Place, jobs: int, again: Again) -> AsyncIterator[Event]:
    """Play all, several at once; events come as they happen."""
    events: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()
    waiting = iter(tasks)
    turn_of: Mapping[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def work() -> None:
        try:
            await _work(waiting, place, events, again, turn_of)
        except Exception as error:  # noqa: BLE001 - handed to whoever reads the events
            events.put_nowait(error)
        events.put_nowait(None)

    workers = [asyncio.create_task(work()) for _ in range(max(1, min(jobs, len(tasks))))]
    try:
        ended = 0
        while ended < len(workers):
            event = await events.get()
            if isinstance(event, BaseException):
                raise event
            if event is None:
                ended += 1
            else:
                yield event
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _work(
    waiting: Iterator[Task],
    place: Place,
    events: "asyncio.Queue[Event | BaseException | None]",
    again: Again,
    turn_of: Mapping[str, asyncio.Lock],
) -> None:
    """One worker: plays task after task, each replica for some of them."""
    programs = Programs()
    try:
        await _work_with(waiting, place, events, again, turn_of, programs)
    finally:
        await programs.end()


async def _work_with(
    waiting: Iterator[Task],
    place: Place,
    events: "asyncio.Queue[Event | BaseException | None]",
    again: Again,
    turn_of: Mapping[str, asyncio.Lock],
    programs: Programs,
) -> None:
    task = next(waiting, None)
    while task is not None:
        async with contextlib.aclosing(Worlds()) as worlds:
            for _ in range(_CELLS_OF_A_REPLICA):
                if task is None:
                    break
                for key in task.keys:
                    events.put_nowait(CellStarted(key))
                async with contextlib.AsyncExitStack() as turns:
                    for name in sorted(task.job.standing):
                        await turns.enter_async_context(turn_of[name])
                    world = await worlds.at(task.job.place(place))
                    cell = await play_cell(world, task.job, task.keys[0], programs)
                for key in task.keys:
                    own = replace(cell, key=key, rerun=again.line(key))
                    events.put_nowait(CellEnded(_renamed(own, task.keys[0])))
                task = next(waiting, None)


def _renamed(cell: Cell, played: CellKey) -> Cell:
    """The cell of one partner of a scenario that was played once for all of them."""
    if cell.verdict in (Verdict.UNSUPPORTED, Verdict.ERROR) or cell.key == played:
        return cell
    return replace(cell, seconds=0.0)
