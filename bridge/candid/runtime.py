"""What generated decoders and encoders call: readers, writers, checks and their signals.

Generated code keeps to the exact types and plain paths; everything rarer is a call to here. Nothing
here knows a particular type.
"""

import struct
import sys
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final, NoReturn

from bridge.candid import types as t
from bridge.candid.leb128 import (
    CONTINUED,
    SMALL,
    UNSIGNED,
    Unterminated,
    decode_unsigned,
    encode_signed,
    encode_unsigned,
)
from bridge.candid.shape import FIXED_SIZES, NEVER, Shapes
from bridge.candid.table import Table
from bridge.candid.values import Case, FuncRef, ServiceRef, Some
from bridge.errors import CandidError
from bridge.principal import Principal

PRINCIPAL_LENGTH: Final = 29
LITTLE: Final = sys.byteorder == "little"


class Malformed(Exception):  # noqa: N818 - a signal, made into a CandidError with its place
    """The bytes are not a value of the type they claim: message and offset."""


class Mismatch(Exception):  # noqa: N818 - a signal that an enclosing opt turns into null
    """A value of another type than expected: message and offset."""


class TooDeep(Exception):  # noqa: N818 - a signal to go on without Python's stack
    """Nesting went past what the plain recursive code takes."""


class Over(Exception):  # noqa: N818 - a signal, made into a CandidError
    """The budget is used up."""


# What reading a value may raise on bad input, beside CandidError.
SIGNALS: Final = (
    Malformed,
    Mismatch,
    Over,
    Unterminated,
    IndexError,
    UnicodeDecodeError,
    struct.error,
)

# A decoding's state: units left, and the path while tracing.
State = list[Any]


def charge(state: State, units: int) -> None:
    """Take units from the budget."""
    state[0] -= units
    if state[0] < 0:
        raise Over


def cut(position: int) -> NoReturn:
    """The message ends inside a value."""
    raise Malformed("the message ends inside this value", position)


def read_reference(data: bytes, at: int) -> tuple[bytes, int]:
    """The bytes of a principal or service reference."""
    if data[at] != 1:
        message = (
            "an opaque reference cannot be used outside of its canister"
            if data[at] == 0
            else "a reference begins with 1"
        )
        raise Malformed(message, at)
    size, start = decode_unsigned(data, at + 1)
    if size > PRINCIPAL_LENGTH:
        raise Malformed(f"a principal has at most {PRINCIPAL_LENGTH} bytes", at + 1)
    end = start + size
    if end > len(data):
        cut(at)
    return data[start:end], end


def read_principal(data: bytes, at: int) -> tuple[Principal, int]:
    """A principal."""
    raw, at = read_reference(data, at)
    return Principal(raw), at


def read_service(data: bytes, at: int) -> tuple[ServiceRef, int]:
    """A service reference."""
    raw, at = read_reference(data, at)
    return ServiceRef(Principal(raw)), at


def read_text(data: bytes, at: int) -> tuple[str, int]:
    """A text."""
    size, start = decode_unsigned(data, at)
    end = start + size
    if end > len(data):
        cut(at)
    try:
        return data[start:end].decode(), end
    except UnicodeDecodeError as error:
        raise Malformed("the text is not UTF-8", start + error.start) from None


def read_func(data: bytes, at: int) -> tuple[FuncRef, int]:
    """A function reference."""
    if data[at] != 1:
        raise Malformed("a function reference begins with 1", at)
    raw, at = read_reference(data, at + 1)
    method, at = read_text(data, at)
    return FuncRef(Principal(raw), method), at


def read_bools(data: bytes, start: int, end: int) -> list[bool]:
    """A run of booleans."""
    run = data[start:end]
    if run and max(run) > 1:
        place = next(place for place, byte in enumerate(run) if byte > 1)
        raise Malformed("a bool is 0 or 1", start + place)
    return list(map(bool, run))


def refuse_case(index: int, shapes: Shapes, ref: int, at: int) -> NoReturn:
    """A variant's case that there is no code for: not expected, or not there at all."""
    entry = shapes.table.entries[ref]
    if index >= len(entry.refs):
        raise Malformed("the variant has no such case", at)
    if shapes[entry.refs[index]].least == NEVER:
        raise Malformed("this type has no values", at)
    raise Mismatch(f"the variant's case {entry.keys[index]} is not expected", at)


def skip(shapes: Shapes, ref: int, data: bytes, at: int, state: State) -> int:
    """Pass over a value, checking it as if it were read; returns the position after it.

    A loop, since nesting is up to the sender.
    """
    table, known = shapes.table, shapes.known
    end = len(data)
    entries = table.entries
    # References still to be passed over, and how often: a vec is one item, not n.
    todo: list[tuple[int, int]] = [(ref, 1)]
    while todo:
        ref, count = todo.pop()
        least, fixed, weightless = known.get(ref) or shapes[ref]
        if least * count > end - at:
            if least == NEVER:
                raise Malformed("this type has no values", at)
            cut(at)
        if weightless > 4 or not least:
            charge(state, weightless * count)
        if fixed:
            at += least * count
            continue
        if ref >= 0 and entries[ref].code == t.RECORD:
            parts = [(part, 1) for part in reversed(entries[ref].refs)]
            if count > 1:
                todo.append((ref, count - 1))
            todo.extend(parts)
            continue
        if count > 1:
            if ref == t.Bool.code:
                read_bools(data, at, at + count)
                at += count
                continue
            todo.append((ref, count - 1))
        at = _skip_one(table, ref, data, at, todo)
    return at


