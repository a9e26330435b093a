"""Reading a message at the types that it gives itself.

Such types are met once and are the sender's choice, so nothing is compiled for them: a small
interpreter walks the values. Nesting is kept off Python's stack.
"""

from collections.abc import Generator, Iterable
from typing import Any, Final

from bridge.candid import runtime as rt
from bridge.candid import types as t
from bridge.candid.budget import DEFAULT, Budget
from bridge.candid.codec import as_message, told
from bridge.candid.leb128 import decode_signed, decode_unsigned
from bridge.candid.shape import FIXED_SIZES, NEVER, Shapes
from bridge.candid.table import Table, parse_header
from bridge.candid.values import Case, Some

_Steps = Generator[Any, Any, Any]
_NULLABLE: Final = (t.Null.code, t.Reserved.code)


class _Reader:
    """A position in one message's values."""

    def __init__(
        self, table: Table, data: bytes, at: int, state: rt.State, names: Iterable[str]
    ) -> None:
        self._table = table
        self._shapes = Shapes(table)
        self._data = data
        self._state = state
        self._labels: dict[int, str] = {t.field_id(name): name for name in names}
        self.at = at

    def all(self) -> _Steps:
        """Every argument, and nothing after."""
        values = []
        for place, ref in enumerate(self._table.args):
            self._state[1].append(f"[{place}]")
            self._weigh(ref, 1)
            values.append((yield self._value(ref)))
            self._state[1].pop()
        if self.at != len(self._data):
            raise rt.Malformed("bytes are left after the last value", self.at)
        return values

    def _weigh(self, ref: int, count: int) -> None:
        """Charge for parts that take no bytes; refuse what cannot be there."""
        shape = self._shapes[ref]
        if shape.least * count > len(self._data) - self.at:
            if shape.least == NEVER:
                raise rt.Malformed("this type has no values", self.at)
            rt.cut(self.at)
        if shape.weightless:
            rt.charge(self._state, shape.weightless * count, self.at)

    def _count(self) -> int:
        number, self.at = decode_unsigned(self._data, self.at)
        return number

    def _primitive(self, code: int) -> Any:
        data, at = self._data, self.at
        if code in _NULLABLE:
            return None
        if code == t.Bool.code:
            (value,) = rt.read_bools(data, at, at + 1) or rt.cut(at)
            self.at += 1
            return value
        if code in FIXED_SIZES:
            (value,) = rt.STRUCTS[code].unpack_from(data, at)
            self.at += FIXED_SIZES[code]
            return value
        read = _READERS.get(code)
        if read is None:
            raise rt.Malformed("this type has no values", at)
        value, self.at = read(data, at)
        return value

    def _value(self, ref: int) -> _Steps:
        if ref < 0:
            return self._primitive(ref)
        entry = self._table.entries[ref]
        if entry.code == t.OPT:
            return (yield self._opt(entry.refs[0]))
        if entry.code == t.VEC:
            return (yield self._vec(entry.refs[0]))
        if entry.code == t.RECORD:
            found = {}
            for key, part in zip(entry.keys, entry.refs, strict=True):
                label = self._labels.get(key, key)
                self._state[1].append(f".{t.label_text(label)}")
                found[label] = self._primitive(part) if part < 0 else (yield self._value(part))
                self._state[1].pop()
            if found and all(key == place for place, key in enumerate(found)):
                return tuple(found.values())
            return found
        if entry.code == t.VARIANT:
            start = self.at
            index = self._count()
            if index >= len(entry.refs):
                raise rt.Malformed("the variant has no such case", start)
            label = self._labels.get(entry.keys[index], entry.keys[index])
            self._state[1].append(f".{t.label_text(label)}")
            self._weigh(entry.refs[index], 1)
            value = yield self._value(entry.refs[index])
            self._state[1].pop()
            return Case(label, value)
        if entry.code in (t.FUNC, t.SERVICE):
            read = rt.read_func if entry.code == t.FUNC else rt.read_service
            value, self.at = read(self._data, self.at)
            return value
        self.at = rt.skip(self._shapes, ref, self._data, self.at, self._state)
        return None

    def _opt(self, content: int) -> _Steps:
        tag = self._data[self.at]
        if tag > 1:
            raise rt.Malformed("an opt begins with 0 or 1", self.at)
        self.at += 1
        if not tag:
            return None
        self._weigh(content, 1)
        value = yield self._value(content)
        code = content if content < 0 else self._table.entries[content].code
        # What a type of a future Candid holds is read as reserved.
        wrapped = code in _NULLABLE or code == t.OPT or code < t.PRINCIPAL
        return Some(value) if wrapped else value

    def _vec(self, element: int) -> _Steps:
        count = self._count()
        if not count:
            return b"" if element == t.Nat8.code else []
        self._weigh(element, count)
        if element == t.Nat8.code:
            self.at += count
            return self._data[self.at - count : self.at]
        values = []
        for place in range(count):
            self._state[1].append(f"[{place}]")
            values.append(self._primitive(element) if element < 0 else (yield self._value(element)))
            self._state[1].pop()
        return values


_READERS: Final[dict[int, Any]] = {
    t.Nat.code: decode_unsigned,
    t.Int.code: decode_signed,
    t.Text.code: rt.read_text,
    t.PRINCIPAL: rt.read_principal,
}


def decode_untyped(
    data: bytes | bytearray | memoryview, *, names: Iterable[str] = (), budget: Budget = DEFAULT
) -> list[Any]:
    """The values of a message, read as the types that it says itself.

    Args:
        data: The message.
        names: Names that labels may have; a label is a number where none of these fits.
        budget: Bounds on decoding.

    Raises:
        CandidError: If the message is malformed or costs more than the budget.
    """
    message = as_message(data)
    table, start = parse_header(message, budget.type_nodes)
    path: list[str] = []
    state: rt.State = [budget.base + budget.per_byte * len(message), path]
    reader = _Reader(table, message, start, state, names)
    try:
        values: list[Any] = rt.run_deep(reader.all(), budget.depth)
    except rt.SIGNALS as signal:
        raise told(signal, message, path, state, reader.at) from None
    return values
