"""Decides events and carries out what the tables ask for: calls, handlers, tellings, questions.

The order is the protocol's: first the decision is durable, then its effects happen. An effect that
a crash prevents is asked for again by the record itself, when it is next due.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from bridge.errors import LocalProtocolError, StoreError, StoreLostError
from bridge.flow import (
    Answer,
    Ask,
    Decided,
    Decision,
    Deferred,
    Event,
    FailedForGood,
    FailedForNow,
    Fin,
    Flow,
    HandlerFailed,
    HandOver,
    Message,
    Returned,
    Role,
    Tell,
    Telling,
    Transition,
    Transmit,
)
from bridge.flow.trace import FlowKey
from bridge.principal import Principal
from bridge.service.admission import Admission
from bridge.service.application import (
    DEFERRED,
    Application,
    FinalFailure,
    Outcome,
    Request,
    RetryLater,
)
from bridge.service.engine import Engine, EventMaker
from bridge.service.tasks import Tasks
from bridge.service.transmitter import Handed, Transmitter
from bridge.service.waiters import Waiters

_log = logging.getLogger("bridge.service")

_PAUSE: Final = 0.5  # seconds before a failed store is asked again, and the longest such pause
_LONGEST_PAUSE: Final = 30.0
_CURES: Final[Mapping[Telling, str]] = {
    Telling.STALLED: ": bridge.rerun, answer or release ends that",
    Telling.DEAD_LETTER: ": bridge.revive or finish ends that",
}
_What = TypeVar("_What")


@dataclass(frozen=True, slots=True)
class Sighting:
    """A message that was sent or received, for an observer.

    Attributes:
        time: Nanoseconds since 1970.
        direction: ``sent``, once the call was executed, or ``received``.
        peer: The other side.
        message: The message.
        attempt: Which transmission it is, where we sent it; else 0.
    """

    time: int
    direction: Literal["sent", "received"]
    peer: Principal
    message: Message
    attempt: int = 0


def always(event: Event) -> EventMaker:
    """An event that does not depend on the record."""

    async def make(_record: Flow | None) -> Event:
        return event

    return make


class Performer:
    """One bridge's hands.

    Args:
        engine: Decides.
        admission: Knows what fits the quotas.
        transmitter: Calls peers.
        application: The application's own code.
        waiters: Coroutines that wait for outcomes.
        tasks: Where effects run.
        expect: Told of a peer that is likely to have something for us soon.
        observer: Told of each message sent.

    Attributes:
        ending: Whether the bridge ends: what a handler then fails with may be just that, and
            decides nothing.
    """

    def __init__(
        self,
        engine: Engine,
        admission: Admission,
        transmitter: Transmitter,
        application: Application,
        waiters: Waiters,
        tasks: Tasks,
        *,
        expect: Callable[[Principal], None],
        observer: Callable[[Sighting], None] | None,
    ) -> None:
        self._engine = engine
        self._admission = admission
        self._transmitter = transmitter
        self._application = application
        self._waiters = waiters
        self._tasks = tasks
        self._expect = expect
        self._observer = observer
        self.ending = False

    async def decide(
        self, key: FlowKey, make: EventMaker, *, notes: Mapping[str, bytes] | None = None
    ) -> Transition:
        """Decide an event durably, and set its effects going.

        Args:
            key: Which flow.
            make: As in `Engine.apply`.
            notes: As in `Engine.apply`.

        Raises:
            LocalProtocolError: As in `Engine.apply`.
            StoreError: As in `Engine.apply`.
        """
        transition = await self._engine.apply(key, make, notes=notes)
        for effect in transition.effects:
            match effect:
                case Transmit():
                    token = self._transmitter.begin(effect)
                    self._tasks.spawn(self._transmit(key, effect, token))
                case HandOver():
                    self._tasks.spawn(self._handle(key, effect))
                case Tell():
                    self._tell(key, effect)
                case Ask():
                    self._tasks.spawn(self._ask(key, effect))
        return transition

    async def settle(self, key: FlowKey, make: EventMaker) -> None:
        """Decide what must not be lost to a store that fails for a while: it is tried until it is.

        Args:
            key: Which flow.
            make: As in `Engine.apply`.

        Raises:
            LocalProtocolError: As in `Engine.apply`.
            StoreLostError: If the store will never do again.
        """
        pause = _PAUSE
        while True:
            try:
                await self.decide(key, make)
            except StoreLostError:
                raise
            except StoreError as error:
                _log.error("flow %d with %s waits for the store: %s", key.msg_id, key.peer, error)
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def retell(self, telling: Tell) -> None:
        """Tell once more what was given to a waiter that left without it."""
        key = FlowKey(telling.role, telling.peer, telling.msg_id)
        if await self._engine.is_current(key, telling):
            self._tell(key, telling)

    async def _transmit(self, key: FlowKey, effect: Transmit, token: int) -> None:
        async def wanted() -> bool:
            return await self._engine.is_current(key, effect)

        result = await self._transmitter.transmit(effect, token, wanted)
        if result is Handed.DROPPED:
            self._engine.counters["outdated transmission dropped"] += 1
            return
        if result is not Handed.EXECUTED:
            await self.settle(key, always(result))
            return
        if self._observer is not None:
            now = self._engine.clock()
            self._observer(Sighting(now, "sent", effect.peer, effect.message, effect.attempt))
        if not isinstance(effect.message, Fin):
            self._expect(effect.peer)

    async def _handle(self, key: FlowKey, effect: HandOver) -> None:
        failed = always(HandlerFailed(of=effect))
        make = await self._run_handler(effect, failed)
        if make is None:
            return
        try:
            await self.settle(key, make)
        except LocalProtocolError as error:
            _log.error("request %d of %s: %s", effect.msg_id, effect.peer, error)
            await self.settle(key, failed)

    async def _run_handler(self, effect: HandOver, failed: EventMaker) -> EventMaker | None:
        handler = self._application.handler
        if handler is None:  # the process that took this request had one, this one has not
            return failed
        request = Request(effect.peer, effect.msg_id, effect.payload, effect.redelivered)
        try:
            result = await handler(request)
        except RetryLater:
            return always(FailedForNow())
        except FinalFailure as failure:
            return self.answer(FailedForGood, effect.peer, failure.response)
        except Exception:  # noqa: BLE001 - an application may fail in any way; it is logged and stepped
            if self.ending:
                return None  # as if it had been cancelled: the next bridge finds it and decides
            _log.exception("the handler failed on request %d of %s", effect.msg_id, effect.peer)
            return failed
        if result is DEFERRED:
            return always(Deferred())
        if result is None or isinstance(result, bytes):
            return self.answer(Answer, effect.peer, result)
        _log.error(  # type: ignore[unreachable]  # an application need not be type-checked
            "the handler returned %s; expected bytes, None or DEFERRED", type(result).__name__
        )
        return failed

    def answer(
        self, kind: type[Answer | FailedForGood], peer: Principal, response: bytes | None
    ) -> EventMaker:
        """An answer, with what the quotas and the calls in flight allow when it is decided."""

        async def make(_record: Flow | None) -> Event:
            fits = await self._admission.answer_fits(peer, response)
            return kind(response=response, fits=fits, room=self._transmitter.has_room(peer))

        return make

    def _tell(self, key: FlowKey, effect: Tell) -> None:
        application = self._application
        if effect.role is Role.SENDER and effect.what is not Telling.DEAD_LETTER:
            outcome = Outcome(
                effect.peer,
                effect.msg_id,
                effect.response,
                effect.failure,
                late=effect.what is Telling.LATE,
                redelivered=effect.redelivered,
            )
            if not outcome.late and self._waiters.give(outcome, effect):
                return
            if application.on_outcome is not None:
                self._tasks.spawn(self._told(key, effect, application.on_outcome, outcome))
        elif application.on_operator is not None:
            self._tasks.spawn(self._told(key, effect, application.on_operator, effect))
        else:
            cure = _CURES.get(effect.what, "")
            _log.warning("flow %d with %s is %s%s", effect.msg_id, effect.peer, effect.what, cure)
            self._tasks.spawn(self.settle(key, always(Returned(of=effect))))

    async def _told(
        self, key: FlowKey, effect: Tell, listener: Callable[[_What], Awaitable[None]], what: _What
    ) -> None:
        event: Event = Returned(of=effect)
        try:
            await listener(what)
        except Exception:  # noqa: BLE001 - an application may fail in any way; it is logged and stepped
            _log.exception("the application failed on %s of flow %d", effect.what, effect.msg_id)
            event = HandlerFailed(of=effect)
        await self.settle(key, always(event))

    async def _ask(self, key: FlowKey, question: Ask) -> None:
        event: Event = HandlerFailed(of=question)
        try:
            decision = await self._application.on_corrupt(question)
        except Exception:  # noqa: BLE001 - an application may fail in any way; it is logged and stepped
            if self.ending:
                return  # as for a handler: the next bridge asks again
            _log.exception("the corruption handler failed on flow %d", question.msg_id)
        else:
            if isinstance(decision, Decision):  # an application need not be type-checked
                room = self._transmitter.has_room(question.peer)
                event = Decided(decision=decision, hash=question.their_hash, room=room)
            else:
                _log.error(  # type: ignore[unreachable]  # as above
                    "the corruption handler returned %r; expected a Decision", decision
                )
        if question.decide:
            await self.settle(key, always(event))
