"""The subnet: its keys, its canisters, its requests, and the state tree that tells of them.

Two subnets stand here: a root subnet, which exists only as a key that delegates, and the one that
runs canisters. So clients meet certificates as on the IC's application subnets. Rules implemented:
interface specification, sections The system state tree and Delegation.
"""

import dataclasses
import enum
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import cbor2

from bridge import wire
from bridge.principal import Principal
from bridge.replica.state import tree
from bridge.replica.state.canister import Canister
from bridge.replica.state.messages import Reply, Request
from bridge.replica.state.requests import IngressHistory, Phase, RequestRecord
from bridge.wire import Certificate, SubnetDelegation, bls, hashtree, leb128
from bridge.wire.hashtree import Fork, HashTree, Labeled
from bridge.wire.keys import Ed25519Key

# Canister ids: a number of eight bytes, then two bytes that make it a canister's.
_SUFFIX: Final = b"\x01\x01"
FIRST_RANGE: Final = (bytes(8) + _SUFFIX, b"\xff" * 8 + _SUFFIX)
_FIRST_FREE: Final = 0x8000_0000_0010_0000
_MAX_UNDONE: Final = 10_000
_DELEGATION_LIFE: Final = 86_400 * 1_000_000_000


def canister_id(number: int) -> Principal:
    """The id of the ``number``-th canister."""
    return Principal(number.to_bytes(8, "big") + _SUFFIX)


def is_hosted(principal: Principal) -> bool:
    """Whether the id lies in this subnet's range."""
    raw = principal.raw
    return len(raw) == 10 and raw.endswith(_SUFFIX)


@dataclass(slots=True)
class Keys:
    """Secret keys and the names that follow from them."""

    root: bls.SecretKey
    subnet: bls.SecretKey
    node: Ed25519Key
    root_subnet_id: Principal
    subnet_id: Principal
    node_id: Principal

    @classmethod
    def derive(cls, seed: bytes) -> "Keys":
        """All keys of one seed."""

        def part(name: str) -> bytes:
            return hashlib.sha256(b"ic-bridge replica " + name.encode() + b"\0" + seed).digest()

        root = bls.SecretKey.generate(part("root"))
        subnet = bls.SecretKey.generate(part("subnet"))
        node = Ed25519Key.from_seed(part("node"))
        return cls(
            root=root,
            subnet=subnet,
            node=node,
            root_subnet_id=Principal.self_authenticating(root.public_key_der),
            subnet_id=Principal.self_authenticating(subnet.public_key_der),
            node_id=Principal.self_authenticating(node.public_key_der),
        )


class Ranges(enum.Enum):
    """In which layout a delegation shows the subnet's canister ranges, if it shows them.

    The older addresses show them at ``/subnet/<id>/canister_ranges``, the newer ones in shards at
    ``/canister_ranges/<id>``; certificates that speak of no canister show none.
    """

    UNSHARDED = "unsharded"
    SHARDED = "sharded"
    NONE = "none"


def _encoded_time(time: int) -> bytes:
    return leb128.encode(time)


