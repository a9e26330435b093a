"""Certificates: a subnet's signature over its state tree, and what makes one believable.

Rules implemented: interface specification, sections Certification, Delegation and Canister ranges.
Both ends are here: :meth:`Certificate.verify` for who receives one, :meth:`Certificate.sign` for
who makes one. No clock: ``now`` is an argument, in nanoseconds since 1970.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, Self

from bridge.errors import CertificateError
from bridge.principal import Principal
from bridge.wire import _cbor, bls, hashtree, leb128
from bridge.wire.hashtree import Found, HashTree
from bridge.wire.request_id import STATE_ROOT

SECOND: Final = 1_000_000_000
MAX_AGE: Final = 300 * SECOND
"""How old a certificate may be: the specification names five minutes as reasonable."""
MAX_LEAD: Final = 300 * SECOND
"""How far a certificate may be ahead of our clock, which may be the one that is wrong."""
MAX_DELEGATION_AGE: Final = 30 * 86_400 * SECOND
"""How old a delegation may be. The IC renews them at replica upgrades, about weekly."""


@dataclass(frozen=True, slots=True)
class SubnetDelegation:
    """The root subnet's word that a subnet exists, with its key and its canister ranges.

    Args:
        subnet_id: The subnet.
        certificate: The root subnet's certificate, as CBOR.
    """

    subnet_id: Principal
    certificate: bytes


@dataclass(frozen=True)
class Certificate:
    """A (usually pruned) state tree with the subnet's signature; believable once verified.

    Args:
        tree: The tree.
        signature: The BLS signature over its digest, 48 bytes.
        delegation: What links the signer to the root key; ``None`` where the root key signed.
    """

    tree: HashTree
    signature: bytes
    delegation: SubnetDelegation | None = None

    @classmethod
    def from_cbor(cls, data: bytes) -> Self:
        """Decode a certificate; nothing of it is verified yet.

        Raises:
            CertificateError: If the bytes are not a well-formed certificate.
        """
        raw = _cbor.decode_map(data, "a certificate", CertificateError)
        signature = raw.get("signature")
        if not isinstance(signature, bytes) or "tree" not in raw:
            raise CertificateError(
                "a certificate has a tree and a signature; one of them is missing"
            )
        tree = hashtree.from_raw(raw["tree"], size=len(data))
        return cls(tree, signature, _delegation_from_raw(raw.get("delegation")))

    def to_cbor(self) -> bytes:
        """Encode, with the self-describing tag in front."""
        raw: dict[str, object] = {"tree": hashtree.to_raw(self.tree), "signature": self.signature}
        if self.delegation is not None:
            raw["delegation"] = {
                "subnet_id": self.delegation.subnet_id.raw,
                "certificate": self.delegation.certificate,
            }
        return _cbor.encode(raw)

    @classmethod
    def sign(
        cls, tree: HashTree, secret_key: bls.SecretKey, delegation: SubnetDelegation | None = None
    ) -> Self:
        """Certify a tree. It may be pruned afterwards (:meth:`pruned`): the digest stays."""
        return cls(tree, secret_key.sign(STATE_ROOT + tree.digest()), delegation)

    def pruned(self, paths: Iterable[hashtree.Path]) -> Self:
        """The same certificate showing only what the paths need, and the time."""
        tree = hashtree.witness(self.tree, [*paths, (b"time",)])
        return type(self)(tree, self.signature, self.delegation)

    def verify(
        self,
        root_key_der: bytes,
        effective_canister_id: Principal | None = None,
        *,
        now: int,
        subnet_id: Principal | None = None,
        max_age: int | None = MAX_AGE,
        max_delegation_age: int | None = MAX_DELEGATION_AGE,
        sharded_ranges_only: bool = False,
    ) -> None:
        """Check signature, delegation, scope and freshness.

        Args:
            root_key_der: The root of trust, in DER form.
            effective_canister_id: The canister that the certificate must be entitled to speak of;
                ``None`` for no such check.
            now: The present, in nanoseconds since 1970.
            subnet_id: The subnet that must have signed, where that is known beforehand.
            max_age: In nanoseconds; ``None`` accepts any time, as for proofs kept in an archive.
            max_delegation_age: The same of the delegation.
            sharded_ranges_only: Refuse a delegation that shows only the unsharded canister ranges,
                which do not follow canisters that have moved.

        Raises:
            CertificateError: If any check fails; the message says which.
        """
        key = root_key_der
        if self.delegation is not None:
            grant = _open_delegation(
                root_key_der, self.delegation.subnet_id.raw, self.delegation.certificate
            )
            key = grant.public_key_der
            if max_delegation_age is not None:
                _check_time(grant.time, now, max_delegation_age, "the subnet's delegation")
            if effective_canister_id is not None and not grant.covers(
                effective_canister_id, sharded_only=sharded_ranges_only
            ):
                raise CertificateError(
                    f"subnet {self.delegation.subnet_id} may not speak of canister "
                    f"{effective_canister_id}: it is in none of the ranges that the root subnet "
                    "grants it",
                    hint="check the canister id, and that the URL is of the canister's network",
                )
        if subnet_id is not None and self.signer(root_key_der) != subnet_id:
            raise CertificateError(
                f"the certificate is of subnet {self.signer(root_key_der)}, not of {subnet_id}",
                hint="another subnet answered; check the URL and the subnet id",
            )
        if not bls.verify(
            bls.public_key_from_der(key), STATE_ROOT + self.tree.digest(), self.signature
        ):
            raise CertificateError(
                "the certificate's signature is not the subnet's: its content cannot be believed",
                hint=None
                if self.delegation is not None
                else "if this is a local replica, check that root_key is this replica's own",
            )
        if max_age is not None:
            self.check_fresh(now, max_age=max_age)

    def check_fresh(self, now: int, *, max_age: int = MAX_AGE) -> None:
        """Check the time alone, both ways.

        Raises:
            CertificateError: If the certificate is older, or from further in the future than
                ``MAX_LEAD``.
        """
        _check_time(self.time, now, max_age, "the certificate")

    def covers(
        self, root_key_der: bytes, canister_id: Principal, *, sharded_ranges_only: bool = False
    ) -> bool:
        """Whether the canister is in the ranges that the root subnet grants to who signed this.

        Where the root subnet itself signed, its ranges must be shown by this certificate. Arguments
        and errors as in :meth:`verify`.
        """
        if self.delegation is not None:
            grant = _open_delegation(
                root_key_der, self.delegation.subnet_id.raw, self.delegation.certificate
            )
            return grant.covers(canister_id, sharded_only=sharded_ranges_only)
        subnet_id = self.signer(root_key_der).raw
        return _in_ranges(self.tree, subnet_id, canister_id, sharded_only=False)

    def granted_ranges(self, root_key_der: bytes) -> list[tuple[bytes, bytes]]:
        """The canister ranges that are shown of who signed this, as :meth:`covers` uses them."""
        if self.delegation is not None:
            grant = _open_delegation(
                root_key_der, self.delegation.subnet_id.raw, self.delegation.certificate
            )
            return _all_ranges(grant.tree, grant.subnet_id)
        return _all_ranges(self.tree, self.signer(root_key_der).raw)

    def signer(self, root_key_der: bytes) -> Principal:
        """The subnet that signs: the delegation's, or the root subnet itself."""
        if self.delegation is not None:
            return self.delegation.subnet_id
        return Principal.self_authenticating(root_key_der)

    @cached_property
    def time(self) -> int:
        """The subnet's time, in nanoseconds since 1970.

        Raises:
            CertificateError: If the certificate shows none.
        """
        found = hashtree.lookup(self.tree, (b"time",))
        if not isinstance(found, Found):
            raise CertificateError("the certificate does not show its time")
        return leb128.decode(found.value)

    def lookup(self, path: hashtree.Path) -> hashtree.Lookup:
        """Look a path up: ``Found(value)``, ``Absent``, ``Unknown`` or ``Error``."""
        return hashtree.lookup(self.tree, path)

    def value(self, path: hashtree.Path) -> bytes | None:
        """The value at a path, or ``None`` where the certificate proves that there is none.

        Raises:
            CertificateError: If it proves neither: the answer was pruned of what was asked for.
        """
        return value_at(self.tree, path)

    def children(self, path: hashtree.Path) -> Iterator[tuple[bytes, HashTree]]:
        """The visible labels below a path with their subtrees."""
        subtree = hashtree.lookup_subtree(self.tree, path)
        return hashtree.children(subtree if isinstance(subtree, HashTree) else hashtree.EMPTY)


