"""The tasks of one bridge: none is lost from sight, and all end with it."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from bridge.errors import BridgeError, StoreLostError

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
        if isinstance(error, StoreLostError):  # ends them all; the bridge says it, once
            return
        _log.error("%s", error, exc_info=None if isinstance(error, BridgeError) else error)

    def whole(self, work: Coroutine[Any, Any, _T]) -> Coroutine[Any, Any, _T]:
        """Begin something that goes on to its end even if the one who waits for it is cancelled.

        It begins here and not where it is awaited: who waits may be cancelled before that.
        """
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return self._outcome(task)

    async def _outcome(self, task: "asyncio.Task[_T]") -> _T:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._ended)  # nobody else hears of its fault any more
            raise

    @property
    def busy(self) -> bool:
        """Whether anything runs."""
        return bool(self._running)

    async def rest(self) -> None:
        """Wait until nothing runs any more."""
        while self._running:
            await asyncio.wait(self._running)

    async def end(self, *, grace: float = 0.0) -> None:
        """Let what runs come to its end, cancel the rest, and wait until all are gone.

        Args:
            grace: Seconds that it has to end by itself, with all that it begins meanwhile.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        try:
            while self._running and (left := deadline - loop.time()) > 0:
                await asyncio.wait(self._running, timeout=left)
        finally:
            while self._running:  # a task may begin another while it ends
                for task in self._running:
                    task.cancel()
                await asyncio.wait(self._running)
