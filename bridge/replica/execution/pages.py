"""What the kernel knows of this process's pages: which are in use, and which were written.

Three sources, best first: ``PAGEMAP_SCAN`` (Linux 6.7 and later), which walks only what is there;
``/proc/self/pagemap`` (Linux), which tells of every page; none (elsewhere). Knows only addresses.
"""

import ctypes
import mmap
import os
import re
import struct
import sys
import threading
from functools import cache
from typing import Final

if sys.platform == "linux":
    import fcntl

PAGE: Final = mmap.PAGESIZE
_RUN: Final = re.compile(rb"\x01+")
# Each page's entry in the page map has 8 bytes; in the highest, bit 7 says present and bit 6 says
# swapped out. Either means that the page has contents of its own.
_IN_USE: Final = bytes(1 if byte & 0xC0 else 0 for byte in range(256))

# <linux/fs.h>: _IOWR('f', 16, struct pm_scan_arg), and its flags and categories.
_PAGEMAP_SCAN: Final = 0xC060_6610
_SCAN_ARGUMENT: Final = struct.Struct("=12Q")
_WRITE_PROTECT: Final = 1 << 0
_CHECK_ASYNC: Final = 1 << 1
_WRITTEN: Final = 1 << 1
_PRESENT: Final = 1 << 3
_SWAPPED: Final = 1 << 4
_REGIONS: Final = 512
# Runs this close are taken as one: copying the gap costs less than another copy does.
_GAP: Final = 4 * PAGE

Runs = list[tuple[int, int]]
"""Start and length of each run of pages, in bytes from where the memory begins."""


class _Buffer(threading.local):
    """Where the kernel writes the regions that it found; one for each thread."""

    def __init__(self) -> None:
        self.regions = (ctypes.c_uint64 * (3 * _REGIONS))()
        self.address = ctypes.addressof(self.regions)


_buffer: Final = _Buffer()


@cache
def _page_map(_process: int) -> int | None:
    """The open page map of this process, where the kernel has one."""
    if sys.platform != "linux":
        return None
    try:
        return os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _scan(page_map: int, address: int, size: int, *, any_of: int, flags: int) -> Runs:
    """The runs of pages of any of the categories.

    Raises:
        OSError: If this kernel cannot scan.
    """
    runs: Runs = []
    start, end = address, address + size
    while start < end:
        argument = bytearray(
            _SCAN_ARGUMENT.pack(
                _SCAN_ARGUMENT.size,
                flags,
                start,
                end,
                0,
                _buffer.address,
                _REGIONS,
                0,
                0,
                0,
                any_of,
                any_of & (_PRESENT | _WRITTEN),
            )
        )
        count = fcntl.ioctl(page_map, _PAGEMAP_SCAN, argument, True)
        found = _buffer.regions[: 3 * count]
        for first, last in zip(found[::3], found[1::3], strict=True):
            begin, end_of_run = first - address, last - address
            if runs and begin - runs[-1][0] - runs[-1][1] <= _GAP:
                begin = runs.pop()[0]
            runs.append((begin, end_of_run - begin))
        start = int.from_bytes(argument[32:40], sys.byteorder)
        if count < _REGIONS:
            break
    return runs


@cache
def _can_scan(process: int) -> bool:
    page_map = _page_map(process)
    if page_map is None:
        return False
    try:
        _scan(page_map, _buffer.address & -PAGE, PAGE, any_of=_PRESENT, flags=0)
    except OSError:
        return False
    return True


def in_use(address: int, size: int) -> Runs:
    """The runs of pages in use; pages outside of them are zero.

    Where the kernel does not tell, everything is in use.
    """
    process = os.getpid()
    page_map = _page_map(process)
    if not size:
        return []
    if page_map is None:
        return [(0, size)]
    if _can_scan(process):
        return _scan(page_map, address, size, any_of=_PRESENT | _SWAPPED, flags=0)
    entries = os.pread(page_map, size // PAGE * 8, address // PAGE * 8)
    flags = entries[7::8].translate(_IN_USE)
    runs = []
    for match in _RUN.finditer(flags):
        start, end = match.span()
        runs.append((start * PAGE, (end - start) * PAGE))
    return runs


# <linux/userfaultfd.h>: asynchronous write protection, with which the kernel itself lets a write
# pass and notes the page.
_SYSCALL: Final = {"x86_64": 323, "aarch64": 282}
_USER_MODE_ONLY: Final = 1
_API: Final = 0xC018_AA3F
_REGISTER: Final = 0xC020_AA00
_API_NUMBER: Final = 0xAA
_FEATURE_WP_ASYNC: Final = 1 << 15
_MODE_WP: Final = 1 << 1


@cache
def _watcher(_process: int) -> int | None:
    """A descriptor that can watch memory of this process, where the kernel gives one."""
    number = _SYSCALL.get(os.uname().machine) if sys.platform == "linux" else None
    if number is None:
        return None
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = library.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY)
    if descriptor < 0:
        return None
    try:
        fcntl.ioctl(
            descriptor, _API, bytearray(struct.pack("=3Q", _API_NUMBER, _FEATURE_WP_ASYNC, 0)), True
        )
    except OSError:
        os.close(descriptor)
        return None
    return int(descriptor)


def watch(address: int, size: int) -> None:
    """Let the kernel note which pages of a range are written from now on.

    Raises:
        OSError: If it cannot.
    """
    watcher = _watcher(os.getpid())
    assert watcher is not None
    fcntl.ioctl(watcher, _REGISTER, bytearray(struct.pack("=4Q", address, size, _MODE_WP, 0)), True)


def written(address: int, size: int) -> Runs:
    """The runs of pages of a watched range that were written since this was last asked."""
    page_map = _page_map(os.getpid())
    assert page_map is not None
    if not size:
        return []
    return _scan(page_map, address, size, any_of=_WRITTEN, flags=_WRITE_PROTECT | _CHECK_ASYNC)


@cache
def can_watch() -> bool:
    """Whether this kernel notes written pages, as a trial shows."""
    if _watcher(os.getpid()) is None or not _can_scan(os.getpid()):
        return False
    count = 64
    trial = mmap.mmap(-1, count * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(trial))
    try:
        trial[0] = 1
        watch(address, count * PAGE)
        written(address, count * PAGE)
        if written(address, count * PAGE):
            return False
        trial[20 * PAGE] = trial[0] = 1
        return written(address, count * PAGE) == [(0, PAGE), (20 * PAGE, PAGE)]
    except OSError:
        return False
