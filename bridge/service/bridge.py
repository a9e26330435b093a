"""`Bridge`: opens flows, answers them, and keeps them going until each has its end."""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from bridge.agent import Agent
from bridge.errors import BridgeError, FlowFailedError, LocalProtocolError, StoreLostError
from bridge.flow import (
    Answer,
    Cancel,
    Due,
    Event,
    FailedForNow,
    Finish,
    Flow,
    Policy,
    Rerun,
    RetryDeadLetter,
    Returned,
    Role,
    Send,
    SenderFlow,
    SenderState,
    Tell,
    Telling,
    telling,
)
from bridge.flow.inflight import in_turn
from bridge.flow.trace import FlowKey
from bridge.principal import Principal
from bridge.service.admission import Admission
from bridge.service.application import (
    Application,
    CorruptionHandler,
    Handler,
    OperatorHandler,
    Outcome,
    OutcomeHandler,
    resend_when_corrupt,
)
from bridge.service.carrier import OwnCalls
from bridge.service.checking import CheckedPeer, check_peer
from bridge.service.engine import Engine, EventMaker
from bridge.service.ids import Mint
from bridge.service.inbox import Inbox
from bridge.service.mailbox import Mailbox
from bridge.service.peers import PeerDialects
from bridge.service.performer import Performer, Sighting, always
from bridge.service.pollers import Pollers
from bridge.service.recovery import alone_on, check_owner, resume
from bridge.service.tasks import Tasks
from bridge.service.transmitter import Transmitter
from bridge.service.waiters import Waiter, Waiters
from bridge.store import Store

_log = logging.getLogger("bridge.service")

_BATCH: Final = 100
_LAST_ID: Final = "last_msg_id"
_PAUSE_AFTER_FAILURE: Final = 1.0


