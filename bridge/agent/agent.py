"""The agent: update calls, queries and state reads over HTTP, every answer proved.

Puts the parts of this room together and holds what they share: the connection pool, the identity,
the root key, the clock, and the subnets' node keys.
"""

import asyncio
import itertools
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

from yarl import URL

from bridge.agent.clock import Clock
from bridge.agent.effective import effective_canister_id as route
from bridge.agent.facts import (
    CanisterFacts,
    SubnetFacts,
    canister_facts,
    canister_paths,
    subnet_facts,
)
from bridge.agent.foreign import IdentityLike, PrincipalLike, as_identity, as_principal
from bridge.agent.identity import Identity
from bridge.agent.nodes import SubnetNodes, nodes_from, signatures_of
from bridge.agent.outcome import describe, rejected_by_node
from bridge.agent.settings import SECOND, Limits, Retries, Timeouts
from bridge.agent.signed_call import SignedCall
from bridge.agent.transport import Answer, Transport, is_loopback
from bridge.agent.update import UpdateCall, raw_certificate
from bridge.errors import (
    CertificateError,
    NotSentError,
    RequestRefusedError,
    TransportError,
    TrustError,
    UsageError,
)
from bridge.principal import Principal
from bridge.wire import (
    CallRequest,
    Certificate,
    Envelope,
    QueryRequest,
    ReadStateRequest,
    bls,
    decode_map,
)

MAINNET_ROOT_KEY: Final = bytes.fromhex(
    "308182301d060d2b0601040182dc7c0503010201060c2b0601040182dc7c05030201036100814c0e6ec71fab583b08bd"
    "81373c255c3c371b2e84863c98a4f1e08b74235d14fb5d9c0cd546d9685f913a0c0b2cc5341583bf4b4392e467db96d6"
    "5b9bb4cb717112f8472e0d5a4d14505ffd7484b01291091c5f87b98883463f98091a0baaae"
)
"""The root of trust of the Internet Computer's main network, in DER form."""

EMPTY_ARG: Final = b"DIDL\x00\x00"
"""The Candid encoding of no arguments."""

_NONCE_SIZE: Final = 16
_MAX_REMEMBERED: Final = 4096
_VERSIONS: Final = {"call": ("v4", "v3", "v2"), "query": ("v3", "v2"), "read_state": ("v3", "v2")}
_SHARDED: Final = frozenset({("call", "v4"), ("query", "v3"), ("read_state", "v3")})

_log = logging.getLogger("bridge.agent")


@dataclass(frozen=True, slots=True)
class Status:
    """What a replica says of itself; nothing of it is proved.

    Args:
        root_key: The root key in DER form; to be believed only from a replica of one's own.
        impl_version: The implementation's version, where told.
        health: Such as ``healthy``, where told.
        raw: All that was told.
    """

    root_key: bytes | None
    impl_version: str | None
    health: str | None
    raw: Mapping[str, Any]


