"""Generates the code that encodes values of given types.

For each list of types, straight-line Python is written and compiled, in three forms: plain, which
leaves on anything unusual; tracing, which accepts all that can be accepted and otherwise says where
the fault is; and deep, where calls are yields and nesting is not bound by Python's stack.
"""

from collections.abc import Callable
from typing import Any, Final

from bridge.candid import runtime as rt
from bridge.candid import types as t
from bridge.candid import writing
from bridge.candid.leb128 import SIGNED, SMALL, UNSIGNED, encode_signed, encode_unsigned
from bridge.candid.source import Source
from bridge.candid.table import Table, header_bytes
from bridge.candid.values import Case, FuncRef, ServiceRef, Some
from bridge.principal import Principal

_INLINE_DEPTH: Final = 5
_INLINE_SIZE: Final = 32
PLAIN_DEPTH: Final = 120
# Up to here a variant's cases are tried one after another.
_FEW_CASES: Final = 6

_NAMES: Final[dict[str, Any]] = {
    "_U": UNSIGNED,
    "_S": SIGNED,
    "_unsigned": encode_unsigned,
    "_signed": encode_signed,
    "_nat": writing.write_nat,
    "_int": writing.write_int,
    "_fixed": writing.write_fixed,
    "_bool": writing.write_bool,
    "_text": writing.write_text,
    "_bytes": writing.as_bytes,
    "_sequence": writing.as_sequence,
    "_principal": writing.write_principal,
    "_service": writing.write_service,
    "_func": writing.write_func,
    "_absent": writing.absent,
    "_content": writing.content,
    "_case": writing.case_of,
    "_no_case": writing.no_case,
    "_index": writing.index_of,
    "_fields": writing.fields_of,
    "_positions": writing.positions_of,
    "_REFERENCES": writing.REFERENCES,
    "_TooDeep": rt.TooDeep,
    "_Case": Case,
    "_Some": Some,
    "_FuncRef": FuncRef,
    "_ServiceRef": ServiceRef,
    "_Principal": Principal,
    "_array": writing.write_array,
    "_nats": writing.write_nats,
    "_wrong": writing.wrong,
    "_join": b"".join,
} | {f"_pack{-code}": form.pack for code, form in rt.STRUCTS.items()}

Encoder = Callable[..., bytes]


