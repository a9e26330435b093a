"""Many flows in memory: the tables, admission, room in flight and one timer, put together.

For those who need no database, and for the simulation. Everything that a crash would keep is in
``flows`` and ``world``; everything that it would lose is in the effects that were returned and not
yet carried out, and in the in-flight table. It draws no chance and reads no clock.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

from bridge.flow.admission import (
    Access,
    Verdict,
    ack_fits,
    answer_fits,
    check_message,
    check_new,
    check_send,
)
from bridge.flow.effects import Count, Effect, RememberPaid, Transmit
from bridge.flow.events import (
    Answer,
    Due,
    Event,
    FailedForGood,
    NotSent,
    Received,
    Refused,
    Rejected,
    Restarted,
    Send,
)
from bridge.flow.inflight import FLOWS_A_TICK, InFlight, one_tick
from bridge.flow.messages import Ack, Message, New
from bridge.flow.policy import Policy
from bridge.flow.records import Flow, ReceiverFlow, SenderFlow
from bridge.flow.states import Role
from bridge.flow.step import is_current, step
from bridge.flow.trace import FlowKey
from bridge.flow.transition import Transition
from bridge.flow.usage import Usage, Usages, usage_change
from bridge.flow.world import FinRate, ObservedTime, PaidMarks
from bridge.principal import Principal

OnStep = Callable[[Flow | None, Event, int, Transition], None]
Draw = Callable[[], int]

# So many due flows are looked at to choose those of one tick fairly.
_LOOK_AHEAD: Final = 10 * FLOWS_A_TICK


class Engine:
    """All flows of one party.

    Methods return the effects to be carried out, in order, after the changes to ``flows`` are
    durable.

    Args:
        policy: The settings.
        now: Nanoseconds since 1970.
        access: Who may call.
        roles: The sides that this party takes; a message for another is counted and ignored.
        until_outcome: See ``InFlight``.
        on_step: Called after each step, for a trace.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        now: int,
        access: Access | None = None,
        roles: Collection[Role] = tuple(Role),
        until_outcome: bool = False,
        on_step: OnStep | None = None,
    ) -> None:
        self.policy = policy
        self._access = access or Access()
        self.roles: Final = frozenset(roles)
        self.senders: Final[dict[int, SenderFlow]] = {}
        self.receivers: Final[dict[tuple[Principal, int], ReceiverFlow]] = {}
        self.time = ObservedTime(now)
        self.paid: Final = PaidMarks()
        self.counters: Final[Counter[str]] = Counter()
        self._until_outcome = until_outcome
        self._in_flight = InFlight(until_outcome=until_outcome)
        self._fins = FinRate()
        self._usage: dict[tuple[Role, Principal | None], Usage] = {}
        self._unlisted: dict[Role, Usage] = {}
        self._sender_dues: list[tuple[int, int]] = []
        self._receiver_dues: list[tuple[int, tuple[Principal, int]]] = []
        self._on_step = on_step

    # --- Looking ------------------------------------------------------------------------------

    @property
    def access(self) -> Access:
        """Who may call. A change holds at once, and ends no flow."""
        return self._access

    @access.setter
    def access(self, access: Access) -> None:
        self._access = access
        self._unlisted = {}
        for record in self.flows():
            if not access.is_listed(record.peer):
                so_far = self._unlisted.get(record.role, Usage())
                self._unlisted[record.role] = so_far + Usage.of(record)

    def get(self, key: FlowKey) -> Flow | None:
        """The flow with a key; a sender's id alone names it."""
        if key.role is Role.SENDER:
            return self.senders.get(key.msg_id)
        return self.receivers.get((key.peer, key.msg_id))

    def load(self, flows: Iterable[Flow]) -> None:
        """Take over flows that were kept elsewhere; ``restart`` comes next."""
        for record in flows:
            self._store(None, record)

    def flows(self) -> Iterator[Flow]:
        """All flows."""
        yield from self.senders.values()
        yield from self.receivers.values()

    def next_due(self) -> int | None:
        """When ``tick`` has something to do; None while only an event from outside can change it.

        Includes the looks at the clock that observed time needs while there are flows to keep.
        """
        times = [self._head(self._sender_dues, self.senders)]
        if self.receivers:
            times.append(self._head(self._receiver_dues, self.receivers))
            times.append(self.time.next_look(self.policy))
        return min((time for time in times if time is not None), default=None)

    def _head(self, heap: list, flows: dict) -> int | None:  # type: ignore[type-arg]
        """The earliest due time in a heap; entries that a later step overtook are dropped."""
        while heap:
            due, key = heap[0]
            record = flows.get(key)
            if record is not None and record.due == due:
                return int(due)
            heapq.heappop(heap)
        return None

    def usages(self, role: Role, peer: Principal) -> Usages:
        """The sums that admission looks at."""
        return Usages(
            self._usage.get((role, peer), Usage()),
            self._usage.get((role, None), Usage()),
            self._unlisted.get(role, Usage()),
        )

    def is_current(self, key: FlowKey, effect: Effect, now: int) -> bool:
        """Whether a pending effect is still wanted."""
        return is_current(self.get(key), effect, now)

    # --- Events -------------------------------------------------------------------------------

    def send(
        self, peer: Principal, msg_id: int, payload: bytes, *, now: int, dialect: str = "unified"
    ) -> tuple[Effect, ...]:
        """Open a flow; it is due at once.

        Raises:
            LocalProtocolError: If the size, the id or a quota does not allow it.
        """
        if msg_id not in self.senders:
            check_send(payload, self.usages(Role.SENDER, peer), self.policy)
        event = Send(peer=peer, msg_id=msg_id, payload=payload, dialect=dialect)
        return self.apply(FlowKey(Role.SENDER, peer, msg_id), event, now)

    def receive(
        self,
        message: Message,
        caller: Principal,
        *,
        now: int,
        u: int = 0,
        dialect: str = "unified",
        cycles: int = 0,
    ) -> tuple[tuple[Effect, ...], int]:
        """Take a message.

        Returns:
            The effects, and how many of the attached cycles are accepted.
        """
        self.time = self.time.observe(now, self.policy)
        role = Role.SENDER if isinstance(message, Ack) else Role.RECEIVER
        key = FlowKey(role, caller, message.msg_id)
        record = self.get(key)
        named = record is not None and record.peer == caller
        refused = check_message(caller, message, self.access, self.policy, named=named)
        if refused is not None:
            self._count(f"refused.{refused}")
            return (), 0
        if role not in self.roles:
            self._count("refused.role")
            return (), 0
        self._in_flight.heard(caller, message)
        verdict = Verdict()
        if isinstance(message, New):
            if record is None:
                verdict = self._check_new(message, caller, now, cycles)
                if verdict.refused is None:
                    self.paid.forget(caller, message.msg_id)  # its flow says so from here on
            elif not self.access.may_send(caller):
                self._count("refused.access")
                return (), 0
        room = self._has_room(caller, now)
        if isinstance(message, Ack) and record is None:
            if room and caller.is_canister:
                self._fins, room = self._fins.take(now, self.policy)
        elif isinstance(message, Ack) and not self._ack_fits(record, caller, message):
            self._count("refused.quota_bytes")
            return (), 0
        event = Received(
            message=message,
            caller=caller,
            dialect=dialect,
            refused=verdict.refused,
            paid=verdict.paid,
            floor=verdict.floor,
            u=u,
            lag=self.time.lag,
            room=room,
        )
        return self.apply(key, event, now), verdict.accept_cycles

    def _check_new(self, message: New, caller: Principal, now: int, cycles: int) -> Verdict:
        return check_new(
            caller,
            message,
            now=now,
            lag=self.time.lag,
            access=self.access,
            usages=self.usages(Role.RECEIVER, caller),
            policy=self.policy,
            cycles=cycles,
            marked_paid=self.paid.holds(caller, message.msg_id, now),
        )

    def _ack_fits(self, record: Flow | None, caller: Principal, ack: Ack) -> bool:
        if not isinstance(record, SenderFlow) or record.peer != caller:
            return True  # the table knows the spoofed ones, of which nothing is stored
        usages = self.usages(Role.SENDER, caller)
        return ack_fits(record, ack.payload, usages, self.policy)

    def answer(
        self, key: FlowKey, response: bytes | None, *, now: int, u: int = 0, final: bool = False
    ) -> tuple[Effect, ...]:
        """Answer a NEW.

        Raises:
            LocalProtocolError: If it cannot be stored, or the flow has its answer, or is gone.
        """
        fits = answer_fits(
            response,
            self.usages(Role.RECEIVER, key.peer),
            self.policy,
            listed=self.access.is_listed(key.peer),
        )
        room = self._has_room(key.peer, now)
        kind = FailedForGood if final else Answer
        return self.apply(key, kind(response=response, fits=fits, u=u, room=room), now)

    def failed(
        self, transmit: Transmit, kind: type[NotSent | Refused | Rejected], *, now: int
    ) -> tuple[Effect, ...]:
        """A transmission did not end well."""
        self.ended(transmit)
        role = Role.RECEIVER if isinstance(transmit.message, Ack) else Role.SENDER
        key = FlowKey(role, transmit.peer, transmit.message.msg_id)
        return self.apply(key, kind(transmit=transmit), now)

    def ended(self, transmit: Transmit) -> None:
        """The outcome of a call is known: it is in flight no more."""
        self._in_flight.latest_ended(transmit.peer, transmit.message)

    def apply(self, key: FlowKey, event: Event, now: int) -> tuple[Effect, ...]:
        """Decide one event on the flow with this key.

        Raises:
            LocalProtocolError: If the application asked for what the state does not allow.
        """
        before = self.get(key)
        transition = step(before, event, now, self.policy)
        if transition.flow is not before:
            self._store(before, transition.flow)
        if self._on_step is not None:
            self._on_step(before, event, now, transition)
        for effect in transition.effects:
            match effect:
                case Count():
                    self._count(effect.reason)
                case RememberPaid():
                    if not self.paid.remember(
                        effect.peer, effect.msg_id, effect.until, self.policy
                    ):
                        self._count("paid_mark_refused")
                case Transmit():
                    self._in_flight.started(effect.peer, (effect.message,), now, self.policy)
        return transition.effects

    def tick(self, now: int, draw: Draw) -> tuple[Effect, ...]:
        """Serve what is due, at most one tick's worth; call again while ``next_due`` is past.

        Args:
            now: Nanoseconds since 1970.
            draw: Gives the jitter of each event, see ``Event.u``.
        """
        self.time = self.time.observe(now, self.policy)
        self.paid.prune(now)
        due = [*self._due(self._sender_dues, self.senders, now)]
        due += self._due(self._receiver_dues, self.receivers, now)
        effects: list[Effect] = []
        for record in one_tick(due, now):
            room = self._has_room(record.peer, now)
            event = Due(u=draw(), lag=self.time.lag, room=room)
            effects += self.apply(FlowKey.of(record), event, now)
        for record in due:
            # Taken out above: what was not served, and what has more to do at the same time.
            kept = self.get(FlowKey.of(record))
            if kept is not None and kept.due == record.due:
                self._push(kept)
        return tuple(effects)

    def restart(self, now: int, draw: Draw, share: Draw) -> tuple[Effect, ...]:
        """The process is back: what ran and what was in flight is lost, ``flows`` is not.

        Args:
            now: Nanoseconds since 1970.
            draw: Gives the jitter of each event.
            share: Gives where in ``spread`` overdue work lands, in millionths.
        """
        self._in_flight = InFlight(until_outcome=self._until_outcome)
        self.time = self.time.observe(now, self.policy)
        effects: list[Effect] = []
        for record in list(self.flows()):
            event = Restarted(u=draw(), share=share(), lag=self.time.lag)
            effects += self.apply(FlowKey.of(record), event, now)
        return tuple(effects)

    # --- Keeping ------------------------------------------------------------------------------

    def _has_room(self, peer: Principal, now: int) -> bool:
        return self._in_flight.has_room(peer, now, self.policy)

    def _count(self, reason: str) -> None:
        self.counters[reason] += 1

    def _store(self, before: Flow | None, after: Flow | None) -> None:
        record = after if before is None else before
        assert record is not None
        if isinstance(after, SenderFlow):
            self.senders[after.msg_id] = after
        elif isinstance(after, ReceiverFlow):
            self.receivers[after.peer, after.msg_id] = after
        elif isinstance(record, SenderFlow):
            del self.senders[record.msg_id]
        else:
            del self.receivers[record.peer, record.msg_id]
        change = usage_change(before, after)
        if change is not None:
            for who in (record.peer, None):
                place = record.role, who
                used = self._usage.get(place, Usage()) + change
                if used == Usage():
                    self._usage.pop(place, None)
                else:
                    self._usage[place] = used
            if not self.access.is_listed(record.peer):
                self._unlisted[record.role] = self._unlisted.get(record.role, Usage()) + change
        if after is not None and (before is None or after.due != before.due):
            self._push(after)

    def _push(self, record: Flow | None) -> None:
        if record is None or record.due is None:
            return
        if isinstance(record, SenderFlow):
            heapq.heappush(self._sender_dues, (record.due, record.msg_id))
        else:
            heapq.heappush(self._receiver_dues, (record.due, (record.peer, record.msg_id)))

    def _due(self, heap: list, flows: dict, now: int) -> list[Flow]:  # type: ignore[type-arg]
        """Take due flows out of a heap, each once."""
        found: dict[object, Flow] = {}
        while len(found) < _LOOK_AHEAD:
            due = self._head(heap, flows)
            if due is None or due > now:
                break
            key = heapq.heappop(heap)[1]
            found[key] = flows[key]
        return list(found.values())
