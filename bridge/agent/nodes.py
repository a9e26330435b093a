"""The keys of a subnet's nodes, as a certificate proves them, and answers checked against them.

Rule implemented: interface specification, section Request: Query call (``verify_response``).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bridge.agent.clock import Clock
from bridge.agent.settings import SECOND
from bridge.errors import CertificateError, QuerySignatureError, UsageError
from bridge.principal import Principal
from bridge.wire import MAX_AGE, Certificate, NodeSignature
from bridge.wire.hashtree import Found, lookup
from bridge.wire.query_signature import MAX_SIGNATURES

_MAX_REMEMBERED: Final = 4096

KEYS_LIFETIME: Final = 3600 * SECOND
"""How long certified node keys are used before they are fetched anew, in nanoseconds."""


@dataclass(frozen=True, slots=True)
class SubnetNodes:
    """The nodes of one subnet.

    Args:
        subnet_id: The subnet.
        keys: Each node's public key in DER form.
        fetched: When they were fetched, in nanoseconds since 1970.
        certificate: What proves them.
    """

    subnet_id: Principal
    keys: Mapping[Principal, bytes]
    fetched: int
    certificate: Certificate

    def is_stale(self, now: int) -> bool:
        """Whether they should be fetched again."""
        return not -KEYS_LIFETIME < now - self.fetched < KEYS_LIFETIME

    def knows(self, signatures: list[NodeSignature]) -> bool:
        """Whether every signer is a known node."""
        return all(signature.identity in self.keys for signature in signatures)

    def verify(
        self,
        signatures: list[NodeSignature],
        response: Mapping[str, Any],
        request_id: bytes,
        now: int,
    ) -> None:
        """Check that every signature is a known node's, of this answer, and recent.

        Raises:
            QuerySignatureError: If one is not.
        """
        for signature in signatures:
            key = self.keys.get(signature.identity)
            if key is None:
                raise QuerySignatureError(
                    f"the answer is signed by {signature.identity}, which is no node of subnet "
                    f"{self.subnet_id}",
                    hint="another subnet or an impostor answered; the answer was not used",
                )
            if abs(now - signature.timestamp) > MAX_AGE:
                raise QuerySignatureError(
                    f"the answer was signed {abs(now - signature.timestamp) // SECOND} s "
                    f"{'ago' if signature.timestamp < now else 'in the future'}; at most "
                    f"{MAX_AGE // SECOND} s are accepted",
                    hint="an old answer was replayed, or this machine's clock is wrong",
                )
            signature.verify(key, response, request_id)


class NodeKeys:
    """The node keys of the subnets that were asked so far.

    Args:
        root_key: The root of trust, in DER form.
        clock: The present.
        read_subnet: Fetches a verified certificate of ``/subnet`` for a canister.
    """

    def __init__(
        self,
        root_key: bytes,
        clock: Clock,
        read_subnet: Callable[[Principal], Awaitable[Certificate]],
    ) -> None:
        self._root_key = root_key
        self._clock = clock
        self._read_subnet = read_subnet
        self._nodes: dict[Principal, SubnetNodes] = {}  # by subnet
        self._subnets: dict[Principal, Principal] = {}  # of canisters
        self._fetching: dict[Principal, asyncio.Task[SubnetNodes]] = {}

    async def close(self) -> None:
        """Give up what is being fetched; who waits for it gets a UsageError."""
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def check(
        self, response: Mapping[str, Any], request_id: bytes, canister_id: Principal
    ) -> None:
        """Check the signatures of an answer to a query of this id.

        Raises:
            QuerySignatureError: If one does not hold, or there is none.
            CertificateError: If the nodes' keys cannot be believed.
            TransportError: If they cannot be fetched.
        """
        signatures = signatures_of(response)
        nodes = self._known(canister_id)
        # An unknown signer may be a node that has joined since the keys were fetched.
        if nodes is None or nodes.is_stale(self._clock.now()) or not nodes.knows(signatures):
            nodes = await self._fetch(canister_id)
        nodes.verify(signatures, response, request_id, self._clock.now())

    async def _fetch(self, canister_id: Principal) -> SubnetNodes:
        """Fetch the keys of a canister's subnet; who asks meanwhile shares the answer."""
        task = self._fetching.get(canister_id)
        if task is None:
            task = asyncio.create_task(self._load(canister_id))
            self._fetching[canister_id] = task

            def done(task: asyncio.Task[SubnetNodes]) -> None:
                self._fetching.pop(canister_id, None)
                if not task.cancelled():
                    task.exception()  # every asker may be gone; then nobody is left to tell

            task.add_done_callback(done)
        try:
            # Shielded: one asker's cancellation must not fail the others.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            asker = asyncio.current_task()
            if asker is not None and asker.cancelling():
                raise
            raise UsageError(
                "the agent was closed while it fetched node keys",
                hint="end what uses an agent before its async with block ends",
            ) from None

    async def _load(self, canister_id: Principal) -> SubnetNodes:
        certificate = await self._read_subnet(canister_id)
        nodes = nodes_from(certificate, self._root_key, self._clock.now())
        self._nodes[nodes.subnet_id] = nodes
        self._remember(canister_id, nodes.subnet_id)
        return nodes

    def _known(self, canister_id: Principal) -> SubnetNodes | None:
        subnet_id = self._subnets.get(canister_id)
        if subnet_id is not None:
            return self._nodes.get(subnet_id)
        for nodes in self._nodes.values():
            # Another canister of a subnet that is known already: no need to ask again.
            if nodes.certificate.covers(self._root_key, canister_id, sharded_ranges_only=True):
                self._remember(canister_id, nodes.subnet_id)
                return nodes
        return None

    def _remember(self, canister_id: Principal, subnet_id: Principal) -> None:
        if len(self._subnets) >= _MAX_REMEMBERED:
            self._subnets.clear()
        self._subnets[canister_id] = subnet_id


def nodes_from(certificate: Certificate, root_key: bytes, now: int) -> SubnetNodes:
    """Read the nodes out of a verified certificate of ``/subnet``.

    Args:
        certificate: Verified, also that its subnet may speak of the canister that was asked.
        root_key: The root of trust, in DER form.
        now: The present, in nanoseconds since 1970.

    Raises:
        CertificateError: If the certificate shows no nodes.
    """
    subnet_id = certificate.signer(root_key)
    keys: dict[Principal, bytes] = {}
    for node, subtree in certificate.children((b"subnet", subnet_id.raw, b"node")):
        found = lookup(subtree, (b"public_key",))
        if isinstance(found, Found) and len(node) <= 29:
            keys[Principal(node)] = found.value
    if not keys:
        raise CertificateError(
            f"the certificate shows no node keys of subnet {subnet_id}",
            hint="queries cannot be verified with this replica; use update calls instead",
        )
    return SubnetNodes(subnet_id, keys, now, certificate)


def signatures_of(response: Mapping[str, Any]) -> list[NodeSignature]:
    """The node signatures of a query's response.

    Raises:
        QuerySignatureError: If there are none, too many, or one is malformed.
    """
    raw = response.get("signatures")
    if not isinstance(raw, list | tuple) or not raw:
        raise QuerySignatureError(
            "the answer to the query is not signed by any node",
            hint="an unsigned answer can be anyone's; it was not used",
        )
    if len(raw) > MAX_SIGNATURES:
        raise QuerySignatureError(
            f"the answer carries {len(raw)} signatures; at most {MAX_SIGNATURES} are checked"
        )
    return [NodeSignature.from_raw(item) for item in raw]
