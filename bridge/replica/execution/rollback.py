"""Undoing what a message did to a Wasm memory: one interface, two engines.

``CopyUsedPages`` copies all pages in use before a message: it works everywhere, and its cost grows
with what the canister uses. ``TrackWrittenPages`` keeps a second copy of the memory and lets the
kernel note which pages are written: its cost grows with the pages that a message writes, each of
which costs more than copying ten. Neither grows with the size of the memory. So where the kernel
offers it, ``TrackWhenLarge`` copies while little is in use, and tracks from then on. Knows only
addresses and sizes.
"""

import ctypes
import mmap
from functools import cache
from typing import Final, Protocol

from bridge.replica.execution import pages
from bridge.replica.execution.native import compare, move

# From this size on, a copy lets the other threads run.
_LONG: Final = 1024 * 1024
_ROUND: Final = 1024 * 1024
_FEW: Final = 8
# From this many bytes in use on, tracking costs less than copying for most messages.
_LARGE: Final = 4 * 1024 * 1024


class Rollback(Protocol):
    """How the memory of one instance is remembered and restored.

    A memory is given by its address and size at each call: one never moves, but it grows, and a new
    instance of the engine has another one, elsewhere.
    """

    name: str

    def begin(self, address: int, size: int) -> None:
        """Remember the memory."""

    def keep(self, address: int, size: int, *, report: bool = False) -> pages.Runs:
        """Let the changes since ``begin`` stand.

        Args:
            address: Where the memory begins.
            size: Its size now.
            report: Whether to find out what has changed.

        Returns:
            If asked for: runs of whole pages outside of which nothing has changed.
        """

    def undo(self, address: int, size: int) -> None:
        """Make the memory, whose size has not changed, what it was at ``begin``."""

    def restore(self, address: int, size: int) -> None:
        """Put what was remembered into an empty memory that takes the place of the old one."""

    def forget(self) -> None:
        """Drop what was remembered: the instance has been replaced."""


def _copy(to: int, source: int, size: int) -> None:
    if size < _LONG:
        move(to, source, size)
    else:
        ctypes.memmove(to, source, size)


def _differing(one: int, other: int, size: int, at: int, found: pages.Runs) -> None:
    """Add the pages in which two ranges differ; ``at`` is where the ranges begin in the memory."""
    if not compare(one, other, size):
        return
    if size <= pages.PAGE:
        found.append((at, size))
        return
    half = size // 2 // pages.PAGE * pages.PAGE
    _differing(one, other, half, at, found)
    _differing(one + half, other + half, size - half, at + half, found)


class CopyUsedPages:
    """Copies the pages in use at ``begin``, and back at ``undo``."""

    name = "copy used pages"

    __slots__ = ("_address", "_buffer", "_capacity", "_runs", "_valid", "used")

    def __init__(self) -> None:
        self.used = 0
        self._runs: pages.Runs = []
        self._buffer: ctypes.Array[ctypes.c_char] = ctypes.create_string_buffer(1)
        self._address = ctypes.addressof(self._buffer)
        self._capacity = 0
        self._valid = False

    def begin(self, address: int, size: int) -> None:
        """Copy the pages in use; nothing to do if nothing was kept since the last time."""
        if self._valid:
            return
        runs = pages.in_use(address, size)
        needed = self.used = sum(length for _, length in runs)
        if needed > self._capacity:
            # Making it may fail: until it is there, the old one is what there is.
            capacity = needed * 3 // 2
            self._buffer = ctypes.create_string_buffer(capacity)
            self._address = ctypes.addressof(self._buffer)
            self._capacity = capacity
        at = self._address
        for start, length in runs:
            _copy(at, address + start, length)
            at += length
        self._runs = runs
        self._valid = True

    def keep(self, address: int, size: int, *, report: bool = False) -> pages.Runs:
        """Drop the copy; the pages that changed, if asked for."""
        self._valid = False
        if not report:
            return []
        changed: pages.Runs = []
        parts = []
        at = self._address
        for start, length in self._runs:
            parts.append((start, length, at))
            at += length
        for start, length in pages.in_use(address, size):
            position, end = start, start + length
            for known, known_length, copy in parts:
                first, last = max(known, position), min(known + known_length, end)
                if first >= last:
                    continue
                if first > position:
                    changed.append((position, first - position))
                _differing(address + first, copy + first - known, last - first, first, changed)
                position = last
            if position < end:
                changed.append((position, end - position))
        return changed

    def forget(self) -> None:
        """Drop the copy."""
        self._valid = False

    def undo(self, address: int, size: int) -> None:
        """Copy the remembered pages back; pages first used since then become zero."""
        now = pages.in_use(address, size)
        if now != self._runs:
            known = set(self._runs)
            for run in now:
                if run not in known:
                    self._clear_new(address, *run)
        at = self._address
        for start, length in self._runs:
            _copy(address + start, at, length)
            at += length

    def _clear_new(self, address: int, start: int, length: int) -> None:
        """Zero what of the run was not in use at ``begin``."""
        at, end = start, start + length
        for known, known_length in self._runs:
            if known + known_length <= at:
                continue
            if known >= end:
                break
            if known > at:
                ctypes.memset(address + at, 0, known - at)
            at = known + known_length
        if at < end:
            ctypes.memset(address + at, 0, end - at)

    def restore(self, address: int, size: int) -> None:
        """Copy the remembered pages there; they stay remembered."""
        del size
        at = self._address
        for start, length in self._runs:
            _copy(address + start, at, length)
            at += length