def value_at(tree: HashTree, path: hashtree.Path) -> bytes | None:
    """The value at a path of a verified tree, or ``None`` where there is proved to be none.

    Raises:
        CertificateError: If neither is proved.
    """
    found = hashtree.lookup(tree, path)
    if isinstance(found, Found):
        return found.value
    if isinstance(found, hashtree.Absent):
        return None
    shown = "/".join(_readable(label) for label in path)
    raise CertificateError(
        f"the certificate neither shows nor denies /{shown}",
        hint="the replica left out what was asked for; ask another node",
    )


def _readable(label: bytes) -> str:
    return label.decode() if label.isascii() and label.decode().isprintable() else label.hex()


def _delegation_from_raw(raw: object) -> SubnetDelegation | None:
    if raw is None:
        return None
    if isinstance(raw, Mapping):
        subnet_id, certificate = raw.get("subnet_id"), raw.get("certificate")
        if isinstance(subnet_id, bytes) and len(subnet_id) <= 29 and isinstance(certificate, bytes):
            return SubnetDelegation(Principal(subnet_id), certificate)
    raise CertificateError("a certificate's delegation has a subnet_id and a certificate")


def _check_time(time: int, now: int, max_age: int, what: str) -> None:
    if now - time > max_age:
        raise CertificateError(
            f"{what} is {(now - time) // SECOND} s old; at most {max_age // SECOND} s are accepted",
            hint="a stale node answered, or this machine's clock is ahead",
        )
    if time - now > MAX_LEAD:
        raise CertificateError(
            f"{what} is {(time - now) // SECOND} s in the future",
            hint="this machine's clock is behind, or the node lies about the time",
        )


