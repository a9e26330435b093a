"""One scenario being played: its two ends, what stands between them, and what was seen.

    a (the sender's end) <-> chaos <-> b (the receiver's end)

Where a scenario is about one end alone, the other is a relay that says what it is told to say.
"""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from bridge import dialects
from bridge.agent.error_codes import NO_SUCH_TARGET
from bridge.conformance import hazards
from bridge.conformance.canister import CanisterEnd
from bridge.conformance.endpoint import POWERS, Endpoint, Outcome
from bridge.conformance.instruments import Chaos, Fault, Relay
from bridge.conformance.results import Hazard
from bridge.conformance.verdicts import LackingError, NotHeldError
from bridge.conformance.wire import Sighting, Wire
from bridge.conformance.world import HOUR, MINUTE, World
from bridge.errors import BridgeError, CallRejectedError, TransportError
from bridge.flow import Message
from bridge.principal import Principal

_SILENCE: Final = 75 * MINUTE
_MOMENT: Final = 2.0
_FIRST_ID: Final = 7_000_001
_PATIENCE: Final = 14 * HOUR


@dataclass
class Play:
    """What a scenario works with.

    Attributes:
        world: Where it is played.
        chaos: What stands in the middle.
        dialect: What is spoken.
        seed: Draws whatever is random.
        sender: The end that sends; ``None`` where a relay plays it.
        receiver: The end that receives; ``None`` where a relay plays it.
        relay: Who plays the end that is not there.
        notes: Lines for the reader of the cell.
        unjudged: What of the scenario was not judged, and why not.
        completed: Flows that must have ended with ACK and FIN when all has come to rest; ``None``
            for every flow that was seen.
    """

    world: World
    chaos: Chaos
    dialect: str
    seed: int
    sender: Endpoint | None
    receiver: Endpoint | None
    relay: Relay | None
    notes: list[str] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)
    completed: set[int] | None = None
    _awaited: list[tuple[int, Fault]] = field(default_factory=list)
    _ids: Any = None

    # --- The ends -------------------------------------------------------------------------------

    @property
    def a(self) -> Endpoint:
        """The sender."""
        assert self.sender is not None
        return self.sender

    @property
    def b(self) -> Endpoint:
        """The receiver."""
        assert self.receiver is not None
        return self.receiver

    @property
    def done(self) -> bytes:
        """A response that the sender's application understands."""
        given = None if self.sender is None else self.sender.entry.response
        return b"done" if given is None else given

    @property
    def middle(self) -> Principal:
        """Whom each end takes for the other."""
        return self.chaos.canister_id

    @property
    def retry(self) -> int:
        """How long the ends wait, at most, before they first send again (nanoseconds)."""
        ends = [end for end in (self.sender, self.receiver) if end is not None]
        return max((end.retry(virtual=self.world.virtual) for end in ends), default=0)

    @property
    def stride(self) -> int:
        """The least that a step of virtual time covers: peers may look around every few seconds."""
        return self.retry // 5

    def fresh_id(self) -> int:
        """An id that no other flow has, of this scenario or of another on the same canister."""
        if self._ids is None:
            # An embedded replica is made anew for each scenario; elsewhere an end may stay.
            begin = _FIRST_ID if self.world.virtual else secrets.randbits(32) << 16
            self._ids = itertools.count(begin)
        return int(next(self._ids))

    def needs_virtual_time(self, why: str) -> None:
        """Insist on a network whose time can be moved.

        Raises:
            LackingError: If it cannot.
        """
        if not self.world.virtual:
            raise LackingError(f"{why}: only the embedded replica's time can be moved")

    async def stranger(self) -> Relay:
        """A third principal."""
        return await Relay.deploy(self.world)

    async def variant(self, end: Endpoint, name: str, **settings: Any) -> CanisterEnd:
        """Another form of an end's implementation, beside the two ends.

        Raises:
            LackingError: If its entry names none in this dialect.
        """
        found = await CanisterEnd.deploy_variant(
            self.world, end.entry, self.dialect, name, settings
        )
        if found is None:
            raise end.lacking_variant(name)
        return found

    # --- Doing ----------------------------------------------------------------------------------

    async def open(self, payload: bytes = b"hello", msg_id: int | None = None) -> int:
        """Have the sender open a flow to the receiver; its id, seen in its NEW if it does not tell.

        Raises:
            NotHeldError: If no NEW is seen within a few retries.
        """
        before = set((await self.wire()).ids())
        with refusal_is_failure():
            opened = await self.a.open(self.middle, payload, msg_id)
        await self.settle()
        if opened is not None:
            return opened

        async def seen() -> bool:
            return bool(set((await self.wire()).ids()) - before)

        if not await self.world.until(seen, 3 * self.retry, stride=self.stride):
            raise NotHeldError("a NEW after the sender was made to open a flow", "none was seen")
        return next(i for i in (await self.wire()).ids() if i not in before)

    async def say(self, message: Message, *, cycles: int = 0) -> None:
        """Have the relay say something, to the end that there is."""
        assert self.relay is not None
        await self.relay.say(self.middle, self.dialect, message, cycles=cycles)
        await self.settle()

    async def open_many(self, payload: bytes, times: int) -> None:
        """Have the sender open many flows to the receiver at once."""
        with refusal_is_failure():
            await self.a.open_many(self.middle, payload, times)
        await self.settle()

    async def settle(self) -> None:
        """Let what was just said be done."""
        if self.world.virtual:
            await self.world.settle()
        else:
            await asyncio.sleep(_MOMENT)

    async def plan(
        self, *faults: Fault, chances: dict[str, int] | None = None, certain: bool = True
    ) -> None:
        """Have chaos do something to what is said from now on.

        Args:
            faults: Exactly these.
            chances: Of each fault, in thousandths.
            certain: Whether a right implementation meets each of the faults.
        """
        at = len((await self.wire()).sightings)
        await self.chaos.plan(*faults, seed=self.seed, chances=chances)
        if certain:
            self._awaited += [(at, fault) for fault in faults]

    async def check_faults(self) -> None:
        """See that what was planned was done: without its fault a scenario shows nothing.

        Raises:
            BridgeError: If a fault met no message.
        """
        seen = (await self.wire()).sightings
        for at, fault in self._awaited:
            if not any(
                (one.side, one.kind, one.fault) == (fault.side, fault.kind, fault.what)
                for one in seen[at:]
            ):
                raise BridgeError(
                    f"the scenario was not played: no {fault.kind} from {fault.side} met its "
                    f"fault {fault.what!r}"
                )

    async def handled(self, msg_id: int) -> int:
        """How often the receiver's handler ran for a flow."""
        return await self.b.handled(self.middle, msg_id)

    # --- Seeing ---------------------------------------------------------------------------------

    async def wire(self) -> Wire:
        """What was seen so far.

        Raises:
            NotHeldError: If one of the ends spoke in another dialect than the one that is played;
                a script may say whatever it likes.
        """
        wire = Wire(await self.chaos.log())
        for side, end in (("a", self.sender), ("b", self.receiver)):
            if end is not None and (odd := wire.foreign(side, self.dialect)):
                method = dialects.get(self.dialect).methods[odd.kind or ""]
                raise NotHeldError(
                    f"{end.entry.name} to say {odd.kind} in {self.dialect}, by {method}",
                    f"a {odd.kind} in {odd.dialect}, by {odd.method}",
                )
        return wire

    async def until(self, condition: Callable[[Wire], bool], retries: float = 4) -> bool:
        """Wait until the wire shows something; whether it did within so many first retries."""

        async def shown() -> bool:
            return condition(await self.wire())

        within = int(retries * self.retry)
        return await self.world.until(shown, within, stride=self.stride)

    async def until_so(self, condition: Callable[[], Awaitable[bool]], retries: float = 4) -> bool:
        """Wait until an end says something; whether it did within so many first retries."""
        return await self.world.until(condition, int(retries * self.retry), stride=self.stride)

    async def wait(self, retries: float) -> None:
        """Let so many first retries pass."""
        await self.world.wait(int(retries * self.retry), stride=self.stride)

    async def outcome(self, msg_id: int, retries: float = 4) -> Outcome | None:
        """How a flow ended, as soon as the sender's application knows; ``None`` if it does not."""

        async def ended() -> bool:
            return await self.a.outcome(msg_id) is not None

        await self.until_so(ended, retries)
        return await self.a.outcome(msg_id)

    async def reaches(self, role: str, msg_id: int, state: str, retries: float = 4) -> None:
        """Insist that a flow reaches a state.

        Raises:
            NotHeldError: If it does not.
        """
        end = self.a if role == "sender" else self.b

        async def there() -> bool:
            return await end.state(role, msg_id) == state

        reached = await self.until_so(there, retries)
        now = await end.state(role, msg_id)
        self.check(reached, f"the {role}'s flow to be {state}", f"it is {now}")

    def leave_out(self, why: str) -> None:
        """Say that something of the scenario is not judged here."""
        if why not in self.unjudged:
            self.unjudged.append(why)

    def can_ask(self, end: Endpoint, power: str) -> bool:
        """Whether an end has a power; where it has not, what that would show is not judged."""
        if power in end.powers:
            return True
        self.leave_out(f"{end.entry.name} does not say, in {self.dialect}, that {POWERS[power]}")
        return False

    # --- Judging --------------------------------------------------------------------------------

    def check(
        self, holds: object, expected: str, observed: object, hazard: Hazard | None = None
    ) -> None:
        """Insist on something.

        Args:
            holds: Whether it is so.
            expected: What had to be seen.
            observed: What was seen instead.
            hazard: The known danger that the opposite shows.

        Raises:
            NotHeldError: If it is not so.
        """
        if not holds:
            raise NotHeldError(expected, str(observed), hazard)

    async def expect(
        self,
        condition: Callable[[Wire], bool],
        expected: str,
        retries: float = 4,
        hazard: Hazard | None = None,
    ) -> Wire:
        """Insist that the wire shows something in time; the wire that did.

        Raises:
            NotHeldError: If it does not.
        """
        shown = await self.until(condition, retries)
        wire = await self.wire()
        observed = wire.counts()
        ack = dialects.get(self.dialect).methods["ACK"]
        unreadable = [s for s in wire.said(None) if s.side == "b" and s.method == ack]
        if unreadable:
            observed += f"; {len(unreadable)} calls of {ack} that are no message of {self.dialect}"
            hazard = hazard or hazards.UNDECODABLE_ACK
        self.check(shown, expected, observed, hazard)
        return wire

    async def answered(self, msg_id: int, retries: float = 4) -> Wire:
        """Insist that a flow goes its whole way: NEW, ACK and FIN all pass.

        Raises:
            NotHeldError: If it does not.
        """
        return await self.expect(
            lambda wire: all(wire.passed(kind, msg_id) for kind in ("NEW", "ACK", "FIN")),
            "NEW, ACK and FIN of the flow to pass",
            retries,
        )

    async def ran_once(self, msg_id: int, hazard: Hazard | None = None) -> None:
        """Insist that the handler ran once for a flow, where the receiver can be asked.

        Raises:
            NotHeldError: If it did not.
        """
        if not self.can_ask(self.b, "handled"):
            return
        times = await self.handled(msg_id)
        self.check(times == 1, "the handler to run once", f"it ran {times} times", hazard)

    # --- Coming to rest -------------------------------------------------------------------------

    async def rests(self) -> None:
        """Insist that both ends come to rest: silence, every response acknowledged.

        Raises:
            NotHeldError: If they do not.
        """
        silence = _SILENCE if self.world.virtual else 4 * self.retry
        patience = _PATIENCE if self.world.virtual else 20 * self.retry
        stride = max(self.stride, silence // 8)
        waited = 0
        while True:
            before = len((await self.wire()).sightings)
            await self.world.wait(silence, stride=stride)
            waited += silence
            wire = await self.wire()
            if len(wire.sightings) == before:
                break
            self.check(
                waited < patience,
                "silence once all is done",
                f"still talking: {_listed(wire.sightings[before:])}",
            )
        wanted = self.completed if self.completed is not None else set(wire.ids())
        for msg_id in wanted:
            self._check_end(wire, msg_id)
        await self._check_states(wanted)

    def _check_end(self, wire: Wire, msg_id: int) -> None:
        acks, fins = wire.passed("ACK", msg_id), wire.passed("FIN", msg_id)
        ended = bool(acks) and bool(fins) and fins[-1].seq > acks[0].seq
        self.check(
            ended,
            "each flow to end with a FIN that passes",
            f"of one there passed {len(acks)} ACK and {len(fins)} FIN",
        )

    async def _check_states(self, wanted: set[int]) -> None:
        rest: dict[str, tuple[str | None, ...]] = {
            "sender": ("acknowledged", "failed", None),
            "receiver": ("finished", None),
        }
        for role, end in (("sender", self.sender), ("receiver", self.receiver)):
            if end is None or not self.can_ask(end, "flows"):
                continue
            states = {
                view["msg_id"]: view["state"].label
                for view in await end.flows(role)
                if view["msg_id"] in wanted
            }
            for msg_id in wanted:
                state = states.get(msg_id)
                self.check(
                    state in rest[role],
                    f"the {role} to end {' or '.join(filter(None, rest[role]))}",
                    f"it is {state}",
                )


@contextlib.contextmanager
def refusal_is_failure() -> Iterator[None]:
    """A sender that refuses to open a flow has failed; one without the method is a wrong entry."""
    try:
        yield
    except CallRejectedError as error:
        if error.error_code in NO_SUCH_TARGET:
            raise
        raise NotHeldError("the sender to open a flow", str(error)) from error
    except TransportError:
        raise
    except BridgeError as error:
        raise NotHeldError("the sender to open a flow", str(error)) from error


def _listed(sightings: list[Sighting]) -> str:
    parts = [f"{seen.kind} from {seen.side} ({seen.what})" for seen in sightings[:6]]
    more = f", and {len(sightings) - 6} more" if len(sightings) > 6 else ""
    return ", ".join(parts) + more
