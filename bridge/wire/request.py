"""The three kinds of request that go into an envelope, typed and checked.

Rules implemented: interface specification, sections Request: Call, Query call and Read state. The
content map itself is what is hashed and signed; these records are its readable form.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeAlias

from bridge.errors import EnvelopeError
from bridge.principal import Principal
from bridge.wire import _cbor
from bridge.wire.request_id import Value

MAX_NONCE: Final = 32
MAX_PATHS: Final = 1000
MAX_LABELS: Final = 127


@dataclass(frozen=True, slots=True)
class _Call:
    sender: Principal
    ingress_expiry: int
    canister_id: Principal
    method_name: str
    arg: bytes
    nonce: bytes | None = None
    sender_info: Mapping[str, Value] | None = None

    def content(self) -> dict[str, Value]:
        """The map that is hashed, signed and sent."""
        content: dict[str, Value] = {
            "request_type": self.request_type,
            "sender": self.sender.raw,
            "ingress_expiry": self.ingress_expiry,
            "canister_id": self.canister_id.raw,
            "method_name": self.method_name,
            "arg": self.arg,
        }
        if self.nonce is not None:
            content["nonce"] = self.nonce
        if self.sender_info is not None:
            content["sender_info"] = self.sender_info
        return content

    request_type: ClassVar[str]


class CallRequest(_Call):
    """An update call.

    Args:
        sender: Who calls.
        ingress_expiry: Until when the call may start, in nanoseconds since 1970.
        canister_id: The callee.
        method_name: The method.
        arg: The argument, Candid-encoded.
        nonce: At most 32 bytes that make equal calls distinct.
        sender_info: Signed information on the sender, as decoded.
    """

    __slots__ = ()
    request_type = "call"


class QueryRequest(_Call):
    """A query call; arguments as in :class:`CallRequest`."""

    __slots__ = ()
    request_type = "query"


@dataclass(frozen=True, slots=True)
class ReadStateRequest:
    """A request for a certificate.

    Args:
        sender: Who asks.
        ingress_expiry: Until when the request is valid, in nanoseconds since 1970.
        paths: What the certificate must show.
        nonce: At most 32 bytes.
    """

    sender: Principal
    ingress_expiry: int
    paths: tuple[tuple[bytes, ...], ...]
    nonce: bytes | None = None
    request_type: ClassVar[str] = "read_state"

    def content(self) -> dict[str, Value]:
        """The map that is hashed, signed and sent."""
        content: dict[str, Value] = {
            "request_type": self.request_type,
            "sender": self.sender.raw,
            "ingress_expiry": self.ingress_expiry,
            "paths": [list(path) for path in self.paths],
        }
        if self.nonce is not None:
            content["nonce"] = self.nonce
        return content


Request: TypeAlias = CallRequest | QueryRequest | ReadStateRequest


def parse_request(content: Mapping[str, Any]) -> Request:
    """Read a content map.

    Raises:
        EnvelopeError: If a field is missing, of another kind, or too large; the message names it.
    """
    sender = _principal(content, "sender")
    expiry = content.get("ingress_expiry")
    if not _cbor.is_nat(expiry):
        raise _wrong("ingress_expiry", "a natural number of nanoseconds", expiry)
    nonce = content.get("nonce")
    if nonce is not None and not (isinstance(nonce, bytes) and len(nonce) <= MAX_NONCE):
        raise _wrong("nonce", f"a byte string of at most {MAX_NONCE} bytes", nonce)
    request_type = content.get("request_type")
    if request_type == "read_state":
        return ReadStateRequest(sender, expiry, _paths(content.get("paths")), nonce)
    if request_type not in ("call", "query"):
        raise EnvelopeError(
            f"request_type is {_cbor.shown(request_type)}; expected 'call', 'query' or 'read_state'"
        )
    method, arg = content.get("method_name"), content.get("arg")
    if not isinstance(method, str):
        raise _wrong("method_name", "a text", method)
    if not isinstance(arg, bytes):
        raise _wrong("arg", "a byte string", arg)
    kind = CallRequest if request_type == "call" else QueryRequest
    return kind(
        sender,
        expiry,
        _principal(content, "canister_id"),
        method,
        arg,
        nonce,
        _sender_info(content.get("sender_info")),
    )


def _wrong(name: str, expected: str, value: object) -> EnvelopeError:
    return EnvelopeError(f"the request's {name} is {_cbor.kind(value)}; expected {expected}")


def _principal(content: Mapping[str, Any], name: str) -> Principal:
    raw = content.get(name)
    if not isinstance(raw, bytes) or len(raw) > 29:
        raise _wrong(name, "a principal of at most 29 bytes", raw)
    return Principal(raw)


def _paths(raw: object) -> tuple[tuple[bytes, ...], ...]:
    if not _cbor.is_sequence(raw):
        raise _wrong("paths", "an array of paths", raw)
    if len(raw) > MAX_PATHS:
        raise EnvelopeError(f"the request has {len(raw)} paths; {MAX_PATHS} are allowed")
    paths = []
    for path in raw:
        if not _cbor.is_sequence(path) or not all(isinstance(label, bytes) for label in path):
            raise _wrong("path", "an array of byte strings", path)
        if len(path) > MAX_LABELS:
            raise EnvelopeError(f"a path has {len(path)} labels; {MAX_LABELS} are allowed")
        paths.append(tuple(path))
    return tuple(paths)


def _sender_info(raw: object) -> Mapping[str, Value] | None:
    if raw is None:
        return None
    if isinstance(raw, Mapping) and all(
        isinstance(raw.get(name), bytes) for name in ("info", "signer", "sig")
    ):
        return raw
    raise _wrong("sender_info", "a map with info, signer and sig", raw)
