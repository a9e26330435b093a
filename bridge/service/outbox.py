"""Fetches what canisters keep for us in their outboxes.

Rule implemented: the protocol page, Outbox. One node answers a query, so a query only tells that
there is something; what is acted on is read again by a replicated call, which consensus certifies.
Entries are trimmed once everything they say is stored.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from bridge import candid
from bridge.agent import Agent
from bridge.dialects.unified import MESSAGE_TYPE, from_case
from bridge.flow import Message
from bridge.principal import Principal

PAGE: Final = 100

_READ_ARGS = candid.Codec(
    [candid.Record({"after": candid.Opt(candid.Nat64), "limit": candid.Nat32})]
)
_READ_RESULT = candid.Codec(
    [candid.Vec(candid.Record({"seq": candid.Nat64, "message": MESSAGE_TYPE}))]
)
_TRIM_ARGS = candid.Codec([candid.Nat64])


@dataclass(frozen=True, slots=True)
class Entry:
    """One message that waits for us.

    Attributes:
        seq: Its place.
        message: The message.
        sender: Who the system says sent it.
        dialect: The dialect that it came in.
    """

    seq: int
    message: Message
    sender: Principal
    dialect: str = "unified"


class Source(Protocol):
    """Where messages wait for us."""

    async def fetch(self) -> list[Entry]:
        """The oldest entries; empty where nothing waits."""
        ...

    async def trim(self, seq: int) -> None:
        """Remove the entries up to and including ``seq``."""
        ...


class Outbox:
    """One canister's outbox for the agent's principal.

    Args:
        agent: Whose messages they are.
        canister: Who keeps them.
    """

    def __init__(self, agent: Agent, canister: Principal) -> None:
        self._agent = agent
        self._canister = canister
        # Without a cursor an outbox gives its oldest entries, and trimming takes those away; so a
        # reinstalled canister, which counts from the start again, hides nothing.
        self._first_page = _READ_ARGS.encode({"after": None, "limit": PAGE})

    async def fetch(self) -> list[Entry]:
        """The oldest entries, certified; empty where nothing waits."""
        seen = await self._agent.query(self._canister, "asyncFlow_outbox", self._first_page)
        return await self.fetch_certified() if self._entries(seen) else []

    async def fetch_certified(self) -> list[Entry]:
        """The same, asked by a replicated call at once."""
        return self._entries(
            await self._agent.update(self._canister, "asyncFlow_outbox", self._first_page)
        )

    def _entries(self, reply: bytes) -> list[Entry]:
        (rows,) = _READ_RESULT.decode(reply)
        return [Entry(row["seq"], from_case(row["message"]), self._canister) for row in rows]

    async def trim(self, seq: int) -> None:
        """Remove the entries up to and including ``seq``."""
        await self._agent.update(self._canister, "asyncFlow_outbox_trim", _TRIM_ARGS.encode(seq))


class Poller:
    """Keeps reading one place: at once while it has entries, else after a pause or a nudge.

    Args:
        source: What is read.
        take: Stores what the messages say; returns once that is durable.
        report: Told of a failed round, and whether the round before it failed in the same way;
            says whether polling goes on.
        idle: Whether nothing is likely to come.
        pause: Seconds between two looks into an empty outbox.
        longest_pause: Seconds to which the pause grows while the canister cannot be reached, and
            while nothing is likely to come.
    """

    def __init__(
        self,
        source: Source,
        take: Callable[[list[Entry]], Awaitable[None]],
        report: Callable[[Exception, bool], Awaitable[bool]],
        idle: Callable[[], Awaitable[bool]],
        *,
        pause: float,
        longest_pause: float = 30.0,
    ) -> None:
        self._source = source
        self._take = take
        self._report = report
        self._idle = idle
        self._pause = pause
        self._longest_pause = max(pause, longest_pause)
        self._nudged = asyncio.Event()
        self._failed_as: tuple[object, ...] | None = None

    def nudge(self) -> None:
        """Look soon: there is reason to expect something."""
        self._nudged.set()

    async def look(self) -> bool:
        """Look once, and take a page of what waits; whether anything did."""
        entries = await self._source.fetch()
        if entries:
            await self._take(entries)
            await self._source.trim(entries[-1].seq)
        self._failed_as = None
        return bool(entries)

    async def _fails(self, error: Exception) -> bool:
        """Report a failed round; whether polling goes on."""
        kind = (type(error), getattr(error, "code", None), getattr(error, "error_code", None))
        again, self._failed_as = kind == self._failed_as, kind
        return await self._report(error, again)

    async def glance(self) -> bool:
        """The same, but a failure is reported and counts as nothing."""
        try:
            return await self.look()
        except Exception as error:  # noqa: BLE001 - nothing a canister says may end the polling
            await self._fails(error)
            return False

    async def run(self) -> None:
        """Poll until cancelled, or until a report of a failure says that it is of no use."""
        wait = self._pause
        while True:
            self._nudged.clear()
            try:
                if await self.look():
                    wait = self._pause
                    continue
                longer = await self._idle()
            except Exception as error:  # noqa: BLE001 - nothing a canister says may end the polling
                if not await self._fails(error):
                    return
                longer = True
            wait = min(2 * wait, self._longest_pause) if longer else self._pause
            with contextlib.suppress(TimeoutError):
                # Not wait_for: before Python 3.12 it may swallow a cancellation.
                async with asyncio.timeout(wait):
                    await self._nudged.wait()
                wait = self._pause
