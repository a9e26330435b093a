"""Walks over the code of a module, to tell whether it changes tables or drops segments.

What such instructions change is not part of a snapshot, and on the IC does not outlive a message.
The walk is over those functions only in which the opcodes' bytes occur at all. The engine validates
the code afterwards: on code that is malformed, the walk says "perhaps".
"""

from typing import Final

from bridge.replica.execution.cursor import Cursor
from bridge.replica.execution.failures import InvalidModuleError

_TABLE_SET: Final = 0x26
# After the prefix 0xFC: data.drop, table.init, elem.drop, table.copy, table.grow, table.fill.
_CHANGING: Final = frozenset({9, 12, 13, 14, 15, 17})
# A LEB128 number may be padded: its first byte then has the high bit.
_PADDED: Final = 0x80
_FEW_TABLES: Final = 8

# How many LEB128 numbers follow an opcode; those that are missing have other immediates, or none.
_LEBS: Final = {
    **dict.fromkeys((0x02, 0x03, 0x04, 0x0C, 0x0D, 0x10, 0x12), 1),
    **dict.fromkeys((0x11, 0x13), 2),
    **dict.fromkeys(range(0x20, 0x27), 1),
    **dict.fromkeys((0x3F, 0x40, 0x41, 0x42, 0xD0, 0xD2), 1),
}
_MISC_LEBS: Final = {8: 2, 9: 1, 10: 2, 11: 1, 12: 2, 13: 1, 14: 2, 15: 1, 16: 1, 17: 1}
_FIXED: Final = {0x43: 4, 0x44: 8}
_BR_TABLE, _SELECT, _MISC, _SIMD = 0x0E, 0x1C, 0xFC, 0xFD
_MEMORY_ACCESS: Final = range(0x28, 0x3F)
_SIMD_MEMORY: Final = frozenset({*range(12), 92, 93})
_SIMD_LANE_MEMORY: Final = range(84, 92)
_SIMD_LANE: Final = range(21, 35)


class _Code(Cursor):
    """A cursor over one function's body."""

    __slots__ = ()

    def skip(self, count: int) -> None:
        """Pass over so many LEB128 numbers, without a look at the end of the function.

        Raises:
            IndexError: If the section ends before.
        """
        data, at = self.data, self.at
        for _ in range(count):
            while data[at] >= 0x80:
                at += 1
            at += 1
        self.at = at

    def skip_memory_argument(self) -> None:
        if self.leb() & 0x40:
            self.skip(1)
        self.skip(1)


def _skip_locals(code: _Code) -> None:
    for _ in range(code.leb()):
        code.skip(1)
        value_type = code.data[code.at]
        code.at += 1
        if value_type in (0x63, 0x64):
            code.skip(1)


def _changes(code: _Code) -> bool:
    """Whether an instruction of one function changes a table or drops a segment."""
    _skip_locals(code)
    data = code.data
    while code.at < code.end:
        opcode = data[code.at]
        code.at += 1
        lebs = _LEBS.get(opcode)
        if opcode == _TABLE_SET:
            return True
        if lebs is not None:
            code.skip(lebs)
        elif opcode in _MEMORY_ACCESS:
            code.skip_memory_argument()
        elif opcode == _MISC:
            which = code.leb()
            if which in _CHANGING:
                return True
            code.skip(_MISC_LEBS.get(which, 0))
        elif opcode == _SIMD:
            _skip_simd(code)
        elif opcode == _BR_TABLE:
            code.skip(code.leb() + 1)
        elif opcode == _SELECT:
            code.skip(code.leb())
        else:
            code.at += _FIXED.get(opcode, 0)
    return False


def _skip_simd(code: _Code) -> None:
    which = code.leb()
    if which in _SIMD_MEMORY:
        code.skip_memory_argument()
    elif which in (12, 13):
        code.at += 16
    elif which in _SIMD_LANE_MEMORY:
        code.skip_memory_argument()
        code.at += 1
    elif which in _SIMD_LANE:
        code.at += 1


def _candidates(tables: int) -> tuple[bytes, ...]:
    """What the bytes of a function must contain if it is to have one of the instructions."""
    found = [bytes([0xFC, code | pad]) for code in _CHANGING for pad in (0, _PADDED)]
    if tables > _FEW_TABLES:
        return (*found, bytes([_TABLE_SET]))
    sets = [bytes([_TABLE_SET, table | pad]) for table in range(tables) for pad in (0, _PADDED)]
    return (*found, *sets)


def changes_tables(section: bytes, *, tables: int) -> bool:
    """Whether the code may change a table or drop a segment.

    Args:
        section: The code section's contents.
        tables: How many tables the module has.

    Raises:
        InvalidModuleError: If the section's outline is broken.
    """
    outline = Cursor(section, 0, len(section))
    candidates = _candidates(tables)
    for _ in range(outline.leb()):
        size = outline.leb()
        start, end = outline.at, outline.at + size
        body = section[start:end]
        if any(candidate in body for candidate in candidates):
            try:
                if _changes(_Code(section, start, end)):
                    return True
            except (IndexError, InvalidModuleError):
                return True
        outline.at = end
    return False
