"""Requests and answers on their way: signed, sent, repeated where that is safe, and verified.

What the agent's calls, queries and state reads share: the connection pool, the identity, the root
key, the clock, and which endpoints the replica has. Knows nothing of what a call or query means.
"""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from yarl import URL

from bridge.agent.clock import Clock
from bridge.agent.identity import Identity
from bridge.agent.root_scope import RootScope
from bridge.agent.settings import SECOND, Retries, Timeouts
from bridge.agent.signed_call import SignedCall
from bridge.agent.transport import Answer, Transport
from bridge.errors import NotSentError, RequestRefusedError, TransportError, TrustError
from bridge.principal import Principal
from bridge.wire import Certificate, Envelope, ReadStateRequest, decode_map

NONCE_SIZE: Final = 16

_MAX_REMEMBERED: Final = 4096
_CHOICE_LIFETIME: Final = 3600 * SECOND
_VERSIONS: Final = {"call": ("v4", "v3", "v2"), "query": ("v3", "v2"), "read_state": ("v3", "v2")}
_SHARDED: Final = frozenset({("call", "v4"), ("query", "v3"), ("read_state", "v3")})


class Exchange:
    """The way to one replica and back.

    Args:
        transport: The connection pool.
        identity: Who asks.
        root_key: The root of trust, in DER form.
        clock: The present.
        timeouts: Durations.
        retries: How often to try again.
    """

    def __init__(
        self,
        transport: Transport,
        identity: Identity,
        root_key: bytes,
        clock: Clock,
        timeouts: Timeouts,
        retries: Retries,
    ) -> None:
        self.transport = transport
        self.identity = identity
        self.root_key = root_key
        self.clock = clock
        self.timeouts = timeouts
        self.retries = retries
        self._root_scope = RootScope(root_key, clock, self._read_unscoped)
        self._versions = dict.fromkeys(_VERSIONS, 0)
        self._chosen = dict.fromkeys(_VERSIONS, clock.now())
        self._addresses: dict[tuple[str, str, str, Principal], URL] = {}

    # --- Sending ---

    async def send(
        self,
        kind: str,
        via: Principal,
        sign: Callable[[], Envelope],
        what: Callable[[], str],
        *,
        scope: str = "canister",
    ) -> tuple[Envelope, Answer]:
        """Send a request that changes nothing, again where that may help."""
        measured = False
        for attempt in itertools.count(1):
            envelope = sign()
            asked: int | None = None
            try:
                answer = await self.post(kind, via, envelope.to_cbor(), scope=scope)
                if answer.status == 200:
                    return envelope, answer
                if answer.status == 400 and not measured and scope == "canister":
                    measured = True
                    if await self.measure_clock(via):
                        continue
                asked = answer.retry_after
                self.check_answer(answer, what())
            except RequestRefusedError as refusal:
                if refusal.status != 429 or attempt >= self.retries.attempts:
                    raise
            except NotSentError:
                if attempt >= self.retries.connection_attempts:
                    raise
            except TransportError:
                if attempt >= self.retries.attempts:
                    raise
            await asyncio.sleep(self.retries.delay(attempt, asked))
        raise AssertionError("unreachable")

    async def post(
        self, kind: str, via: Principal, body: bytes, *, scope: str = "canister"
    ) -> Answer:
        """Post to the newest endpoint that the replica has."""
        versions = _VERSIONS[kind]
        first, now = self._versions[kind], self.clock.now()
        if abs(now - self._chosen[kind]) > _CHOICE_LIFETIME:
            # One node that lacks the newest endpoint must not keep us from it for good.
            first, self._chosen[kind] = 0, now
        for index in range(first, len(versions)):
            address = self._address(versions[index], scope, kind, via)
            answer = await self.transport.post(address, body)
            if answer.status != 404 or index + 1 == len(versions):
                break
        if answer.status != 404:
            self._versions[kind] = index
        return answer

    def _address(self, version: str, scope: str, kind: str, via: Principal) -> URL:
        key = (version, scope, kind, via)
        address = self._addresses.get(key)
        if address is None:
            if len(self._addresses) >= _MAX_REMEMBERED:
                self._addresses.clear()
            address = self.transport.address(f"api/{version}/{scope}/{via}/{kind}")
            self._addresses[key] = address
        return address

    @asynccontextmanager
    async def limited(self, within: int | None, what: Callable[[], str]) -> AsyncIterator[None]:
        """End what takes too long as a transport error."""
        seconds = (self.timeouts.exchange if within is None else within) / SECOND
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise TransportError(
                f"{what()} had no answer within {seconds:g} s",
                hint="the replica is slow, stuck or overloaded; try again",
            ) from None

    # --- Signing and verifying ---

    def sign_read(self, paths: Sequence[Sequence[bytes]]) -> Envelope:
        """Sign a state read with an expiry of its own."""
        request = ReadStateRequest(
            self.identity.principal,
            self.clock.expiry(self.timeouts.ingress_expiry),
            tuple(tuple(path) for path in paths),
            # Certificates show digests of their neighbours: a guessable request is a leak.
            os.urandom(NONCE_SIZE),
        )
        return self.identity.sign_request(request.content())

    async def verify(self, data: bytes, via: Principal, kind: str) -> Certificate:
        """Verify a certificate for a canister; its time is left to the caller to judge.

        Raises:
            CertificateError: If it cannot be believed.
            TransportError: If the root subnet made it and its ranges cannot be fetched.
        """
        certificate = self._verify_unscoped(data, via, kind)
        await self._root_scope.check(certificate, via)
        return certificate

    def _verify_unscoped(self, data: bytes, via: Principal, kind: str) -> Certificate:
        """Verify all but that the root subnet, where it signed, may speak of the canister."""
        certificate = Certificate.from_cbor(data)
        version = _VERSIONS[kind][self._versions[kind]]
        certificate.verify(
            self.root_key,
            # The management canister's id stands for any subnet.
            None if via == Principal.management() else via,
            # The certificate's own time is judged apart. Its delegation must not be from after
            # both that time and ours.
            now=max(certificate.time, self.clock.now()),
            max_age=None,
            sharded_ranges_only=(kind, version) in _SHARDED,
        )
        return certificate

    async def _read_unscoped(self, via: Principal, path: Sequence[bytes]) -> Certificate:
        answer = await self.post("read_state", via, self.sign_read([path]).to_cbor())
        what = "the root subnet's canister ranges"
        self.check_answer(answer, what)
        return self._verify_unscoped(raw_certificate(answer.body, what), via, "read_state")

    async def measure_clock(self, via: Principal) -> bool:
        """Measure the clocks after a refusal; whether they differ so that a new try may help."""
        request = ReadStateRequest(
            Principal.anonymous(),
            self.clock.expiry(self.timeouts.ingress_expiry),
            ((b"time",),),
            os.urandom(NONCE_SIZE),
        )
        body = Envelope.sign(request.content(), None).to_cbor()
        try:
            answer = await self.post("read_state", via, body)
            if answer.status != 200:
                return False
            data = raw_certificate(answer.body, "the answer to a request for the time")
            # A subnet's time is the same whichever subnet it is.
            return self.clock.measure(self._verify_unscoped(data, via, "read_state"))
        except (TransportError, TrustError):
            return False

    # --- What an update call needs ---

    async def send_call(self, call: SignedCall) -> Answer:
        """Send a signed call once, without judging the answer; raises as the transport does."""
        body = call.envelope.to_cbor()
        return await self.post("call", call.effective_canister_id, body)

    async def fetch_status(self, call: SignedCall) -> Certificate:
        """Fetch a certificate on a call's status; its time is left to the caller to judge."""
        envelope = call.status_envelope
        if envelope is None:
            envelope = self.sign_read([(b"request_status", call.request_id)])
        answer = await self.post("read_state", call.effective_canister_id, envelope.to_cbor())
        what = "the status of a call"
        self.check_answer(answer, what)
        return await self.verify(
            raw_certificate(answer.body, what), call.effective_canister_id, "read_state"
        )

    async def check_certificate(self, data: bytes, call: SignedCall) -> Certificate:
        """Verify a certificate that came with a call's answer; its time is left to the caller."""
        return await self.verify(data, call.effective_canister_id, "call")

    # --- What HTTP says ---

    def check_answer(self, answer: Answer, what: str) -> None:
        """Refuse every answer but HTTP 200.

        Raises:
            RequestRefusedError: For 4xx.
            TransportError: For all else.
        """
        if 400 <= answer.status < 500:
            raise self.refusal(answer, what)
        if answer.status != 200:
            raise TransportError(
                f"HTTP {answer.status} instead of {what}: {answer.text or 'no text'}",
                hint="the replica is in trouble, or what answers there is none; check the URL",
            )

    def refusal(self, answer: Answer, what: str) -> RequestRefusedError:
        """The error for an HTTP 4xx answer."""
        hint = {
            400: "correct the request; if it speaks of an expiry, set this machine's clock",
            403: "check the identity and its delegations",
            404: "check the URL: no replica answers there",
            413: "the argument is too large: at most 2 MiB for an update call",
            429: "the replica is overloaded; try again later",
        }.get(answer.status, "the same request will be refused again")
        return RequestRefusedError(
            f"the replica refused {what}: HTTP {answer.status}: {answer.text or 'no text'}",
            status=answer.status,
            hint=hint,
        )


def raw_certificate(body: bytes, what: str) -> bytes:
    """The certificate in an answer to a state read.

    Raises:
        TransportError: If the answer is none.
    """
    data = decode_map(body, what, TransportError).get("certificate")
    if not isinstance(data, bytes):
        raise TransportError(
            f"{what} holds no certificate", hint="check the URL: what answers there is no replica"
        )
    return data