@dataclass(slots=True)
class Unsaved:
    """What has changed and is not kept on disk yet.

    Attributes:
        canisters: Whose records have changed, or that are no more.
        requests: The requests that have changed; ``None`` for one that is forgotten.
    """

    canisters: set[Principal] = field(default_factory=set)
    requests: dict[bytes, RequestRecord | None] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Subnet:
    """The whole remembered state.

    Attributes:
        seed: What keys and randomness follow from.
        canisters: By id.
        deleted: Ids of canisters that are no more; they are never given again.
        history: The requests.
        certificate: The newest certificate of the whole tree; ``None`` before the first.
        transactions: Messages executed so far.
        state_bytes: Of all canisters' memories.
        burned: Cycles burned so far.
        changed: Canisters of which the newest certificate tells something old.
        changed_requests: Likewise the requests; ``None`` for one that is forgotten.
        managing: Calls to the management canister that are being carried out or wait for that.
        unsaved: What a store on disk has to learn; ``None`` if there is none.
        undone: Requests that are no more because an earlier state was restored, newest last.
    """

    seed: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    keys: Keys = field(init=False)
    canisters: dict[Principal, Canister] = field(default_factory=dict)
    history: IngressHistory = field(default_factory=IngressHistory)
    certificate: Certificate | None = None
    certified_time: int = 0
    deleted: set[Principal] = field(default_factory=set)
    next_number: int = _FIRST_FREE
    next_context: int = 1
    next_callback: int = 1
    random_blocks: int = 0
    transactions: int = 0
    state_bytes: int = 0
    burned: int = 0
    undone: dict[bytes, None] = field(default_factory=dict)
    managing: dict[Request, None] = field(default_factory=dict)
    unsaved: Unsaved | None = None
    _canister_tree: HashTree = hashtree.EMPTY
    _request_tree: HashTree = hashtree.EMPTY
    changed: set[Principal] = field(default_factory=set)
    changed_requests: dict[bytes, RequestRecord | None] = field(default_factory=dict)
    _ranges: HashTree = hashtree.EMPTY
    _root_leaves: HashTree = hashtree.EMPTY
    _leaves_before_metrics: HashTree = hashtree.EMPTY
    _leaves_after_metrics: HashTree = hashtree.EMPTY
    _delegation: tuple[int, dict[Ranges, SubnetDelegation]] | None = None

    def __post_init__(self) -> None:
        self.keys = Keys.derive(self.seed)
        keys = self.keys
        ranges = wire.encode_ranges([FIRST_RANGE])
        self._ranges = Labeled(
            b"canister_ranges", hashtree.build({keys.subnet_id.raw: {FIRST_RANGE[0]: ranges}})
        )
        self._root_leaves = hashtree.build(
            {
                b"canister_ranges": wire.encode_ranges([]),
                b"public_key": keys.root.public_key_der,
                b"type": b"system",
            }
        )
        self._leaves_before_metrics = hashtree.build({b"canister_ranges": ranges})
        self._leaves_after_metrics = hashtree.build(
            {
                b"node": {keys.node_id.raw: {b"public_key": keys.node.public_key_der}},
                b"public_key": keys.subnet.public_key_der,
                b"type": b"application",
            }
        )

    # --- names and chance -----------------------------------------------------------------------

    def new_canister_id(self) -> Principal:
        """The next free id."""
        while True:
            found = canister_id(self.next_number)
            self.next_number += 1
            if found not in self.canisters and found not in self.deleted:
                return found

    def random(self) -> bytes:
        """The next 32 random bytes; the same after the same seed."""
        self.random_blocks += 1
        return hashlib.sha256(
            b"ic-bridge randomness" + self.seed + self.random_blocks.to_bytes(8, "big")
        ).digest()

    # --- the state tree -------------------------------------------------------------------------

    def mark(self, canister: Principal) -> None:
        """Note that something about a canister has changed, of whatever kind."""
        if self.unsaved is not None:
            self.unsaved.canisters.add(canister)

    def touch(self, canister: Principal) -> None:
        """Note that the tree must tell anew of a canister."""
        self.changed.add(canister)
        self.mark(canister)

    def is_touched(self, canister: Principal) -> bool:
        """Whether the newest certificate tells something old of the canister."""
        return canister in self.changed

    def is_changed(self) -> bool:
        """Whether the newest certificate tells something old."""
        return bool(self.changed or self.changed_requests)

    def touch_request(self, record: RequestRecord, *, gone: bool = False) -> None:
        """Note that the tree must tell anew of a request."""
        told = None if gone else record
        self.changed_requests[record.request_id] = told
        if self.unsaved is not None:
            self.unsaved.requests[record.request_id] = told

    def set_changed(self, canisters: Iterable[Principal], requests: Iterable[bytes]) -> None:
        """Make these, and no others, what the tree must tell anew."""
        self.changed = set(canisters)
        records = self.history.records
        self.changed_requests = {request_id: records.get(request_id) for request_id in requests}

    def undo_requests(self, request_ids: Iterable[bytes]) -> None:
        """Note that requests are no more, so that who asks for them is told."""
        for request_id in request_ids:
            self.undone[request_id] = None
        for request_id in tuple(self.undone):
            if request_id in self.history.records:
                del self.undone[request_id]
        for request_id in tuple(self.undone)[:-_MAX_UNDONE]:
            del self.undone[request_id]

    def _subnets(self) -> HashTree:
        """What the tree tells of the subnets; only the metrics change."""
        burned = {"low": self.burned % 2**64}
        if self.burned >> 64:
            burned["high"] = self.burned >> 64
        metrics = cbor2.dumps(
            cbor2.CBORTag(
                55799,
                {
                    "num_canisters": len(self.canisters),
                    "canister_state_bytes": self.state_bytes,
                    "consumed_cycles_total": burned,
                    "update_transactions_total": self.transactions,
                },
            )
        )
        own = Fork(
            self._leaves_before_metrics,
            Fork(Labeled(b"metrics", hashtree.Leaf(metrics)), self._leaves_after_metrics),
        )
        sides = sorted(
            [
                Labeled(self.keys.root_subnet_id.raw, self._root_leaves),
                Labeled(self.keys.subnet_id.raw, own),
            ],
            key=lambda side: side.label,
        )
        return Labeled(b"subnet", Fork(*sides))

    def certify_by_root(self, time: int) -> Certificate:
        """Sign what the root subnet tells of the subnets, as it does itself.

        Args:
            time: Nanoseconds since 1970.
        """
        stamp = Labeled(b"time", hashtree.Leaf(_encoded_time(time)))
        whole = Fork(self._ranges, Fork(self._subnets(), stamp))
        return Certificate.sign(whole, self.keys.root)

    def _delegated(self, time: int) -> dict[Ranges, SubnetDelegation]:
        if self._delegation is None or abs(time - self._delegation[0]) > _DELEGATION_LIFE:
            whole = self.certify_by_root(time)
            subnet = self.keys.subnet_id.raw
            key = (b"subnet", subnet, b"public_key")
            shown: dict[Ranges, list[hashtree.Path]] = {
                Ranges.UNSHARDED: [key, (b"subnet", subnet, b"canister_ranges")],
                Ranges.SHARDED: [key, (b"canister_ranges", subnet)],
                Ranges.NONE: [key],
            }
            delegations = {
                ranges: SubnetDelegation(self.keys.subnet_id, whole.pruned(paths).to_cbor())
                for ranges, paths in shown.items()
            }
            self._delegation = (time, delegations)
        return self._delegation[1]

    def shown(
        self, certificate: Certificate, paths: Iterable[hashtree.Path], ranges: Ranges
    ) -> Certificate:
        """One of this subnet's certificates, as a client gets to see it.

        Args:
            certificate: Of the whole tree.
            paths: What is shown of that.
            ranges: What its delegation shows.
        """
        pruned = certificate.pruned(paths)
        if pruned.delegation is None or self._delegation is None:
            return pruned
        return dataclasses.replace(pruned, delegation=self._delegation[1][ranges])

    def certify(self, time: int) -> Certificate:
        """Sign the state as it is now.

        Args:
            time: Nanoseconds since 1970; never less than before.
        """
        for principal in self.changed:
            canister = self.canisters.get(principal)
            self._canister_tree = (
                tree.remove(self._canister_tree, principal.raw)
                if canister is None
                else tree.insert(self._canister_tree, principal.raw, _canister_subtree(canister))
            )
        self.changed.clear()
        for request_id, record in self.changed_requests.items():
            self._request_tree = (
                tree.remove(self._request_tree, request_id)
                if record is None
                else tree.insert(self._request_tree, request_id, _request_subtree(record))
            )
        self.changed_requests.clear()
        time = max(time, self.certified_time)
        stamp = Labeled(b"time", hashtree.Leaf(_encoded_time(time)))
        whole = Fork(
            Fork(Labeled(b"canister", self._canister_tree), self._ranges),
            Fork(
                Labeled(b"request_status", self._request_tree),
                Fork(self._subnets(), stamp),
            ),
        )
        self.certified_time = time
        delegation = self._delegated(time)[Ranges.SHARDED]
        self.certificate = Certificate.sign(whole, self.keys.subnet, delegation)
        return self.certificate