class TrackWrittenPages:
    """Keeps a copy up to date with the pages that the kernel says were written."""

    name = "track written pages"

    __slots__ = ("_address", "_copy", "_copy_address", "_size")

    def __init__(self) -> None:
        self._address = 0
        self._size = 0
        self._copy: mmap.mmap | None = None
        self._copy_address = 0

    def begin(self, address: int, size: int) -> None:
        """Copy and watch the memory if it is new; else the copy is up to date."""
        if address == self._address and size == self._size:
            return
        if address != self._address or size < self._size:
            self._size = 0
        self._address = address
        self._extend(size)

    def _extend(self, size: int) -> pages.Runs:
        """Watch what has been added to the memory, and copy it; the pages in use there."""
        self._make_room(size)
        start, added = self._size, size - self._size
        runs: pages.Runs = []
        if added:
            pages.watch(self._address + start, added)
            pages.written(self._address + start, added)
            runs = [
                (start + at, length) for at, length in pages.in_use(self._address + start, added)
            ]
            for at, length in runs:
                _copy(self._copy_address + at, self._address + at, length)
        self._size = size
        return runs

    def _make_room(self, size: int) -> None:
        if self._copy is not None and self._size and len(self._copy) >= size:
            return
        room = max(size * 2, _ROUND)
        new = mmap.mmap(-1, room, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        new_address = ctypes.addressof(ctypes.c_char.from_buffer(new))
        for at, length in pages.in_use(self._copy_address, self._size):
            _copy(new_address + at, self._copy_address + at, length)
        self._copy, self._copy_address = new, new_address

    def keep(self, address: int, size: int, *, report: bool = False) -> pages.Runs:
        """Bring the copy up to date; the pages that changed."""
        del report
        if address != self._address:
            self.begin(address, size)
            return pages.in_use(address, size)
        runs = pages.written(address, self._size)
        for start, length in runs:
            _copy(self._copy_address + start, address + start, length)
        if size > self._size:
            runs += self._extend(size)
        return runs

    def undo(self, address: int, size: int) -> None:
        """Copy the written pages back."""
        del size
        runs = pages.written(address, self._size)
        for start, length in runs:
            _copy(address + start, self._copy_address + start, length)
        # That wrote to them once more: it is not to be taken for a change.
        if len(runs) > _FEW:
            pages.written(address, self._size)
        else:
            for start, length in runs:
                pages.written(address + start, length)

    def restore(self, address: int, size: int) -> None:
        """Copy the copy there, and watch that memory from now on."""
        for start, length in pages.in_use(self._copy_address, size):
            _copy(address + start, self._copy_address + start, length)
        pages.watch(address, size)
        pages.written(address, size)
        self._address, self._size = address, size

    def forget(self) -> None:
        """Drop the copy."""
        self._address = self._size = 0


class TrackWhenLarge:
    """Copies while little is in use, and tracks written pages once much is."""

    name = "copy used pages, track written pages from 4 MiB on"

    __slots__ = ("_engine",)

    def __init__(self) -> None:
        self._engine: CopyUsedPages | TrackWrittenPages = CopyUsedPages()

    def begin(self, address: int, size: int) -> None:
        """Remember the memory, and change the engine if it has become large."""
        self._engine.begin(address, size)
        if isinstance(self._engine, CopyUsedPages) and self._engine.used > _LARGE:
            self._engine = TrackWrittenPages()
            self._engine.begin(address, size)

    def keep(self, address: int, size: int, *, report: bool = False) -> pages.Runs:
        """Let the changes since ``begin`` stand; the pages that changed, if asked for."""
        return self._engine.keep(address, size, report=report)

    def undo(self, address: int, size: int) -> None:
        """Make the memory what it was at ``begin``."""
        self._engine.undo(address, size)

    def restore(self, address: int, size: int) -> None:
        """Put what was remembered into an empty memory."""
        self._engine.restore(address, size)

    def forget(self) -> None:
        """Drop what was remembered."""
        self._engine.forget()


@cache
def best_engine() -> type[CopyUsedPages] | type[TrackWhenLarge]:
    """The engine for this machine."""
    return TrackWhenLarge if pages.can_watch() else CopyUsedPages
