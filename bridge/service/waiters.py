"""Coroutines of this process that wait for the outcome of a flow, by its id."""

import asyncio
import contextlib
from collections.abc import Iterator

from bridge.errors import LocalProtocolError
from bridge.flow import Tell
from bridge.service.application import Outcome

Waiter = asyncio.Future[tuple[Outcome, Tell]]


class Waiters:
    """At most one waiter a flow."""

    def __init__(self) -> None:
        self._by_id: dict[int, Waiter] = {}

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
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._by_id[msg_id] = waiter
        try:
            yield waiter
        finally:
            del self._by_id[msg_id]
            waiter.cancel()

    def give(self, outcome: Outcome, telling: Tell) -> bool:
        """Give an outcome to who waits for it; whether somebody does.

        A waiter that was given it and has not yet taken it counts: the table asks again if it never
        does.
        """
        waiter = self._by_id.get(outcome.msg_id)
        if waiter is None:
            return False
        if not waiter.done():
            waiter.set_result((outcome, telling))
        return True

    def end(self) -> None:
        """Cancel every waiter."""
        for waiter in self._by_id.values():
            waiter.cancel()
