"""Commits that wait while others are written share the next transaction.

One flush to disk, or one way to a server and back, then serves them all. Knows no database.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from bridge.store.base import Change


@dataclass(frozen=True, slots=True)
class Commit:
    """What one caller wants committed, all or nothing.

    Attributes:
        changes: Changes of different flows.
        notes: Values to be kept by name.
    """

    changes: tuple[Change, ...]
    notes: Mapping[str, bytes]


class GroupCommits:
    """A queue of commits, of which a group at a time is written.

    Args:
        write: Writes a group; returns what became of each, ``None`` where it is durable. What it
            raises is told to all of the group.
    """

    def __init__(
        self, write: Callable[[list[Commit]], Awaitable[Sequence[Exception | None]]]
    ) -> None:
        self._write = write
        self._waiting: list[tuple[Commit, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def commit(self, commit: Commit) -> None:
        """Return once the commit is durable; raises what became of it where it is not."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((commit, done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_waiting())
        await done

    async def end(self) -> None:
        """Wait until all that was asked for is written."""
        while self._writer is not None:
            await asyncio.wait([self._writer])

    async def _write_waiting(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                outcomes: Sequence[Exception | None]
                try:
                    outcomes = await self._write([commit for commit, _ in group])
                except Exception as error:  # noqa: BLE001 - whatever failed, each caller has to hear
                    outcomes = [error] * len(group)
                for (_, done), outcome in zip(group, outcomes, strict=True):
                    if done.done():  # its caller was cancelled; what is written stays so
                        continue
                    if outcome is None:
                        done.set_result(None)
                    else:
                        done.set_exception(outcome)
        finally:
            self._writer = None
