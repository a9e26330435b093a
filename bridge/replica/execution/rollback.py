"""Undoing what a message did to a Wasm memory: one interface, and the engine that copies.

``CopyResidentPages`` remembers the pages that the kernel says are in use (a canister's memory is
mostly untouched address space), and puts them back. Its cost grows with the pages in use, not with
the memory's size. Knows only an address and a size.
"""

import ctypes
from typing import Final, Protocol

from bridge.replica.execution import pages
from bridge.replica.execution.native import move

# From this size on, a copy lets the other threads run.
_LONG: Final = 1024 * 1024


class Rollback(Protocol):
    """How the memory of one instance is remembered and restored."""

    name: str

    def begin(self, address: int, size: int) -> None:
        """Remember the ``size`` bytes at ``address``."""

    def undo(self, address: int, size: int) -> None:
        """Make the ``size`` bytes at ``address`` what they were at ``begin``."""


def _copy(to: int, source: int, size: int) -> None:
    if size < _LONG:
        move(to, source, size)
    else:
        ctypes.memmove(to, source, size)


class CopyResidentPages:
    """Copies the pages in use at ``begin``, and back at ``undo``."""

    name = "copy resident pages"

    __slots__ = ("_address", "_buffer", "_capacity", "_runs")

    def __init__(self) -> None:
        self._runs: list[tuple[int, int]] = []
        self._buffer: ctypes.Array[ctypes.c_char] = ctypes.create_string_buffer(1)
        self._address = ctypes.addressof(self._buffer)
        self._capacity = 0

    def begin(self, address: int, size: int) -> None:
        """Copy the pages in use."""
        runs = pages.in_use(address, size)
        needed = sum(length for _, length in runs)
        if needed > self._capacity:
            self._capacity = needed * 3 // 2
            self._buffer = ctypes.create_string_buffer(self._capacity)
            self._address = ctypes.addressof(self._buffer)
        at = self._address
        for start, length in runs:
            _copy(at, address + start, length)
            at += length
        self._runs = runs

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

    def contents(self) -> list[tuple[int, bytes]]:
        """The remembered pages, as offset and bytes, for an instance made anew."""
        out, at = [], self._address
        for start, length in self._runs:
            out.append((start, ctypes.string_at(at, length)))
            at += length
        return out