class Bridge:
    """An agent's side of Async Flow: sender and, with a handler, receiver.

    Use it with ``async with``; what was open when an earlier process ended goes on.

    Peers know the agent by its own principal and keep its messages in their outboxes. With a
    mailbox they may be any canisters: the mailbox is the one whom they know, it forwards what is
    sent, and keeps what arrives.

    Args:
        agent: Signs and calls.
        store: Where flows live; open. Only one bridge may work on it at a time.
        mailbox: A mailbox canister that the agent owns.
        policy: The settings; the protocol's defaults where absent.
        handler: Answers requests; without it this side is only a sender.
        sends: Whether this side opens flows. One that does not is only a receiver: an ACK for no
            flow that it has is counted and left, where a sender would answer that it wants no more.
            Flows that an earlier bridge opened on the store go on.
        on_outcome: Told how a flow ended that no coroutine waits for. Where absent, such an outcome
            is kept, and counts in the quotas, until `response` takes it or, of an answer, `finish`.
        on_corrupt: Decides about payloads that do not match their hash; asks for a resend where
            absent.
        on_operator: Told of dead letters (see `revive` and `finish`), stalled requests (`answer`,
            `rerun`, `release`) and abandoned ones; the log is, where absent.
        accept: Canisters whose requests are taken; ``None`` takes those of every watched canister
            and, with a mailbox, of every canister that writes to it.
        poll_every: Seconds between two looks into an outbox or mailbox in which nothing is
            expected.
        concurrency: How many calls may be open at once, and half as many to one peer.
        close_within: Seconds that handlers and calls have to end by themselves when the bridge
            ends; what then still runs is cancelled, and counts as lost in a crash.
        clock: Nanoseconds since 1970.
        by_hand: Whether nothing is served by itself, but only in `step`: for a clock that stands
            still and is moved by hand, as a test's or a simulation's.
        observer: Told of each message sent and received; must not raise or block.
    """

    def __init__(
        self,
        agent: Agent,
        store: Store,
        *,
        mailbox: Principal | None = None,
        policy: Policy | None = None,
        handler: Handler | None = None,
        sends: bool = True,
        on_outcome: OutcomeHandler | None = None,
        on_corrupt: CorruptionHandler = resend_when_corrupt,
        on_operator: OperatorHandler | None = None,
        accept: frozenset[Principal] | None = None,
        poll_every: float = 1.0,
        concurrency: int = 96,
        close_within: float = 5.0,
        clock: Callable[[], int] = time.time_ns,
        by_hand: bool = False,
        observer: Callable[[Sighting], None] | None = None,
    ) -> None:
        self._agent = agent
        self._policy = (policy or Policy()).validate()
        self._mailbox = None if mailbox is None else Mailbox(agent, mailbox, self._policy)
        self._us = agent.principal if mailbox is None else mailbox
        self._close_within = close_within
        self._by_hand = by_hand
        self._draw = random.Random()  # noqa: S311 - jitter is no secret
        self._engine = Engine(store, self._policy, clock=clock, draw=self._draw)
        self._admission = Admission(
            store,
            self._engine.uncommitted,
            self._policy,
            accept,
            strangers=mailbox is not None,
        )
        self._dialects = PeerDialects(agent, self._policy, clock)
        self._transmitter = Transmitter(
            self._mailbox or OwnCalls(agent),
            self._policy,
            clock=clock,
            concurrency=concurrency,
        )
        self._mint = Mint(clock)
        self._waiters = Waiters(self._retell)
        self._tasks = Tasks()
        self._loops = Tasks()
        self._guards = Tasks()
        self._performer = Performer(
            self._engine,
            self._admission,
            self._transmitter,
            Application(handler, on_outcome, on_corrupt, on_operator),
            self._waiters,
            self._tasks,
            expect=self._expect,
            observer=observer,
        )
        self._inbox = Inbox(
            self._engine,
            self._admission,
            self._transmitter,
            self._performer,
            self._tasks,
            receives=handler is not None,
            sends=sends,
            observer=observer,
        )
        self._pollers = Pollers(
            agent,
            store,
            self._mailbox,
            self._inbox.take,
            self._loops,
            pause=poll_every,
            receives=handler is not None,
            by_hand=by_hand,
        )
        self._sends = sends
        self._running = False
        self._over = asyncio.Event()
        self._lost: StoreLostError | None = None
        self._holds = contextlib.ExitStack()

    # --- Life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._begin()
        except BaseException:
            await self._end(grace=0)
            raise
        return self

    async def _begin(self) -> None:
        store = self._engine.store
        self._holds.enter_context(alone_on(store))
        if self._mailbox is not None:
            await self._mailbox.check()
        ours = await check_owner(store, self._us)
        last = await store.note(_LAST_ID)
        self._mint.last = int.from_bytes(last or b"", "big")
        await self._engine.recall()
        self._performer.ending = False
        self._lost = None
        self._over.clear()
        self._running = True
        self._guards.spawn(self._end_with_store())
        peers = await resume(self._engine, self._performer, self._draw)
        for peer in peers if ours else ():
            self._pollers.poll(peer)
        if self._mailbox is not None:
            self._pollers.poll(self._us)
        if not self._by_hand:
            self._loops.spawn(self._work())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end(grace=self._close_within)

    async def _end(self, *, grace: float) -> None:
        self._stop()
        try:
            try:
                await self._guards.end()
            finally:  # whoever leaves may be cancelled meanwhile, and again
                await self._loops.end()
        finally:
            # Without a store nothing can come to an end: it is as after a crash.
            await self._tasks.end(grace=grace if self._lost is None else 0)
            self._transmitter.reset()
            self._pollers.clear()
            self._holds.close()

    def _stop(self) -> None:
        """Take nothing more in hand, and let go of who waits."""
        self._running = False
        self._performer.ending = True
        self._waiters.end(self._lost)
        self._over.set()

    async def _end_with_store(self) -> None:
        self._lost = await self._engine.store.lost()
        _log.error("the bridge stops: %s", self._lost)
        self._stop()
        await self._loops.end()

    async def serve_forever(self) -> None:
        """Wait for as long as the bridge works, as a program does that only receives.

        It works without this too. Returns when the bridge is ended elsewhere.

        Raises:
            LocalProtocolError: If the bridge is not running.
            StoreLostError: Once the store is lost; the bridge has stopped, and is to be left. What
                was committed goes on with the next bridge on that store.
        """
        self._check_running()
        await self._over.wait()
        self._check_store()

    def _check_store(self) -> None:
        if self._lost is not None:
            raise StoreLostError(self._lost.message, hint=self._lost.hint)

    def _check_running(self) -> None:
        self._check_store()
        if not self._running:
            raise LocalProtocolError(
                "the bridge is not running", hint="use it inside: async with Bridge(...)"
            )

    async def _work(self) -> None:
        """Serve due flows for ever."""
        while True:
            try:
                moved = await self._serve(await self._engine.wait_until_due(_BATCH))
            except StoreLostError:
                return
            except BridgeError as error:
                _log.error("the due flows could not be served: %s", error)
                moved = False
            except Exception:  # noqa: BLE001 - a fault of this program must not stop all flows
                _log.exception("the due flows could not be served")
                moved = False
            if not moved:  # whatever keeps a flow due must not keep this loop spinning
                await asyncio.sleep(_PAUSE_AFTER_FAILURE)

    async def step(self) -> tuple[bool, int]:
        """Do all that is to be done at the clock's present time, for a bridge that works by hand.

        Serves what is due, fetches what peers have for us, and waits for what follows from it.

        Returns:
            Whether anything was done, and when to step again at the latest.

        Raises:
            LocalProtocolError: If the bridge does not run, or works by itself.
            StoreError: If the store fails.
        """
        self._check_running()
        if not self._by_hand:
            raise LocalProtocolError(
                "the bridge works by itself", hint="make it with by_hand=True to step it"
            )
        moved = self._tasks.busy
        while True:
            await self._tasks.rest()
            again = await self._serve(await self._engine.due_now(_BATCH))
            for poller in self._pollers:
                again = await poller.glance() or again
            if not again and not self._tasks.busy:
                return moved, await self._engine.next_look()
            moved = True

    async def _serve(self, flows: list[Flow]) -> bool:
        """Tell each flow that it is due; whether at least one moved."""
        planned: Counter[Principal] = Counter()
        steps = []
        turns = in_turn(flows, self._engine.clock())
        for record in turns:
            room = self._transmitter.has_room(record.peer, more=planned[record.peer])
            planned[record.peer] += 1
            decision = self._performer.decide(FlowKey.of(record), always(Due(room=room)))
            steps.append(self._tasks.whole(decision))
        moved = False
        outcomes = await asyncio.gather(*steps, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, StoreLostError):
                raise outcome
        for record, outcome in zip(turns, outcomes, strict=True):
            if not isinstance(outcome, BaseException):
                moved = moved or outcome.flow is None or outcome.flow.version != record.version
            elif isinstance(outcome, BridgeError):
                _log.warning("flow %d with %s: %s", record.msg_id, record.peer, outcome)
            else:  # a fault of this program; it must not stop the other flows
                _log.error("flow %d with %s", record.msg_id, record.peer, exc_info=outcome)
        return moved

    # --- Sending --------------------------------------------------------------------------------

    async def check(self, peer: Principal, *, dialect: str | None = None) -> CheckedPeer:
        """See, before a first flow with a canister is opened, that one can come to its end.

        Asks the network and the canister, and opens and sends nothing. A flow with a wrong canister
        id, or of an agent that the canister does not know, would be tried until its lifetime is
        over. What cannot be known beforehand is not told: how the canister handles a request, and,
        with a mailbox, whether it lets the mailbox in.

        Args:
            peer: The receiver.
            dialect: As in `send`.

        Returns:
            What was found: the dialect, and whether the canister itself names it.

        Raises:
            PeerUnusableError: If there is no such canister, it has no module, it takes the messages
                in no known dialect, or it keeps no outbox for this agent; ``reason`` says which.
            LocalProtocolError: If the peer is no canister, or the bridge does not run.
            UsageError: If there is no such dialect, or the mailbox is not this agent's.
            TransportError: If the network cannot be asked.
            TrustError: If its answer cannot be believed.
            CallRejectedError: If the canister answers neither yes nor no, as one that is stopped.
        """
        self._check_running()
        if self._mailbox is not None:
            await self._mailbox.check()
        return await check_peer(
            self._agent, peer, self._dialects, dialect, outbox=self._mailbox is None
        )

    async def send(
        self,
        peer: Principal,
        payload: bytes,
        *,
        msg_id: int | None = None,
        dialect: str | None = None,
    ) -> bytes | None:
        """Open a flow and wait for its response.

        The flow is durable before anything is sent, and goes on if this coroutine is cancelled;
        its outcome then goes to ``on_outcome``.

        Args:
            peer: The receiver.
            payload: Opaque bytes, by custom a Candid-encoded value.
            msg_id: An id of one's own, to repeat a send without repeating the work; minted where
                absent.
            dialect: How to speak to the peer; as configured, or as its metadata tells, where
                absent.

        Returns:
            The response's bytes; ``None`` for a null response.

        Raises:
            FlowFailedError: If the flow failed; it says whether the request was certainly not done.
            LocalProtocolError: If the peer is no canister, the id is in use for another payload or
                peer, a bound of the policy is reached, the bridge is only a receiver or ends first.
            StoreLostError: If the store is lost first; the flow, if it was opened, goes on with the
                next bridge on that store.
            UsageError: If there is no such dialect.
        """
        self._check_running()
        chosen = self._mint.next() if msg_id is None else msg_id
        with self._waiters.waiting(chosen) as waiter:
            known = await self._open(peer, payload, chosen, dialect)
            if known is not None:
                return await self._response(known, waiter)
            return await self._taken(waiter)

    async def post(
        self,
        peer: Principal,
        payload: bytes,
        *,
        msg_id: int | None = None,
        dialect: str | None = None,
    ) -> int:
        """Open a flow without waiting for its end; durable when this returns.

        Args:
            peer: As in `send`.
            payload: As in `send`.
            msg_id: As in `send`.
            dialect: As in `send`.

        Returns:
            The flow's id, for `response`, `cancel`, and as ``on_outcome`` is told it.

        Raises:
            LocalProtocolError: As in `send`.
            UsageError: As in `send`.
        """
        self._check_running()
        chosen = self._mint.next() if msg_id is None else msg_id
        await self._open(peer, payload, chosen, dialect)
        return chosen

    async def _open(
        self, peer: Principal, payload: bytes, msg_id: int, dialect: str | None
    ) -> SenderFlow | None:
        """Open a flow; returns the one that was opened before under this id."""
        if not self._sends:
            raise LocalProtocolError(
                "this bridge opens no flows", hint="make it without sends=False to send"
            )
        spoken = await self._dialects.choose(peer, dialect)
        known: SenderFlow | None = None

        async def make(record: Flow | None) -> Event:
            nonlocal known
            if record is None:
                await self._admission.check_send(peer, payload)
            else:
                assert isinstance(record, SenderFlow)
                known = record
            return Send(peer=peer, msg_id=msg_id, payload=payload, dialect=spoken)

        notes = {_LAST_ID: self._mint.last.to_bytes(16, "big")}
        key = FlowKey(Role.SENDER, peer, msg_id)

        async def open_it() -> None:
            await self._performer.decide(key, make, notes=notes)
            if self._running:
                self._pollers.poll(peer)
                self._expect(peer)

        await self._tasks.whole(open_it())
        return known

    async def response(self, msg_id: int) -> bytes | None:
        """Wait for the response of a flow that was opened before, perhaps by another process.

        Args:
            msg_id: The flow's id.

        Returns:
            As `send`.

        Raises:
            FlowFailedError: If the flow failed.
            LocalProtocolError: If there is no such flow, its response was taken already, or the
                bridge ends first.
        """
        self._check_running()
        with self._waiters.waiting(msg_id) as waiter:
            return await self._response(await self._ours(msg_id), waiter)

    async def _response(self, record: SenderFlow, waiter: Waiter) -> bytes | None:
        """The response of a flow that may have ended before anybody waited for it."""
        key = FlowKey.of(record)
        if record.state in (SenderState.ANSWERED, SenderState.DEAD_LETTER):
            self._tasks.spawn(self._finished(key))
            return record.response
        if record.state is SenderState.ACKNOWLEDGED:
            raise LocalProtocolError(
                f"the response of flow {record.msg_id} was taken already",
                hint="it is handed over once: keep it where it is taken, or send anew",
            )
        if record.state is SenderState.FAILED:
            told = telling(record)
            if told is not None and told.what is Telling.FAILED:
                self._tasks.spawn(self._performer.settle(key, always(Returned(of=told))))
            raise _failed(Outcome(record.peer, record.msg_id, None, record.failure))
        return await self._taken(waiter)

    async def _finished(self, key: FlowKey) -> None:
        with contextlib.suppress(LocalProtocolError):  # another took it meanwhile
            await self._performer.settle(key, always(Finish()))

    async def _taken(self, waiter: Waiter) -> bytes | None:
        """Take an outcome. That it was taken is written down once the application has it.

        Nothing is awaited in between, so neither a cancellation nor a crash can lose a response
        that counts as taken; after a crash it may be told again.
        """
        outcome, told = await waiter.take()
        key = FlowKey(Role.SENDER, outcome.peer, outcome.msg_id)
        self._tasks.spawn(self._performer.settle(key, always(Returned(of=told))))
        if outcome.failure is not None:
            raise _failed(outcome)
        return outcome.response

    def _retell(self, told: Tell) -> None:
        self._tasks.spawn(self._performer.retell(told))

    async def cancel(self, msg_id: int) -> None:
        """Give a flow up. It fails as unsent or, once it left, as cancelled with unknown outcome.

        Its end is told as any other: to who waits for it or to ``on_outcome``; where nobody is
        there, it is kept until `response` raises it.

        Raises:
            LocalProtocolError: If there is no such flow or it has ended.
        """
        await self._command(await self._ours(msg_id), always(Cancel()))

    async def finish(self, msg_id: int) -> None:
        """Say that the application has the response, however it got it.

        Raises:
            LocalProtocolError: If there is no such flow or it has no response to be taken.
        """
        await self._command(await self._ours(msg_id), always(Finish()))

    async def revive(self, msg_id: int) -> None:
        """Hand a dead letter's response over again, tries from 1. To drop it, `finish` the flow.

        Raises:
            LocalProtocolError: If there is no such flow or it is no dead letter.
        """
        await self._command(await self._ours(msg_id), always(RetryDeadLetter()))

    # --- Receiving ------------------------------------------------------------------------------

    def watch(self, canister_id: Principal) -> None:
        """Fetch what this canister keeps for us in its outbox, from now on.

        Peers with whom a flow is open are watched by themselves; others ever more seldom. With a
        mailbox nothing has to be watched: this makes the canister one of the listed senders, who do
        not share their room with strangers.

        Raises:
            LocalProtocolError: If this is no canister, or the bridge does not run.
        """
        self._check_running()
        if not canister_id.is_canister:
            raise LocalProtocolError(
                f"{canister_id} is no canister, so it keeps no outbox",
                hint="give the id of a canister, such as rrkah-fqaaa-aaaaa-aaaaq-cai",
            )
        self._admission.list_sender(canister_id)
        self._pollers.watch(canister_id)

    def _expect(self, peer: Principal) -> None:
        self._pollers.expect(peer)

    async def answer(self, peer: Principal, msg_id: int, response: bytes | None) -> None:
        """Answer a request whose handler returned `DEFERRED`, or one that is stalled.

        Raises:
            LocalProtocolError: If there is no such request, it was answered before, or the response
                is larger than the policy allows.
        """
        make = self._performer.answer(Answer, peer, response)
        await self._command(await self._theirs(peer, msg_id), make)

    async def rerun(self, peer: Principal, msg_id: int) -> None:
        """Run the handler of a stalled request again; it sees ``redelivered``.

        Raises:
            LocalProtocolError: If there is no such request or it is not stalled.
        """
        await self._command(await self._theirs(peer, msg_id), always(Rerun()))

    async def release(self, peer: Principal, msg_id: int) -> None:
        """Say of a deferred or stalled request that nothing was done; the peer's next NEW counts.

        Raises:
            LocalProtocolError: If there is no such request, or it was answered before.
        """
        await self._command(await self._theirs(peer, msg_id), always(FailedForNow()))

    # --- Both -----------------------------------------------------------------------------------

    async def _ours(self, msg_id: int) -> SenderFlow:
        record = await self._record(FlowKey(Role.SENDER, self._us, msg_id))
        assert isinstance(record, SenderFlow)
        return record

    async def _theirs(self, peer: Principal, msg_id: int) -> Flow:
        return await self._record(FlowKey(Role.RECEIVER, peer, msg_id))

    async def _record(self, key: FlowKey) -> Flow:
        self._check_running()
        record = await self._engine.load(key)
        if record is None:
            raise LocalProtocolError(
                f"there is no flow {key.msg_id}", hint="it was forgotten, or its id is wrong"
            )
        return record

    async def _command(self, record: Flow, make: EventMaker) -> None:
        self._check_running()
        await self._tasks.whole(self._performer.decide(FlowKey.of(record), make))

    @property
    def counters(self) -> Mapping[str, int]:
        """What was counted so far, by reason."""
        return dict(self._engine.counters)


_MEANING: Final = {
    "unsent": "it never left; nothing was done",
    "refused": "the peer has no such canister or method; nothing was done",
    "cancelled": "it was cancelled after it had left; it may have been done",
    "corrupt": "its response does not match its hash; it was done",
    "unknown": "no answer came within its lifetime; it may have been done",
}


def _failed(outcome: Outcome) -> FlowFailedError:
    assert outcome.failure is not None
    error = FlowFailedError(
        f"flow {outcome.msg_id} to {outcome.peer} failed as {outcome.failure}: "
        f"{_MEANING[outcome.failure]}",
        failure=outcome.failure,
    )
    if error.certainly_not_done:
        error.hint = "check the canister's id and that it speaks the protocol, then send it anew"
    else:
        error.hint = "a late response, should one come, is told to on_outcome"
    if outcome.failure == "unknown":
        error.hint += "; bridge.check tells whether the peer can answer this agent at all"
    return error
