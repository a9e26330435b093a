"""The tasks of one bridge: none is lost from sight, and all end with it."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from bridge.errors import BridgeError

_log = logging.getLogger("bridge.service")
_T = TypeVar("_T")


class Tasks:
    """A set of running tasks; what fails in one of them is logged, once."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something on its own."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        _log.error("%s", error, exc_info=None if isinstance(error, BridgeError) else error)

    async def whole(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Wait for something that goes on to its end even if the one who waits is cancelled."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def end(self) -> None:
        """Cancel all, and wait until they are gone."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
