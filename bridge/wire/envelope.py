"""Envelopes: a request's content with the proof of who sends it.

Rule implemented: interface specification, section Authentication. :meth:`Envelope.sign` is the
client's half, :func:`verify_envelope` the replica's. No clock: ``now`` is an argument.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Self

from bridge.errors import EnvelopeError, SignatureError
from bridge.principal import Principal
from bridge.wire import _cbor, signature
from bridge.wire.delegation import SignedDelegation, verify_chain
from bridge.wire.keys import SigningKey
from bridge.wire.request import CallRequest, QueryRequest, ReadStateRequest, Request, parse_request
from bridge.wire.request_id import REQUEST, SENDER_INFO, Value, request_id

MAX_INGRESS_TTL: Final = 300 * 1_000_000_000
"""How far ahead an expiry may be."""
PERMITTED_DRIFT: Final = 60 * 1_000_000_000
"""How much further, to allow for clocks that differ."""


@dataclass(frozen=True)
class Envelope:
    """A request as it goes over the wire.

    Args:
        content: The request's content map.
        sender_pubkey: The sender's key in DER form; ``None`` for the anonymous sender.
        sender_sig: The signature over the request id.
        sender_delegation: The chain from the sender's key to the one that signed.
    """

    content: Mapping[str, Value]
    sender_pubkey: bytes | None = None
    sender_sig: bytes | None = None
    sender_delegation: tuple[SignedDelegation, ...] = field(default=())

    @classmethod
    def sign(
        cls,
        content: Mapping[str, Value],
        key: SigningKey | None,
        *,
        delegations: Sequence[SignedDelegation] = (),
        sender_pubkey: bytes | None = None,
    ) -> Self:
        """Wrap and sign a content map.

        Args:
            content: The request's content.
            key: What signs; ``None`` for the anonymous sender.
            delegations: The chain that ends at ``key``.
            sender_pubkey: The key that the chain starts at, in DER form; by default ``key``'s own.
        """
        if key is None:
            return cls(content)
        digest = request_id(content)
        proof = key.sign(REQUEST + digest)
        made = cls(content, sender_pubkey or key.public_key_der, proof, tuple(delegations))
        made.__dict__["request_id"] = digest  # what the property below would compute again
        return made

    @classmethod
    def from_cbor(cls, data: bytes) -> Self:
        """Decode an envelope; nothing of it is verified yet.

        Raises:
            EnvelopeError: If the bytes are not an envelope.
        """
        raw = _cbor.decode_map(data, "the envelope", EnvelopeError)
        content = raw.get("content")
        if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
            raise EnvelopeError(
                f"the envelope's content is {_cbor.kind(content)}; expected a map of named fields"
            )
        for name in ("sender_pubkey", "sender_sig"):
            if not isinstance(raw.get(name), bytes | None):
                raise EnvelopeError(f"the envelope's {name} is not a byte string")
        chain = raw.get("sender_delegation")
        if chain is not None and not _cbor.is_sequence(chain):
            raise EnvelopeError("the envelope's sender_delegation is not an array")
        return cls(
            content,
            raw.get("sender_pubkey"),
            raw.get("sender_sig"),
            tuple(SignedDelegation.from_raw(link) for link in chain or ()),
        )

    def to_cbor(self) -> bytes:
        """Encode, with the self-describing tag in front."""
        raw: dict[str, Any] = {"content": self.content}
        if self.sender_pubkey is not None:
            raw["sender_pubkey"] = self.sender_pubkey
        if self.sender_sig is not None:
            raw["sender_sig"] = self.sender_sig
        if self.sender_delegation:
            raw["sender_delegation"] = [link.to_raw() for link in self.sender_delegation]
        return _cbor.encode(raw)

    @cached_property
    def request_id(self) -> bytes:
        """The request's id, 32 bytes.

        Raises:
            EnvelopeError: If the content holds a value that cannot be hashed.
        """
        try:
            return request_id(self.content)
        except (TypeError, ValueError, RecursionError) as cause:
            raise EnvelopeError(f"the request has no id: {cause}") from None


@dataclass(frozen=True, slots=True)
class VerifiedRequest:
    """A request of which it is proved who sent it.

    Args:
        request: The request.
        request_id: Its id, 32 bytes.
        targets: The canisters it may concern, where delegations limit that; else ``None``. The
            callee of a call or query has been checked already; a state read's paths have not.
    """

    request: Request
    request_id: bytes
    targets: frozenset[Principal] | None


def verify_envelope(
    envelope: Envelope,
    *,
    now: int,
    root_key: bytes | None = None,
    max_ingress_ttl: int = MAX_INGRESS_TTL,
) -> VerifiedRequest:
    """Check an incoming envelope: content, expiry, sender, delegations, signature.

    Args:
        envelope: As decoded.
        now: The replica's time, in nanoseconds since 1970.
        root_key: The root of trust in DER form, for keys that are canisters'.
        max_ingress_ttl: How far ahead the expiry may be, in nanoseconds.

    Raises:
        EnvelopeError: If a check fails; the message says which, and what was expected.
    """
    request = parse_request(envelope.content)
    digest = envelope.request_id
    if not request.sender.is_anonymous or isinstance(request, CallRequest):
        _check_expiry(request.ingress_expiry, now, max_ingress_ttl)
    proofs = (envelope.sender_pubkey, envelope.sender_sig, envelope.sender_delegation or None)
    if request.sender.is_anonymous:
        if any(proof is not None for proof in proofs):
            raise EnvelopeError("an anonymous request carries a key, a signature or delegations")
        if not isinstance(request, ReadStateRequest) and request.sender_info is not None:
            raise EnvelopeError("an anonymous request carries sender_info")
        return VerifiedRequest(request, digest, None)
    if envelope.sender_pubkey is None or envelope.sender_sig is None:
        raise EnvelopeError(
            f"the request of {request.sender} carries no sender_pubkey and sender_sig",
            hint="sign it, or send it as the anonymous principal",
        )
    owner = Principal.self_authenticating(envelope.sender_pubkey)
    if owner != request.sender:
        raise EnvelopeError(f"the sender is {request.sender}, but its key is that of {owner}")
    leave = verify_chain(
        envelope.sender_pubkey, envelope.sender_delegation, now=now, root_key=root_key
    )
    try:
        signature.verify(
            leave.public_key, REQUEST + digest, envelope.sender_sig, now=now, root_key=root_key
        )
    except SignatureError as cause:
        raise EnvelopeError(
            f"the request is not signed by {request.sender}: {cause.message}"
        ) from None
    _check_leave(request, leave.targets, queries_only=leave.queries_only)
    if isinstance(request, CallRequest | QueryRequest) and request.sender_info is not None:
        _check_sender_info(request.sender_info, envelope.sender_pubkey, now, root_key)
    return VerifiedRequest(request, digest, leave.targets)


def _check_expiry(expiry: int, now: int, max_ttl: int) -> None:
    if expiry < now:
        raise EnvelopeError(
            f"the request's ingress_expiry passed {(now - expiry) / 1e9:.3f} s ago "
            f"(ingress_expiry {expiry}, replica time {now})",
            hint="sign a new one; if that fails too, set the sender's clock",
        )
    latest = now + max_ttl + PERMITTED_DRIFT
    if expiry > latest:
        raise EnvelopeError(
            f"the request's ingress_expiry is {(expiry - now) // 1_000_000_000} s ahead; at most "
            f"{max_ttl // 1_000_000_000} s are allowed "
            f"(ingress_expiry {expiry}, replica time {now})",
            hint="choose an earlier expiry; if that fails too, set the sender's clock",
        )


def _check_leave(
    request: Request, targets: frozenset[Principal] | None, *, queries_only: bool
) -> None:
    if isinstance(request, ReadStateRequest):
        return
    if targets is not None and request.canister_id not in targets:
        raise EnvelopeError(f"the delegations do not allow calls to {request.canister_id}")
    if queries_only and isinstance(request, CallRequest):
        raise EnvelopeError("the delegations allow queries only, not update calls")


def _check_sender_info(
    info: Mapping[str, Value], sender_pubkey: bytes, now: int, root_key: bytes | None
) -> None:
    signer, content, proof = info["signer"], info["info"], info["sig"]
    assert isinstance(signer, bytes)
    assert isinstance(content, bytes)
    assert isinstance(proof, bytes)
    canister = signature.canister_signer(sender_pubkey)
    if canister is None or canister.raw != signer:
        raise EnvelopeError("sender_info is not signed by the canister that the sender's key names")
    try:
        signature.verify(sender_pubkey, SENDER_INFO + content, proof, now=now, root_key=root_key)
    except SignatureError as cause:
        raise EnvelopeError(f"sender_info does not hold: {cause.message}") from None
