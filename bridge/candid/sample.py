"""Random values of a type, for tests and for trying out an interface.

The source of chance is the caller's, so that a seed gives the same values again.
"""

import math
import random
import struct
from collections.abc import Sequence
from typing import Any, Final

from bridge.candid import types as t
from bridge.candid.shape import FIXED_SIZES
from bridge.candid.table import Table, flatten
from bridge.candid.values import Case, FuncRef, ServiceRef, Some
from bridge.errors import CandidError
from bridge.principal import Principal

_ENDLESS: Final = 1 << 30
_CHARACTERS: Final = "abcXYZ 019_-\"\\\n\t'/{};éß☃日本🐂\x00\x7f"


def _heights(table: Table) -> list[int]:
    """How deep the flattest value of each compound type nests."""
    heights = [0 if entry.code in (t.OPT, t.VEC) else _ENDLESS for entry in table.entries]

    def of(ref: int) -> int:
        if ref < 0:
            return _ENDLESS if ref == t.Empty.code else 0
        return heights[ref]

    changed = True
    while changed:
        changed = False
        for index, entry in enumerate(table.entries):
            if entry.code == t.RECORD:
                best = max((of(ref) for ref in entry.refs), default=0) + 1
            elif entry.code == t.VARIANT:
                best = min((of(ref) for ref in entry.refs), default=_ENDLESS) + 1
            else:
                best = 0
            if best < heights[index]:
                heights[index] = best
                changed = True
    return heights


class _Maker:
    def __init__(self, table: Table, chance: random.Random, depth: int, size: int) -> None:
        self._table = table
        self._heights = _heights(table)
        self._chance = chance
        self._depth = depth
        self._size = size
        # Values still to be made before everything is kept as small as can be.
        self._left = 50 * size

    def _height(self, ref: int) -> int:
        if ref < 0:
            return _ENDLESS if ref == t.Empty.code else 0
        return self._heights[ref]

    def value(self, ref: int, depth: int = 0) -> Any:
        """A value of the type behind a reference."""
        self._left -= 1
        if self._height(ref) >= _ENDLESS:
            raise CandidError("there is no value of this type, which is empty or endless")
        if ref < 0:
            return self._primitive(t.PRIMITIVES_BY_CODE[ref])
        entry = self._table.entries[ref]
        small = depth >= self._depth or self._left < 0
        if entry.code == t.OPT:
            return self._opt(entry.refs[0], depth, small=small)
        if entry.code == t.VEC:
            return self._vec(entry.refs[0], depth, small=small)
        type_ = self._table.types[ref]
        if isinstance(type_, t.Record):
            parts = dict(zip(entry.keys, entry.refs, strict=True))
            values = {
                field.label: self.value(parts[field.id], depth + 1) for field in type_.declared
            }
            if type_.into is not None:
                return type_.into(**{str(label): value for label, value in values.items()})
            return tuple(values[at] for at in range(len(values))) if type_.is_tuple else values
        if isinstance(type_, t.Variant):
            cases = [
                (self._height(part), field.label, part)
                for field, part in zip(type_.fields, entry.refs, strict=True)
            ]
            flattest = min(height for height, _, _ in cases)
            fitting = [
                (label, part)
                for height, label, part in cases
                if height < _ENDLESS and (not small or height == flattest)
            ]
            label, part = self._chance.choice(fitting)
            return Case(label, self.value(part, depth + 1))
        if entry.code == t.FUNC:
            return FuncRef(self._principal(), self._text())
        return ServiceRef(self._principal())

    def _opt(self, ref: int, depth: int, *, small: bool) -> Any:
        if small or self._height(ref) >= _ENDLESS or self._chance.random() < 0.3:
            return None
        value = self.value(ref, depth + 1)
        null = ref in (t.Null.code, t.Reserved.code)
        if null or (ref >= 0 and self._table.entries[ref].code == t.OPT):
            return Some(value)
        return value

    def _vec(self, ref: int, depth: int, *, small: bool) -> Any:
        count = 0 if small else self._chance.randint(0, self._size)
        if ref == t.Nat8.code:
            return self._chance.randbytes(count)
        if self._height(ref) >= _ENDLESS:
            return []
        return [self.value(ref, depth + 1) for _ in range(count)]

    def _primitive(self, type_: t.Primitive) -> Any:
        chance = self._chance
        if type_ in (t.Null, t.Reserved):
            return None
        if type_ is t.Bool:
            return chance.random() < 0.5
        if type_ is t.Text:
            return self._text()
        if type_ is t.PrincipalType:
            return self._principal()
        if type_ in (t.Float32, t.Float64):
            return self._float(type_)
        signed = type_.name.startswith("int")
        bits = FIXED_SIZES.get(type_.code, 0) * 8
        if not bits:
            number = chance.getrandbits(chance.choice((3, 7, 8, 14, 31, 64, 65, 130)))
            return -number if signed and chance.random() < 0.5 else number
        edge = chance.random()
        low, high = (-1 << bits - 1, (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        if edge < 0.2:
            return chance.choice((low, high, 0, 1))
        return chance.randint(low, high)

    def _float(self, type_: t.Primitive) -> float:
        number = self._chance.choice((0.0, -0.0, 0.5, 1e10, self._chance.gauss(0, 100), math.inf))
        if type_ is t.Float32:
            (number,) = struct.unpack("<f", struct.pack("<f", number))
        return number

    def _text(self) -> str:
        count = self._chance.randint(0, self._size)
        return "".join(self._chance.choice(_CHARACTERS) for _ in range(count))

    def _principal(self) -> Principal:
        return Principal(self._chance.randbytes(self._chance.choice((0, 1, 10, 29))))


def random_values(
    types: Sequence[t.Type], chance: random.Random, *, depth: int = 5, size: int = 6
) -> list[Any]:
    """A random value of each type.

    Args:
        types: The types.
        chance: Where the randomness comes from.
        depth: Nesting past which values are kept flat.
        size: The most elements of a vec, bytes of a blob or characters of a text.

    Raises:
        CandidError: If a type has no values.
    """
    table = flatten(types)
    maker = _Maker(table, chance, depth, size)
    return [maker.value(ref) for ref in table.args]
