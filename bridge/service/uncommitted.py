"""What was decided and is not stored yet.

Steps of different flows share the store's commits, so a sum that is read meanwhile lacks them. Who
decides by such a sum adds the most that may be missing.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from weakref import WeakValueDictionary

from bridge.flow import Flow, Role
from bridge.flow.usage import Usage, usage_change
from bridge.principal import Principal


class Growth:
    """How much was ever decided to be added to one sum, and how much of that has ended."""

    __slots__ = ("__weakref__", "decided", "ended")

    def __init__(self) -> None:
        self.decided = Usage()
        self.ended = Usage()


class Mark:
    """A moment before a sum is read.

    Args:
        growth: Of that sum.
    """

    __slots__ = ("_ended", "_growth")

    def __init__(self, growth: Growth) -> None:
        self._growth = growth
        self._ended = growth.ended

    def missing(self) -> Usage:
        """The most that a sum read since the mark may lack."""
        return self._growth.decided - self._ended


class Uncommitted:
    """Changes on their way to the store."""

    def __init__(self) -> None:
        # A growth lives as long as a change or a mark holds it: no peer leaves anything behind.
        self._growths: WeakValueDictionary[tuple[Role, Principal | None], Growth] = (
            WeakValueDictionary()
        )
        self._open = 0
        self._end = asyncio.Event()

    def _growth(self, role: Role, peer: Principal | None) -> Growth:
        return self._growths.setdefault((role, peer), Growth())

    @contextlib.contextmanager
    def change(self, before: Flow | None, after: Flow | None) -> Iterator[None]:
        """A change of a flow, for as long as it is not known to be stored."""
        added = usage_change(before, after)
        record = after if after is not None else before
        if added is None or record is None:
            yield
            return
        # What a change takes away counts once it is stored.
        grown = Usage(
            max(0, added.open),
            max(0, added.tombstones),
            max(0, added.bytes),
            max(0, added.unanswered),
        )
        growths = [self._growth(record.role, peer) for peer in (record.peer, None)]
        for growth in growths:
            growth.decided += grown
        self._open += 1
        try:
            yield
        finally:
            for growth in growths:
                growth.ended += grown
            self._open -= 1
            self._end.set()
            self._end = asyncio.Event()

    def mark(self, role: Role, peer: Principal | None = None) -> Mark:
        """A mark for the sum over one side's flows, with one peer or in all."""
        return Mark(self._growth(role, peer))

    async def one_ended(self) -> None:
        """Wait until one of the changes has ended; where none is under way, all have."""
        if self._open:
            await self._end.wait()
