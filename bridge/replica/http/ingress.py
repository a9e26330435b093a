"""Users' calls on their way to the rounds, and what is told of them on its way back.

How many may wait for a canister is decided here. The rounds tell on threads of their own; to the
event loop that goes once for all that is told together. Knows nothing of addresses and envelopes.
"""

import asyncio
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bridge import wire
from bridge.principal import Principal
from bridge.replica.http.load import INGRESS_FULL, Load, RefusedError
from bridge.replica.scheduler.rounds import Rounds, Submission
from bridge.replica.state.messages import FromUser, Message, Payload, Reject, RejectCode, Request
from bridge.replica.state.requests import RequestRecord
from bridge.wire import CallRequest, Certificate

if TYPE_CHECKING:
    from collections.abc import Collection

_FEW: Final = 64  # so many waiting calls are not worth counting
_UNDONE: Final = Reject(RejectCode.SYS_TRANSIENT, "The call was undone")

_T = TypeVar("_T")


class Teller:
    """Resolves futures of the event loop from other threads."""

    def __init__(self) -> None:
        self._outcomes: deque[tuple[asyncio.Future[Any], Any]] = deque()
        self._waking = False

    def tell(self, future: "asyncio.Future[_T]", outcome: _T) -> None:
        """Give a future its outcome, unless it has one."""
        self._outcomes.append((future, outcome))
        # Waking the loop is a call of the system: one does for a round with many answers.
        if not self._waking:
            self._waking = True
            future.get_loop().call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        # Before the first is taken: what comes once the last one is gone needs another call.
        self._waking = False
        while self._outcomes:
            future, outcome = self._outcomes.popleft()
            if not future.done():
                future.set_result(outcome)


class Ingress:
    """Hands calls to the rounds.

    Args:
        rounds: The subnet at work.
        load: What is being served.
        teller: Through which the event loop is told.
    """

    def __init__(self, rounds: Rounds, load: Load, teller: Teller) -> None:
        self._rounds = rounds
        self._machine = rounds.machine
        self._subnet = rounds.machine.subnet
        self._load = load
        self._teller = teller
        # Calls handed to the rounds, and those that they took in: each counted by one thread only.
        self._sent: Counter[Principal] = Counter()
        self._taken: Counter[Principal] = Counter()

    def admit(self, canister_id: Principal) -> None:
        """Check that the canister, or the management canister, has room for one more user's call.

        Raises:
            RefusedError: If too many wait for it.
        """
        canister = self._subnet.canisters.get(canister_id)
        if canister is None and canister_id.raw:
            return
        queue: Collection[Message] = self._subnet.managing if canister is None else canister.queue
        coming = self._sent[canister_id] - self._taken[canister_id]
        if coming + len(queue) < _FEW:
            return
        limits = self._load.limits
        with self._machine.lock:
            sizes = [len(one.arg) for one in queue if isinstance(one, Request)]
        if coming + len(sizes) >= limits.ingress or sum(sizes) > limits.ingress_bytes:
            raise RefusedError(503, INGRESS_FULL)

    def submit(
        self, record: RequestRecord, request: Request, *, until_answered: bool
    ) -> "asyncio.Future[Reject | Certificate | None]":
        """Hand a call to the rounds.

        Args:
            record: Its place in the history.
            request: The call.
            until_answered: Whether the answer is waited for.

        Returns:
            Why the call is not taken in; else the certificate of its answer, or ``None``, once it
            is taken in, if the answer is not waited for.
        """
        told: asyncio.Future[Reject | Certificate | None]
        told = asyncio.get_running_loop().create_future()
        callee = request.receiver
        # Ids that nobody has leave nothing behind.
        counted = not callee.raw or callee in self._subnet.canisters
        if counted:
            self._sent[callee] += 1

        def accepted(refusal: Reject | None) -> None:
            nonlocal counted
            if counted:
                self._taken[callee] += 1
                counted = False
            if refusal is not None or not until_answered:
                self._teller.tell(told, refusal)

        def answered(certificate: Certificate) -> None:
            self._teller.tell(told, certificate)

        self._rounds.submit(
            Submission(record, request, accepted, answered if until_answered else None)
        )
        return told

    async def call_as_anonymous(self, canister_id: Principal, method: str, arg: bytes) -> Payload:
        """Call a canister as the anonymous user would, and wait for the answer.

        Args:
            canister_id: The canister.
            method: The method.
            arg: The argument, Candid-encoded.
        """
        with self._machine.lock:
            # Tells equal calls apart, also those of an earlier process at the same moment.
            nonce = self._subnet.random()
        call = CallRequest(
            Principal.anonymous(),
            self._machine.clock.now() + wire.MAX_INGRESS_TTL,
            canister_id,
            method,
            arg,
            nonce,
        )
        record = RequestRecord(
            request_id=wire.request_id(call.content()),
            expiry=call.ingress_expiry,
            sender=call.sender.raw,
            effective_canister_id=canister_id.raw,
            canister_id=canister_id.raw,
        )
        request = Request(FromUser(record.request_id), call.sender, canister_id, method, arg)
        outcome = await self.submit(record, request, until_answered=True)
        return outcome if isinstance(outcome, Reject) else record.payload or _UNDONE
