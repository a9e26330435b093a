"""Messages held back on their way: delayed, or overtaken by others.

Requests of one canister to another keep their order, as the specification promises of those that
are executed: behind one that is held wait all later ones of the pair. Plain records, no clock.
"""

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Final

from bridge.replica.state.messages import Request, Response

QUIET: Final = -1
"""In the place of a time: until nothing else is left to do."""
AT_ONCE: Final = 0
"""In the place of a time: for its own sake it need not wait."""


@dataclass(slots=True, eq=False)
class Held:
    """One message that is held back.

    Attributes:
        until: A time in nanoseconds since 1970, ``QUIET`` or ``AT_ONCE``.
    """

    message: Request | Response
    until: int


class HeldMessages:
    """All that are held back, in lanes; within a lane, none overtakes another."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, deque[Held]] = {}
        self._alone = 0

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def __iter__(self) -> Iterator[Held]:
        for lane in self._lanes.values():
            yield from lane

    def blocks(self, lane: Hashable) -> bool:
        """Whether a message of this lane has to wait behind others."""
        return lane in self._lanes

    def hold(self, message: Request | Response, until: int, lane: Hashable = None) -> None:
        """Hold a message back, behind those of its lane; without a lane, on its own."""
        if lane is None:
            self._alone += 1
            lane = self._alone
        self._lanes.setdefault(lane, deque()).append(Held(message, until))

    def next_due(self) -> int | None:
        """When the next one can go because of the time."""
        times = [lane[0].until for lane in self._lanes.values() if lane[0].until > 0]
        return min(times, default=None)

    def due(self, now: int) -> list[Request | Response]:
        """Take out those whose time has come."""
        return self._take(now, quiet=False)

    def at_quiet(self, now: int) -> list[Request | Response]:
        """Take out those that waited until nothing else is left to do now."""
        return self._take(now, quiet=True)

    def _take(self, now: int, *, quiet: bool) -> list[Request | Response]:
        freed: list[Request | Response] = []
        for name, lane in tuple(self._lanes.items()):
            while lane and (quiet if lane[0].until == QUIET else lane[0].until <= now):
                freed.append(lane.popleft().message)
            if not lane:
                del self._lanes[name]
        return freed
