"""Plays one scenario on one world, and makes a cell of what came of it."""

import contextlib
import re
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from bridge import dialects
from bridge.agent.error_codes import NO_SUCH_TARGET
from bridge.candid import Case
from bridge.conformance import hazards
from bridge.conformance.canister import CanisterEnd, nobody_there, peer
from bridge.conformance.endpoint import Endpoint
from bridge.conformance.entry import Entry
from bridge.conformance.instruments import Chaos, Relay, stock
from bridge.conformance.place import Place
from bridge.conformance.play import Play
from bridge.conformance.program import Program, ProgramEnd
from bridge.conformance.results import Cell, CellKey, Hazard, Verdict
from bridge.conformance.scenarios import Scenario
from bridge.conformance.verdicts import LackingError, NotHeldError
from bridge.conformance.wire import Wire, timeline
from bridge.conformance.world import World, Worlds
from bridge.errors import BridgeError, CallRejectedError, UsageError
from bridge.flow import Ack, Fin, Message
from bridge.network.module import check_sections

_SCRIPT: Final = "script"
_LINES: Final = 12
_NO_METHOD: Final = "has no update method"
_FLOWS: Final = 12
_CANISTER_ID: Final = re.compile(r"\b[a-z0-9]{5}(?:-[a-z0-9]{5}){3}-[a-z0-9]{3}\b")


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be played.

    Attributes:
        scenario: The scenario.
        dialect: In which dialect.
        sender: Who sends; ``None`` where a relay does.
        receiver: Who receives; ``None`` where a relay does.
        seed: Draws whatever is random.
        distrusted: What those said, by name, that were asked for a scenario that does not exist
            and did not say that it is unsupported.
    """

    scenario: Scenario
    dialect: str
    sender: Entry | None
    receiver: Entry | None
    seed: int
    distrusted: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> tuple[str, ...]:
        """What tells it from other jobs of the run."""
        return (
            self.scenario.info.id,
            self.dialect,
            self.sender.name if self.sender else "",
            self.receiver.name if self.receiver else "",
        )

    def distrust(self) -> str | None:
        """Why nothing that one of the two says can be counted on."""
        for entry in (self.sender, self.receiver):
            if entry is not None and entry.name in self.distrusted:
                return (
                    f"{entry.name} was asked for a scenario that does not exist; expected that it "
                    f"says unsupported; it says: {self.distrusted[entry.name]}"
                )
        return None

    def fault(self) -> str | None:
        """What is wrong with the description of one of the two."""
        for entry in (self.sender, self.receiver):
            if entry is not None and entry.fault:
                return entry.fault
        urls = self._urls()
        if len(urls) > 1:
            return f"the two stand on different networks: {' and '.join(urls)}"
        return None

    def hindrance(self, place: Place) -> str | None:
        """Why it can be played in no way, as is known without playing anything.

        Args:
            place: Where the run is.
        """
        if wrong := self.fault():
            return wrong
        there = self.place(place)
        for entry in (self.sender, self.receiver):
            if entry is None:
                continue
            if entry.canister is not None and there.url is None:
                return nobody_there(entry, "the embedded replica, which is made anew")
        return self.unreadable()

    def unreadable(self) -> str | None:
        """Why the file of one of the two is no whole module."""
        for entry in (self.sender, self.receiver):
            if entry is not None and self.dialect in entry.wasm:
                try:
                    _read(entry, self.dialect)
                except UsageError as error:
                    return str(error)
        return None

    async def absence(self, place: Place, worlds: Worlds) -> str | None:
        """Why a canister of others stands not on the network where it is to be played.

        Args:
            place: Where the run is.
            worlds: Where networks are opened; one that cannot be reached tells nothing.
        """
        there = self.place(place)
        if there.url is None or not self.standing:
            return None
        world = await worlds.at(there)
        if isinstance(world, BridgeError):
            return None
        for entry in (self.sender, self.receiver):
            if entry is not None and entry.canister is not None:
                # What else a network says of it is its cells' business.
                with contextlib.suppress(BridgeError):
                    if await world.agent.module_hash(entry.canister) is None:
                        return nobody_there(entry, world.network.url)
        return None

    def _urls(self) -> list[str]:
        urls = [entry.url for entry in (self.sender, self.receiver) if entry is not None]
        return list(dict.fromkeys(url for url in urls if url))

    def place(self, place: Place) -> Place:
        """Where it is played: where one of the two stands, else where the run is."""
        for url in self._urls():
            if url != place.url:
                return Place(url, None, place.identity)
        return place

    @property
    def standing(self) -> frozenset[str]:
        """The canisters of others that take part, each in one scenario at a time."""
        ends = (self.sender, self.receiver)
        return frozenset(
            entry.source for entry in ends if entry is not None and entry.canister is not None
        )

    def lacking(self) -> str | None:
        """Why it cannot be played, by the table's or an entry's own word."""
        scenario = self.scenario
        if scenario.dialects and self.dialect not in scenario.dialects:
            return scenario.why_not
        for entry in (self.sender, self.receiver):
            if entry is not None and scenario.info.id in entry.lacks:
                return f"{entry.name} states: {entry.lacks[scenario.info.id]}"
        return None


def _read(entry: Entry, dialect: str) -> None:
    """See that the file of an implementation is a whole module."""
    wasm = entry.module(dialect)
    try:
        check_sections(wasm)
    except UsageError as error:
        raise UsageError(f"{entry.wasm[dialect]}: {error.message}", hint=error.hint) from error


class Programs:
    """The drivers that one worker has running, one for each side and command."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, tuple[str, ...]], Program] = {}

    def of(self, side: str, entry: Entry) -> Program:
        """The one for this side; it starts when it is first asked something."""
        return self._running.setdefault((side, entry.command), Program(entry.command))

    async def end(self) -> None:
        """End all."""
        for program in self._running.values():
            await program.end()


