"""The short pieces of code that decoders are made of: counts, passing over, charges, misfits.

Which types are met, and what is made of their values, is ``decode``'s business.
"""

import struct
from collections.abc import Sequence
from typing import Any, Final

from bridge.candid import runtime as rt
from bridge.candid import types as t
from bridge.candid.leb128 import decode_longer, decode_signed, decode_unsigned
from bridge.candid.shape import Shapes
from bridge.candid.source import Source
from bridge.candid.subtype import code_of, nullable, type_name
from bridge.candid.table import Table
from bridge.candid.values import Case, Some
from bridge.principal import Principal

_NAMES: Final[dict[str, Any]] = {
    "_unsigned": decode_unsigned,
    "_longer": decode_longer,
    "_signed": decode_signed,
    "_charge": rt.charge,
    "_cut": rt.cut,
    "_skip": rt.skip,
    "_no_case": rt.refuse_case,
    "_principal": rt.read_principal,
    "_service": rt.read_service,
    "_func": rt.read_func,
    "_text": rt.read_text,
    "_reference": rt.read_reference,
    "_bools": rt.read_bools,
    "_made": rt.make_record,
    "_Malformed": rt.Malformed,
    "_Mismatch": rt.Mismatch,
    "_TooDeep": rt.TooDeep,
    "_Over": rt.Over,
    "_Case": Case,
    "_Some": Some,
    "_new": tuple.__new__,
    "_unpack": struct.unpack_from,
    "_memory": memoryview,
    "_iter": iter,
    "_object": object.__new__,
    "_Principal": Principal,
} | {f"_read{-code}": form.unpack_from for code, form in rt.STRUCTS.items()}


class Pieces:
    """A page of decoding code, and what may be written on it.

    Args:
        wire: The types in the message.
        expected: The types asked for.
        trace: Whether to keep the path.
    """

    def __init__(self, wire: Table, expected: Table, *, trace: bool) -> None:
        self.wire = wire
        self.expected = expected
        self.trace = trace
        self.shapes = Shapes(wire)
        self.source = Source({**_NAMES, "_shapes": self.shapes})

    def _mark(self, step: str) -> None:
        if self.trace:
            self.source.line(f"S[1].append({step!r})")

    def _unmark(self) -> None:
        if self.trace:
            self.source.line("S[1].pop()")

    def _weightless(self, ref: int, times: str = "") -> None:
        """Charge for the parts of a value that take no bytes."""
        shape = self.shapes[ref]
        if shape.weightless > 4:
            units = f"{shape.weightless} * {times}" if times else str(shape.weightless)
            self.source.line(f"_charge(S, {units}, p)")
        elif times and not shape.least:
            self.source.line(f"_charge(S, {shape.weightless} * {times}, p)")

    def _mismatch(self, wire: int, expected: int, target: str) -> None:
        got = type_name(code_of(self.wire, wire))
        want = type_name(code_of(self.expected, expected))
        out = self.source
        out.line(f"raise _Mismatch({f'the message has {got} where {want} is expected'!r}, p)")
        out.line(f"{target} = None")

    def _missing(self, expected: int, what: str) -> str:
        if not nullable(self.expected, expected):
            want = type_name(code_of(self.expected, expected))
            message = f"{what} is missing, and {want} cannot be null"
            self.source.line(f"raise _Mismatch({message!r}, p)")
        return "None"

    def _number(self, target: str) -> None:
        """An unsigned LEB128."""
        out = self.source
        out.line(f"{target} = D[p]")
        out.line(f"if {target} < 128: p += 1")
        out.line(f"else: {target}, p = _unsigned(D, p)")

    def _pass(self, ref: int) -> None:
        """Pass over a value that nobody asked for."""
        out = self.source
        shape = self.shapes[ref]
        if shape.fixed:
            if shape.least:
                out.line(f"p += {shape.least}")
                out.line("if p > E: _cut(p)")
        elif ref in (t.Nat.code, t.Int.code):
            out.line("if D[p] < 128: p += 1")
            out.line("else: p = _unsigned(D, p)[1]")
        else:
            out.line(f"p = _skip(_shapes, {ref}, D, p, S)")

    def _pass_all(self, refs: Sequence[int]) -> None:
        """Pass over several values; however many they are, the code stays short."""
        if len(refs) <= 3:
            for ref in refs:
                self._pass(ref)
        elif all(self.shapes[ref].fixed for ref in refs):
            self.source.line(f"p += {sum(self.shapes[ref].least for ref in refs)}")
            self.source.line("if p > E: _cut(p)")
        else:
            name = self.source.constant(tuple(refs))
            self.source.line(f"for r in {name}: p = _skip(_shapes, r, D, p, S)")

    def _surplus(self, refs: tuple[int, ...]) -> None:
        """Pass over the arguments that nobody asked for."""
        if not refs:
            return
        # Passing over anything else charges for it.
        units = sum(shape.weightless for ref in refs if (shape := self.shapes[ref]).fixed)
        if units > 4:
            self.source.line(f"_charge(S, {units}, p)")
        self._mark(f"[{len(self.expected.args)}]")
        self._pass_all(refs)
        self._unmark()
