"""Coroutines on an event loop of their own, called alike from sync and from async tests.

Agents keep connections that belong to one event loop, while pytest-asyncio gives each test another
and sync tests have none. So all that talks to the network runs on one loop in a thread of its own.
Knows nothing of pytest and canisters.
"""

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from bridge.errors import BridgeError, UsageError

_T = TypeVar("_T")


class BackgroundLoop:
    """An event loop in a thread of its own, from creation to `close`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="ic-bridge-pytest", daemon=True
        )
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end and return its result; blocks."""
        __tracebackhide__ = True
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BridgeError as error:
            # The test's own line matters, not the way through the agent.
            raise error.with_traceback(None) from error.__cause__
        except BaseException:
            future.cancel()  # where it was this thread that was interrupted
            raise

    async def _forward(self, work: Coroutine[Any, Any, _T]) -> _T:
        __tracebackhide__ = True
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return await asyncio.wrap_future(future)
        except BridgeError as error:
            raise error.with_traceback(None) from error.__cause__

    def either(self, work: Coroutine[Any, Any, _T]) -> _T | Awaitable[_T]:
        """The result, or in async code something to await for it.

        Raises:
            UsageError: If another event loop than asyncio's runs here.
        """
        __tracebackhide__ = True
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            _refuse_trio(work)
            return self.wait(work)
        return self._forward(work)

    def close(self) -> None:
        """Cancel what still runs, and end the thread."""
        self.wait(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()


def _refuse_trio(work: Coroutine[Any, Any, Any]) -> None:
    import sys  # noqa: PLC0415 - looked into, not depended on

    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        work.close()
        raise UsageError(
            "this test runs under trio, whose event loop would stand still meanwhile",
            hint="run it on asyncio: with anyio, the backend 'asyncio'",
        )


class Both:
    """An object whose coroutine methods are awaited in async tests and simply called in sync ones.

    Args:
        loop: Where they run.
        target: The object; all else of it is passed through.
    """

    def __init__(self, loop: BackgroundLoop, target: Any) -> None:
        self._loop = loop
        self._target = target

    def __getattr__(self, name: str) -> Any:
        __tracebackhide__ = True
        if name.startswith("_"):  # what copying looks for before there is a target
            raise AttributeError(name)
        try:
            value = getattr(self._target, name)
        except AttributeError as error:
            raise error.with_traceback(None) from None
        if not inspect.iscoroutinefunction(value):
            return value
        return _both(self._loop, value)

    def __dir__(self) -> list[str]:
        return dir(self._target)

    def __repr__(self) -> str:
        return repr(self._target)


def _both(loop: BackgroundLoop, method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        return loop.either(method(*args, **options))

    call.__name__ = call.__qualname__ = getattr(method, "__name__", "call")
    call.__doc__ = method.__doc__
    return call


def target_of(value: Any) -> Any:
    """What stands behind a `Both`; anything else as it is."""
    return value._target if isinstance(value, Both) else value  # noqa: SLF001 - one module
