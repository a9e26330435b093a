"""Delegations from one user key to another: made, chained, checked.

Rule implemented: interface specification, section Authentication. No clock: ``now`` is an argument.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from bridge.errors import EnvelopeError, SignatureError
from bridge.principal import Principal
from bridge.wire import _cbor
from bridge.wire.keys import SigningKey
from bridge.wire.request_id import REQUEST_DELEGATION, Value, hash_of_map
from bridge.wire.signature import verify

MAX_CHAIN: Final = 20
MAX_TARGETS: Final = 1000
PERMISSIONS: Final = ("all", "queries")


@dataclass(frozen=True, slots=True)
class Delegation:
    """Leave for another key to sign in this key's place.

    Args:
        public_key: The other key, in DER form.
        expiration: When the leave ends, in nanoseconds since 1970.
        targets: The canisters it is for; ``None`` for all.
        permissions: ``"all"``, ``"queries"`` (queries and state reads only), or ``None``, which is
            ``"all"``.
    """

    public_key: bytes
    expiration: int
    targets: tuple[Principal, ...] | None = None
    permissions: str | None = None

    def to_raw(self) -> dict[str, Value]:
        """The map that is hashed, signed and sent."""
        raw: dict[str, Value] = {"pubkey": self.public_key, "expiration": self.expiration}
        if self.targets is not None:
            raw["targets"] = [target.raw for target in self.targets]
        if self.permissions is not None:
            raw["permissions"] = self.permissions
        return raw

    def payload(self) -> bytes:
        """What is signed: the domain separator and the hash."""
        return REQUEST_DELEGATION + hash_of_map(self.to_raw())


@dataclass(frozen=True, slots=True)
class SignedDelegation:
    """A delegation with the signature of the key that gives it."""

    delegation: Delegation
    signature: bytes

    @classmethod
    def sign(cls, delegation: Delegation, key: SigningKey) -> Self:
        """Give the leave, with the key whose place is taken."""
        return cls(delegation, key.sign(delegation.payload()))

    @classmethod
    def from_raw(cls, raw: object) -> Self:
        """Take one element of ``sender_delegation``.

        Raises:
            EnvelopeError: If it is not a signed delegation.
        """
        if not isinstance(raw, Mapping) or not isinstance(raw.get("delegation"), Mapping):
            raise EnvelopeError("a sender_delegation is a map with a delegation and a signature")
        inner = raw["delegation"]
        signature = raw.get("signature")
        public_key, expiration = inner.get("pubkey"), inner.get("expiration")
        targets, permissions = inner.get("targets"), inner.get("permissions")
        if not isinstance(signature, bytes) or not isinstance(public_key, bytes):
            raise EnvelopeError("a delegation's pubkey and signature are byte strings")
        if not _cbor.is_nat(expiration):
            raise EnvelopeError("a delegation's expiration is a natural number of nanoseconds")
        if permissions is not None and permissions not in PERMISSIONS:
            raise EnvelopeError(
                f"a delegation's permissions are 'all' or 'queries', not {_cbor.shown(permissions)}"
            )
        return cls(
            Delegation(public_key, expiration, _targets_from_raw(targets), permissions), signature
        )

    def to_raw(self) -> dict[str, Any]:
        """The map that is sent."""
        return {"delegation": self.delegation.to_raw(), "signature": self.signature}


def _targets_from_raw(raw: object) -> tuple[Principal, ...] | None:
    if raw is None:
        return None
    if not _cbor.is_sequence(raw) or not all(
        isinstance(item, bytes) and len(item) <= 29 for item in raw
    ):
        raise EnvelopeError("a delegation's targets are a list of principals")
    if len(raw) > MAX_TARGETS:
        raise EnvelopeError(f"a delegation has {len(raw)} targets; {MAX_TARGETS} are allowed")
    return tuple(Principal(item) for item in raw)


@dataclass(frozen=True, slots=True)
class Leave:
    """What a checked chain leaves its last key free to do.

    Args:
        public_key: The key that signs the request, in DER form.
        targets: The canisters that all links allow; ``None`` for any.
        queries_only: Whether some link allows queries and state reads only.
    """

    public_key: bytes
    targets: frozenset[Principal] | None
    queries_only: bool


def verify_chain(
    sender_public_key: bytes,
    chain: Sequence[SignedDelegation],
    *,
    now: int,
    root_key: bytes | None = None,
) -> Leave:
    """Check a chain of delegations from the sender's key to the one that signs.

    Args:
        sender_public_key: The first key, in DER form.
        chain: The delegations in order; may be empty.
        now: The present, in nanoseconds since 1970.
        root_key: Needed to check signatures of canisters, in DER form.

    Raises:
        EnvelopeError: If a link is expired or badly signed, if there are too many, or if the chain
            visits a key twice.
    """
    if len(chain) > MAX_CHAIN:
        raise EnvelopeError(f"a chain of {len(chain)} delegations; {MAX_CHAIN} are allowed")
    key = sender_public_key
    seen = {key}
    targets: frozenset[Principal] | None = None
    queries_only = False
    for number, link in enumerate(chain, 1):
        delegation = link.delegation
        if delegation.expiration < now:
            age = (now - delegation.expiration) // 1_000_000_000
            raise EnvelopeError(
                f"delegation {number} expired {age} s ago",
                hint="have a new delegation signed",
            )
        if delegation.public_key in seen:
            raise EnvelopeError(
                f"delegation {number} leads back to a key that is already in the chain"
            )
        seen.add(delegation.public_key)
        try:
            verify(key, delegation.payload(), link.signature, now=now, root_key=root_key)
        except SignatureError as cause:
            raise EnvelopeError(
                f"delegation {number} is not signed by its giver: {cause.message}"
            ) from None
        if delegation.targets is not None:
            allowed = frozenset(delegation.targets)
            targets = allowed if targets is None else targets & allowed
        queries_only = queries_only or delegation.permissions == "queries"
        key = delegation.public_key
    return Leave(key, targets, queries_only)
