"""Stable memory: pages that appear when written, and a journal that undoes one message.

Copies share their pages: a page is replaced, never changed, once it may belong to another copy.

Rule implemented: interface specification, section Stable memory. Snapshots keep main memories in
the same way. Knows nothing of Wasm instances.
"""

from collections.abc import Iterable
from typing import Final, Self

WASM_PAGE: Final = 65_536
_PAGE_BITS: Final = 14
_PAGE: Final = 1 << _PAGE_BITS
_IN_PAGE: Final = _PAGE - 1
_ZEROS: Final = memoryview(bytes(_PAGE))


class StableMemory:
    """A sparse memory of 64 KiB pages, all zero at first.

    Only one thread at a time may use it; ``kept_size`` alone may be read by all.

    Args:
        limit: The largest size, in Wasm pages.

    Attributes:
        written: Numbers of pages written and kept since they were last taken; ``None`` while nobody
            wants to know.
    """

    __slots__ = ("_journal", "_own", "_pages", "_size_before", "kept_size", "limit", "size",
                 "written")  # fmt: skip

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.kept_size = 0
        self._pages: dict[int, memoryview] = {}
        # Pages that no copy and no journal knows, and that may so be changed in place.
        self._own: set[int] = set()
        self._journal: dict[int, memoryview | None] | None = None
        self._size_before = 0
        self.written: set[int] | None = None

    def grow(self, pages: int) -> int:
        """Grow by ``pages`` Wasm pages; the old size, or -1 if the limit forbids it."""
        if pages > self.limit - self.size:
            return -1
        before = self.size
        self.size += pages
        return before

    def read(self, offset: int, size: int) -> bytes:
        """Bytes ``offset`` to ``offset + size``.

        Raises:
            IndexError: If that reaches beyond the size.
        """
        data = bytearray(size if offset + size <= self.size * WASM_PAGE else 0)
        self.read_into(memoryview(data), 0, offset, size)
        return bytes(data)

    def read_into(self, view: memoryview, at: int, offset: int, size: int) -> None:
        """Copy bytes ``offset`` to ``offset + size`` into another memory, at ``at``.

        Raises:
            IndexError: If that reaches beyond the size.
        """
        if offset + size > self.size * WASM_PAGE:
            raise IndexError(offset)
        pages = self._pages
        number, start = offset >> _PAGE_BITS, offset & _IN_PAGE
        end = start + size
        while end > _PAGE:
            part = _PAGE - start
            view[at : at + part] = pages.get(number, _ZEROS)[start:]
            number, start = number + 1, 0
            at, size, end = at + part, size - part, end - _PAGE
        view[at : at + size] = pages.get(number, _ZEROS)[start:end]

    def write(self, offset: int, data: bytes) -> None:
        """Write ``data`` at ``offset``.

        Raises:
            IndexError: If that reaches beyond the size.
        """
        self.write_from(memoryview(data), 0, offset, len(data))

    def write_from(self, view: memoryview, at: int, offset: int, size: int) -> None:
        """Copy bytes of another memory, from ``at`` on, to ``offset`` and the following.

        Raises:
            IndexError: If that reaches beyond the size.
        """
        if offset + size > self.size * WASM_PAGE:
            raise IndexError(offset)
        number, start = offset >> _PAGE_BITS, offset & _IN_PAGE
        end = start + size
        while end > _PAGE:
            part = _PAGE - start
            self._writable(number)[start:] = view[at : at + part]
            number, start = number + 1, 0
            at, size, end = at + part, size - part, end - _PAGE
        if size:
            page = self._pages[number] if number in self._own else self._writable(number)
            page[start:end] = view[at : at + size]

    def _writable(self, number: int) -> memoryview:
        """A page to be changed in place, which ``undo`` has as it was."""
        page = self._pages.get(number)
        if page is not None and number in self._own:
            return page
        if self._journal is not None:
            self._journal.setdefault(number, page)
        page = self._pages[number] = memoryview(bytearray(_PAGE if page is None else page))
        self._own.add(number)
        return page

    @property
    def touched(self) -> int:
        """Bytes of the pages written since ``begin``: what this message's writing holds."""
        return len(self._journal) * _PAGE if self._journal is not None else 0

    def begin(self) -> None:
        """Start to remember what is overwritten."""
        self._journal = {}
        # Until they are in the journal, they are to be left as they are.
        self._own.clear()
        self._size_before = self.size

    def keep(self) -> None:
        """Let the changes since ``begin`` stand."""
        if self.written is not None and self._journal:
            self.written.update(self._journal)
        self._journal = None
        self.kept_size = self.size

    def undo(self) -> None:
        """Go back to the state at ``begin``."""
        for number, page in (self._journal or {}).items():
            self._own.discard(number)
            if page is None:
                self._pages.pop(number, None)
            else:
                self._pages[number] = page
        self.size = self._size_before
        self._journal = None

    def take_written(self) -> dict[int, bytes]:
        """The pages that were written and kept since the last time, by their offsets."""
        written, self.written = self.written or set(), set()
        pages = self._pages
        return {number * _PAGE: bytes(pages[number]) for number in written if number in pages}

    def take_all(self) -> dict[int, bytes]:
        """All pages, by their offsets; from now on, what is written is recorded."""
        self.written = set()
        return self.pages()

    def pages(self) -> dict[int, bytes]:
        """All pages that were written, by their offsets."""
        return {number * _PAGE: bytes(page) for number, page in self._pages.items()}

    @classmethod
    def of_pages(cls, limit: int, size: int, contents: Iterable[tuple[int, bytes]]) -> Self:
        """A memory of ``size`` Wasm pages with these pages, as ``take_all`` gave them."""
        made = cls(limit)
        made.size = made.kept_size = size
        made._pages = {offset // _PAGE: memoryview(bytearray(page)) for offset, page in contents}
        return made

    def parts(self) -> list[tuple[int, bytes]]:
        """What has been written: offset and bytes; the rest is zero."""
        end = self.size * WASM_PAGE
        return [
            (number * _PAGE, bytes(page[: end - number * _PAGE]))
            for number, page in sorted(self._pages.items())
        ]

    @classmethod
    def of(cls, size: int, parts: list[tuple[int, bytes]]) -> "StableMemory":
        """A memory of ``size`` Wasm pages with these contents."""
        made = cls(size)
        made.grow(size)
        for offset, data in parts:
            made.write(offset, data)
        return made

    def copy(self) -> "StableMemory":
        """An independent copy, which shares the pages until one of the two writes to them."""
        other = StableMemory(self.limit)
        other.size = other.kept_size = self.size
        other._pages = dict(self._pages)
        self._own.clear()
        return other

    def take_from(self, other: "StableMemory") -> None:
        """Become equal to a copy made earlier; the journal of this message stays valid."""
        journal = self._journal
        theirs = other._pages  # noqa: SLF001 - same class
        for number in [number for number in self._pages if number not in theirs]:
            page = self._pages.pop(number)
            if journal is not None:
                journal.setdefault(number, page)
        for number, page in theirs.items():
            own = self._pages.get(number)
            if own is not page:
                if journal is not None:
                    journal.setdefault(number, own)
                self._pages[number] = page
        self._own.clear()
        other._own.clear()  # noqa: SLF001 - same class
        self.size = other.size

    def reset_to(self, other: "StableMemory") -> None:
        """Become equal to a copy made earlier, outside of any message."""
        self._journal = None
        self.take_from(other)
        self.kept_size = self.size