@dataclass(slots=True)
class _Verdicts:
    delivery: Verdict = Verdict.PASSED
    clean_up: Verdict = Verdict.PASSED
    expected: str = ""
    observed: str = "as expected"
    clean_up_observed: str = ""
    hazard: Hazard | None = None

    @classmethod
    def both(cls, verdict: Verdict, observed: str) -> "_Verdicts":
        return cls(verdict, verdict, observed=observed)


async def play_cell(world: World | BridgeError, job: Job, key: CellKey, programs: Programs) -> Cell:
    """Play one scenario.

    Args:
        world: Where; or why there is no such place.
        job: What.
        key: Whose cell it is.
        programs: Drivers that run already.

    Returns:
        The cell. Whatever goes wrong is its verdict; nothing is raised.
    """
    begun = time.monotonic()
    lacking = job.lacking()
    if lacking is not None:
        return _cell(job, key, _Verdicts.both(Verdict.UNSUPPORTED, lacking), begun)
    wrong = job.fault() or job.distrust() or job.unreadable()
    if wrong is not None:
        return _cell(job, key, _Verdicts.both(Verdict.ERROR, wrong), begun)
    if isinstance(world, BridgeError):
        return _cell(job, key, _Verdicts.both(Verdict.ERROR, str(world)), begun)
    started = world.now
    play: Play | None = None
    try:
        play = await _stage(world, job, programs)
        verdicts = await _judge(play, job.scenario)
    except LackingError as error:
        verdicts = _Verdicts.both(Verdict.UNSUPPORTED, error.reason)
    except BridgeError as error:
        verdicts = _Verdicts.both(Verdict.ERROR, str(error))
    except Exception as error:  # noqa: BLE001 - what a stranger says must not end the whole run
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"the scenario could not be judged: {type(error).__name__}: {error}"
        verdicts = _Verdicts.both(Verdict.ERROR, f"{reason} ({place.name}, line {place.lineno})")
    cell = _cell(job, key, verdicts, begun, virtual=world.now - started if world.virtual else 0)
    if play is not None:
        cell = await _with_evidence(cell, play, job)
    with contextlib.suppress(BridgeError):
        await world.clear()
    return replace(cell, seconds=time.monotonic() - begun)


async def _stage(world: World, job: Job, programs: Programs) -> Play:
    """Set up both ends and chaos between them."""
    scenario = job.scenario
    if world.virtual and not world.is_kept:
        await stock(world)
    chaos = await Chaos.deploy(world)
    relay = None if job.sender and job.receiver else await Relay.deploy(world)
    given = [peer(chaos.canister_id, dialect=Case(job.dialect))]
    sender = receiver = None
    if job.sender is not None:
        program = programs.of("sender", job.sender)
        sender = await _end(world, "sender", job, scenario.sender_settings, given, program)
        sender.need(*scenario.sender)
    if job.receiver is not None:
        program = programs.of("receiver", job.receiver)
        receiver = await _end(world, "receiver", job, scenario.receiver_settings, given, program)
        receiver.need(*scenario.receiver)
    ends = []
    for end in (sender, receiver):
        if end is not None:
            ends.append(end.address)
        else:
            assert relay is not None
            ends.append(relay.canister_id)
    await chaos.install(ends[0], ends[1], job.seed)
    return Play(world, chaos, job.dialect, job.seed, sender, receiver, relay)


async def _end(
    world: World,
    role: str,
    job: Job,
    settings: dict[str, object],
    peers: list[dict[str, object]],
    program: Program,
) -> Endpoint:
    entry = job.sender if role == "sender" else job.receiver
    assert entry is not None
    if entry.command:
        return await ProgramEnd.deploy(
            world, entry, job.dialect, job.scenario.info.id, settings, peers, program
        )
    return await CanisterEnd.deploy(world, entry, job.dialect, role, settings, peers)


