"""The replica's time: real, or real and moved ahead. Nanoseconds since 1970, never going back."""

import time


class Clock:
    """Tells the time; every telling is later than the one before."""

    def __init__(self) -> None:
        self._ahead = 0
        self._last = 0

    @property
    def ahead(self) -> int:
        """How far the clock has been moved ahead of the machine's, in nanoseconds."""
        return self._ahead

    def now(self) -> int:
        """The time, in nanoseconds since 1970."""
        self._last = max(time.time_ns() + self._ahead, self._last + 1)
        return self._last

    def advance(self, nanoseconds: int) -> None:
        """Move the clock ahead.

        Raises:
            ValueError: If it would go back.
        """
        if nanoseconds < 0:
            raise ValueError("the replica's time never goes back")
        self._ahead += nanoseconds
