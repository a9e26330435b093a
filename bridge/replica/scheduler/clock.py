"""The replica's time: real, moved ahead, or standing still until it is moved.

Nanoseconds since 1970, never going back.
"""

import time


class Clock:
    """Tells the time; while it runs, every telling is later than the one before.

    Args:
        start: The time at which it stands still from the start; by default it runs, with the
            machine's time.
    """

    def __init__(self, start: int | None = None) -> None:
        self._ahead = 0
        self._last = start or 0
        self._paused = start is not None

    @property
    def ahead(self) -> int:
        """How far the clock is ahead of the machine's, in nanoseconds; negative if behind."""
        return self._last - time.time_ns() if self._paused else self._ahead

    def now(self) -> int:
        """The time, in nanoseconds since 1970."""
        if not self._paused:
            self._last = max(time.time_ns() + self._ahead, self._last + 1)
        return self._last

    @property
    def paused(self) -> bool:
        """Whether time stands still."""
        return self._paused

    def pause(self) -> None:
        """Let time stand still."""
        self.now()
        self._paused = True

    def resume(self) -> None:
        """Let time run on from where it stands."""
        if self._paused:
            self._paused = False
            self._ahead = self._last - time.time_ns()

    def advance(self, nanoseconds: int) -> None:
        """Move the clock ahead.

        Raises:
            ValueError: If it would go back.
        """
        if nanoseconds < 0:
            raise ValueError("the replica's time never goes back")
        if self._paused:
            self._last += nanoseconds
        else:
            self._ahead += nanoseconds
