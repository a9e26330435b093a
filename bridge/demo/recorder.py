"""Writes down each message of a run as somebody outside saw it.

Calls are read from the replica's message log; what the agent fetched from an outbox is no call, so
the bridge itself tells of that.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from bridge import dialects
from bridge.errors import CandidError
from bridge.flow import Ack, Fin, Message, New
from bridge.monitor import MessageRecord
from bridge.monitor.trace import Kind, Way
from bridge.network import AdminClient, LoggedMessage
from bridge.principal import Principal
from bridge.service import Sighting

_PAUSE: Final = 0.05
_KINDS: Final[dict[type, Kind]] = {New: "NEW", Ack: "ACK", Fin: "FIN"}


class Recorder:
    """Collects `MessageRecord`s of the flows between named peers.

    Args:
        admin: The replica whose log is read.
        names: How each peer is called.
        us: The agent that fetches from outboxes.
        tell: Called with each record as it is seen.
    """

    def __init__(
        self,
        admin: AdminClient,
        names: Mapping[Principal, str],
        us: Principal,
        tell: Callable[[MessageRecord], None],
    ) -> None:
        self.records: list[MessageRecord] = []
        self._admin = admin
        self._names = names
        self._us = us
        self._fetched: list[Sighting] = []
        self._tell = tell
        self._title = ""
        self._titles: dict[int, str] = {}
        self._seen: Counter[tuple[int, str]] = Counter()
        self._after = 0
        self._reading = asyncio.Lock()

    def begin(self, title: str) -> None:
        """Name the flow whose first message comes next."""
        self._title = title

    async def follow(self) -> None:
        """Read the replica's log until cancelled."""
        while True:
            await self.catch_up()
            await asyncio.sleep(_PAUSE)

    async def catch_up(self) -> None:
        """Read what the log holds by now, and put what was fetched meanwhile into its place."""
        async with self._reading:  # two readers would both count what comes next
            lines = await self._admin.messages(after=self._after)
            fetched, self._fetched = self._fetched, []
            for line in lines:
                while fetched and fetched[0].time < line.time:
                    self._add_fetched(fetched.pop(0))
                self._after = line.seq
                self._add_logged(line)
            for sighting in fetched:
                self._add_fetched(sighting)

    def fetched(self, sighting: Sighting) -> None:
        """Note what the bridge received: it was fetched from the peer's outbox."""
        if sighting.direction == "received":
            self._fetched.append(sighting)

    def _add_fetched(self, sighting: Sighting) -> None:
        self._add(sighting.time, sighting.peer, self._us, sighting.message, lost=False, by="outbox")

    def _add_logged(self, line: LoggedMessage) -> None:
        sender = line.sender
        if line.kind not in ("ingress", "request") or sender is None or sender not in self._names:
            return
        try:
            message = dialects.get("unified").message_from(line.method, line.arg)
        except CandidError:
            return  # a call that is no message of a flow
        lost = line.outcome != "executed"
        self._add(line.time, sender, line.receiver, message, lost=lost, by="call")

    def _add(
        self,
        time: int,
        sender: Principal,
        receiver: Principal,
        message: Message,
        *,
        lost: bool,
        by: Way,
    ) -> None:
        kind = _KINDS[type(message)]
        self._seen[message.msg_id, kind] += 1
        payload: bytes | None = getattr(message, "payload", None)
        record = MessageRecord(
            time=time,
            flow=self._titles.setdefault(message.msg_id, self._title),
            sender=self._names.get(sender, str(sender)),
            receiver=self._names.get(receiver, str(receiver)),
            message=kind,
            size=len(payload or b""),
            attempt=self._seen[message.msg_id, kind],
            outcome="lost" if lost else "delivered",
            by=by,
        )
        self.records.append(record)
        self._tell(record)
