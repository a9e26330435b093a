"""What waits while something is done is done together next.

One flush to disk, or one way to a server and back, then serves many. Knows no database.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bridge.store.base import Change

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Commit:
    """What one caller wants committed, all or nothing.

    Attributes:
        changes: Changes of different flows.
        notes: Values to be kept by name.
    """

    changes: tuple[Change, ...]
    notes: Mapping[str, bytes]


class Grouped(Generic[_Item, _Result]):
    """A queue, of which all that waits is done at a time.

    Args:
        work: Does a group; returns what became of each, an exception where that one failed. What it
            raises is told to all of the group.
    """

    def __init__(
        self, work: Callable[[list[_Item]], Awaitable[Sequence[_Result | Exception]]]
    ) -> None:
        self._work = work
        self._waiting: list[tuple[_Item, asyncio.Future[_Result]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def do(self, item: _Item) -> _Result:
        """Return once it is done; raises what became of it where it failed."""
        done: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work_off())
        return await done

    async def end(self) -> None:
        """Wait until all that was asked for is done."""
        while self._worker is not None:
            await asyncio.wait([self._worker])

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                outcomes: Sequence[_Result | Exception]
                try:
                    outcomes = await self._work([item for item, _ in group])
                except Exception as error:  # noqa: BLE001 - whatever failed, each caller has to hear
                    outcomes = [error] * len(group)
                for (_, done), outcome in zip(group, outcomes, strict=True):
                    if done.done():  # its caller was cancelled; what is done stays so
                        continue
                    if isinstance(outcome, Exception):
                        done.set_exception(outcome)
                    else:
                        done.set_result(outcome)
        finally:
            self._worker = None
