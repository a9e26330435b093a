"""What generated encoders call: the careful versions of what they do in place.

Generated code keeps to the exact types and plain paths. Everything rarer comes here, and so does
everything in the tracing form; here it is said what is wrong with a value.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from bridge.candid import types as t
from bridge.candid.leb128 import CONTINUED, SMALL, UNSIGNED, encode_signed, encode_unsigned
from bridge.candid.runtime import ARRAY_CODES, PRINCIPAL_LENGTH, STRUCTS
from bridge.candid.shape import FIXED_SIZES
from bridge.candid.values import Case, FuncRef, ServiceRef, Some
from bridge.errors import CandidError
from bridge.principal import Principal


def wrong(value: object, expected: str, hint: str | None = None) -> NoReturn:
    """The value is of another Python type."""
    raise CandidError(f"expected {expected}, not {_shown(value)}", hint=hint)


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return repr(value)
    return type(value).__name__


def integer(value: object, name: str) -> int:
    """An int that is no bool."""
    if isinstance(value, bool) or not isinstance(value, int):
        wrong(value, f"an int for {name}")
    return int(value)


def write_nat(value: object) -> bytes:
    """A nat."""
    if type(value) is int and value >= SMALL:
        return encode_unsigned(value)
    number = integer(value, "nat")
    if number < 0:
        raise CandidError("a nat is not negative")
    return UNSIGNED[number] if number < SMALL else encode_unsigned(number)


def write_int(value: object) -> bytes:
    """An int."""
    return encode_signed(value if type(value) is int else integer(value, "int"))


def write_fixed(value: object, code: int) -> bytes:
    """A number of fixed size."""
    name = t.PRIMITIVES_BY_CODE[code].name
    if code in (t.Float32.code, t.Float64.code):
        return _write_float(value, name, code)
    number = integer(value, name)
    bits = FIXED_SIZES[code] * 8
    low, high = (0, 1 << bits) if name.startswith("nat") else (-1 << bits - 1, 1 << bits - 1)
    if not low <= number < high:
        raise CandidError(f"the number does not fit {name}, which is from {low} to {high - 1}")
    return STRUCTS[code].pack(number)


def _write_float(value: object, name: str, code: int) -> bytes:
    if isinstance(value, bool) or not isinstance(value, float | int):
        wrong(value, f"a float for {name}")
    try:
        number = float(value)
        packed = STRUCTS[code].pack(number)
    except OverflowError:
        raise CandidError(f"the number is too large for {name}") from None
    if isinstance(value, int) and STRUCTS[code].unpack(packed)[0] != value:
        raise CandidError(
            f"the int cannot be a {name} exactly", hint="pass a float to have it rounded"
        )
    return packed


def write_bool(value: object) -> bytes:
    """A bool."""
    if not isinstance(value, bool):
        wrong(value, "a bool")
    return b"\x01" if value else b"\x00"


def write_text(value: object) -> bytes:
    """A text, with its length."""
    if not isinstance(value, str):
        wrong(value, "a str for text")
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        raise CandidError("the text has a lone surrogate, which is no Unicode character") from None
    return encode_unsigned(len(encoded)) + encoded


_BYTE_FORMATS: Final = ("B", "b", "c")


def as_bytes(value: object) -> bytes:
    """A blob's content."""
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, memoryview):
        if value.format not in _BYTE_FORMATS:
            raise CandidError("a blob's memoryview must be of single bytes", hint='cast it to "B"')
        return bytes(value)
    if isinstance(value, list | tuple):
        for place, byte in enumerate(value):
            if isinstance(byte, bool) or not isinstance(byte, int) or not 0 <= byte < 256:
                raise CandidError("a blob's bytes are ints from 0 to 255", path=f"[{place}]")
        return bytes(value)
    return wrong(value, "bytes for blob")


def as_sequence(value: object) -> Sequence[Any]:
    """A vec's elements."""
    if isinstance(value, Sequence) and not isinstance(value, _NO_SEQUENCES):
        return value
    return wrong(value, "a list for vec")


REFERENCES: Final = [b"\x01" + bytes([size]) for size in range(PRINCIPAL_LENGTH + 1)]


def write_principal(value: object) -> bytes:
    """A principal."""
    if not isinstance(value, Principal):
        wrong(value, "a Principal", "make one of text with Principal.from_text")
    return REFERENCES[len(value.raw)] + value.raw


def write_service(value: object) -> bytes:
    """A service reference."""
    if not isinstance(value, ServiceRef):
        wrong(value, "a ServiceRef for service", "write it as ServiceRef(principal)")
    return write_principal(value.service)


def write_func(value: object) -> bytes:
    """A function reference."""
    if not isinstance(value, FuncRef):
        wrong(value, "a FuncRef for func", "write it as FuncRef(principal, method)")
    return b"\x01" + write_principal(value.service) + write_text(value.method)


