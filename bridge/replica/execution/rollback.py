"""Undoing what a message did to a Wasm memory: one interface, and the engine that copies.

``CopyResidentPages`` remembers the pages that the kernel says are in use (a canister's memory is
mostly untouched address space), and puts them back. Its cost grows with the pages in use, not with
the memory's size. Knows only an address and a size.
"""

import ctypes
import mmap
import os
import re
import sys
from pathlib import Path
from typing import Final, Protocol

_PAGE: Final = mmap.PAGESIZE
_RUN: Final = re.compile(rb"\x01+")
# Each page's entry in /proc/self/pagemap has 8 bytes; in the highest, bit 7 says present and bit 6
# says swapped out. Either means that the page has contents of its own.
_IN_USE: Final = bytes(1 if byte & 0xC0 else 0 for byte in range(256))


class Rollback(Protocol):
    """How the memory of one instance is remembered and restored."""

    name: str

    def begin(self, address: int, size: int) -> None:
        """Remember the ``size`` bytes at ``address``."""

    def undo(self, address: int, size: int) -> None:
        """Make the ``size`` bytes at ``address`` what they were at ``begin``."""

    def keep(self) -> None:
        """Let the changes since ``begin`` stand."""


class ResidentPages:
    """Tells which pages of this process are in use, by the kernel's page map."""

    _file: int | None = None

    @classmethod
    def available(cls) -> bool:
        """Whether this kernel tells."""
        return sys.platform == "linux" and Path("/proc/self/pagemap").exists()

    @classmethod
    def runs(cls, address: int, size: int) -> list[tuple[int, int]]:
        """Start and length, in bytes from ``address``, of each run of pages in use."""
        if cls._file is None:
            cls._file = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        entries = os.pread(cls._file, size // _PAGE * 8, address // _PAGE * 8)
        flags = entries[7::8].translate(_IN_USE)
        return [
            (match.start() * _PAGE, (match.end() - match.start()) * _PAGE)
            for match in _RUN.finditer(flags)
        ]


class CopyResidentPages:
    """Copies the pages in use at ``begin``, and back at ``undo``.

    Executions that change nothing (queries, traps) leave the copy valid, so that the next ``begin``
    costs nothing.
    """

    name = "copy resident pages"

    __slots__ = ("_buffer", "_capacity", "_runs", "_valid")

    def __init__(self) -> None:
        self._runs: list[tuple[int, int]] = []
        self._buffer: ctypes.Array[ctypes.c_char] | None = None
        self._capacity = 0
        self._valid = False

    @staticmethod
    def _runs_of(address: int, size: int) -> list[tuple[int, int]]:
        if ResidentPages.available():
            return ResidentPages.runs(address, size)
        return [(0, size)] if size else []

    def begin(self, address: int, size: int) -> None:
        """Copy the pages in use."""
        if self._valid:
            return
        runs = self._runs_of(address, size)
        needed = sum(length for _, length in runs)
        if needed > self._capacity or self._buffer is None:
            self._capacity = needed * 3 // 2
            self._buffer = ctypes.create_string_buffer(self._capacity)
        at = ctypes.addressof(self._buffer)
        for start, length in runs:
            ctypes.memmove(at, address + start, length)
            at += length
        self._runs = runs
        self._valid = True

    def undo(self, address: int, size: int) -> None:
        """Copy the remembered pages back; pages first used since then become zero."""
        assert self._valid, "undo without begin"
        assert self._buffer is not None
        at = ctypes.addressof(self._buffer)
        before = dict(self._runs)
        for start, length in self._runs_of(address, size):
            if before.get(start) != length:
                self._clear_new(address, start, length)
        for start, length in self._runs:
            ctypes.memmove(address + start, at, length)
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

    def keep(self) -> None:
        """Drop the copy: the memory has changed for good."""
        self._valid = False

    def contents(self) -> list[tuple[int, bytes]]:
        """The remembered pages, as offset and bytes, for an instance made anew."""
        assert self._buffer is not None
        out, at = [], 0
        view = memoryview(self._buffer)
        for start, length in self._runs:
            out.append((start, bytes(view[at : at + length])))
            at += length
        return out
