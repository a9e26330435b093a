"""What makes ``ic-bridge watch`` leave with which code, decided here alone.

Conditions are states of flows, and ``overdue``; a source that could not be looked at gives the code
of what stood in the way. Asks and prints nothing.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final, Self

from bridge.errors import BridgeError, StoreError
from bridge.monitor.records import STATES, FlowList
from bridge.monitor.watch import state_named

HOLDS: Final = 1
"""The exit code if a condition holds, or cannot be excluded."""

_NOT_REACHED: Final = 3  # a store is as far away as a network
_OVERDUE: Final = "overdue"


def code_of(error: BridgeError) -> int:
    """The exit code for a source that could not be looked at."""
    return _NOT_REACHED if isinstance(error, StoreError) else error.exit_code


class Conditions:
    """Conditions that flows are not to fulfil.

    Args:
        names: Names of states, and ``overdue``.

    Raises:
        UsageError: If there is no such state.
    """

    NAMES: Final = (*STATES, _OVERDUE)

    def __init__(self, names: Collection[str] = ()) -> None:
        for name in sorted(set(names) - {_OVERDUE}):
            state_named(name)
        self._names = frozenset(names)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Conditions by their names, with commas between them; raises as the class."""
        return cls([part.strip() for part in text.split(",")])

    def unseen(self, looked_for: Collection[str] | None) -> list[str]:
        """Which of them could never hold where only these states are looked for; ``None``: all."""
        if looked_for is None:
            return []
        return sorted(self._names - {_OVERDUE, *looked_for})

    def states(self, looked_for: Sequence[str] | None) -> Sequence[str] | None:
        """Of which states all flows have to be known, of those that are looked for.

        Nothing if there is no condition. Where flows may be overdue, any state.
        """
        return looked_for if _OVERDUE in self._names else sorted(self._names)

    def that_hold(self, flows: FlowList, *, now: int, grace: int) -> list[str]:
        """What is to be complained of, in words.

        Args:
            flows: All flows of the states that `states` names, and any others.
            now: The time of their source.
            grace: For how long something may be due before it is overdue, in nanoseconds.
        """
        counts: Counter[str] = Counter()
        for flow in flows:
            counts[str(flow.state)] += 1
            counts[_OVERDUE] += flow.due is not None and flow.due + grace < now
        told = [
            f"{counts[name]} {'flow is' if counts[name] == 1 else 'flows are'} {name}"
            for name in sorted(self._names)
            if counts[name]
        ]
        if self._names and not flows.complete:
            told.append(f"there are more flows than the {len(flows)} that were looked at")
        return told
