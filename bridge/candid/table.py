"""Type tables: types as the binary form lists them, numbered, without names.

Both sides of a message are brought to this form: the types that came with it, and the types that
the caller expects. A reference is a primitive type's negative code, or the index of an entry. The
walks here are loops, since a table's depth is up to whoever sent it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from bridge.candid import types as t
from bridge.candid.leb128 import Unterminated, decode_signed, decode_unsigned
from bridge.candid.leb128 import encode_signed as sleb
from bridge.candid.leb128 import encode_unsigned as leb
from bridge.errors import CandidError

MAGIC: Final = b"DIDL"
_MODE_CODES: Final = {"query": 1, "oneway": 2, "composite_query": 3}
_MODE_NAMES: Final = {code: name for name, code in _MODE_CODES.items()}


class Entry(NamedTuple):
    """One compound type.

    Attributes:
        code: The opcode; below -24 for a future type, which has no parts.
        refs: References to the parts; for a function the arguments, then the results.
        keys: Field numbers (rising), or a service's method names (as UTF-8, rising).
        arg_count: How many of a function's ``refs`` are arguments.
        modes: A function's modes.
    """

    code: int
    refs: tuple[int, ...] = ()
    keys: tuple[Any, ...] = ()
    arg_count: int = 0
    modes: frozenset[str] = frozenset()


class Table(NamedTuple):
    """A list of compound types, and which types the values in question have.

    Attributes:
        entries: The compound types.
        args: References to the types of the values.
        types: For a table made from types: the type of each entry, else empty.
    """

    entries: tuple[Entry, ...]
    args: tuple[int, ...]
    types: tuple[t.Type, ...] = ()


def flatten(types: Sequence[t.Type]) -> Table:
    """Number the given types' parts, each type before its own, as the compilers of canisters do.

    Raises:
        CandidError: If something among them is not a type, or a recursive type is not defined.
    """
    entries: list[Entry | None] = []
    found: list[t.Type] = []
    known: dict[int, int] = {}  # id(type) to reference
    shared: dict[object, int] = {}  # equal entries with equal labels, to reference
    held: list[t.Type] = []  # keeps ids in `known` valid

    def reserve(type_: t.Type) -> int:
        entries.append(None)
        found.append(type_)
        return len(entries) - 1

    # Each step is a type, and whether its parts have been numbered.
    todo: list[tuple[t.Type, bool]] = [(type_, False) for type_ in reversed(types)]
    while todo:
        named, ready = todo.pop()
        if id(named) in known and not ready:
            continue
        if not isinstance(named, t.Type):
            raise CandidError(f"expected Candid types, not {type(named).__name__}")
        type_ = t.resolve(named)
        held.append(named)
        if isinstance(type_, t.Primitive):
            known[id(named)] = type_.code
            continue
        if not ready:
            if isinstance(named, t.Recursive):
                if id(type_) in known:
                    known[id(named)] = known[id(type_)]
                    continue
                # The slot must exist before the parts, which may refer to it.
                known[id(named)] = known[id(type_)] = reserve(type_)
            todo.append((named, True))
            todo.extend((child, False) for child in reversed(type_.children()))
            continue
        refs = tuple(known[id(child)] for child in type_.children())
        entry, labels = _entry(type_, refs)
        if isinstance(named, t.Recursive):
            entries[known[id(named)]] = entry
            continue
        if id(type_) in known:  # met again through a recursive name while its parts were visited
            continue
        key = (entry, labels)
        if key not in shared:
            shared[key] = reserve(type_)
            entries[shared[key]] = entry
        known[id(type_)] = shared[key]
    whole = [entry for entry in entries if entry is not None]
    return _parents_first(whole, [known[id(type_)] for type_ in types], found)


def _parents_first(entries: list[Entry], args: list[int], found: list[t.Type]) -> Table:
    """The same entries in the order in which a walk from the arguments first meets them."""
    places: dict[int, int] = {}
    todo = args[::-1]
    while todo:
        ref = todo.pop()
        if ref >= 0 and ref not in places:
            places[ref] = len(places)
            todo.extend(reversed(entries[ref].refs))

    def moved(refs: Iterable[int]) -> tuple[int, ...]:
        return tuple(places.get(ref, ref) for ref in refs)

    return Table(
        tuple(entries[ref]._replace(refs=moved(entries[ref].refs)) for ref in places),
        moved(args),
        tuple(found[ref] for ref in places),
    )


def _entry(type_: t.Type, refs: tuple[int, ...]) -> tuple[Entry, object]:
    """The entry, and what else tells two types apart for a codec."""
    match type_:
        case t.Opt():
            return Entry(t.OPT, refs), None
        case t.Vec():
            return Entry(t.VEC, refs), None
        case t.Record():
            labels = tuple(field.label for field in type_.declared)
            return Entry(t.RECORD, refs, tuple(f.id for f in type_.fields)), (labels, type_.into)
        case t.Variant():
            labels = tuple(field.label for field in type_.fields)
            return Entry(t.VARIANT, refs, tuple(f.id for f in type_.fields)), labels
        case t.Func():
            return Entry(t.FUNC, refs, (), len(type_.args), frozenset(type_.modes)), None
        case t.Service():
            # Going through `methods` refuses what is not a function.
            names = tuple(sorted(name.encode() for name in type_.methods))
            return Entry(t.SERVICE, refs, names), None
    raise CandidError(f"{type(type_).__name__} is not a type of Candid")


def header_bytes(table: Table) -> bytes:
    """Magic number, type table and argument types, as a message begins."""
    out = bytearray(MAGIC)
    out += leb(len(table.entries))
    for entry in table.entries:
        out += sleb(entry.code)
        refs = [sleb(ref) for ref in entry.refs]
        if entry.code in (t.OPT, t.VEC):
            out += refs[0]
        elif entry.code in (t.RECORD, t.VARIANT):
            out += leb(len(refs))
            for key, ref in zip(entry.keys, refs, strict=True):
                out += leb(key) + ref
        elif entry.code == t.FUNC:
            for part in (refs[: entry.arg_count], refs[entry.arg_count :]):
                out += leb(len(part)) + b"".join(part)
            modes = sorted(_MODE_CODES[mode] for mode in entry.modes)
            out += leb(len(modes)) + bytes(modes)
        else:
            out += leb(len(refs))
            for name, ref in zip(entry.keys, refs, strict=True):
                out += leb(len(name)) + name + ref
    out += leb(len(table.args)) + b"".join(sleb(ref) for ref in table.args)
    return bytes(out)


class _Reader:
    """A position in a message's head."""

    def __init__(self, data: bytes, max_nodes: int) -> None:
        self.data = data
        self.at = len(MAGIC)
        self.nodes = max_nodes

    def fail(self, message: str, at: int | None = None) -> CandidError:
        return CandidError(message, offset=self.at if at is None else at)

    def number(self, what: str, read: Callable[[bytes, int], tuple[int, int]]) -> int:
        try:
            value, self.at = read(self.data, self.at)
        except (Unterminated, IndexError):
            raise self.fail(f"the message ends inside {what}") from None
        return value

    def count(self, what: str, each: int) -> int:
        """A count of things that take at least ``each`` bytes of the rest."""
        start = self.at
        value = self.number(what, decode_unsigned)
        if value * each > len(self.data) - self.at:
            raise self.fail(f"{what} is more than the rest of the message can hold", start)
        self.nodes -= value
        if self.nodes < 0:
            raise CandidError(
                "the type table is larger than the budget allows",
                offset=start,
                hint="give a Budget with more type_nodes if the sender is to be trusted",
            )
        return value

    def take(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def ref(self, size: int) -> int:
        start = self.at
        value = self.number("a type", decode_signed)
        if value >= size:
            raise self.fail("a type refers past the end of the type table", start)
        if value < 0 and value not in t.PRIMITIVES_BY_CODE:
            raise self.fail("expected a primitive type or the index of a table entry", start)
        return value

    def refs(self, what: str, size: int) -> tuple[int, ...]:
        return tuple(self.ref(size) for _ in range(self.count(what, 1)))


def parse_header(data: bytes, max_nodes: int) -> tuple[Table, int]:
    """Read a message's type table and argument types; returns them and where the values begin.

    Raises:
        CandidError: If it is malformed, or has more than ``max_nodes`` nodes.
    """
    if data[:4] != MAGIC:
        raise CandidError("a Candid message begins with the bytes DIDL", offset=0)
    reader = _Reader(data, max_nodes)
    size = reader.count("the length of the type table", 2)
    entries = tuple(_read_entry(reader, size) for _ in range(size))
    for index, entry in enumerate(entries):
        if entry.code == t.SERVICE:
            for name, ref in zip(entry.keys, entry.refs, strict=True):
                if ref < 0 or entries[ref].code != t.FUNC:
                    raise reader.fail(
                        f"method {name.decode()!r} in entry {index} is not a function type"
                    )
    args = reader.refs("the number of arguments", size)
    return Table(entries, args), reader.at


def _read_entry(reader: _Reader, size: int) -> Entry:
    start = reader.at
    code = reader.number("a type table entry", decode_signed)
    if code in (t.OPT, t.VEC):
        return Entry(code, (reader.ref(size),))
    if code in (t.RECORD, t.VARIANT):
        keys, refs = [], []
        last = -1
        for _ in range(reader.count("the number of fields", 2)):
            place = reader.at
            key = reader.number("a field's number", decode_unsigned)
            if key >= 1 << 32:
                raise reader.fail("a field's number does not fit 32 bits", place)
            if key <= last:
                raise reader.fail("field numbers must be unique and rising", place)
            last = key
            keys.append(key)
            refs.append(reader.ref(size))
        return Entry(code, tuple(refs), tuple(keys))
    if code == t.FUNC:
        args = reader.refs("the number of arguments", size)
        results = reader.refs("the number of results", size)
        place = reader.at
        modes = list(reader.take(reader.count("the number of modes", 1)))
        if unknown := [mode for mode in modes if mode not in _MODE_NAMES]:
            raise reader.fail(f"{unknown[0]} is not a function's mode", place)
        names = frozenset(_MODE_NAMES[mode] for mode in modes)
        if "oneway" in names and results:
            raise reader.fail("a oneway function has no results", start)
        return Entry(code, args + results, (), len(args), names)
    if code == t.SERVICE:
        return _read_service(reader, size)
    if code < t.PRINCIPAL:
        count = reader.number("the length of a future type", decode_unsigned)
        if count > len(reader.data) - reader.at:
            raise reader.fail("a future type is longer than the rest of the message", start)
        reader.take(count)
        return Entry(code)
    raise reader.fail("only compound types stand in a type table", start)


def _read_service(reader: _Reader, size: int) -> Entry:
    names: list[bytes] = []
    refs = []
    for _ in range(reader.count("the number of methods", 2)):
        place = reader.at
        name = reader.take(reader.count("the length of a method's name", 1))
        try:
            name.decode()
        except UnicodeDecodeError:
            raise reader.fail("a method's name is not UTF-8", place) from None
        if names and name <= names[-1]:
            raise reader.fail("method names must be unique and rising", place)
        names.append(name)
        refs.append(reader.ref(size))
    return Entry(t.SERVICE, tuple(refs), tuple(names))


def to_types(table: Table, names: Iterable[str] = ()) -> list[t.Type]:
    """The types of a table's arguments.

    Labels are numbers, except those that are the number of one of ``names``. What has no type here
    (a type of a future Candid) is ``reserved``.
    """
    labels: dict[int, str] = {t.field_id(name): name for name in names}
    # Entries are built after their parts; one that is met again on the way is recursive.
    built: dict[int, t.Type] = {}
    open_: dict[int, t.Recursive | None] = {}
    todo = [ref for ref in reversed(table.args) if ref >= 0]
    while todo:
        ref = todo[-1]
        if ref in built:
            todo.pop()
            continue
        entry = table.entries[ref]
        if ref not in open_:
            open_[ref] = None
            for part in entry.refs:
                if part < 0 or part in built:
                    continue
                if part in open_:
                    open_[part] = open_[part] or t.Recursive(f"t{part}")
                else:
                    todo.append(part)
            continue
        todo.pop()
        # A part that is still open is an ancestor, and recursive.
        for part in entry.refs:
            if part >= 0 and part not in built:
                open_[part] = open_[part] or t.Recursive(f"t{part}")
        parts = [
            t.PRIMITIVES_BY_CODE[part] if part < 0 else built.get(part) or open_[part]
            for part in entry.refs
        ]
        type_ = _from_entry(entry, [part for part in parts if part is not None], labels)
        recursive = open_.pop(ref)
        built[ref] = recursive.define(type_) if recursive else type_
    return [t.PRIMITIVES_BY_CODE[ref] if ref < 0 else built[ref] for ref in table.args]


def _from_entry(entry: Entry, parts: list[t.Type], labels: dict[int, str]) -> t.Type:
    if entry.code == t.OPT:
        return t.Opt(parts[0])
    if entry.code == t.VEC:
        return t.Vec(parts[0])
    if entry.code in (t.RECORD, t.VARIANT):
        fields = {labels.get(key, key): part for key, part in zip(entry.keys, parts, strict=True)}
        return t.Record(fields) if entry.code == t.RECORD else t.Variant(fields)
    if entry.code == t.FUNC:
        return t.Func(parts[: entry.arg_count], parts[entry.arg_count :], entry.modes)
    if entry.code == t.SERVICE:
        return t.Service(
            {name.decode(): part for name, part in zip(entry.keys, parts, strict=True)}
        )
    return t.Reserved
