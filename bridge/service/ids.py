"""Mints the ids of our own flows: ULIDs read as one big-endian integer, strictly increasing.

Rule implemented: the protocol page, Terms, `msg_id`; the ULID specification.
"""

from collections.abc import Callable

from ulid import ULIDGenerator

_NS_PER_MS = 1_000_000


class Mint:
    """Mints ids that are larger than every one before, whatever the clock does.

    Args:
        clock: Nanoseconds since 1970.
        last: The largest id minted before, also in an earlier process.
    """

    def __init__(self, clock: Callable[[], int], last: int = 0) -> None:
        self._generator = ULIDGenerator(clock=lambda: clock() // _NS_PER_MS)
        self.last = last

    def next(self) -> int:
        """A fresh id below 2^128."""
        self.last = max(int(self._generator.generate()), self.last + 1)
        return self.last
