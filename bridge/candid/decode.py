"""Generates the code that decodes messages of one layout into values of given types.

For each pair of a type in the message and a type expected, straight-line Python is written and
compiled. The same generator makes three forms of it: plain; tracing, which keeps the path for an
error's message; and deep, where calls are yields and nesting is not bound by Python's stack.
The rules are the specification's, section Deserialisation with its subtyping.
"""

from collections.abc import Callable
from typing import Any, Final

from bridge.candid import runtime as rt
from bridge.candid import types as t
from bridge.candid.pieces import Pieces
from bridge.candid.shape import FIXED_SIZES, NEVER
from bridge.candid.subtype import Subtyping, code_of, nullable, type_name
from bridge.candid.table import Entry, Table
from bridge.candid.values import Case

# Beyond these, a part becomes a function of its own.
_INLINE_DEPTH: Final = 5
_INLINE_SIZE: Final = 24
# How deep the plain form may recurse before the deep form takes over.
PLAIN_DEPTH: Final = 120

Decoder = Callable[[bytes, rt.State], list[Any]]


def _free(units: int = 1) -> None:
    """Work that has been paid for."""


class DecoderWriter(Pieces):
    """Writes the decoder for one pair of tables.

    Args:
        wire: The types in the message.
        expected: The types asked for.
        start: Where the values begin.
        compare: Called for each pair of types compared; may raise.
        compile_: Called with how many parts of types code is written for; may raise.
        trace: Whether to keep the path.
        deep: Whether to write generators.
    """

    def __init__(
        self,
        wire: Table,
        expected: Table,
        start: int,
        *,
        compare: Callable[[], None] = _free,
        compile_: Callable[[int], None] = _free,
        trace: bool = False,
        deep: bool = False,
    ) -> None:
        super().__init__(wire, expected, trace=trace)
        self.start = start
        self.charge = compile_
        self.deep = deep
        self.relation = Subtyping(wire, expected, compare)
        self.functions: dict[tuple[int, int], str] = {}
        self.pending: list[tuple[int, int]] = []
        self.charged: set[tuple[int, int]] = set()
        self.in_function = False
        self.sizes: dict[tuple[int, int], int] = {}
        self.open: set[tuple[int, int]] = set()
        self.heads: set[tuple[int, int]] = set()

    def build(self) -> Decoder:
        """Write, compile and return the decoder."""
        out = self.source
        out.line("def decode(D, S):")
        with out.block():
            out.line("E = len(D)")
            out.line(f"p = {self.start}")
            values = []
            both = zip(self.wire.args, self.expected.args, strict=False)
            for place, (ref, wanted) in enumerate(both):
                self._mark(f"[{place}]")
                target = out.fresh()
                values.append(target)
                self._weightless(ref)
                self._read(ref, wanted, target, 0)
                self._unmark()
            self._surplus(self.wire.args[len(self.expected.args) :])
            for place in range(len(self.wire.args), len(self.expected.args)):
                self._mark(f"[{place}]")
                values.append(self._missing(self.expected.args[place], "the argument"))
                self._unmark()
            out.line("if p != E: raise _Malformed('bytes are left after the last value', p)")
            out.line(f"return [{', '.join(values)}]")
            if self.deep:
                out.line("yield")  # a generator even when nothing is called
        self.in_function = True
        while self.pending:
            self._function(*self.pending.pop())
        return self.source.compile("decode")  # type: ignore[no-any-return]

    # --- Functions --------------------------------------------------------------------------

    def _function(self, wire: int, expected: int) -> None:
        out = self.source
        out.line(f"def {self.functions[wire, expected]}(D, p, E, S, k):")
        with out.block():
            if self.deep:
                out.line("if 0: yield")
                out.line("if k > S[2]: raise _Over(p)")
            else:
                out.line(f"if k > {PLAIN_DEPTH}: raise _TooDeep")
            target = out.fresh()
            self._body(wire, expected, target, 0)
            out.line(f"return {target}, p")

    def _call(self, wire: int, expected: int, target: str) -> None:
        pair = (wire, expected)
        if pair not in self.functions:
            self.functions[pair] = f"f{len(self.functions)}"
            self.pending.append(pair)
        depth = "k + 1" if self.in_function else "0"
        call = f"{self.functions[pair]}(D, p, E, S, {depth})"
        self.source.line(f"{target}, p = {'yield ' if self.deep else ''}{call}")

    def _size(self, wire: int, expected: int, depth: int = 0) -> int:
        """How much code a pair makes when inlined; beyond the limit where it should not be.

        A pair that contains itself becomes a function, and is one call where it is met again.
        """
        pair = (wire, expected)
        known = self.sizes.get(pair)
        if known is not None:
            return known
        if wire < 0 or expected < 0:
            return 1
        if depth > _INLINE_DEPTH:
            return _INLINE_SIZE + 1
        if pair in self.open:
            self.heads.add(pair)
            return 1
        self.open.add(pair)
        entry, want = self.wire.entries[wire], self.expected.entries[expected]
        size = 1
        if entry.code == want.code and entry.code in (t.RECORD, t.VARIANT):
            wanted = dict(zip(want.keys, want.refs, strict=True))
            for key, ref in zip(entry.keys, entry.refs, strict=True):
                size += self._size(ref, wanted[key], depth + 1) if key in wanted else 1
                if size > _INLINE_SIZE:
                    break
        elif entry.code == want.code and entry.code in (t.OPT, t.VEC):
            size += self._size(entry.refs[0], want.refs[0], depth + 1)
        elif want.code == t.OPT:
            size += self._size(wire, want.refs[0], depth + 1)
        self.open.discard(pair)
        if pair in self.heads:
            size = _INLINE_SIZE + 1
        self.sizes[pair] = size
        return size

    # --- Types ------------------------------------------------------------------------------

    def _charge_pair(self, wire: int, expected: int) -> None:
        """Charge for a pair met for the first time, by what is written for it."""
        pair = (wire, expected)
        if wire >= 0 and expected >= 0 and pair not in self.charged:
            self.charged.add(pair)
            self.charge(1 + len(self.expected.entries[expected].refs))

    def _read(self, wire: int, expected: int, target: str, depth: int) -> None:
        """Read a value, inline or by a call."""
        self._charge_pair(wire, expected)
        if self.shapes[wire].least == NEVER:
            self.source.line("raise _Malformed('this type has no values', p)")
            self.source.line(f"{target} = None")
        elif wire < 0 or expected < 0:
            self._body(wire, expected, target, depth)
        elif depth >= _INLINE_DEPTH or self._size(wire, expected) > _INLINE_SIZE:
            self._call(wire, expected, target)
        else:
            self._body(wire, expected, target, depth)

    def _body(self, wire: int, expected: int, target: str, depth: int) -> None:
        out = self.source
        got, want = code_of(self.wire, wire), code_of(self.expected, expected)
        if want == t.Reserved.code:
            self._pass(wire)
            out.line(f"{target} = None")
        elif want == t.OPT:
            self._opt(wire, expected, target, depth)
        elif want < 0 and expected < 0:
            self._primitive(wire, got, expected, target)
        elif got != want or wire < 0:
            self._mismatch(wire, expected, target)
        elif got == t.VEC:
            self._vec(wire, expected, target, depth)
        elif got == t.RECORD:
            self._record(wire, expected, target, depth)
        elif got == t.VARIANT:
            self._variant(wire, expected, target, depth)
        elif not self.relation.holds(wire, expected):
            kind = type_name(want)
            message = f"the {kind} reference's type is not a subtype of the one expected"
            out.line(f"raise _Mismatch({message!r}, p)")
            out.line(f"{target} = None")
        else:
            read = "_func" if got == t.FUNC else "_service"
            out.line(f"{target}, p = {read}(D, p)")

    def _primitive(self, wire: int, got: int, want: int, target: str) -> None:
        out = self.source
        if want == t.PRINCIPAL and got in (t.PRINCIPAL, t.SERVICE):
            # The plain case in place, past the checks of Principal's constructor; the rest by call.
            out.line("n = D[p + 1]")
            out.line("if D[p] == 1 and n < 30:")
            with out.block():
                out.line("q = p + 2 + n")
                out.line("if q > E: _cut(p)")
                out.line(f"{target} = _object(_Principal)")
                out.line(f"{target}._raw = D[p + 2:q]")
                out.line("p = q")
            out.line(f"else: {target}, p = _principal(D, p)")
        elif (want == t.Int.code and got == t.Nat.code) or want == got == t.Nat.code:
            out.line(f"{target} = D[p]")
            out.line(f"if {target} < 128: p += 1")
            out.line("else:")
            with out.block():
                out.line("n = D[p + 1]")
                out.line("if n < 128:")
                out.line(f" {target} += (n << 7) - 128")
                out.line(" p += 2")
                out.line(f"else: {target}, p = _longer(D, p)")
        elif want != got:
            self._mismatch(wire, want, target)
        elif want == t.Int.code:
            out.line(f"{target} = D[p]")
            out.line(f"if {target} < 64: p += 1")
            out.line(f"else: {target}, p = _signed(D, p)")
        elif want == t.Null.code:
            out.line(f"{target} = None")
        elif want == t.Bool.code:
            out.line(f"{target} = D[p]")
            out.line(f"if {target} > 1: raise _Malformed('a bool is 0 or 1', p)")
            out.line(f"{target} = {target} == 1")
            out.line("p += 1")
        elif want == t.Text.code and self.trace:
            out.line(f"{target}, p = _text(D, p)")  # which knows the offset of a fault
        elif want == t.Text.code:
            self._number("n")
            out.line("q = p + n")
            out.line("if q > E: _cut(p)")
            out.line(f"{target} = D[p:q].decode()")
            out.line("p = q")
        elif want == t.Nat8.code:
            out.line(f"{target} = D[p]")
            out.line("p += 1")
        else:
            out.line(f"{target}, = _read{-want}(D, p)")
            out.line(f"p += {FIXED_SIZES[want]}")

    def _opt(self, wire: int, expected: int, target: str, depth: int) -> None:
        out = self.source
        content = self.expected.entries[expected].refs[0]
        inner_null = nullable(self.expected, content)
        got = code_of(self.wire, wire)
        if got in (t.Null.code, t.Reserved.code):
            out.line(f"{target} = None")
        elif got == t.OPT:
            inside = self.wire.entries[wire].refs[0]
            out.line("t = D[p]")
            out.line("if t == 1:")
            with out.block():
                out.line("p += 1")
                self._weightless(inside)
                self._attempt(inside, content, target, depth + 1, wrap=inner_null)
            out.line("elif t == 0:")
            with out.block():
                out.line("p += 1")
                out.line(f"{target} = None")
            out.line("else: raise _Malformed('an opt begins with 0 or 1', p)")
        elif inner_null:
            self._pass(wire)
            out.line(f"{target} = None")
        else:
            self._attempt(wire, content, target, depth + 1, wrap=False)

    def _attempt(self, wire: int, content: int, target: str, depth: int, *, wrap: bool) -> None:
        """Read an opt's content; null if it does not fit, as the specification says."""
        out = self.source
        if self.relation.holds(wire, content):
            self._read(wire, content, target, depth)
            if wrap:
                out.line(f"{target} = _new(_Some, ({target},))")
            return
        saved = out.fresh()
        out.line(f"{saved} = p")
        if self.trace:
            out.line(f"{saved}d = len(S[1])")
        out.line("try:")
        with out.block():
            self._read(wire, content, target, depth + 1)
            if wrap:
                out.line(f"{target} = _new(_Some, ({target},))")
        out.line("except _Mismatch:")
        with out.block():
            if self.trace:
                out.line(f"del S[1][{saved}d:]")
            out.line(f"p = {saved}")
            self._pass(wire)
            out.line(f"_charge(S, p - {saved}, p)")
            out.line(f"{target} = None")

    def _vec(self, wire: int, expected: int, target: str, depth: int) -> None:
        out = self.source
        given = self.wire.entries[wire].refs[0]
        wanted = self.expected.entries[expected].refs[0]
        shape = self.shapes[given]
        empty = "b''" if wanted == t.Nat8.code else "[]"
        count = out.fresh("n")
        self._number(count)
        if shape.least == NEVER:
            out.line(f"if {count}: raise _Malformed('the elements have a type without values', p)")
            out.line(f"{target} = {empty}")
            return
        if wanted == t.Nat8.code != given:
            # Only an empty vec of something else is a blob.
            out.line(f"if {count}:")
            with out.block():
                self._mismatch(given, wanted, target)
            out.line(f"{target} = b''")
            return
        if given == wanted == t.Nat8.code:
            out.line(f"q = p + {count}")
            out.line("if q > E: _cut(p)")
            out.line(f"{target} = D[p:q]")
            out.line("p = q")
            return
        if shape.least:
            many = count if shape.least == 1 else f"{count} * {shape.least}"
            out.line(f"if {many} > E - p: _cut(p)")
        self._weightless(given, count)
        if given == wanted and given in rt.ARRAY_CODES:
            out.line(f"q = p + {count} * {shape.least}")
            code = rt.ARRAY_CODES[given]
            if rt.LITTLE:
                out.line(f"{target} = _memory(D)[p:q].cast({code!r}).tolist()")
            else:
                out.line(f"{target} = list(_unpack(f'<{{{count}}}{code}', D, p))")
            out.line("p = q")
        elif given == wanted == t.Bool.code:
            out.line(f"{target} = _bools(D, p, p + {count})")
            out.line(f"p += {count}")
        elif given == t.Nat.code and wanted in (t.Nat.code, t.Int.code) and not self.trace:
            self._nats(target, count)
        else:
            self._elements(given, wanted, target, count, depth)

    def _nats(self, target: str, count: str) -> None:
        """Many numbers: an iterator over the bytes is the fastest way to take one after another.

        Where it ends too soon, the tracing form says so.
        """
        out = self.source
        add = out.fresh("a")
        out.line(f"{target} = []")
        out.line(f"{add} = {target}.append")
        out.line("it = _iter(D)")
        out.line("it.__setstate__(p)")
        out.line("following = it.__next__")
        out.line(f"for _ in range({count}):")
        with out.block():
            out.line("x = following()")
            out.line("if x > 127:")
            with out.block():
                out.line("y = following()")
                out.line("if y < 128: x += (y << 7) - 128")
                out.line("else:")
                with out.block():
                    out.line("x += (y << 7) - 16512")
                    out.line("s = 14")
                    out.line("for y in it:")
                    out.line(" if y < 128:")
                    out.line("  x += y << s")
                    out.line("  break")
                    out.line(" x += y - 128 << s")
                    out.line(" s += 7")
                    # A very long number would take quadratic time here.
                    out.line(" if s > 140:")
                    out.line("  x, p = _unsigned(D, E - it.__length_hint__() - s // 7)")
                    out.line("  it.__setstate__(p)")
                    out.line("  break")
                    out.line("else: _cut(E)")
            out.line(f"{add}(x)")
        out.line("p = E - it.__length_hint__()")

    def _elements(self, given: int, wanted: int, target: str, count: str, depth: int) -> None:
        out = self.source
        add = out.fresh("a")
        element = out.fresh()
        out.line(f"{target} = []")
        out.line(f"{add} = {target}.append")
        if self.trace:
            place = out.fresh("i")
            out.line(f"for {place} in range({count}):")
        else:
            out.line(f"for _ in range({count}):")
        with out.block():
            if self.trace:
                out.line(f"S[1].append('[%d]' % {place})")
            self._read(given, wanted, element, depth + 1)
            out.line(f"{add}({element})")
            self._unmark()

    def _record(self, wire: int, expected: int, target: str, depth: int) -> None:
        out = self.source
        given, wanted = self.wire.entries[wire], self.expected.entries[expected]
        type_ = self.expected.types[expected]
        assert isinstance(type_, t.Record)
        labels = {field.id: field.label for field in type_.fields}
        wants = dict(zip(wanted.keys, wanted.refs, strict=True))
        values: dict[int, str] = {}
        unasked: list[int] = []
        for key, ref in zip(given.keys, given.refs, strict=True):
            if key in wants:
                self._pass_all(unasked)
                unasked = []
                self._mark(f".{t.label_text(labels[key])}")
                values[key] = out.fresh()
                self._read(ref, wants[key], values[key], depth)
                self._unmark()
            else:
                unasked.append(ref)
        self._pass_all(unasked)
        for key, ref in wants.items():
            if key not in values:
                values[key] = self._missing(ref, f"the field {t.label_text(labels[key])}")
        out.line(f"{target} = {self._made(type_, values)}")

    def _made(self, type_: t.Record, values: dict[int, str]) -> str:
        """The expression that makes a record of its fields' values."""
        if type_.into is not None:
            name = self.source.constant(type_.into)
            fields = ", ".join(f"{f.label}={values[f.id]}" for f in type_.declared)
            if _is_plain(type_.into):
                return f"{name}({fields})"
            return f"_made({name}, p, dict({fields}))"
        if type_.is_tuple:
            return "(" + "".join(f"{values[field.id]}, " for field in type_.fields) + ")"
        return "{" + ", ".join(f"{f.label!r}: {values[f.id]}" for f in type_.declared) + "}"

    def _variant(self, wire: int, expected: int, target: str, depth: int) -> None:
        out = self.source
        given, wanted = self.wire.entries[wire], self.expected.entries[expected]
        type_ = self.expected.types[expected]
        assert isinstance(type_, t.Variant)
        labels = {field.id: field.label for field in type_.fields}
        wants = dict(zip(wanted.keys, wanted.refs, strict=True))
        index = out.fresh("n")
        self._number(index)
        bound = (
            f"if {index} >= {len(given.refs)}: raise _Malformed('the variant has no such case', p)"
        )
        plain = (t.Null.code, t.Null.code)
        if all(key in wants and (ref, wants[key]) == plain for key, ref in _cases(given)):
            cases = tuple(Case(labels[key]) for key in given.keys)
            out.line(bound)
            out.line(f"{target} = {out.constant(cases)}[{index}]")
            return

        # Cases that are not expected share one branch, since there may be any number of them.
        known = [place for place, key in enumerate(given.keys) if key in wants]

        def branch(low: int, high: int) -> None:
            if high - low > 4:
                middle = (low + high) // 2
                out.line(f"if {index} < {known[middle]}:")
                with out.block():
                    branch(low, middle)
                out.line("else:")
                with out.block():
                    branch(middle, high)
                return
            word = "if"
            for place in known[low:high]:
                key = given.keys[place]
                out.line(f"{word} {index} == {place}:")
                word = "elif"
                with out.block():
                    self._case(labels[key], given.refs[place], wants[key], target, depth)
            refuse = f"_no_case({index}, _shapes, {wire}, p)"
            out.line(f"else: {refuse}" if low < high else refuse)

        branch(0, len(known))

    def _case(self, label: str | int, ref: int, want: int, target: str, depth: int) -> None:
        out = self.source
        if ref == want == t.Null.code:
            out.line(f"{target} = {out.constant(Case(label))}")
            return
        value = out.fresh()
        self._mark(f".{t.label_text(label)}")
        self._weightless(ref)
        self._read(ref, want, value, depth + 1)
        self._unmark()
        out.line(f"{target} = _new(_Case, ({label!r}, {value}))")


def _cases(entry: Entry) -> list[tuple[int, int]]:
    return list(zip(entry.keys, entry.refs, strict=True))


def _is_plain(into: type[Any]) -> bool:
    """Whether making an instance runs no code of the caller's, which could raise anything."""
    if into.__mro__ == (into, tuple, object):
        return True  # as NamedTuple makes it; nothing can have been put before
    if any("__new__" in vars(base) for base in into.__mro__[:-1]):
        return False
    parameters = getattr(into, "__dataclass_params__", None)
    return bool(parameters and parameters.init) and not hasattr(into, "__post_init__")
