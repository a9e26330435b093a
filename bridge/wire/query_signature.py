"""Signatures of nodes over answers to queries.

Rule implemented: interface specification, section Request: Query call. A signature counts only with
a key that a certificate proves; finding that key is the caller's part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from bridge.errors import QuerySignatureError, SignatureError
from bridge.principal import Principal
from bridge.wire import _cbor
from bridge.wire.keys import SigningKey, load_public_key, verify_signature
from bridge.wire.request_id import RESPONSE, Value, hash_of_map

MAX_SIGNATURES: Final = 64
"""More signatures than a subnet has nodes are not worth checking."""

_NODE_KEY_DER_SIZE: Final = 44
_HASHED: Final = ("reply", "reject_code", "reject_message", "error_code")


@dataclass(frozen=True, slots=True)
class NodeSignature:
    """One node's signature.

    Args:
        identity: The node.
        timestamp: When it signed, in nanoseconds since 1970.
        signature: The Ed25519 signature, 64 bytes.
    """

    identity: Principal
    timestamp: int
    signature: bytes

    @classmethod
    def from_raw(cls, raw: object) -> Self:
        """Take one element of a response's ``signatures``.

        Raises:
            QuerySignatureError: If it is not a node signature.
        """
        if isinstance(raw, Mapping):
            identity, timestamp = raw.get("identity"), raw.get("timestamp")
            signature = raw.get("signature")
            if (
                isinstance(identity, bytes)
                and len(identity) <= 29
                and _cbor.is_nat(timestamp)
                and isinstance(signature, bytes)
            ):
                return cls(Principal(identity), timestamp, signature)
        raise QuerySignatureError("a node signature has an identity, a timestamp and a signature")

    def to_raw(self) -> dict[str, Any]:
        """The map that stands for it in a response."""
        return {
            "timestamp": self.timestamp,
            "signature": self.signature,
            "identity": self.identity.raw,
        }

    def verify(self, public_key_der: bytes, response: Mapping[str, Any], request_id: bytes) -> None:
        """Check the signature over a response.

        Args:
            public_key_der: The node's certified key.
            response: The decoded response.
            request_id: The id of the query that was sent.

        Raises:
            QuerySignatureError: If the key is no Ed25519 key, or the signature is not this key's.
        """
        digest = query_response_hash(response, request_id=request_id, timestamp=self.timestamp)
        try:
            if len(public_key_der) != _NODE_KEY_DER_SIZE:
                load_public_key(public_key_der)
                raise QuerySignatureError(f"the key of node {self.identity} is not Ed25519")
            verify_signature(public_key_der, RESPONSE + digest, self.signature)
        except SignatureError as cause:
            raise QuerySignatureError(
                f"the answer is not what node {self.identity} signed: {cause.message}",
                hint="the answer was changed, or belongs to another query; it was not used",
            ) from None


def query_response_hash(response: Mapping[str, Any], *, request_id: bytes, timestamp: int) -> bytes:
    """The hash that a node signs, after the separator ``RESPONSE``.

    Args:
        response: ``status`` with ``reply`` or with ``reject_code``, ``reject_message`` and, where
            given, ``error_code``; other fields are not part of what is signed.
        request_id: The id of the query.
        timestamp: The node's time, in nanoseconds since 1970.

    Raises:
        QuerySignatureError: If the response is none.
    """
    hashed: dict[str, Value] = {"request_id": request_id, "timestamp": timestamp}
    try:
        status = response["status"]
        hashed["status"] = status
        names = _HASHED[:1] if status == "replied" else _HASHED[1:]
        for name in names:
            if response.get(name) is not None:
                hashed[name] = response[name]
        return hash_of_map(hashed)
    except (KeyError, TypeError, ValueError, AttributeError) as cause:
        raise QuerySignatureError(f"the answer is not an answer to a query: {cause!r}") from None


def sign_query_response(
    response: Mapping[str, Any],
    *,
    request_id: bytes,
    timestamp: int,
    node_id: Principal,
    key: SigningKey,
) -> NodeSignature:
    """Sign a response as a node does; arguments as in :func:`query_response_hash`."""
    digest = query_response_hash(response, request_id=request_id, timestamp=timestamp)
    return NodeSignature(node_id, timestamp, key.sign(RESPONSE + digest))
