"""Coroutines of this process that wait for the outcome of a flow, by its id."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from bridge.errors import BridgeError, LocalProtocolError, StoreLostError
from bridge.flow import Tell
from bridge.service.application import Outcome


class Waiter:
    """Where one outcome is given and taken."""

    __slots__ = ("_given", "_taken")

    def __init__(self) -> None:
        self._given: asyncio.Future[tuple[Outcome, Tell]] = (
            asyncio.get_running_loop().create_future()
        )
        self._taken = False

    async def take(self) -> tuple[Outcome, Tell]:
        """The outcome; whoever is cancelled before this returns has not taken it.

        Raises:
            LocalProtocolError: If the bridge ends first.
            StoreLostError: If its store is lost first.
        """
        given = await self._given
        self._taken = True
        return given

    def give(self, outcome: Outcome, telling: Tell) -> None:
        """Give the outcome; a second one is the same."""
        if not self._given.done():
            self._given.set_result((outcome, telling))

    def end(self, error: BridgeError) -> None:
        """No outcome will come."""
        if not self._given.done():
            self._given.set_exception(error)
            self._given.exception()  # who waits hears it; where nobody does yet, it is no fault

    @property
    def left(self) -> Tell | None:
        """The telling that was given and not taken."""
        given = self._given
        if self._taken or not given.done() or given.cancelled() or given.exception() is not None:
            return None
        return given.result()[1]


class Waiters:
    """At most one waiter a flow.

    Args:
        untaken: Called with a telling that was given to a waiter which left without it.
    """

    def __init__(self, untaken: Callable[[Tell], None]) -> None:
        self._by_id: dict[int, Waiter] = {}
        self._untaken = untaken

    @contextlib.contextmanager
    def waiting(self, msg_id: int) -> Iterator[Waiter]:
        """Be told the outcome of a flow, for the length of the block.

        Raises:
            LocalProtocolError: If another coroutine waits for this flow.
        """
        if msg_id in self._by_id:
            raise LocalProtocolError(
                f"another coroutine waits for flow {msg_id}",
                hint="let one coroutine wait and share what it gets",
            )
        waiter = Waiter()
        self._by_id[msg_id] = waiter
        try:
            yield waiter
        finally:
            del self._by_id[msg_id]
            if (telling := waiter.left) is not None:
                self._untaken(telling)

    def give(self, outcome: Outcome, telling: Tell) -> bool:
        """Give an outcome to who waits for it; whether somebody does."""
        waiter = self._by_id.get(outcome.msg_id)
        if waiter is None:
            return False
        waiter.give(outcome, telling)
        return True

    def end(self, lost: StoreLostError | None = None) -> None:
        """Tell every waiter that its flow goes on without it.

        Args:
            lost: Why the bridge ends, where its store is lost.
        """
        hint = "the flow goes on with the next bridge on this store; ask that one for its response"
        for msg_id, waiter in self._by_id.items():
            said = f"the bridge ended before flow {msg_id} did"
            waiter.end(
                LocalProtocolError(said, hint=hint)
                if lost is None
                else StoreLostError(f"{said}: {lost.message}", hint=hint)
            )
