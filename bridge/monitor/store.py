"""`StoreWatch`: the store of a bridge, read beside the bridge that works on it.

A store keeps flows and no history of them: it tells how they stand, not what happened.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from bridge.errors import UsageError
from bridge.flow import Flow, Role, SenderFlow
from bridge.monitor.records import FlowEvent, FlowView, Seen, SideUsage, State, Status, Trust
from bridge.monitor.watch import PAGE, Page, Watch
from bridge.store import StoreView, view


class StoreWatch(Watch):
    """Watches the flows of a bridge where they are kept; use it with ``async with``, also nested.

    Args:
        store: Where they are kept, as `bridge.store.view` takes it: the path of an SQLite file, or
            a ``postgresql://`` URI. Or a store that is open already, which stays the caller's.
        name: What it is called; the place, without user and password, by default.
        clock: Nanoseconds since 1970: the bridge's.

    Raises:
        UsageError: If the place is of no kind of store.
    """

    kind = "store"

    def __init__(
        self,
        store: StoreView | str | Path,
        *,
        name: str | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        given = isinstance(store, StoreView)
        self._store = store if isinstance(store, StoreView) else view(store)
        super().__init__(name or (type(store).__name__ if given else _place(str(store))))
        self._own = None if given else self._store
        self._clock = clock
        self._users = 0
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        async with self._lock:
            if self._own is not None and self._users == 0:
                await self._own.open()
            self._users += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        async with self._lock:
            self._users -= 1
            if self._own is not None and self._users == 0:
                await self._own.close()

    @property
    def trust(self) -> Trust:
        """``OWN_STORE``."""
        return Trust.OWN_STORE

    async def status(self) -> Status:  # noqa: D102 - as in Watch
        return Status(
            source=self.name,
            trust=self.trust,
            time=self._clock(),
            usage=tuple([await self._usage(role) for role in Role]),
            next_due=await self._store.next_due(),
        )

    async def _usage(self, role: Role) -> SideUsage:
        found = await self._store.usage(role)
        return SideUsage(
            role=role,
            open=found.open,
            tombstones=found.tombstones,
            bytes=found.bytes,
            peers=len(await self._store.peers(role)),
        )

    async def _page(self, role: Role | None, state: State | None, cursor: bytes | None) -> Page:
        found = await self._store.flows(
            role=role, state=state, after=cursor, limit=PAGE, bodies=False
        )
        return Page(tuple(_view(flow) for flow in found.flows), found.next)

    def events(  # noqa: D102 - as in Watch
        self,
        *,
        after: int | FlowEvent = 0,
        follow: bool = False,
        poll_every: float = 2.0,
        patience: float | None = None,
    ) -> AsyncGenerator[Seen, None]:
        del after, follow, poll_every, patience
        raise self._no_history()

    async def latest_event(self) -> FlowEvent | None:  # noqa: D102 - as in Watch
        raise self._no_history()

    def _no_history(self) -> UsageError:
        return UsageError(
            f"{self.name} is a store, which keeps flows and no history of what happened to them",
            hint="watch its flows, or let the bridge's observer tell each message",
        )


def _place(location: str) -> str:
    """A location as it may be shown: without user, password and parameters but the schema."""
    if "://" not in location:
        return location
    parts = urlsplit(location)
    schema = dict(parse_qsl(parts.query)).get("schema")
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{shown}?schema={schema}" if schema else shown


def _view(flow: Flow) -> FlowView:
    ours = flow if isinstance(flow, SenderFlow) else None
    return FlowView(
        role=flow.role,
        peer=flow.peer,
        msg_id=flow.msg_id,
        state=flow.state,
        failure=None if ours is None else ours.failure,
        late=ours is not None and ours.late,
        attempts=flow.attempts,
        due=flow.due,
        opened=flow.opened,
        changed=flow.changed,
        payload_hash=flow.payload_hash,
        response_hash=flow.response_hash,
    )