_OWN_TUPLES: Final = (Case, Some, FuncRef, ServiceRef)
_NO_SEQUENCES: Final = (str, bytes, bytearray, memoryview, *_OWN_TUPLES)


def absent(value: object, name: str) -> None:
    """The value of null and reserved is None."""
    if value is not None:
        wrong(value, f"None for {name}")


def content(value: object) -> Any:
    """The content of an opt whose content may itself be None."""
    if not isinstance(value, Some):
        raise CandidError(
            f"expected None or Some(...), not {_shown(value)}",
            hint="this opt's content may be null itself, so wrap a present value in Some",
        )
    return value.value


def case_of(value: object) -> Case:
    """A variant's value."""
    if not isinstance(value, Case):
        wrong(value, "a Case for variant", "write it as Case(label) or Case(label, value)")
    return value


def _brief(label: object) -> str:
    text = repr(label) if isinstance(label, str | int) else type(label).__name__
    return text if len(text) <= 80 else text[:80] + "..."


def _listed(labels: Sequence[str | int]) -> str:
    shown = [t.label_text(label) for label in labels[:30]]
    if len(labels) > len(shown):
        shown.append("and others")
    return ", ".join(shown) or "none"


def no_case(label: object, labels: Sequence[str | int]) -> NoReturn:
    """The variant has no such case."""
    raise CandidError(
        f"the variant has no case {_brief(label)}", hint=f"its cases are {_listed(labels)}"
    )


def index_of(places: Mapping[Any, int], label: object) -> int:
    """The place of a case among many."""
    place = places.get(label) if isinstance(label, str | int) else None
    if place is None:
        no_case(label, list(places))
    return place


def fields_of(
    value: object,
    required: Sequence[str | int],
    optional: Sequence[str | int],
    into: type[Any] | None = None,
) -> Mapping[Any, Any]:
    """A record's fields by label, all that are needed and none that are unknown.

    An instance of ``into``, the class that the record is read into, may have fields besides.
    """
    found: Mapping[Any, Any]
    if into is not None and isinstance(value, into):
        found = {str(label): getattr(value, str(label)) for label in (*required, *optional)}
    elif isinstance(value, Mapping):
        found = value
    elif isinstance(value, _OWN_TUPLES):
        wrong(value, "a dict for record")
    elif isinstance(value, tuple) and hasattr(value, "_asdict"):
        found = value._asdict()
    elif hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        found = {name: getattr(value, name) for name in value.__dataclass_fields__}
    else:
        wrong(value, "a dict for record")
    for label in required:
        if label not in found:
            raise CandidError(f"the record's field {t.label_text(label)} is missing")
    if len(found) > len(required):
        known = {*required, *optional}
        for label in found:
            if label not in known:
                raise CandidError(
                    f"the record has no field {_brief(label)}",
                    hint=f"its fields are {_listed([*required, *optional])}",
                )
    return found


def positions_of(value: object, count: int) -> Sequence[Any]:
    """The fields of a record of the tuple form."""
    if isinstance(value, tuple | list) and not isinstance(value, _OWN_TUPLES):
        if len(value) != count:
            raise CandidError(f"expected {count} fields, not {len(value)}")
        return value
    found = fields_of(value, range(count), ())
    return [found[place] for place in range(count)]


_INT_ONLY: Final = {int}
_FLOAT_ONLY: Final = {float}


def write_array(values: Sequence[Any], code: int) -> bytes:
    """Many numbers of one fixed size; leaves on anything unusual, for the careful form to name."""
    kinds = set(map(type, values))
    if kinds and kinds != (_FLOAT_ONLY if code in (t.Float32.code, t.Float64.code) else _INT_ONLY):
        raise TypeError
    return struct.pack(f"<{len(values)}{ARRAY_CODES[code]}", *values)


def write_nats(values: Sequence[Any]) -> bytes:
    """Many nats; leaves on anything unusual."""
    kinds = set(map(type, values))
    if kinds and kinds != _INT_ONLY:
        raise TypeError
    out: list[bytes] = []
    add, small, continued = out.append, UNSIGNED, CONTINUED
    # The cases of encode_unsigned for numbers below 2**42, in place, since a call costs as much.
    for n in values:
        if 0 <= n < 16384:
            add(small[n])
        elif n >= 4398046511104:
            add(encode_unsigned(n))
        elif n >= 268435456:
            high = n >> 14
            add(continued[n & 16383])
            add(continued[high & 16383])
            add(small[high >> 14])
        elif n > 0:
            add(continued[n & 16383])
            add(small[n >> 14])
        else:
            raise ValueError
    return b"".join(out)