def _skip_one(table: Table, ref: int, data: bytes, at: int, todo: list[tuple[int, int]]) -> int:
    code = ref if ref < 0 else table.entries[ref].code
    if code in (t.Nat.code, t.Int.code):
        return decode_unsigned(data, at)[1]
    if code == t.Text.code:
        return read_text(data, at)[1]
    if code == t.Bool.code:
        if data[at] > 1:
            raise Malformed("a bool is 0 or 1", at)
        return at + 1
    if code in (t.PRINCIPAL, t.SERVICE):
        return read_reference(data, at)[1]
    if code == t.FUNC:
        return read_func(data, at)[1]
    if code == t.OPT:
        if data[at] > 1:
            raise Malformed("an opt begins with 0 or 1", at)
        if data[at]:
            todo.append((table.entries[ref].refs[0], 1))
        return at + 1
    count, start = decode_unsigned(data, at)
    if code == t.VEC:
        if count:
            todo.append((table.entries[ref].refs[0], count))
        return start
    if code == t.VARIANT:
        refs = table.entries[ref].refs
        if count >= len(refs):
            raise Malformed("the variant has no such case", at)
        todo.append((refs[count], 1))
        return start
    # A future type's value: its length, the number of references that go with it, its bytes.
    references, start = decode_unsigned(data, start)
    if references:
        raise Malformed("references outside of the message cannot be read", at)
    if count > len(data) - start:
        cut(at)
    return start + count


def run_deep(first: Generator[Any, Any, Any], limit: int) -> Any:
    """Run mutually recursive generated code, written as generators, with the stack on the heap."""
    stack = [first]
    answer: Any = None
    failure: BaseException | None = None
    while stack:
        try:
            top = stack[-1]
            called = top.send(answer) if failure is None else top.throw(failure)
        except StopIteration as stop:
            stack.pop()
            answer, failure = stop.value, None
            continue
        except (CandidError, *SIGNALS) as error:
            stack.pop()
            failure = error
            continue
        failure = None
        answer = None
        stack.append(called)
        if len(stack) > limit:
            raise Over
    if failure is not None:
        raise failure
    return answer


# --- Encoding: the careful versions, which say what is wrong ---------------------------------


def wrong(value: object, expected: str) -> NoReturn:
    """The value is of another Python type."""
    raise CandidError(f"expected {expected}, not {_shown(value)}")


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


_FORMATS: Final = {
    "nat8": "<B",
    "nat16": "<H",
    "nat32": "<I",
    "nat64": "<Q",
    "int8": "<b",
    "int16": "<h",
    "int32": "<i",
    "int64": "<q",
    "float32": "<f",
    "float64": "<d",
}
STRUCTS: Final = {t.PRIMITIVES[name].code: struct.Struct(form) for name, form in _FORMATS.items()}
ARRAY_CODES: Final = {code: form.format[1:] for code, form in STRUCTS.items()}


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
    if isinstance(value, int) and number != value:
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


def as_bytes(value: object) -> bytes:
    """A blob's content."""
    if isinstance(value, bytes | bytearray | memoryview):
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
        wrong(value, "a Principal")
    return REFERENCES[len(value.raw)] + value.raw


def write_service(value: object) -> bytes:
    """A service reference."""
    if not isinstance(value, ServiceRef):
        wrong(value, "a ServiceRef for service")
    return write_principal(value.service)


def write_func(value: object) -> bytes:
    """A function reference."""
    if not isinstance(value, FuncRef):
        wrong(value, "a FuncRef for func")
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
        wrong(value, "a Case for variant")
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
    value: object, required: Sequence[str | int], optional: Sequence[str | int]
) -> Mapping[Any, Any]:
    """A record's fields by label, all that are needed and none that are unknown."""
    found: Mapping[Any, Any]
    if isinstance(value, Mapping):
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
    if kinds and (kinds != _INT_ONLY or min(values) < 0):
        raise TypeError
    # The cases of encode_unsigned for numbers below 2**42, in place, since a call costs as much.
    return b"".join(
        [
            UNSIGNED[n]
            if n < 16384
            else CONTINUED[n & 16383] + UNSIGNED[n >> 14]
            if n < 268435456
            else CONTINUED[n & 16383] + CONTINUED[n >> 14 & 16383] + UNSIGNED[n >> 28]
            if n < 4398046511104
            else encode_unsigned(n)
            for n in values
        ]
    )