def _canister_subtree(canister: Canister) -> HashTree:
    controllers = cbor2.dumps(cbor2.CBORTag(55799, [p.raw for p in canister.settings.controllers]))
    content: dict[bytes, hashtree.Buildable] = {
        b"canister_creation_timestamp": _encoded_time(canister.created),
        b"controllers": controllers,
    }
    if canister.module_hash is not None:
        content[b"last_install_timestamp"] = _encoded_time(canister.installed)
        content[b"module_hash"] = canister.module_hash
        content[b"certified_data"] = canister.certified_data
        if canister.metadata:
            content[b"metadata"] = {
                name.encode(): data for name, (_, data) in canister.metadata.items()
            }
    return hashtree.build(content)


def _request_subtree(record: RequestRecord) -> HashTree:
    payload = record.payload
    if record.phase is not Phase.ANSWERED or payload is None:
        return hashtree.build({b"status": record.phase.value.encode()})
    if isinstance(payload, Reply):
        return hashtree.build({b"status": b"replied", b"reply": payload.data})
    content: dict[bytes, hashtree.Buildable] = {
        b"status": b"rejected",
        b"reject_code": leb128.encode(int(payload.code)),
        b"reject_message": payload.message.encode(),
    }
    if payload.error_code:
        content[b"error_code"] = payload.error_code.encode()
    return hashtree.build(content)
