"""What can be said of a type table before any value is read: sizes, and what has no values at all.

A record's size is that of its fields, so these are walks along records only; every other compound
value begins with a byte of its own. The walks are loops, since the table is a stranger's.
"""

from typing import Final, NamedTuple

from bridge.candid import types as t
from bridge.candid.table import Table

# Sums saturate here: a table of n entries can describe records of 2**n fields.
MANY: Final = 1 << 40
NEVER: Final = 1 << 50

FIXED_SIZES: Final = {
    t.Null.code: 0,
    t.Reserved.code: 0,
    t.Nat8.code: 1,
    t.Int8.code: 1,
    t.Nat16.code: 2,
    t.Int16.code: 2,
    t.Nat32.code: 4,
    t.Int32.code: 4,
    t.Float32.code: 4,
    t.Nat64.code: 8,
    t.Int64.code: 8,
    t.Float64.code: 8,
}


class Shape(NamedTuple):
    """One type's sizes.

    Attributes:
        least: The fewest bytes a value takes; :data:`NEVER` if there is no value.
        fixed: Whether every value takes exactly that many, and any bytes will do.
        weightless: How many parts of a value take no bytes of their own, itself included.
    """

    least: int
    fixed: bool
    weightless: int


def _primitive(code: int) -> Shape:
    if code in FIXED_SIZES:
        size = FIXED_SIZES[code]
        return Shape(size, True, int(size == 0))
    if code == t.Empty.code:
        return Shape(NEVER, False, 0)
    return Shape(2 if code == t.PRINCIPAL else 1, False, 0)


_PRIMITIVES: Final = {code: _primitive(code) for code in t.PRIMITIVES_BY_CODE}
_LEAST: Final = {t.OPT: 1, t.VEC: 1, t.VARIANT: 1, t.FUNC: 4, t.SERVICE: 2}


class Shapes:
    """The shapes of a table's types, by reference, worked out as they are asked for."""

    def __init__(self, table: Table) -> None:
        self.table = table
        # What has been worked out so far; read directly where calls would count.
        self.known: dict[int, Shape] = dict(_PRIMITIVES)

    def __getitem__(self, ref: int) -> Shape:
        known = self.known.get(ref)
        if known is not None:
            return known
        entries = self.table.entries
        open_: set[int] = set()
        todo = [ref]
        while todo:
            at = todo[-1]
            entry = entries[at]
            if at in self.known:
                todo.pop()
            elif entry.code != t.RECORD:
                least = _LEAST.get(entry.code, 2)
                if entry.code == t.VARIANT and not entry.refs:
                    least = NEVER
                self.known[at] = Shape(least, False, 0)
            elif at not in open_:
                open_.add(at)
                for part in entry.refs:
                    if part in open_ and part not in self.known:
                        # A record inside itself, with nothing between: it has no values.
                        self.known[part] = Shape(NEVER, False, 0)
                    elif part >= 0:
                        todo.append(part)
            else:
                parts = [self.known[part] for part in entry.refs]
                total = sum(part.least for part in parts)
                least = NEVER if any(p.least == NEVER for p in parts) else min(total, MANY)
                self.known[at] = Shape(
                    least,
                    all(part.fixed for part in parts) and least < MANY,
                    min(1 + sum(part.weightless for part in parts), MANY),
                )
        return self.known[ref]