# --- Delegations --------------------------------------------------------------------------------


_REMEMBERED_SIZE: Final = 65_536
"""How long a delegation may be to be kept: padding would not break its signature."""


@dataclass(frozen=True, slots=True)
class _Grant:
    """What a delegation, already verified, says."""

    subnet_id: bytes
    public_key_der: bytes
    time: int
    tree: HashTree

    def covers(self, canister_id: Principal, *, sharded_only: bool) -> bool:
        return _in_ranges(self.tree, self.subnet_id, canister_id, sharded_only=sharded_only)


def _in_ranges(
    tree: HashTree, subnet_id: bytes, canister_id: Principal, *, sharded_only: bool
) -> bool:
    ranges = _shard_for(tree, subnet_id, canister_id.raw)
    if ranges is None and not sharded_only:
        flat = hashtree.lookup(tree, (b"subnet", subnet_id, b"canister_ranges"))
        ranges = flat.value if isinstance(flat, Found) else None
    if ranges is None:
        return False
    return any(low <= canister_id.raw <= high for low, high in decode_ranges(ranges))


def _all_ranges(tree: HashTree, subnet_id: bytes) -> list[tuple[bytes, bytes]]:
    shards = hashtree.lookup_subtree(tree, (b"canister_ranges", subnet_id))
    values = [
        shard.value
        for _, shard in hashtree.children(
            shards if isinstance(shards, HashTree) else hashtree.EMPTY
        )
        if isinstance(shard, hashtree.Leaf)
    ]
    if not values:
        flat = hashtree.lookup(tree, (b"subnet", subnet_id, b"canister_ranges"))
        values = [flat.value] if isinstance(flat, Found) else []
    return [pair for value in values for pair in decode_ranges(value)]


def _shard_for(tree: HashTree, subnet_id: bytes, canister_id: bytes) -> bytes | None:
    """The shard that begins last at or before the canister id, of those that are shown."""
    shards = hashtree.lookup_subtree(tree, (b"canister_ranges", subnet_id))
    if not isinstance(shards, HashTree):
        return None
    best: HashTree | None = None
    for first, shard in hashtree.children(shards):
        if first > canister_id:
            break
        if isinstance(shard, hashtree.Leaf):
            best = shard
    return best.value if isinstance(best, hashtree.Leaf) else None


def _open_delegation(root_key_der: bytes, subnet_id: bytes, data: bytes) -> _Grant:
    if len(data) > _REMEMBERED_SIZE:
        return _verified_grant.__wrapped__(root_key_der, subnet_id, data)
    return _verified_grant(root_key_der, subnet_id, data)


@lru_cache(maxsize=256)
def _verified_grant(root_key_der: bytes, subnet_id: bytes, data: bytes) -> _Grant:
    # Cached: the same delegation comes with every certificate of a subnet, and whether its
    # signature is right depends on nothing but these arguments. Its age is checked at each use.
    certificate = Certificate.from_cbor(data)
    if certificate.delegation is not None:
        raise CertificateError(
            "the delegation's own certificate is delegated; one level is allowed"
        )
    message = STATE_ROOT + certificate.tree.digest()
    if not bls.verify(bls.public_key_from_der(root_key_der), message, certificate.signature):
        raise CertificateError(
            "the delegation is not signed with the root key",
            hint="for a local network pass its own root key; mainnet's is the default",
        )
    found = hashtree.lookup(certificate.tree, (b"subnet", subnet_id, b"public_key"))
    if not isinstance(found, Found):
        raise CertificateError(
            f"the delegation does not show the public key of subnet {Principal(subnet_id)}"
        )
    bls.public_key_from_der(found.value)
    return _Grant(subnet_id, found.value, certificate.time, certificate.tree)


def decode_ranges(data: bytes) -> list[tuple[bytes, bytes]]:
    """Decode canister ranges: closed intervals of principals, as bytes.

    Raises:
        CertificateError: If the bytes are something else.
    """
    raw = _cbor.decode(data, "the canister ranges", CertificateError)
    ranges: list[tuple[bytes, bytes]] = []
    if _cbor.is_sequence(raw):
        for pair in raw:
            match pair:
                case [bytes(low), bytes(high)]:
                    ranges.append((low, high))
                case _:
                    break
        else:
            return ranges
    raise CertificateError("canister ranges are a list of pairs of principals")


def encode_ranges(ranges: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Encode canister ranges, as they stand in the state tree."""
    return _cbor.encode([list(pair) for pair in ranges])
