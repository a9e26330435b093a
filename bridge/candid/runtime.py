"""What generated decoders call: readers, checks, the signals they give, and how to go deep.

Generated code keeps to the plain paths; everything rarer is a call to here.
"""

import struct
import sys
from collections.abc import Generator
from typing import Any, Final, NoReturn

from bridge.candid import types as t
from bridge.candid.leb128 import (
    Unterminated,
    decode_unsigned,
)
from bridge.candid.shape import NEVER, Shapes
from bridge.candid.table import Table
from bridge.candid.values import FuncRef, ServiceRef
from bridge.errors import CandidError
from bridge.principal import Principal

PRINCIPAL_LENGTH: Final = 29
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
LITTLE: Final = sys.byteorder == "little"


class Malformed(Exception):  # noqa: N818 - a signal, made into a CandidError with its place
    """The bytes are not a value of the type they claim: message and offset."""


class Mismatch(Exception):  # noqa: N818 - a signal that an enclosing opt turns into null
    """A value of another type than expected: message and offset."""


class TooDeep(Exception):  # noqa: N818 - a signal to go on without Python's stack
    """Nesting went past what the plain recursive code takes."""


class Over(Exception):  # noqa: N818 - a signal, made into a CandidError
    """The budget is used up: the offset where, if known."""


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

# A decoding's state: units left; while tracing the path too, and how deep values may nest.
State = list[Any]


def charge(state: State, units: int, at: int | None = None) -> None:
    """Take units from the budget, for what stands at an offset."""
    state[0] -= units
    if state[0] < 0:
        raise Over(at)


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


def make_record(into: type[Any], at: int, fields: dict[str, Any]) -> Any:
    """Make an instance of the caller's class, whose own checks may refuse."""
    try:
        return into(**fields)
    except Exception as error:
        raise CandidError(f"{into.__name__} refuses the record: {error}", offset=at) from error


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
            charge(state, weightless * count, at)
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
