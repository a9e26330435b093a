"""Whose outboxes are read, and what is said when one cannot be.

Peers for whom flows wait are polled; the others, for late answers and repeats, until one says what
stands: that it is not there, keeps no outbox, or does not let us look. Knows the store only to see
what is open; what a message means is the inbox's.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Final

from bridge.agent import Agent
from bridge.agent.error_codes import stands
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
_WAITING: Final = (SenderState.QUEUED, SenderState.SENDING, SenderState.CORRUPT)


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
        if not await self._waits(place) and await self._stands(place, error):
            # A flow that is opened from here on starts a poller of its own; one that was opened
            # before is seen below.
            self._running.pop(place, None)
            if not await self._waits(place):
                _log.info("%s is asked no more, no flow waits for it: %s", place, error)
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

    async def _stands(self, place: Principal, error: Exception) -> bool:
        """Whether it is the canister's certified word that it never will have anything for us.

        One node may be wrong, or behind; so what it says is asked again by a replicated call.
        """
        if not isinstance(error, CallRejectedError) or not stands(error):
            return False
        if error.certified:
            return True
        try:
            await Outbox(self._agent, place).fetch_certified()
        except CallRejectedError as again:
            return stands(again)
        except BridgeError:
            pass
        return False

    async def _waits(self, peer: Principal) -> bool:
        """Whether a flow waits for a message of this peer, or may: of very many not all are seen.

        One that ended, and whose outcome nobody took, is open and waits for nothing.
        """
        if peer in self._watched or (await self._store.usage(Role.RECEIVER, peer)).open:
            return True
        if not (await self._store.usage(Role.SENDER, peer)).open:
            return False
        waiting, all_seen = await self._waiting(peer)
        return bool(waiting) or not all_seen

    async def _waiting(self, peer: Principal) -> tuple[list[SenderFlow], bool]:
        """Our flows that wait for this peer, and whether all there are were looked through."""
        waiting: list[SenderFlow] = []
        all_seen = True
        for state in _WAITING:
            page = await self._store.flows(
                role=Role.SENDER, state=state, limit=_LOOKED_THROUGH, bodies=False
            )
            waiting += [
                flow for flow in page.flows if isinstance(flow, SenderFlow) and flow.peer == peer
            ]
            all_seen = all_seen and page.next is None
        return waiting, all_seen

    async def _what_is_open(self, peer: Principal) -> str:
        """Which flows wait for it, how long they will, what ends them; empty where none does."""
        waiting, _ = await self._waiting(peer)
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
