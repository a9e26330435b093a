"""CBOR as the IC's interface uses it: the self-describing tag in front, nothing exotic inside.

Rule implemented: interface specification, section CBOR. The major lines of ``cbor2`` decode what
stands inside a tag differently (version 6 returns immutable maps and sequences), so the tag is cut
off by hand, and callers test for ``Mapping`` and ``Sequence``, never for ``dict`` and ``list``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

import cbor2

from bridge.errors import BridgeError

SELF_DESCRIBED: Final = b"\xd9\xd9\xf7"
"""The encoding of tag 55799, which the IC puts before every message."""

MAX_ITEMS: Final = 250_000
"""How many items a message may have: one byte of CBOR can become some hundred bytes of objects."""
MAX_DEPTH: Final = 512
"""How many items may stand inside one another in a message that is long enough to matter."""

_SMALL: Final = 4096  # shorter messages cannot hold enough items to cost anything
_QUOTED_BYTES: Final = 24
_QUOTED_CHARACTERS: Final = 64

# Decoders of tagged values let a variety pass; all of them mean that a peer sent no such item.
_DECODING_FAILURES: Final = (
    cbor2.CBORDecodeError,
    ValueError,
    TypeError,
    EOFError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)


# With references, a few bytes stand for exponentially large values, or for cyclic ones.
_REFERENCE_TAGS: Final = (25, 29)
# How each of them ends, in every length of its encoding.
_REFERENCES: Final = (b"\xd8\x19", b"\xd8\x1d", b"\0\x19", b"\0\x1d")
_SELF_DESCRIBED_TAG: Final = 55_799


def encode(value: object) -> bytes:
    """Encode with the self-describing tag in front."""
    return SELF_DESCRIBED + cbor2.dumps(value)


def decode(data: bytes, what: str, error: type[BridgeError]) -> Any:
    """Decode one CBOR item, with or without the self-describing tag.

    Args:
        data: The bytes as received.
        what: What they are meant to be, for the message of the error.
        error: The class to raise.

    Raises:
        BridgeError: Of class ``error``, if the bytes are no CBOR item.
    """
    if data.startswith(SELF_DESCRIBED):
        data = data[3:]
    large = len(data) > _SMALL
    if large or any(tag in data for tag in _REFERENCES):
        fault = _inspect(data, large=large)
        if fault is not None:
            raise error(f"{what} {fault}")
    try:
        return cbor2.loads(data)
    except _DECODING_FAILURES as cause:
        raise error(
            f"{what} is not CBOR: {str(cause) or type(cause).__name__} "
            f"(starts with {data[:_QUOTED_BYTES].hex() or 'nothing'}, {len(data)} bytes)"
        ) from None


def _inspect(data: bytes, *, large: bool) -> str | None:
    """Walk over the heads of all items, without decoding; what is wrong with them, if anything.

    Most of what is malformed is left to the decoder. What stands inside strings is jumped over, so
    large values cost nothing here.
    """
    at, end = 0, len(data)
    # Of each map or array that is open: how many items are to come (less than 0: until a break),
    # and whether it is a map, whose items are keys and values in turn.
    left, in_map = 1, False
    above: list[tuple[int, bool]] = []
    for _ in range(MAX_ITEMS):
        while not left and above:
            left, in_map = above.pop()
        if at >= end or not left:
            return None
        major, info = data[at] >> 5, data[at] & 0x1F
        at += 1
        width = 1 << (info - 24) if 24 <= info <= 27 else 0
        argument = int.from_bytes(data[at : at + width], "big") if width else info
        at += width
        if major == 6:
            if argument in _REFERENCE_TAGS:
                return "uses CBOR's shared references, which the IC's interface does not"
            if large and argument != _SELF_DESCRIBED_TAG:
                return f"uses the CBOR tag {argument}, which the IC's interface does not"
            continue
        if major == 7 and info == 0x1F:
            if left > 0:
                return "is not CBOR: a break ends what has a length"
            left = 0
            continue
        if large and in_map and left % 2 == 0 and major != 3:
            # Hashes of texts are keyed; those of numbers can be made to collide by the thousand.
            return "has a CBOR map whose keys are not texts"
        left -= 1
        if major in (2, 3) and info != 0x1F:
            at += argument
        elif 2 <= major <= 5:
            if len(above) >= MAX_DEPTH:
                return f"has CBOR items nested more than {MAX_DEPTH} deep"
            above.append((left, in_map))
            in_map = major == 5
            left = -2 if info == 0x1F else argument * (2 if in_map else 1)
    return f"has more than {MAX_ITEMS} CBOR items"


def decode_map(data: bytes, what: str, error: type[BridgeError]) -> Mapping[Any, Any]:
    """Decode a CBOR map; raises as :func:`decode` does."""
    value = decode(data, what, error)
    if not isinstance(value, Mapping):
        raise error(f"{what} is not a CBOR map but {kind(value)}")
    return value


def is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether the value was a CBOR array."""
    return isinstance(value, (list, tuple))


def is_nat(value: object) -> TypeGuard[int]:
    """Whether the value is a natural number of at most 64 bits."""
    return type(value) is int and 0 <= value < 1 << 64


def kind(value: object) -> str:
    """Name the kind of a decoded value in the words of CBOR, for messages."""
    if isinstance(value, Mapping):
        return "a map"
    if is_sequence(value):
        return f"an array of {len(value)}"
    if isinstance(value, bytes):
        return f"a byte string of {len(value)} bytes"
    if isinstance(value, str):
        return "a text"
    return "null" if value is None else f"a {type(value).__name__}"


def shown(value: object) -> str:
    """A decoded value for a message: short texts and numbers themselves, of all else the kind.

    What a peer sends may be megabytes long, and numbers of thousands of digits do not even print.
    """
    if isinstance(value, str) and len(value) <= _QUOTED_CHARACTERS:
        return repr(value)
    if is_nat(value):
        return str(value)
    return kind(value)
