"""What comes in: each message through admission to its flow, so that none keeps another back."""

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Iterable

from bridge.errors import StoreError
from bridge.flow import Ack, Event, Flow, Message, New, Received, Role, SenderFlow, kind_of
from bridge.flow.trace import FlowKey
from bridge.principal import Principal
from bridge.service.admission import Admission
from bridge.service.engine import Engine
from bridge.service.outbox import Entry
from bridge.service.performer import Performer, Sighting
from bridge.service.tasks import Tasks
from bridge.service.transmitter import Transmitter

_log = logging.getLogger("bridge.service")


class Inbox:
    """Takes messages of peers.

    Args:
        engine: Counts, and tells observed time.
        admission: Says who gets in.
        transmitter: Says whether there is room for a reply.
        performer: Decides.
        tasks: Where decisions run, whatever becomes of who waits for them.
        receives: Whether there is a handler for requests.
        sends: Whether flows are opened here.
        observer: Told of each message received.
    """

    def __init__(
        self,
        engine: Engine,
        admission: Admission,
        transmitter: Transmitter,
        performer: Performer,
        tasks: Tasks,
        *,
        receives: bool,
        sends: bool,
        observer: Callable[[Sighting], None] | None,
    ) -> None:
        self._engine = engine
        self._admission = admission
        self._transmitter = transmitter
        self._performer = performer
        self._tasks = tasks
        self._receives = receives
        self._sends = sends
        self._observer = observer

    async def take(self, entries: Iterable[Entry]) -> None:
        """Take what waited for us; returns once all of it is stored.

        Raises:
            StoreError: If the store fails; the entries are to be read again.
        """
        # At once, so that they share the store's commits; locks keep each flow's order.
        await asyncio.gather(*(self._take(entry) for entry in entries))

    async def _take(self, entry: Entry) -> None:
        try:
            await self._receive(entry.sender, entry.message, entry.dialect)
        except StoreError:
            raise
        except Exception:  # noqa: BLE001 - one message must not keep the others back
            # To the peer it is a lost message, which it repeats; the others must not wait for it.
            _log.exception("the message %d of %s", entry.seq, entry.sender)
            self._engine.counters["failed on a message"] += 1

    async def _receive(self, caller: Principal, message: Message, dialect: str) -> None:
        counters = self._engine.counters
        if (refused := self._admission.check_message(caller, message)) is not None:
            counters[f"refused.{refused}"] += 1
            return
        role = Role.SENDER if isinstance(message, Ack) else Role.RECEIVER
        if role is Role.RECEIVER and not self._receives:
            counters[f"{kind_of(message)} to a side that only sends"] += 1
            return
        self._transmitter.heard(caller, message)
        if self._observer is not None:
            self._observer(Sighting(self._engine.clock(), "received", caller, message))

        async def make(record: Flow | None) -> Event | None:
            event = Received(message=message, caller=caller, dialect=dialect)
            if record is None and isinstance(message, New):
                verdict = await self._admission.check_new(
                    caller, message, now=self._engine.clock(), lag=self._engine.observe()
                )
                return dataclasses.replace(
                    event, refused=verdict.refused, paid=verdict.paid, floor=verdict.floor
                )
            if record is None and isinstance(message, Ack):
                if not self._sends:
                    counters["ACK to a side that only receives"] += 1
                    return dataclasses.replace(event, room=False)
                room = self._transmitter.has_room(caller)
                room = room and self._admission.may_fin_unknown(self._engine.clock())
                return dataclasses.replace(event, room=room)
            if isinstance(message, Ack) and not await self._fits(record, caller, message):
                counters["refused.quota_bytes"] += 1
                return None
            return dataclasses.replace(event, room=self._transmitter.has_room(caller))

        decision = self._performer.decide(FlowKey(role, caller, message.msg_id), make)
        await self._tasks.whole(decision)  # what it decides to do must not be cut off from it

    async def _fits(self, record: Flow | None, caller: Principal, ack: Ack) -> bool:
        if not isinstance(record, SenderFlow) or record.peer != caller:
            return True  # nothing is stored of a spoofed one, and the tables count it
        return await self._admission.ack_fits(record, ack)
