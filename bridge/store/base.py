"""The contract of a store."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from bridge.errors import StoreLostError
from bridge.flow import Flow, ReceiverFlow, Role, SenderFlow
from bridge.flow.usage import Usage
from bridge.principal import Principal


@dataclass(frozen=True, slots=True)
class Change:
    """One record's change, decided by a step.

    Attributes:
        before: The record that the step was given; ``None`` where there was none.
        after: The record to be kept; ``None`` where it is to be forgotten.
    """

    before: Flow | None
    after: Flow | None

    @property
    def subject(self) -> Flow:
        """Whichever of the two is there: both have the same key."""
        record = self.after if self.after is not None else self.before
        assert record is not None, "a change from nothing to nothing"
        return record


@dataclass(frozen=True, slots=True)
class FlowPage:
    """Some flows, and where the next page begins.

    Attributes:
        flows: The records.
        next: Opaque; to be given as ``after`` for the next page; ``None`` at the end.
    """

    flows: tuple[Flow, ...]
    next: bytes | None


class StoreView(ABC):
    """Reads flows, also while a bridge works on them, and changes nothing.

    Used as an asynchronous context manager; safe for many tasks of one loop. What is read is what
    was committed by then; two questions may meet two states.
    """

    @abstractmethod
    async def open(self) -> None:
        """Make ready for use.

        Raises:
            StoreError: If the place cannot be used, or was written by a newer version.
        """

    @abstractmethod
    async def close(self) -> None:
        """Finish what was begun and let go of the place."""

    @abstractmethod
    async def sender_flow(self, msg_id: int) -> SenderFlow | None:
        """The flow that we opened under this id, whoever its receiver is."""

    @abstractmethod
    async def receiver_flow(self, peer: Principal, msg_id: int) -> ReceiverFlow | None:
        """The flow that this peer opened under this id."""

    @abstractmethod
    async def note(self, name: str) -> bytes | None:
        """The value last committed as a note of this name."""

    @abstractmethod
    async def due(self, now: int, limit: int, *, bodies: bool = True) -> list[Flow]:
        """At most ``limit`` flows that are due by ``now`` (nanoseconds), earliest first.

        Args:
            now: Nanoseconds since 1970.
            limit: At most so many.
            bodies: Whether payloads and responses are wanted; where not, they may be missing.
        """

    @abstractmethod
    async def next_due(self) -> int | None:
        """The earliest ``due`` of all flows, in nanoseconds."""

    @abstractmethod
    async def flows(
        self,
        *,
        role: Role | None = None,
        state: str | None = None,
        after: bytes | None = None,
        limit: int = 100,
        bodies: bool = True,
    ) -> FlowPage:
        """A page of flows in the order of their keys.

        Args:
            role: Only those on this side.
            state: Only those in this state.
            after: Where the previous page ended.
            limit: At most so many.
            bodies: As in `due`.

        Raises:
            StoreError: If ``after`` is no place that a page named.
        """

    @abstractmethod
    async def peers(self, role: Role, *, with_open: bool = False) -> list[Principal]:
        """The peers with whom flows of one side are stored, tombstones too.

        Args:
            role: Our side of the flows.
            with_open: Only those with a flow that is open.
        """

    @abstractmethod
    async def usage(self, role: Role, peer: Principal | None = None) -> Usage:
        """What the flows of one side take, with one peer or in all."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class Store(StoreView):
    """Keeps flows. One bridge at a time works on it."""

    @abstractmethod
    async def commit(self, *changes: Change, notes: Mapping[str, bytes] | None = None) -> None:
        """Make all the changes and notes, or none, and return once they are durable.

        Args:
            changes: Changes of different flows.
            notes: Small values to be kept by name beside the flows.

        Raises:
            StoreConflictError: If a flow is not as its ``before`` says; nothing was changed.
            StoreError: If the place fails; nothing was changed, but where it was closed while its
                server was away: what became of this commit is then known to the server alone.
            StoreLostError: If the place is lost; as there.
        """

    async def lost(self) -> StoreLostError:
        """Wait until the place is lost for good, and return why; for ever where that cannot be.

        From then on every call raises a `StoreLostError`.
        """
        never: asyncio.Future[StoreLostError] = asyncio.get_running_loop().create_future()
        return await never