class Agent:
    """A client of the Internet Computer; use it as an asynchronous context manager.

    Args:
        url: The replica's or gateway's base URL.
        identity: Who calls; ours, or ic-py's; ``None`` is the anonymous identity.
        root_key: The root of trust in DER form; ``None`` is the main network's.
        timeouts: Durations.
        retries: How often to try again.
        limits: Sizes and counts.
        clock: This machine's clock, in nanoseconds since 1970.
        dangerously_believe_unsigned_queries: Take query answers without checking any signature. Any
            machine on the way can then make answers up.

    Raises:
        UsageError: If the URL or the root key cannot be used.
        IdentityError: If the identity cannot be used.
    """

    def __init__(
        self,
        url: str,
        identity: IdentityLike | None = None,
        root_key: bytes | None = None,
        *,
        timeouts: Timeouts | None = None,
        retries: Retries | None = None,
        limits: Limits | None = None,
        clock: Callable[[], int] = time.time_ns,
        dangerously_believe_unsigned_queries: bool = False,
    ) -> None:
        self.timeouts = timeouts or Timeouts()
        self.retries = retries or Retries()
        self.clock = Clock(clock)
        self._identity = as_identity(identity)
        self._root_key = MAINNET_ROOT_KEY if root_key is None else bytes(root_key)
        try:
            bls.public_key_from_der(self._root_key)
        except CertificateError as cause:
            raise UsageError(f"root_key: {cause.message}", hint=cause.hint) from None
        self._transport = Transport(url, self.timeouts, limits or Limits())
        self._versions = dict.fromkeys(_VERSIONS, 0)
        self._addresses: dict[tuple[str, str, str, Principal], URL] = {}
        self._nodes: dict[Principal, SubnetNodes] = {}  # by subnet
        self._subnets: dict[Principal, Principal] = {}  # of canisters
        self._fetching: dict[Principal, asyncio.Task[SubnetNodes]] = {}
        self._check_queries = not dangerously_believe_unsigned_queries
        if dangerously_believe_unsigned_queries:
            _log.warning("answers to queries from %s are NOT verified", self._transport.url)

    @classmethod
    async def local(cls, url: str, identity: IdentityLike | None = None, **settings: Any) -> Self:
        """An agent for a replica on this machine, with the root key that the replica tells.

        Args:
            url: The replica's URL; its host must be a loopback address.
            identity: As for the class.
            settings: Further arguments of the class.

        Raises:
            UsageError: If the host is not loopback: from elsewhere a root key proves nothing.
            TransportError: If the replica does not answer, or tells no root key.
        """
        if not is_loopback(url):
            raise UsageError(
                f"{url} is not on this machine: a root key is fetched from loopback only",
                hint="pass root_key, which you have from a source that you trust",
            )
        known = {name: settings[name] for name in ("timeouts", "limits") if name in settings}
        async with cls(url, **known) as asking:
            status = await asking.status()
        if status.root_key is None:
            raise TransportError(f"{url} tells no root key", hint="is this a local replica?")
        return cls(url, identity, status.root_key, **settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; may be called twice."""
        for task in list(self._fetching.values()):
            task.cancel()
        await self._transport.close()

    @property
    def url(self) -> str:
        """The base URL."""
        return self._transport.url

    @property
    def identity(self) -> Identity:
        """Who calls."""
        return self._identity

    @property
    def principal(self) -> Principal:
        """The principal of who calls."""
        return self._identity.principal

    @property
    def root_key(self) -> bytes:
        """The root of trust, in DER form."""
        return self._root_key

    # --- Update calls ---

    async def update(
        self,
        canister_id: PrincipalLike,
        method: str,
        arg: bytes = EMPTY_ARG,
        *,
        effective_canister_id: PrincipalLike | None = None,
        nonce: bytes | None = None,
        within: int | None = None,
    ) -> bytes:
        """Call a method and wait for its certified reply.

        Args:
            canister_id: The callee.
            method: The method.
            arg: The argument, Candid-encoded.
            effective_canister_id: What the call is routed by, where it cannot be told from the
                argument (calls to the management canister only).
            nonce: At most 32 bytes that tell this call from equal ones; random by default.
            within: For the whole call, in nanoseconds; by default ``timeouts.call``.

        Returns:
            The reply, Candid-encoded.

        Raises:
            CallRejectedError: It was rejected; ``certified`` tells whether that is proved.
            CallNeverExecutedError: It is proved that it did not run and never will.
            CallOutcomeUnknownError: It may have run.
            NotSentError: It certainly did not leave this machine.
            RequestRefusedError: The replica refused the request itself.
            TrustError: What came as an answer cannot be believed.
        """

        def sign() -> SignedCall:
            return self.sign_update(
                canister_id, method, arg, effective_canister_id=effective_canister_id, nonce=nonce
            )

        call = sign()
        try:
            return await self.submit(call, within=within)
        except RequestRefusedError as refusal:
            if refusal.status != 400 or not await self._measure_clock(call.effective_canister_id):
                raise
            if not self.clock.proves_passed(call.request.ingress_expiry):
                # What was refused could still be delivered later; calling anew is not ours to do.
                raise RequestRefusedError(
                    refusal.message,
                    status=refusal.status,
                    hint=f"{self.clock.describe()}; that is corrected now, so call again",
                ) from None
        return await self.submit(sign(), within=within)

    def sign_update(
        self,
        canister_id: PrincipalLike,
        method: str,
        arg: bytes = EMPTY_ARG,
        *,
        effective_canister_id: PrincipalLike | None = None,
        nonce: bytes | None = None,
        ingress_expiry: int | None = None,
        with_status_request: bool = False,
    ) -> SignedCall:
        """Sign a call without sending it. Needs no network.

        Args:
            canister_id: As in :meth:`update`; so are the next four.
            method: The method.
            arg: The argument.
            effective_canister_id: What the call is routed by.
            nonce: What tells it from equal calls.
            ingress_expiry: Until when it may start, in nanoseconds since 1970.
            with_status_request: Sign a request for its status as well, for a sender who does not
                hold the key.
        """
        callee = as_principal(canister_id)
        via = (
            route(callee, method, arg)
            if effective_canister_id is None
            else as_principal(effective_canister_id)
        )
        expiry = ingress_expiry or self.clock.expiry(self.timeouts.ingress_expiry)
        request = CallRequest(
            self.principal,
            expiry,
            callee,
            method,
            bytes(arg),
            os.urandom(_NONCE_SIZE) if nonce is None else nonce,
        )
        envelope = self._identity.sign_request(request.content())
        status: Envelope | None = None
        if with_status_request:
            paths = ((b"request_status", envelope.request_id),)
            asking = ReadStateRequest(self.principal, expiry, paths, os.urandom(_NONCE_SIZE))
            status = self._identity.sign_request(asking.content())
        return SignedCall(envelope, via, status)

    async def submit(
        self,
        call: SignedCall,
        *,
        within: int | None = None,
    ) -> bytes:
        """Send a signed call and wait for its reply; raises as :meth:`update`.

        Harmless to repeat: the IC runs one signed call at most once.
        """
        self._check_can_ask(call)
        return await UpdateCall(self, call).run(within or self.timeouts.call)

    async def wait(
        self,
        call: SignedCall,
        *,
        within: int | None = None,
    ) -> bytes:
        """Wait for the reply to a call that was sent before; raises as :meth:`update`."""
        self._check_can_ask(call)
        return await UpdateCall(self, call).wait(within or self.timeouts.call)

    def _check_can_ask(self, call: SignedCall) -> None:
        sender = call.request.sender
        if call.status_envelope is None and sender != self.principal:
            raise UsageError(
                f"the call is {sender}'s and this agent is {self.principal}, "
                "so it cannot ask how the call ended",
                hint="sign it with with_status_request=True, or use the sender's identity",
            )

    async def send_call(self, call: SignedCall) -> Answer:
        """Send a signed call once, without judging the answer; raises as the transport does."""
        body = call.envelope.to_cbor()
        return await self._post("call", call.effective_canister_id, body)

    async def fetch_status(self, call: SignedCall) -> Certificate:
        """Fetch a certificate on a call's status; its time is left to the caller to judge."""
        envelope = call.status_envelope
        if envelope is None:
            envelope = self._sign_read([(b"request_status", call.request_id)])
        answer = await self._post("read_state", call.effective_canister_id, envelope.to_cbor())
        what = "the status of a call"
        self._check_answer(answer, what)
        return self._verify(
            raw_certificate(answer.body, what), call.effective_canister_id, "read_state", None
        )

    def check_certificate(self, data: bytes, call: SignedCall) -> Certificate:
        """Verify a certificate that came with a call's answer; its time is left to the caller."""
        return self._verify(data, call.effective_canister_id, "call", None)

    # --- Queries ---

    async def query(
        self,
        canister_id: PrincipalLike,
        method: str,
        arg: bytes = EMPTY_ARG,
        *,
        effective_canister_id: PrincipalLike | None = None,
        within: int | None = None,
    ) -> bytes:
        """Ask a query method; the answer is one node's, signed with its certified key.

        Args:
            canister_id: The callee.
            method: The method.
            arg: The argument, Candid-encoded.
            effective_canister_id: As in :meth:`update`.
            within: For the whole query, in nanoseconds; by default ``timeouts.exchange``.

        Returns:
            The reply, Candid-encoded.

        Raises:
            CallRejectedError: The node rejected it (``certified`` is false).
            QuerySignatureError: The answer is not signed by a node of the canister's subnet.
            CertificateError: What should prove the nodes' keys cannot be believed.
            NotSentError: No connection could be made.
            RequestRefusedError: The replica refused the request itself.
            TransportError: No whole answer came.
        """
        callee = as_principal(canister_id)
        via = (
            route(callee, method, arg)
            if effective_canister_id is None
            else as_principal(effective_canister_id)
        )

        def what() -> str:
            return f"the query {describe(method, callee)}"

        def sign() -> Envelope:
            request = QueryRequest(
                self.principal,
                self.clock.expiry(self.timeouts.ingress_expiry),
                callee,
                method,
                bytes(arg),
                os.urandom(_NONCE_SIZE),
            )
            return self._identity.sign_request(request.content())

        async with self._limited(within, what):
            envelope, answer = await self._exchange("query", via, sign, what)
            response = decode_map(answer.body, "the answer to a query", TransportError)
            if self._check_queries:
                await self._check_response(response, envelope.request_id, via)
        if response.get("status") == "replied":
            reply = response.get("reply")
            data = reply.get("arg") if isinstance(reply, Mapping) else None
            if isinstance(data, bytes):
                return data
            raise TransportError(f"the answer to {what()} says replied and holds no reply")
        raise rejected_by_node(what(), response)

    async def _check_response(
        self, response: Mapping[str, Any], query_id: bytes, via: Principal
    ) -> None:
        signatures = signatures_of(response)
        nodes = self._known_nodes(via)
        # An unknown signer may be a node that has joined since the keys were fetched.
        if nodes is None or nodes.is_stale(self.clock.now()) or not nodes.knows(signatures):
            nodes = await self._fetch_nodes(via)
        nodes.verify(signatures, response, query_id, self.clock.now())

    async def _fetch_nodes(self, via: Principal) -> SubnetNodes:
        """Fetch the node keys of a canister's subnet; who asks meanwhile shares the answer."""
        task = self._fetching.get(via)
        if task is None:
            task = asyncio.create_task(self._load_nodes(via))
            self._fetching[via] = task

            def done(task: asyncio.Task[SubnetNodes]) -> None:
                self._fetching.pop(via, None)
                if not task.cancelled():
                    task.exception()  # every asker may be gone; then nobody is left to tell

            task.add_done_callback(done)
        # Shielded: one asker's cancellation must not fail the others.
        return await asyncio.shield(task)

    async def _load_nodes(self, via: Principal) -> SubnetNodes:
        certificate = await self.read_state(via, [(b"subnet",)])
        nodes = nodes_from(certificate, self._root_key, via, self.clock.now())
        self._nodes[nodes.subnet_id] = nodes
        self._remember_subnet(via, nodes.subnet_id)
        return nodes

    def _known_nodes(self, via: Principal) -> SubnetNodes | None:
        subnet_id = self._subnets.get(via)
        if subnet_id is not None:
            return self._nodes.get(subnet_id)
        for nodes in self._nodes.values():
            # Another canister of a subnet that is known already: no need to ask again.
            if nodes.certificate.covers(self._root_key, via, sharded_ranges_only=True):
                self._remember_subnet(via, nodes.subnet_id)
                return nodes
        return None

    def _remember_subnet(self, via: Principal, subnet_id: Principal) -> None:
        if len(self._subnets) >= _MAX_REMEMBERED:
            self._subnets.clear()
        self._subnets[via] = subnet_id

    # --- State reads ---

    async def read_state(
        self,
        canister_id: PrincipalLike,
        paths: Iterable[Sequence[bytes]],
        *,
        within: int | None = None,
    ) -> Certificate:
        """Fetch a verified certificate that shows, or proves absent, what stands at the paths.

        Args:
            canister_id: The canister that the paths are about: its subnet answers.
            paths: Paths in the system state tree, as sequences of labels.
            within: For the whole read, in nanoseconds; by default ``timeouts.exchange``.

        Raises:
            CertificateError: The certificate is forged, stale, or of another subnet.
            NotSentError: No connection could be made.
            RequestRefusedError: The replica refused the request itself.
            TransportError: No whole answer came.
        """
        via = as_principal(canister_id)
        wanted = [tuple(path) for path in paths]

        def what() -> str:
            return f"the state read for {via}"

        async with self._limited(within, what):
            _, answer = await self._exchange(
                "read_state", via, lambda: self._sign_read(wanted), what
            )
        data = raw_certificate(answer.body, "the answer to a state read")
        return self._verify(data, via, "read_state", self.clock.now())

    async def read_subnet_state(
        self,
        subnet_id: PrincipalLike,
        paths: Iterable[Sequence[bytes]],
        *,
        within: int | None = None,
    ) -> Certificate:
        """Fetch a verified certificate of a subnet; raises as :meth:`read_state`."""
        subnet = as_principal(subnet_id)
        wanted = [tuple(path) for path in paths]

        def what() -> str:
            return f"the state read of subnet {subnet}"

        async with self._limited(within, what):
            _, answer = await self._exchange(
                "read_state", subnet, lambda: self._sign_read(wanted), what, scope="subnet"
            )
        data = raw_certificate(answer.body, "the answer to a state read")
        certificate = Certificate.from_cbor(data)
        certificate.verify(self._root_key, now=self.clock.now(), subnet_id=subnet)
        return certificate

    async def canister_facts(self, canister_id: PrincipalLike) -> CanisterFacts:
        """Module hash and controllers of a canister, certified; raises as :meth:`read_state`."""
        canister = as_principal(canister_id)
        return canister_facts(await self.read_state(canister, canister_paths(canister)), canister)

    async def module_hash(self, canister_id: PrincipalLike) -> bytes | None:
        """The SHA-256 of a canister's Wasm module, certified; ``None`` if it has none."""
        return (await self.canister_facts(canister_id)).module_hash

    async def controllers(self, canister_id: PrincipalLike) -> tuple[Principal, ...]:
        """The controllers of a canister, certified; none if it does not exist."""
        return (await self.canister_facts(canister_id)).controllers

    async def subnet_facts(self, canister_id: PrincipalLike) -> SubnetFacts:
        """The subnet that a canister is on, certified; raises as :meth:`read_state`."""
        certificate = await self.read_state(canister_id, [(b"subnet",)])
        return subnet_facts(certificate, self._root_key)

    async def metadata(self, canister_id: PrincipalLike, name: str) -> bytes | None:
        """A custom section of a canister's module, certified; ``None`` if there is none.

        Args:
            canister_id: The canister.
            name: Such as ``candid:service``; private ones are shown to controllers only.
        """
        path = (b"canister", as_principal(canister_id).raw, b"metadata", name.encode())
        return (await self.read_state(canister_id, [path])).value(path)

    async def time(self, canister_id: PrincipalLike) -> int:
        """The certified time of a canister's subnet, in nanoseconds since 1970."""
        return (await self.read_state(canister_id, [(b"time",)])).time

    async def status(self) -> Status:
        """Ask the replica about itself; nothing of it is proved.

        Raises:
            NotSentError: No connection could be made.
            TransportError: No whole answer came, or it is no status.
        """
        answer = await self._transport.get(self._transport.address("api/v2/status"))
        self._check_answer(answer, "the replica's status")
        raw = decode_map(answer.body, "the replica's status", TransportError)
        root_key, version = raw.get("root_key"), raw.get("impl_version")
        health = raw.get("replica_health_status")
        return Status(
            root_key if isinstance(root_key, bytes) else None,
            version if isinstance(version, str) else None,
            health if isinstance(health, str) else None,
            raw,
        )

    # --- What they share ---

    @asynccontextmanager
    async def _limited(self, within: int | None, what: Callable[[], str]) -> AsyncIterator[None]:
        """End what takes too long as a transport error."""
        seconds = (within or self.timeouts.exchange) / SECOND
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

    def _sign_read(self, paths: Sequence[Sequence[bytes]]) -> Envelope:
        request = ReadStateRequest(
            self.principal,
            self.clock.expiry(self.timeouts.ingress_expiry),
            tuple(tuple(path) for path in paths),
            # Certificates show digests of their neighbours: a guessable request is a leak.
            os.urandom(_NONCE_SIZE),
        )
        return self._identity.sign_request(request.content())

    def _verify(self, data: bytes, via: Principal, kind: str, now: int | None) -> Certificate:
        """Verify a certificate for a canister; with ``now`` also that it is fresh."""
        certificate = Certificate.from_cbor(data)
        version = _VERSIONS[kind][self._versions[kind]]
        certificate.verify(
            self._root_key,
            # The management canister's id stands for any subnet.
            None if via == Principal.management() else via,
            # The certificate's own time is judged apart. Its delegation must not be from after
            # both that time and ours.
            now=max(certificate.time, self.clock.now()),
            max_age=None,
            sharded_ranges_only=(kind, version) in _SHARDED,
        )
        if now is not None:
            certificate.check_fresh(now)
        return certificate

    async def _post(
        self, kind: str, via: Principal, body: bytes, *, scope: str = "canister"
    ) -> Answer:
        """Post to the newest endpoint that the replica has."""
        versions = _VERSIONS[kind]
        for index in range(self._versions[kind], len(versions)):
            address = self._address(versions[index], scope, kind, via)
            answer = await self._transport.post(address, body)
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
            address = self._transport.address(f"api/{version}/{scope}/{via}/{kind}")
            self._addresses[key] = address
        return address

    async def _exchange(
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
                answer = await self._post(kind, via, envelope.to_cbor(), scope=scope)
                if answer.status == 200:
                    return envelope, answer
                if answer.status == 400 and not measured and scope == "canister":
                    measured = True
                    if await self._measure_clock(via):
                        continue
                self._check_answer(answer, what())
            except RequestRefusedError as refusal:
                if refusal.status != 429 or attempt >= self.retries.attempts:
                    raise
                asked = answer.retry_after
            except NotSentError:
                if attempt >= self.retries.connection_attempts:
                    raise
            except TransportError:
                if attempt >= self.retries.attempts:
                    raise
            await asyncio.sleep(self.retries.delay(attempt, asked))
        raise AssertionError("unreachable")

    async def _measure_clock(self, via: Principal) -> bool:
        """Measure the clocks after a refusal; whether they differ so that a new try may help."""
        request = ReadStateRequest(
            Principal.anonymous(),
            self.clock.expiry(self.timeouts.ingress_expiry),
            ((b"time",),),
            os.urandom(_NONCE_SIZE),
        )
        body = Envelope.sign(request.content(), None).to_cbor()
        try:
            answer = await self._post("read_state", via, body)
            if answer.status != 200:
                return False
            data = raw_certificate(answer.body, "the answer to a request for the time")
            return self.clock.measure(self._verify(data, via, "read_state", None))
        except (TransportError, TrustError):
            return False

    def _check_answer(self, answer: Answer, what: str) -> None:
        if 400 <= answer.status < 500:
            raise self.refusal(answer, what)
        if answer.status != 200:
            raise TransportError(
                f"HTTP {answer.status} instead of {what}: {answer.text or 'no text'}",
                hint="the replica is in trouble or this is none; try again",
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