async def _judge(play: Play, scenario: Scenario) -> _Verdicts:
    """Play it; delivery and clean-up are judged apart, and the second also after a failure."""
    verdicts = _Verdicts(expected=scenario.info.requirement)
    try:
        await scenario.player(play)
        await play.check_faults()
    except NotHeldError as error:
        verdicts.delivery = Verdict.FAILED
        verdicts.expected, verdicts.observed = error.expected, error.observed
        verdicts.hazard = error.hazard
    try:
        await scenario.clean_up(play)
    except NotHeldError as error:
        verdicts.clean_up = Verdict.FAILED
        verdicts.clean_up_observed = f"expected {error.expected}; {error.observed}"
        verdicts.hazard = verdicts.hazard or error.hazard
    except Exception as error:
        # What failed has failed, even if its end cannot be asked any more, or says that it cannot.
        if verdicts.delivery is not Verdict.FAILED:
            raise
        verdicts.clean_up = Verdict.ERROR
        verdicts.clean_up_observed = f"it could not be judged: {error}"
    return verdicts


def _cell(job: Job, key: CellKey, verdicts: _Verdicts, begun: float, *, virtual: int = 0) -> Cell:
    return Cell(
        key=key,
        delivery=verdicts.delivery,
        clean_up=verdicts.clean_up,
        requirement=job.scenario.info.requirement,
        expected=verdicts.expected or job.scenario.info.requirement,
        observed=verdicts.observed,
        clean_up_observed=verdicts.clean_up_observed,
        hazard=verdicts.hazard,
        seconds=time.monotonic() - begun,
        virtual=virtual,
        seed=job.seed,
    )


async def _with_evidence(cell: Cell, play: Play, job: Job) -> Cell:
    """The cell with what was seen, and with why calls to its ends were not executed."""
    names = [entry.name if entry else _SCRIPT for entry in (job.sender, job.receiver)]
    records = cell.timeline
    log = list(play.notes)
    with contextlib.suppress(BridgeError):
        wire = Wire(await play.chaos.log())
        flows = len(wire.ids())
        if flows <= _FLOWS or cell.verdict is not Verdict.PASSED:
            records = timeline(wire, names[0], names[1], flows=_FLOWS)
        if flows > _FLOWS:
            log.append(f"the messages of {flows} flows are not shown")
        if cell.verdict in (Verdict.FAILED, Verdict.ERROR):
            log += await _refusals(play, names)
        # A response that its peer cannot decode traps there too: that is no fault of the peer.
        judged = cell.verdict is Verdict.FAILED and cell.hazard != hazards.UNDECODABLE_ACK
        if judged and (cause := await _unusable(play, names)):
            error = Verdict.ERROR
            cell = replace(
                cell,
                delivery=error,
                clean_up=error,
                observed=cause,
                clean_up_observed="",
                hazard=None,
            )
    called = _called(play, names)
    return replace(
        cell,
        observed=_named(cell.observed, called),
        clean_up_observed=_named(cell.clean_up_observed, called),
        unjudged=tuple(_named(line, called) for line in play.unjudged),
        timeline=records,
        log=tuple(_named(line, called) for line in log),
    )


def _called(play: Play, names: list[str]) -> dict[str, str]:
    """What a report calls the canisters of a scenario; their ids differ from run to run."""
    called = {str(play.middle): "the middle"}
    if play.relay is not None:
        called[str(play.relay.canister_id)] = f"the {_SCRIPT}"
    for end, name in zip((play.sender, play.receiver), names, strict=True):
        if end is not None:
            called[str(end.address)] = name
    return called


def _named(text: str, called: Mapping[str, str]) -> str:
    return _CANISTER_ID.sub(lambda found: called.get(found[0], "a canister"), text)


async def _unusable(play: Play, names: list[str]) -> str | None:
    """Why nothing can be said of an end: it trapped at every message, or has no method for them."""
    for end, name in zip((play.sender, play.receiver), names, strict=True):
        if end is None:
            continue
        methods = dialects.get(play.dialect).methods.values()
        calls = [
            call
            for call in await play.world.calls([end.address])
            if call.method in methods and call.sender == play.middle
        ]
        if not play.world.virtual and (cause := await _no_method(play, end, name)):
            return cause
        if calls and all(call.outcome == "trapped" or _NO_METHOD in call.detail for call in calls):
            last = calls[-1]
            return (
                f"none of {len(calls)} messages to {name} was executed: "
                f"{last.method} {last.outcome}: {last.detail[:160]}"
            )
    return None


async def _no_method(play: Play, end: Endpoint, name: str) -> str | None:
    """Whether an end lacks the dialect's methods, where no log of calls tells: asked by one call.

    It is about a flow that nobody has, which changes nothing.
    """
    unknown = play.fresh_id()
    message: Message = Ack(unknown, None) if end is play.sender else Fin(unknown)
    method, arg = dialects.get(play.dialect).call_for(message)
    try:
        await play.world.agent.update(end.address, method, arg)
    except CallRejectedError as error:
        if error.error_code in NO_SUCH_TARGET:
            return f"{name} executes no message: {error}"
    return None


async def _refusals(play: Play, names: list[str]) -> list[str]:
    ends = [end.address for end in (play.sender, play.receiver) if end is not None]
    called = _called(play, names)
    lines = Counter(
        f"{call.method} to {called[str(call.receiver)]} {call.outcome}: {call.detail[:160]}"
        for call in await play.world.calls(ends)
        if call.outcome != "executed"
    )
    return [f"{line} ({times} times)" for line, times in lines.most_common(_LINES)]
