"""Whose outboxes are read, and what is said when one cannot be.

Peers with open flows are polled; those with none only as long as they let us look, for late answers
and repeats. Knows the store only to see what is open; what a message means is the inbox's.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Final

from bridge.agent import Agent
from bridge.errors import BridgeError, CallRejectedError
from bridge.flow import Role, SenderFlow, SenderState
from bridge.principal import Principal
from bridge.service.mailbox import Mailbox
from bridge.service.outbox import Entry, Outbox, Poller
from bridge.service.tasks import Tasks
from bridge.store import Store

_log = logging.getLogger("bridge.service")

_SECOND: Final = 1_000_000_000
_LOOKED_THROUGH: Final = 1_000


class Pollers:
    """One poller a place: a peer's outbox or, with a mailbox, that alone.

    Args:
        agent: Whose messages they are.
        store: Tells which flows are open.
        mailbox: The mailbox, where there is one.
        take: Stores what the messages say; returns once that is durable.
        loops: Where the pollers run.
        pause: Seconds between two looks into an empty outbox.
        receives: Whether requests are answered, which may come at any time into a mailbox.
        by_hand: Whether nobody polls but who asks for the pollers.
    """

    def __init__(
        self,
        agent: Agent,
        store: Store,
        mailbox: Mailbox | None,
        take: Callable[[list[Entry]], Awaitable[None]],
        loops: Tasks,
        *,
        pause: float,
        receives: bool,
        by_hand: bool,
    ) -> None:
        self._agent = agent
        self._store = store
        self._mailbox = mailbox
        self._take = take
        self._loops = loops
        self._pause = pause
        self._always = mailbox is not None and receives
        self._by_hand = by_hand
        self._running: dict[Principal, Poller] = {}
        self._watched: set[Principal] = set()

    def __iter__(self) -> Iterator[Poller]:
        return iter(list(self._running.values()))

    def __len__(self) -> int:
        return len(self._running)

    def clear(self) -> None:
        """Forget all of them; their tasks have ended."""
        self._running.clear()
        self._watched.clear()

    def watch(self, peer: Principal) -> None:
        """Read what this peer has for us from now on, whatever happens."""
        self._watched.add(peer)
        self.poll(peer)

    def poll(self, peer: Principal) -> None:
        """Read what this peer has for us: from its outbox or, with a mailbox, from there."""
        place = self._place(peer)
        if place in self._running:
            return

        async def report(error: Exception, again: bool) -> bool:
            try:
                return await self._cannot_be_read(place, error, again=again)
            except BridgeError as of_store:  # which must not end the polling either
                _log.warning(
                    "what %s keeps cannot be read: %s; nor the store: %s", place, error, of_store
                )
                return True

        async def idle() -> bool:
            return not self._always and not await self._in_use(place)

        source = self._mailbox or Outbox(self._agent, place)
        poller = Poller(source, self._take, report, idle, pause=self._pause)
        self._running[place] = poller
        if not self._by_hand:
            self._loops.spawn(poller.run())

    def expect(self, peer: Principal) -> None:
        """Look soon: this peer is likely to have something for us."""
        poller = self._running.get(self._place(peer))
        if poller is not None:
            poller.nudge()

    def _place(self, peer: Principal) -> Principal:
        return peer if self._mailbox is None else self._mailbox.canister

    async def _in_use(self, place: Principal) -> bool:
        if place in self._watched:
            return True
        whose = place if self._mailbox is None else None
        return any([(await self._store.usage(role, whose)).open for role in Role])

    async def _cannot_be_read(self, place: Principal, error: Exception, *, again: bool) -> bool:
        """Say so, once for each way to fail; whether to go on polling."""
        if self._mailbox is not None:
            level = logging.DEBUG if again else logging.WARNING
            _log.log(level, "what the mailbox %s keeps for us cannot be read: %s", place, error)
            return True
        if isinstance(error, CallRejectedError) and not await self._in_use(place):
            # A flow that is opened from here on starts a poller of its own; one that was opened
            # before is seen below.
            self._running.pop(place, None)
            if not await self._in_use(place):
                _log.info("%s is asked no more, no flow with it is open: %s", place, error)
                return False
            self.poll(place)
            return False
        if again:
            _log.debug("what %s keeps for us cannot be read: %s", place, error)
        else:
            _log.warning(
                "what %s keeps for us cannot be read: %s%s",
                place,
                error,
                await self._what_is_open(place),
            )
        return True

    async def _what_is_open(self, peer: Principal) -> str:
        """Which flows wait for it, how long they will, and what ends them; empty where none does.

        Of very many open flows only the first are looked through.
        """
        waiting: list[SenderFlow] = []
        for state in (SenderState.QUEUED, SenderState.SENDING):
            page = await self._store.flows(
                role=Role.SENDER, state=state, limit=_LOOKED_THROUGH, bodies=False
            )
            waiting += [
                flow for flow in page.flows if isinstance(flow, SenderFlow) and flow.peer == peer
            ]
        if not waiting:
            return ""
        first = waiting[0]
        many = f" ({len(waiting)} such flows are open)" if len(waiting) > 1 else ""
        until = "" if first.ends is None else f" until {_utc(first.ends)}"
        return (
            f"; flow {first.msg_id} to it goes on{until}{many}, bridge.cancel({first.msg_id}) "
            "ends it now; bridge.check(peer) tells what is wrong"
        )


def _utc(time: int) -> str:
    return f"{datetime.fromtimestamp(time // _SECOND, UTC):%Y-%m-%d %H:%M:%SZ}"
