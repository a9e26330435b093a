"""The agent: update calls, queries and state reads over HTTP, every answer proved.

Puts the parts of this room together; each does one thing and is a module of its own.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Self

from bridge.agent.clock import Clock
from bridge.agent.effective import effective_canister_id as route
from bridge.agent.exchange import NONCE_SIZE, Exchange, raw_certificate
from bridge.agent.facts import (
    CanisterFacts,
    SubnetFacts,
    canister_facts,
    canister_paths,
    subnet_facts,
)
from bridge.agent.foreign import IdentityLike, PrincipalLike, as_identity, as_principal
from bridge.agent.identity import Identity
from bridge.agent.nodes import NodeKeys
from bridge.agent.outcome import describe, rejected_by_node
from bridge.agent.settings import SECOND, Limits, Retries, Timeouts
from bridge.agent.signed_call import SignedCall
from bridge.agent.status import Status
from bridge.agent.transport import Transport, is_loopback
from bridge.agent.update import UpdateCall
from bridge.errors import (
    CertificateError,
    RequestRefusedError,
    TransportError,
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


_log = logging.getLogger("bridge.agent")


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
        root_key = MAINNET_ROOT_KEY if root_key is None else bytes(root_key)
        try:
            bls.public_key_from_der(root_key)
        except CertificateError as cause:
            raise UsageError(f"root_key: {cause.message}", hint=cause.hint) from None
        timeouts = timeouts or Timeouts()
        self._exchange = Exchange(
            Transport(url, timeouts, limits or Limits()),
            as_identity(identity),
            root_key,
            Clock(clock),
            timeouts,
            retries or Retries(),
        )
        self._nodes = NodeKeys(root_key, self._exchange.clock, self._read_subnet)
        self._check_queries = not dangerously_believe_unsigned_queries
        if dangerously_believe_unsigned_queries:
            _log.warning("answers to queries from %s are NOT verified", self.url)

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
            raise TransportError(
                f"{url} tells no root key",
                hint="check that the URL is a local replica's; of others, pass root_key",
            )
        return cls(url, identity, status.root_key, **settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; may be called twice."""
        await self._nodes.close()
        await self._exchange.transport.close()

    @property
    def url(self) -> str:
        """The base URL."""
        return self._exchange.transport.url

    @property
    def identity(self) -> Identity:
        """Who calls."""
        return self._exchange.identity

    @property
    def principal(self) -> Principal:
        """The principal of who calls."""
        return self.identity.principal

    @property
    def root_key(self) -> bytes:
        """The root of trust, in DER form."""
        return self._exchange.root_key

    @property
    def checks_queries(self) -> bool:
        """Whether answers to queries are taken only with a signature by a certified node key."""
        return self._check_queries

    @property
    def clock(self) -> Clock:
        """The present, and how far this machine's clock was found to be off."""
        return self._exchange.clock

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

        within = self._exchange.timeouts.call if within is None else within
        deadline = asyncio.get_running_loop().time() + within / SECOND
        call = sign()
        try:
            return await UpdateCall(self._exchange, call, signed_now=True).run(within)
        except RequestRefusedError as refusal:
            if refusal.status != 400 or not await self._measure_clock_until(deadline, call):
                raise
            if not self.clock.proves_passed(call.request.ingress_expiry):
                # What was refused could still be delivered later; calling anew is not ours to do.
                raise RequestRefusedError(
                    refusal.message,
                    status=refusal.status,
                    hint=f"{self.clock.describe()}; that is corrected now, so call again",
                ) from None
        left = round((deadline - asyncio.get_running_loop().time()) * SECOND)
        return await UpdateCall(self._exchange, sign(), signed_now=True).run(left)

    async def _measure_clock_until(self, deadline: float, call: SignedCall) -> bool:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._exchange.measure_clock(call.effective_canister_id)
        except TimeoutError:
            return False

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
        expiry = ingress_expiry or self.clock.expiry(self._exchange.timeouts.ingress_expiry)
        request = CallRequest(
            self.principal,
            expiry,
            callee,
            method,
            bytes(arg),
            os.urandom(NONCE_SIZE) if nonce is None else nonce,
        )
        envelope = self.identity.sign_request(request.content())
        status: Envelope | None = None
        if with_status_request:
            paths = ((b"request_status", envelope.request_id),)
            asking = ReadStateRequest(self.principal, expiry, paths, os.urandom(NONCE_SIZE))
            status = self.identity.sign_request(asking.content())
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
        within = self._exchange.timeouts.call if within is None else within
        return await UpdateCall(self._exchange, call).run(within)

    async def wait(
        self,
        call: SignedCall,
        *,
        within: int | None = None,
    ) -> bytes:
        """Wait for the reply to a call that was sent before; raises as :meth:`update`.

        That a call never ran can be proved only to who begins to wait before it expires: the IC
        forgets what ran five minutes after it ended.
        """
        self._check_can_ask(call)
        within = self._exchange.timeouts.call if within is None else within
        return await UpdateCall(self._exchange, call).wait(within)

    def _check_can_ask(self, call: SignedCall) -> None:
        sender = call.request.sender
        if call.status_envelope is None and sender != self.principal:
            raise UsageError(
                f"the call is {sender}'s and this agent is {self.principal}, "
                "so it cannot ask how the call ended",
                hint="sign it with with_status_request=True, or use the sender's identity",
            )

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
                self.clock.expiry(self._exchange.timeouts.ingress_expiry),
                callee,
                method,
                bytes(arg),
                os.urandom(NONCE_SIZE),
            )
            return self.identity.sign_request(request.content())

        async with self._exchange.limited(within, what):
            envelope, answer = await self._exchange.send("query", via, sign, what)
            response = decode_map(answer.body, "the answer to a query", TransportError)
            if self._check_queries:
                await self._nodes.check(response, envelope.request_id, via)
        if response.get("status") == "replied":
            reply = response.get("reply")
            data = reply.get("arg") if isinstance(reply, Mapping) else None
            if isinstance(data, bytes):
                return data
            raise TransportError(f"the answer to {what()} says replied and holds no reply")
        raise rejected_by_node(what(), response)

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

        async with self._exchange.limited(within, what):
            _, answer = await self._exchange.send(
                "read_state", via, lambda: self._exchange.sign_read(wanted), what
            )
            data = raw_certificate(answer.body, "the answer to a state read")
            certificate = await self._exchange.verify(data, via, "read_state")
        certificate.check_fresh(self.clock.now())
        return certificate

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

        async with self._exchange.limited(within, what):
            _, answer = await self._exchange.send(
                "read_state", subnet, lambda: self._exchange.sign_read(wanted), what, scope="subnet"
            )
        data = raw_certificate(answer.body, "the answer to a state read")
        certificate = Certificate.from_cbor(data)
        certificate.verify(self.root_key, now=self.clock.now(), subnet_id=subnet)
        return certificate

    async def _read_subnet(self, canister_id: Principal) -> Certificate:
        return await self.read_state(canister_id, [(b"subnet",)])

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
        certificate = await self._read_subnet(as_principal(canister_id))
        return subnet_facts(certificate, self.root_key)

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
        transport = self._exchange.transport
        answer = await transport.get(transport.address("api/v2/status"))
        self._exchange.check_answer(answer, "the replica's status")
        return Status.from_cbor(answer.body)