class EncoderWriter:
    """Writes the encoder for the types of one table.

    Args:
        table: The types.
        trace: Whether to keep the path and check with care.
        deep: Whether to write generators.
    """

    def __init__(self, table: Table, *, trace: bool = False, deep: bool = False) -> None:
        self.table = table
        self.trace = trace
        self.deep = deep
        self.source = Source(_NAMES)
        self.functions: dict[int, str] = {}
        self.pending: list[int] = []
        self.sizes: dict[int, int] = {}
        self.open: set[int] = set()
        self.heads: set[int] = set()
        self.in_function = False
        # Byte expressions not yet appended, and whether anything has been.
        self.parts: list[str] = []
        self.literal = header_bytes(table)
        self.written = False

    def build(self) -> Encoder:
        """Write, compile and return the encoder: values (and the path, when tracing) to bytes."""
        out = self.source
        args = [f"arg{place}" for place in range(len(self.table.args))]
        path = ["T"] if self.trace else []
        out.line(f"def encode({', '.join(path + args)}):")
        with out.block():
            before = out.mark()
            for place, (arg, ref) in enumerate(zip(args, self.table.args, strict=True)):
                self._step(f"[{place}]")
                last = place == len(args) - 1 and not self.trace
                if last and not self.written and self._is_variant(ref):
                    # Each case ends the whole, so that it can return what it has joined.
                    self._variant(ref, arg, 0, last=True)
                    break
                self._write(ref, arg, 0)
                self._unstep()
            else:
                self._finish(before)
            if self.deep:
                out.line("yield")
        self.in_function = True
        while self.pending:
            self._function(self.pending.pop())
        return self.source.compile("encode")  # type: ignore[no-any-return]

    def _is_variant(self, ref: int) -> bool:
        return (
            ref >= 0
            and self.table.entries[ref].code == t.VARIANT
            and self._size(ref) <= _INLINE_SIZE
        )

    def _finish(self, before: tuple[int, str]) -> None:
        """Return what has been written since a mark: one join if it was all expressions."""
        if self.written:
            self._flush()
            self.source.line("return _join(o)")
            self.source.insert(before, ["o = []", "w = o.append"])
        else:
            self._settle()
            self.source.line(f"return {self._joined()}")

    def _joined(self) -> str:
        if len(self.parts) == 1:
            return self.parts[0]
        return f"_join(({', '.join(self.parts)}))" if self.parts else "b''"

    def _function(self, ref: int) -> None:
        out = self.source
        trace = ", T" if self.trace else ""
        out.line(f"def {self.functions[ref]}(x, o, w, k{trace}):")
        with out.block():
            if self.deep:
                out.line("if 0: yield")
            else:
                out.line(f"if k > {PLAIN_DEPTH}: raise _TooDeep")
            self._body(ref, "x", 0)
            self._flush()

    # --- Output -----------------------------------------------------------------------------

    def _emit(self, expression: str) -> None:
        self._settle()
        self.parts.append(expression)

    def _emit_literal(self, data: bytes) -> None:
        self.literal += data

    def _settle(self) -> None:
        if self.literal:
            self.parts.append(repr(self.literal))
            self.literal = b""

    def _flush(self) -> None:
        """Write the statements that append what is pending."""
        self._settle()
        self.written = True
        if len(self.parts) == 1:
            self.source.line(f"w({self.parts[0]})")
        elif self.parts:
            self.source.line(f"o += ({', '.join(self.parts)})")
        self.parts = []

    def _step(self, step: str) -> None:
        if self.trace:
            self.source.line(f"T.append({step!r})")

    def _unstep(self) -> None:
        if self.trace:
            self.source.line("T.pop()")

    # --- Types ------------------------------------------------------------------------------

    def _size(self, ref: int, depth: int = 0) -> int:
        """How much code a type makes when inlined; beyond the limit where it should not be.

        A type that contains itself becomes a function, and is one call where it is met again.
        """
        if ref < 0:
            return 1
        known = self.sizes.get(ref)
        if known is not None:
            return known
        if depth > _INLINE_DEPTH:
            return _INLINE_SIZE + 1
        if ref in self.open:
            self.heads.add(ref)
            return 1
        self.open.add(ref)
        entry = self.table.entries[ref]
        size = 1
        if entry.code in (t.OPT, t.VEC, t.RECORD, t.VARIANT):
            for part in entry.refs:
                size += self._size(part, depth + 1)
                if size > _INLINE_SIZE:
                    break
        self.open.discard(ref)
        if ref in self.heads:
            size = _INLINE_SIZE + 1
        self.sizes[ref] = size
        return size

    def _write(self, ref: int, value: str, depth: int) -> None:
        if ref < 0:
            self._primitive(ref, value)
        elif depth < _INLINE_DEPTH and self._size(ref) <= _INLINE_SIZE:
            self._body(ref, value, depth)
        else:
            self._flush()
            if ref not in self.functions:
                self.functions[ref] = f"f{len(self.functions)}"
                self.pending.append(ref)
            k = "k + 1" if self.in_function else "0"
            trace = ", T" if self.trace else ""
            call = f"{self.functions[ref]}({value}, o, w, {k}{trace})"
            self.source.line(f"{'yield ' if self.deep else ''}{call}")

    def _body(self, ref: int, value: str, depth: int) -> None:
        if ref < 0:
            self._primitive(ref, value)
            return
        code = self.table.entries[ref].code
        if code == t.OPT:
            self._opt(ref, value, depth)
        elif code == t.VEC:
            self._vec(ref, value, depth)
        elif code == t.RECORD:
            self._record(ref, value, depth)
        elif code == t.VARIANT:
            self._variant(ref, value, depth)
        elif code == t.FUNC:
            self._emit_now(f"_func({value})")
        else:
            self._emit_now(f"_service({value})")

    def _emit_now(self, expression: str) -> None:
        """Emit, but evaluate here, while the path is right."""
        if self.trace:
            name = self.source.fresh()
            self.source.line(f"{name} = {expression}")
            expression = name
        self._emit(expression)

    def _primitive(self, code: int, x: str) -> None:
        out = self.source
        if code == t.Nat.code:
            if self.trace:
                self._emit_now(f"_nat({x})")
            else:
                self._emit(
                    f"_U[{x}] if type({x}) is int and 0 <= {x} < {SMALL} "
                    f"else _unsigned({x}) if type({x}) is int and {x} > 0 else _nat({x})"
                )
        elif code == t.Int.code:
            if self.trace:
                self._emit_now(f"_int({x})")
            else:
                self._emit(
                    f"_S[{x} & 16383] if type({x}) is int and -8192 <= {x} < 8192 else _int({x})"
                )
        elif code in (t.Null.code, t.Reserved.code):
            name = t.PRIMITIVES_BY_CODE[code].name
            out.line(f"if {x} is not None: _absent({x}, {name!r})")
        elif code == t.Empty.code:
            out.line(f"_wrong({x}, 'nothing at all, since the type is empty')")
        elif code == t.Bool.code:
            if self.trace:
                self._emit_now(f"_bool({x})")
            else:
                self._emit(f"b'\\1' if {x} is True else b'\\0' if {x} is False else _bool({x})")
        elif code == t.Text.code:
            if self.trace:
                self._emit_now(f"_text({x})")
            else:
                encoded, size = out.fresh(), out.fresh("n")
                out.line(f"if type({x}) is not str: _text({x})")
                out.line(f"{encoded} = {x}.encode()")
                out.line(f"{size} = len({encoded})")
                self._emit(self._count(size))
                self._emit(encoded)
        elif code == t.PRINCIPAL:
            if self.trace:
                self._emit_now(f"_principal({x})")
            else:
                raw = out.fresh()
                out.line(f"if type({x}) is not _Principal: _principal({x})")
                out.line(f"{raw} = {x}._raw")
                self._emit(f"_REFERENCES[len({raw})]")
                self._emit(raw)
        elif self.trace:
            self._emit_now(f"_fixed({x}, {code})")
        elif code in (t.Float32.code, t.Float64.code):
            self._emit(f"_pack{-code}({x}) if type({x}) is float else _fixed({x}, {code})")
        else:
            self._emit(f"_pack{-code}({x}) if type({x}) is int else _fixed({x}, {code})")

    def _count(self, size: str) -> str:
        return f"_U[{size}] if {size} < {SMALL} else _unsigned({size})"

    def _opt(self, ref: int, x: str, depth: int) -> None:
        out = self.source
        content = self.table.entries[ref].refs[0]
        inner_null = content in (t.Null.code, t.Reserved.code) or (
            content >= 0 and self.table.entries[content].code == t.OPT
        )
        inside = out.fresh()
        self._flush()
        out.line(f"if {x} is None: w(b'\\0')")
        out.line("else:")
        with out.block():
            if inner_null:
                out.line(f"{inside} = _content({x})")
            else:
                out.line(f"{inside} = {x}[0] if type({x}) is _Some else {x}")
            self._emit_literal(b"\x01")
            self._write(content, inside, depth + 1)
            self._flush()

    def _vec(self, ref: int, x: str, depth: int) -> None:
        out = self.source
        element = self.table.entries[ref].refs[0]
        size = out.fresh("n")
        if element == t.Nat8.code:
            content = out.fresh()
            out.line(f"{content} = {x} if type({x}) is bytes else _bytes({x})")
            out.line(f"{size} = len({content})")
            self._emit(self._count(size))
            self._emit(content)
            return
        items = out.fresh()
        out.line(f"{items} = {x} if type({x}) is list or type({x}) is tuple else _sequence({x})")
        out.line(f"{size} = len({items})")
        self._emit(self._count(size))
        if element in rt.ARRAY_CODES and not self.trace:
            self._emit(f"_array({items}, {element})")
            return
        if element == t.Nat.code and not self.trace:
            self._emit(f"_nats({items})")
            return
        self._flush()
        item = out.fresh("x")
        if self.trace:
            place = out.fresh("i")
            out.line(f"for {place}, {item} in enumerate({items}):")
        else:
            out.line(f"for {item} in {items}:")
        with out.block():
            if self.trace:
                out.line(f"T.append('[%d]' % {place})")
            self._write(element, item, depth + 1)
            self._flush()
            self._unstep()

    def _record(self, ref: int, x: str, depth: int) -> None:
        out = self.source
        entry = self.table.entries[ref]
        type_ = self.table.types[ref]
        assert isinstance(type_, t.Record)
        values = [out.fresh("x") for _ in type_.fields]
        if type_.is_tuple:
            count = len(values)
            out.line(
                f"if type({x}) is not tuple or len({x}) != {count}: {x} = _positions({x}, {count})"
            )
            out.line(f"{', '.join(values)}, = {x}")
        else:
            self._take_fields(type_, values, x)
        for value, part, field in zip(values, entry.refs, type_.fields, strict=True):
            self._step(f".{t.label_text(field.label)}")
            self._write(part, value, depth)
            self._unstep()

    def _take_fields(self, type_: t.Record, values: list[str], x: str) -> None:
        out = self.source
        needed = {
            field.label: not isinstance(inner := t.resolve(field.type), t.Opt)
            and inner not in (t.Null, t.Reserved)
            for field in type_.fields
        }
        required = tuple(label for label, need in needed.items() if need)
        optional = tuple(label for label, need in needed.items() if not need)
        found = out.fresh()

        def take(source: str, *, checked: bool) -> None:
            """Each field into its variable; ``checked`` where all are known to be there."""
            for value, field in zip(values, type_.fields, strict=True):
                if checked or needed[field.label]:
                    out.line(f"{value} = {source}[{field.label!r}]")
                else:
                    out.line(f"{value} = {source}.get({field.label!r})")

        def look() -> None:
            into = "" if type_.into is None else f", {out.constant(type_.into)}"
            out.line(f"{found} = _fields({x}, {required!r}, {optional!r}{into})")
            take(found, checked=False)

        if self.trace:
            look()
            return
        if type_.into is not None:
            out.line(f"if type({x}) is {out.constant(type_.into)}:")
            with out.block():
                for value, field in zip(values, type_.fields, strict=True):
                    out.line(f"{value} = {x}.{field.label}")
        else:
            out.line(f"if type({x}) is dict and len({x}) == {len(values)}:")
            with out.block():
                take(x, checked=True)
        out.line("else:")
        with out.block():
            look()

    def _variant(self, ref: int, x: str, depth: int, *, last: bool = False) -> None:
        out = self.source
        entry = self.table.entries[ref]
        type_ = self.table.types[ref]
        assert isinstance(type_, t.Variant)
        label, value = out.fresh("l"), out.fresh("x")
        labels = tuple(field.label for field in type_.fields)
        plain = not self.trace and labels and all(part == t.Null.code for part in entry.refs)
        if not last and not plain:
            self._flush()
        out.line(f"if type({x}) is not _Case: _case({x})")
        out.line(f"{label}, {value} = {x}")
        if plain:
            # An unknown label misses, and is then told by the careful form.
            out.line(f"if {value} is not None: _absent({value}, 'null')")
            indices = {known: encode_unsigned(place) for place, known in enumerate(labels)}
            self._emit(f"{out.constant(indices)}[{label}]")
            if last:
                self._settle()
                out.line(f"return {self._joined()}")
            return
        parts, literal = self.parts, self.literal

        def case(place: int) -> None:
            field, part = type_.fields[place], entry.refs[place]
            before = out.mark()
            self._step(f".{t.label_text(field.label)}")
            if last:
                self.parts, self.literal, self.written = list(parts), literal, False
            self._emit_literal(encode_unsigned(place))
            self._write(part, value, depth + 1)
            if last:
                self._finish(before)
            else:
                self._flush()
            self._unstep()

        if len(labels) <= _FEW_CASES:
            word = "if"
            for place, known in enumerate(labels):
                out.line(f"{word} {label} == {known!r}:")
                word = "elif"
                with out.block():
                    case(place)
            refuse = f"_no_case({label}, {labels!r})"
            out.line(f"else: {refuse}" if labels else refuse)
            return
        # Many cases: by number, halving.
        index = out.fresh("i")
        places = out.constant({known: place for place, known in enumerate(labels)})
        out.line(f"{index} = _index({places}, {label})")

        def branch(low: int, high: int) -> None:
            if high - low == 1:
                case(low)
                return
            middle = (low + high) // 2
            out.line(f"if {index} < {middle}:")
            with out.block():
                branch(low, middle)
            out.line("else:")
            with out.block():
                branch(middle, high)

        branch(0, len(labels))
