"""Representation-independent hashes: request ids, and what signatures are made over.

Rules implemented: interface specification, sections Representation-independent hashing of
structured data and Request ids; the separators are those of section Signatures. Pure functions.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final, TypeAlias

from bridge.wire import leb128

Value: TypeAlias = bytes | str | int | Sequence["Value"] | Mapping[str, "Value"]
"""What may stand in a hashed map: blobs, texts, natural numbers, arrays and maps of these."""

REQUEST: Final = b"\x0aic-request"
"""Domain separator of the signature over a request id."""
REQUEST_DELEGATION: Final = b"\x1aic-request-auth-delegation"
"""Domain separator of the signature over a delegation from one key to another."""
RESPONSE: Final = b"\x0bic-response"
"""Domain separator of a node's signature over a query's response."""
SENDER_INFO: Final = b"\x0eic-sender-info"
"""Domain separator of a canister's signature over sender information."""
STATE_ROOT: Final = b"\x0dic-state-root"
"""Domain separator of the subnet's signature over the state tree's digest."""


_NAMES: Final = {
    name: sha256(name.encode()).digest()
    for name in (
        *("request_type", "sender", "nonce", "ingress_expiry", "canister_id", "method_name", "arg"),
        *("sender_info", "info", "signer", "sig", "paths", "pubkey", "expiration", "targets"),
        *("permissions", "status", "reply", "reject_code", "reject_message", "error_code"),
        *("timestamp", "request_id"),
    )
}
"""The hashes of the names that the interface uses; any other name is hashed when met."""


def hash_of_value(value: Value) -> bytes:
    """Hash one value.

    Raises:
        TypeError: If the value is none of the kinds that can be hashed.
        ValueError: If a number is negative.
    """
    kind = type(value)  # exact types first: nearly every value has one of them
    if kind is bytes:
        return sha256(value).digest()  # type: ignore[arg-type]
    if kind is str:
        return sha256(value.encode()).digest()  # type: ignore[union-attr]
    if kind is int:
        return sha256(leb128.encode(value)).digest()  # type: ignore[arg-type]
    if isinstance(value, Mapping):
        return hash_of_map(value)
    if isinstance(value, (list, tuple)):
        return sha256(b"".join([hash_of_value(item) for item in value])).digest()
    raise TypeError(f"a value of type {type(value).__name__} has no hash on the IC")


def _hash_of_name(name: object) -> bytes:
    if not isinstance(name, str):
        raise TypeError(f"a field is named by a {type(name).__name__} and not by a text")
    return sha256(name.encode()).digest()


def hash_of_map(content: Mapping[str, Value]) -> bytes:
    """Hash a map; absent optional fields must be absent from it. Raises as ``hash_of_value``."""
    pairs = [
        (_NAMES.get(name) or _hash_of_name(name)) + hash_of_value(value)
        for name, value in content.items()
    ]
    pairs.sort()
    return sha256(b"".join(pairs)).digest()


def request_id(content: Mapping[str, Value]) -> bytes:
    """The 32-byte id of a request: the hash of its whole content. Raises as ``hash_of_value``."""
    return hash_of_map(content)
