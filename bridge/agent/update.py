"""One update call from its first byte to its outcome, whatever the replica says in between.

Rules implemented: interface specification, sections Synchronous and Asynchronous canister calling.
The call is sent, and sent again, under one request id, which the IC runs at most once; its status
is polled until a certificate tells how it ended or that it never will run. Only then, or when time
is up, does the caller hear of it.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from bridge.agent.exchange import Exchange
from bridge.agent.outcome import Outcome, describe, rejected_by_node
from bridge.agent.settings import SECOND
from bridge.agent.signed_call import SignedCall
from bridge.errors import (
    CallNeverExecutedError,
    CallOutcomeUnknownError,
    CertificateError,
    NotSentError,
    RequestRefusedError,
    TransportError,
    TrustError,
)
from bridge.principal import Principal
from bridge.wire import Certificate, decode_map

_GROWTH: Final = 1.4
_KEPT: Final = 300 * SECOND
"""How long the IC keeps what became of a call, from when the call ended: five minutes."""


@dataclass
class UpdateCall:
    """One call under way.

    Args:
        channel: The way to the replica.
        call: What to send.
        signed_now: Whether it was signed a moment ago, by this agent.
    """

    channel: Exchange
    call: SignedCall
    signed_now: bool = False

    def __post_init__(self) -> None:
        request = self.call.request
        self._id = self.call.request_id
        self._expiry = request.ingress_expiry
        self._perhaps_sent = False
        self._known = False
        self._unknown_at: int | None = None
        self._refusal: RequestRefusedError | None = None
        self._unproven: list[TrustError] = []
        self._failures: list[TransportError] = []

    def _what(self) -> str:
        request = self.call.request
        return describe(request.method_name, request.canister_id)

    async def run(self, within: int) -> bytes:
        """Send and wait.

        Args:
            within: In nanoseconds, for all of it.

        Raises:
            BridgeError: As :meth:`bridge.agent.Agent.update` lists.
        """
        return await self._limited(within, self._send_and_wait)

    async def wait(self, within: int) -> bytes:
        """Only wait, for a call that was sent before; raises as :meth:`run`."""
        self._perhaps_sent = True
        return await self._limited(within, self._poll)

    async def _limited(self, within: int, work: Callable[[], Awaitable[bytes]]) -> bytes:
        limit = asyncio.timeout(within / SECOND)
        try:
            async with limit:
                return await work()
        except TimeoutError:
            if not limit.expired():
                raise
            self._give_up(f"no outcome within {within / SECOND:g} s")

    def _give_up(self, why: str) -> NoReturn:
        if not self._perhaps_sent and self._refusal is not None:
            raise self._refusal
        if not self._perhaps_sent:
            raise NotSentError(
                f"{self._what()} was not sent: {why}", hint="nothing happened; try again later"
            )
        last = self._unproven[-1:] or self._failures[-1:]
        reason = f"; last: {last[0].message}" if last else ""
        raise CallOutcomeUnknownError(
            f"whether {self._what()} ran is unknown: {why}{reason} (request id {self._id.hex()})",
            hint="wait for the same signed call again, or ask the canister, before calling anew",
        )

    async def _send_and_wait(self) -> bytes:
        done = await self._send()
        return done if done is not None else await self._poll()

    # --- Sending ---

    async def _send(self) -> bytes | None:
        """Send until the replica has taken the call; the reply where it came at once."""
        retries = self.channel.retries
        for attempt in itertools.count(1):
            last_try = attempt >= retries.attempts
            asked: int | None = None
            before, self._perhaps_sent = self._perhaps_sent, True
            try:
                answer = await self.channel.send_call(self.call)
            except NotSentError:
                self._perhaps_sent = before
                last_try = attempt >= retries.connection_attempts
                if last_try and not self._perhaps_sent:
                    raise
            except TransportError as cause:
                self._failures.append(cause)
            else:
                asked = answer.retry_after
                if answer.status == 202:
                    return None
                if answer.status == 200:
                    return await self._take(answer.body, sent_before=before)
                if 400 <= answer.status < 500:
                    self._perhaps_sent = before
                    self._refusal = self.channel.refusal(answer, self._what())
                    if last_try or answer.status != 429:
                        await self._refused()
                        return None
                else:
                    self._failures.append(
                        TransportError(f"HTTP {answer.status} from the replica: {answer.text}")
                    )
            if last_try or (self._perhaps_sent and self.channel.clock.expiry(0) > self._expiry):
                return None
            await asyncio.sleep(retries.delay(attempt, asked))
        raise AssertionError("unreachable")

    async def _refused(self) -> None:
        # One node says so. After an attempt that may have arrived, that proves nothing.
        if not self._perhaps_sent and not await self._is_known():
            assert self._refusal is not None
            raise self._refusal
        self._perhaps_sent = True

    async def _take(self, body: bytes, *, sent_before: bool) -> bytes | None:
        """Use what came with HTTP 200; ``None`` where it proves nothing and polling must."""
        try:
            raw = decode_map(body, "the answer to a call", TransportError)
            data = raw.get("certificate")
            if isinstance(data, bytes):
                return self._judge(await self.channel.check_certificate(data, self.call))
            if raw.get("status") == "replied":
                raise CertificateError(
                    f"the replica says that {self._what()} replied, without proof"
                )
            reject = rejected_by_node(self._what(), raw)
        except TrustError as lie:
            self._unproven.append(lie)
            return None
        except CallOutcomeUnknownError:
            raise
        except TransportError as nonsense:
            self._failures.append(nonsense)
            return None
        # One node's word: of an attempt that may have arrived before, it says nothing.
        if sent_before or await self._is_known():
            return None
        raise reject

    async def _is_known(self) -> bool:
        """Whether the subnet has the call, whatever a single node says of it."""
        try:
            certificate = await self.channel.fetch_status(self.call)
            return Outcome(certificate, self._id, self._what).status is not None
        except (TrustError, TransportError):
            return False

    # --- Waiting ---

    async def _poll(self) -> bytes:
        timeouts = self.channel.timeouts
        delay: float = timeouts.first_poll
        sent = self.channel.clock.expiry(0)
        if self._unproven:
            delay = 0
        while True:
            await asyncio.sleep(delay / SECOND)
            delay = min(max(delay, timeouts.first_poll) * _GROWTH, timeouts.longest_poll)
            certificate = await self._ask()
            if certificate is None:
                continue
            try:
                done = self._judge(certificate)
            except TrustError as lie:
                self._note_lie(lie)
                continue
            if done is not None:
                return done
            self._unproven.clear()
            self._failures.clear()
            now = self.channel.clock.expiry(0)
            if not self._known and now - sent >= timeouts.resubmit and now < self._expiry:
                sent = now
                done = await self._send()
                if done is not None:
                    return done

    async def _ask(self) -> Certificate | None:
        retries = self.channel.retries
        try:
            return await self.channel.fetch_status(self.call)
        except TrustError as lie:
            self._note_lie(lie)
        except RequestRefusedError as refusal:
            self._failures.append(refusal)
            if self._refusals() >= retries.unproven_answers:
                self._give_up(f"its status cannot be asked for: {refusal.message}")
        except TransportError as failure:
            self._failures.append(failure)
        if len(self._failures) >= retries.attempts:
            self._give_up(f"{len(self._failures)} attempts to learn its status failed")
        if self._failures:
            await asyncio.sleep(retries.delay(len(self._failures)))
        return None

    def _refusals(self) -> int:
        """How many nodes in a row have refused to tell the status, for other reasons than load."""
        return sum(
            isinstance(failure, RequestRefusedError) and failure.status != 429
            for failure in self._failures
        )

    def _note_lie(self, lie: TrustError) -> None:
        self._unproven.append(lie)
        if len(self._unproven) >= self.channel.retries.unproven_answers:
            raise lie

    def _judge(self, certificate: Certificate) -> bytes | None:
        """The reply in a certificate of this call; ``None`` while there is no outcome."""
        outcome = Outcome(certificate, self._id, self._what)
        clock = self.channel.clock
        if outcome.status is not None:
            clock.check_answer(certificate, signed_now=self.signed_now)
            self._known = True
            return outcome.reply()
        certificate.check_fresh(clock.now())
        if certificate.time <= self._expiry:
            self._unknown_at = max(certificate.time, self._unknown_at or 0)
            return None
        if self._never_ran(certificate.time):
            raise CallNeverExecutedError(
                f"{self._what()} did not run and never will: the IC's certified time has passed "
                "its expiry, and the IC does not know it",
                hint="it is safe to call again",
            )
        raise CallOutcomeUnknownError(
            f"{self._what()} has expired, and the IC cannot tell any more whether it ran "
            f"(request id {self._id.hex()})",
            hint="ask the canister what it did",
        )

    def _never_ran(self, time: int) -> bool:
        """Whether it is proved of a call that is expired and unknown at a certified time.

        That alone would not do: a call that ran at once is forgotten about when it expires. But if
        it was unknown at an earlier time too, it could have run only since, and what ran since
        would still be known.
        """
        return (
            self._unknown_at is not None
            and time - self._unknown_at < _KEPT
            and not self._known
            # The management canister's id stands for any subnet: that one does not have the call
            # proves nothing.
            and self.call.effective_canister_id != Principal.management()
        )
