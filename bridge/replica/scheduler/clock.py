"""The replica's time: real, moved ahead, or standing still until it is moved.

Nanoseconds since 1970, never going back.
"""

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """Where a clock is.

    Attributes:
        ahead: Nanoseconds by which it is ahead of the machine's time while it runs.
        last: The last time that it told, in nanoseconds since 1970.
        paused: Whether it stands still.
    """

    ahead: int
    last: int
    paused: bool


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

    def position(self) -> Position:
        """Where the clock is."""
        return Position(self._ahead, self._last, self._paused)

    def set_position(self, position: Position) -> None:
        """Put the clock to where it was.

        One that stands still then tells the same time as it did. One that runs is as far from the
        machine's time as it was, and so tells later times than any it had told then.
        """
        self._ahead, self._last = position.ahead, position.last
        self._paused = position.paused

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

    def stand_at(self, time: int) -> None:
        """Let time stand still at a later moment.

        Raises:
            ValueError: If that would go back.
        """
        if time < self.now():
            raise ValueError("the replica's time never goes back")
        self._last, self._paused = time, True

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
