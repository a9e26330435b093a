"""Runs the tables over the store: load, step, commit; and wakes when a flow is due.

Knows neither the network nor the application. Steps of one flow never overlap; steps of different
flows do, and share the store's commits.
"""

import asyncio
import contextlib
import dataclasses
import json
import random
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from weakref import WeakValueDictionary

from bridge.errors import StoreConflictError
from bridge.flow import (
    Count,
    Event,
    Flow,
    Policy,
    Received,
    Role,
    Transition,
    is_current,
    kind_of,
    step,
    stored_bytes,
)
from bridge.flow.effects import Effect
from bridge.flow.messages import MAX_MSG_ID
from bridge.flow.trace import FlowKey
from bridge.flow.world import ObservedTime
from bridge.service.uncommitted import Uncommitted
from bridge.store import Change, Store

_CONFLICT_TRIES: Final = 5
_RECENT: Final = 1_000
_LARGEST_RECENT: Final = 16 * 1024
_OBSERVED: Final = "observed_time"


EventMaker = Callable[[Flow | None], Awaitable[Event | None]]


class Engine:
    """The tables, running.

    Args:
        store: Where flows live; open.
        policy: The settings.
        clock: Nanoseconds since 1970.
        draw: Where jitter comes from.

    Attributes:
        counters: What was counted, by reason.
        uncommitted: Changes on their way to the store.
    """

    def __init__(
        self, store: Store, policy: Policy, *, clock: Callable[[], int], draw: random.Random
    ) -> None:
        self.store = store
        self.policy = policy
        self.clock = clock
        self._draw = draw
        self.counters: Counter[str] = Counter()
        self.uncommitted = Uncommitted()
        self._observed = ObservedTime(clock())
        self._locks: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()
        # What was committed last, the latest at the end: a flow's steps follow each other closely,
        # and nobody else writes to the store.
        self._recent: OrderedDict[object, Flow] = OrderedDict()
        self._wake = asyncio.Event()
        self._asleep_until: int | None = None
        self._kept_at = clock()

    async def recall(self) -> None:
        """Take up observed time where an earlier process left it."""
        self._recent.clear()
        kept = await self.store.note(_OBSERVED)
        if kept is not None:
            last, lag = json.loads(kept)
            self._observed = ObservedTime(last, lag)
        self.observe()

    def observe(self) -> int:
        """Look at the clock; how far observed time stands behind it, in nanoseconds."""
        self._observed = self._observed.observe(self.clock(), self.policy)
        return self._observed.lag

    def _note(self) -> dict[str, bytes]:
        """Observed time as it is kept; a standstill while nobody notes it down would count."""
        self._kept_at = self._observed.last
        return {_OBSERVED: json.dumps([self._observed.last, self._observed.lag]).encode()}

    async def load(self, key: FlowKey) -> Flow | None:
        """The flow as it is stored; under an id that none can have there is none."""
        if not 0 <= key.msg_id <= MAX_MSG_ID:
            return None
        recent = self._recent.get(_identity(key))
        if recent is not None:
            return recent
        if key.role is Role.SENDER:
            return await self.store.sender_flow(key.msg_id)
        return await self.store.receiver_flow(key.peer, key.msg_id)

    async def apply(
        self, key: FlowKey, make: EventMaker, *, notes: Mapping[str, bytes] | None = None
    ) -> Transition:
        """Decide one event on one flow and make the decision durable.

        Args:
            key: Which flow.
            make: Makes the event, given the stored record; called anew when another worker was
                faster. If it makes none, nothing is decided and nothing changes.
            notes: Committed with the change.

        Returns:
            What was decided; its effects are the caller's to carry out.

        Raises:
            LocalProtocolError: If the application asked for what the state does not allow.
            StoreError: If the store fails; nothing changed.
        """
        lock = self._locks.setdefault(_identity(key), asyncio.Lock())
        async with lock:
            for attempt in range(_CONFLICT_TRIES):
                record = await self.load(key)
                event = await make(record)
                if event is None:
                    return Transition(record)
                transition = self._step(record, event)
                if transition.flow is record:
                    break
                try:
                    await self._commit(key, Change(record, transition.flow), notes or {})
                    break
                except StoreConflictError:
                    if attempt == _CONFLICT_TRIES - 1:
                        raise
        for effect in transition.effects:
            if isinstance(effect, Count):
                self.counters[effect.reason] += 1
        if isinstance(event, Received):
            self.counters[f"received {kind_of(event.message)}"] += 1
        due = None if transition.flow is None else transition.flow.due
        if due is not None and (self._asleep_until is None or due < self._asleep_until):
            self._wake.set()
        return transition

    async def _commit(self, key: FlowKey, change: Change, notes: Mapping[str, bytes]) -> None:
        identity = _identity(key)
        self._recent.pop(identity, None)  # until it is known what became of the change
        with self.uncommitted.change(change.before, change.after):
            await self.store.commit(change, notes={**self._note(), **notes})
        after = change.after
        if after is not None and stored_bytes(after, 0) <= _LARGEST_RECENT:
            self._recent[identity] = after
            if len(self._recent) > _RECENT:
                self._recent.popitem(last=False)

    def _step(self, record: Flow | None, event: Event) -> Transition:
        u = self._draw.randrange(1000 * self.policy.jitter_permille + 1)
        event = dataclasses.replace(event, u=u, lag=self.observe())
        return step(record, event, self.clock(), self.policy)

    async def is_current(self, key: FlowKey, effect: Effect) -> bool:
        """Whether a pending effect is still wanted."""
        return is_current(await self.load(key), effect, self.clock())

    async def wait_until_due(self, limit: int) -> list[Flow]:
        """Wait for the earliest due time of all, and return the flows that are due by then.

        Args:
            limit: At most so many; the others are due at the next call.
        """
        while True:
            self._wake.clear()
            self._asleep_until = None  # until it is known, every due time may be the earliest
            if flows := await self.due_now(limit):
                return flows
            due = await self.store.next_due()
            wait = max(0, self._earliest(due) - self.clock()) / 1e9
            self._asleep_until = due
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    async def due_now(self, limit: int) -> list[Flow]:
        """At most ``limit`` of the flows that are due, earliest first; looks at the clock.

        Their payloads and responses may be missing: each is read anew before it is decided about.
        """
        self.observe()
        now = self.clock()
        if now - self._kept_at >= self.policy.time_gap // 2:
            await self.store.commit(notes=self._note())
        due = await self.store.next_due()
        return [] if due is None or due > now else await self.store.due(now, limit, bodies=False)

    async def next_look(self) -> int:
        """When there is something to do at the latest."""
        return self._earliest(await self.store.next_due())

    def _earliest(self, due: int | None) -> int:
        # Tombstones age by observed time, which has to be looked at this often.
        look = self._observed.next_look(self.policy)
        return look if due is None else min(look, due)


def _identity(key: FlowKey) -> object:
    """What makes two keys the same flow: a sender's id says all, whoever claims to be its peer."""
    return key.msg_id if key.role is Role.SENDER else (key.peer, key.msg_id)
