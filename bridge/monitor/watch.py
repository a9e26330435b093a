"""`Watch`: something whose flows can be watched, a canister or a bridge's store, asked in one way.

What both have in common: filters, pages, bounds. How each is asked is a module of its own.
"""

import asyncio
import difflib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Collection, Coroutine, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Final, Literal, Self, TypeVar

from bridge.errors import UsageError
from bridge.flow import Role
from bridge.monitor.records import (
    STATES,
    FlowEvent,
    FlowList,
    FlowView,
    Seen,
    State,
    Status,
    Trust,
    role_of,
)
from bridge.principal import Principal

PAGE: Final = 1_000
MOST_PAGES: Final = 2_000
"""Pages that are read for one list, so that what never ends is not read for ever."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Page:
    """Some flows, and where the next page begins; ``None`` at the end."""

    flows: tuple[FlowView, ...]
    next: bytes | None


async def together(jobs: Iterable[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    """Run jobs at once; the first failure ends the others, and is raised."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def state_named(name: str) -> State:
    """The state of a name.

    Raises:
        UsageError: If there is none.
    """
    state = STATES.get(name)
    if state is None:
        near = difflib.get_close_matches(name, STATES, n=1)
        raise UsageError(
            f"there is no state {name!r}",
            hint=f"did you mean {near[0]!r}?" if near else "choose of " + ", ".join(STATES),
        )
    return state


class Watch(ABC):
    """A canister or a store whose flows are watched; use it with ``async with``.

    Attributes:
        kind: ``canister`` or ``store``.
        name: How it is called in what is told of it.
    """

    kind: ClassVar[Literal["canister", "store"]]

    def __init__(self, name: str) -> None:
        self.name = name

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    @property
    @abstractmethod
    def trust(self) -> Trust:
        """Why its answers may be believed."""

    @abstractmethod
    async def status(self) -> Status:
        """How it stands.

        Raises:
            WatchRefusedError: If this identity may not watch the canister.
            WatchContractError: If what the canister tells does not keep the contract.
            BridgeError: As `Agent.query` raises, or `Agent.update` where answers are certified; a
                `StoreError` of a store.
        """

    async def flows(
        self,
        *,
        role: Role | str | None = None,
        state: State | str | Collection[State | str] | None = None,
        peer: Principal | str | None = None,
        idle_for: int = 0,
        limit: int = PAGE,
    ) -> FlowList:
        """The flows that fit, those first whose state has not changed for the longest time.

        Args:
            role: Only those on this side.
            state: Only those in this state, or one of these.
            peer: Only those with this peer.
            idle_for: Only those whose state has not changed for so long, in nanoseconds, by the
                clock of what is watched.
            limit: At most so many.

        Returns:
            The flows, and whether these are all.

        Raises:
            UsageError: If there is no such role or state.
            PrincipalError: If the peer is no principal.
            BridgeError: As `status`.
        """
        side = _role(role)
        whom = Principal.from_text(peer) if isinstance(peer, str) else peer
        latest = (await self.status()).time - idle_for if idle_for else None

        def fits(flow: FlowView) -> bool:
            return whom in (None, flow.peer) and (latest is None or flow.changed <= latest)

        asked = [
            (of, wanted)
            for of, wanted in _asked(side, state)
            if side in (None, of) or wanted is None
        ]
        found = await together(self._some(of, wanted, fits, limit) for of, wanted in asked)
        flows = sorted(
            (flow for some, _ in found for flow in some),
            key=lambda flow: (flow.changed, flow.role, flow.peer, flow.msg_id),
        )
        return FlowList(
            source=self.name,
            trust=self.trust,
            flows=tuple(flows[:limit]),
            complete=len(flows) <= limit and all(whole for _, whole in found),
        )

    async def _some(
        self, role: Role | None, state: State | None, fits: Any, limit: int
    ) -> tuple[list[FlowView], bool]:
        """At most ``limit`` flows of one role and state, and whether these are all."""
        found: list[FlowView] = []
        cursor: bytes | None = None
        for _ in range(MOST_PAGES):
            page = await self._page(role, state, cursor)
            found += [flow for flow in page.flows if fits(flow)]
            if page.next is None:
                return found[:limit], len(found) <= limit
            if len(found) >= limit:
                break
            cursor = page.next
        return found[:limit], False

    @abstractmethod
    async def _page(self, role: Role | None, state: State | None, cursor: bytes | None) -> Page:
        """One page of flows, raising as `status`."""

    @abstractmethod
    def events(
        self,
        *,
        after: int | FlowEvent = 0,
        follow: bool = False,
        poll_every: float = 2.0,
        patience: float | None = None,
    ) -> AsyncGenerator[Seen, None]:
        """What happened to flows, oldest first, and what of that cannot be told.

        Args:
            after: The ``seq`` of the last event that is known, or the event itself, by which
                another history is known for sure; 0 begins with the first event ever.
            follow: Go on with what is yet to come. What passes by itself, once there was a first
                answer, is then told as `ContactLost` and tried again, with growing pauses of at
                most 30 s.
            poll_every: Seconds between two looks where nothing more waits.
            patience: Seconds without an answer after which following fails with what the last try
                failed with; ``None`` waits for ever.

        Raises:
            UsageError: Of a store: it keeps no history.
            BridgeError: As `status`.
        """

    @abstractmethod
    async def latest_event(self) -> FlowEvent | None:
        """The newest event, to follow from there on; ``None`` if there is none yet.

        Raises:
            UsageError: Of a store: it keeps no history.
            BridgeError: As `status`.
        """


def _role(role: Role | str | None) -> Role | None:
    if role is None:
        return None
    try:
        return Role(role)
    except ValueError:
        raise UsageError(f"there is no role {role!r}", hint="choose sender or receiver") from None


def _asked(
    role: Role | None, state: State | str | Collection[State | str] | None
) -> list[tuple[Role | None, State | None]]:
    """What is to be asked for, one question a state."""
    if state is None:
        return [(role, None)]
    several = [state] if isinstance(state, str) else state
    wanted = dict.fromkeys(state_named(str(one)) for one in several)
    return [(role_of(one), one) for one in wanted]
