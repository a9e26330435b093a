"""What concerns no single flow: observed time, the rate of unknown-ACK FINs, paid marks.

Whoever runs the tables keeps one of each, and persists what is to survive a restart:
``ObservedTime`` and the paid marks.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from bridge.flow.policy import Policy
from bridge.principal import Principal

_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ObservedTime:
    """Time as a receiver has watched it pass; its tombstones age by it.

    After days of standstill only one ``time_gap`` has passed, so that a duplicate which waited as
    long still meets its tombstone.

    Args:
        last: The clock when it was last looked at.
        lag: How far observed time stands behind the clock; negative after the clock was set back.
    """

    last: int
    lag: int = 0

    def observe(self, now: int, policy: Policy) -> Self:
        """Look at the clock: first thing in every message and every tick."""
        passed = now - self.last
        counted = max(0, min(passed, policy.time_gap))
        return type(self)(now, self.lag + passed - counted)

    def next_look(self, policy: Policy) -> int:
        """When to look again at the latest, while there are tombstones."""
        return self.last + policy.time_gap // 2


@dataclass(frozen=True, slots=True)
class FinRate:
    """The one global rate at which ACKs that name no flow are answered.

    Args:
        since: Start of the second that is counted in.
        used: FINs in that second.
    """

    since: int = 0
    used: int = 0

    def take(self, now: int, policy: Policy) -> tuple[Self, bool]:
        """The next record, and whether one more FIN may be sent."""
        in_this_second = self.since <= now < self.since + _SECOND
        fresh = self if in_this_second else type(self)(now, 0)
        if fresh.used >= policy.unknown_fins_per_second:
            return fresh, False
        return type(self)(fresh.since, fresh.used + 1), True


class PaidMarks:
    """Flows whose cycles were accepted although no record of them is kept.

    They count apart from the flows: at most as many as tombstones may be, of one peer and in all.

    Args:
        until: When each mark may go, by peer and id.
    """

    def __init__(self, until: Mapping[tuple[Principal, int], int] | None = None) -> None:
        self.until: Final = dict(until or {})
        self._of_peer = Counter(peer for peer, _ in self.until)

    def left(self, peer: Principal, policy: Policy) -> int:
        """How many more marks of a peer may be kept."""
        of_peer = policy.tombstones_per_peer - self._of_peer[peer]
        return max(0, min(of_peer, policy.tombstones - len(self.until)))

    def remember(self, peer: Principal, msg_id: int, until: int, policy: Policy) -> bool:
        """Keep one more mark; whether there is room for it."""
        self.forget(peer, msg_id)
        if not self.left(peer, policy):
            return False
        self.until[peer, msg_id] = until
        self._of_peer[peer] += 1
        return True

    def forget(self, peer: Principal, msg_id: int) -> None:
        """Drop a mark: its flow is stored, and says itself that it is paid for."""
        if self.until.pop((peer, msg_id), None) is not None:
            self._of_peer[peer] -= 1
            if not self._of_peer[peer]:
                del self._of_peer[peer]

    def holds(self, peer: Principal, msg_id: int, now: int) -> bool:
        """Whether the flow is marked as paid."""
        return now < self.until.get((peer, msg_id), now)

    def prune(self, now: int) -> None:
        """Drop the marks whose time is over."""
        for key in [key for key, until in self.until.items() if until <= now]:
            self.forget(*key)
