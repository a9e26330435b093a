"""Reading a canister's bounded history on, so that no event is told twice and no gap is hidden.

Each look asks for the last event that is known once more: if it is no longer there, or is another
one, the history is not the one that was read. Knows no network; it is given a way to ask.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from bridge.errors import WatchContractError
from bridge.monitor.records import EventsMissed, FlowEvent, HistoryReset

LOOK: Final = 1_000
"""Events that one look asks for; canisters give no more."""

Ask = Callable[[int, int, bool], Awaitable[list[FlowEvent]]]
"""Asks for events after a number, at most so many; whether the whole subnet has to agree."""


class History:
    """One reader's place in a history.

    Args:
        ask: How to ask.
        after: The last event that is known, or its number.
    """

    def __init__(self, ask: Ask, after: int | FlowEvent) -> None:
        self._ask = ask
        self._known = after if isinstance(after, FlowEvent) else None
        self._seq = after.seq if isinstance(after, FlowEvent) else after

    async def read(self) -> tuple[list[FlowEvent | EventsMissed | HistoryReset], bool]:
        """What is new, and whether more may wait: until nothing is new.

        Raises:
            WatchContractError: If the numbers of events do not grow.
            BridgeError: As the way to ask raises.
        """
        events = await self._ask(max(0, self._seq - 1), LOOK, False)
        if not self._goes_on(events):
            # It may only be that the node that answered lags behind: the subnet has to say it.
            events = await self._ask(self._seq - 1, LOOK, True)
            if not self._goes_on(events):
                reset = HistoryReset(self._seq)
                self._known, self._seq = None, 0
                return [reset], True
        told: list[FlowEvent | EventsMissed | HistoryReset] = []
        for event in events:
            if event.seq == self._seq:  # the one that is known
                self._known = event
                continue
            if event.seq < self._seq:
                raise WatchContractError(
                    f"the history tells event {event.seq} after event {self._seq}",
                    hint="events are numbered in their order; ask certified",
                )
            if event.seq > self._seq + 1:
                told.append(EventsMissed(self._seq + 1, event.seq - 1))
            told.append(event)
            self._known, self._seq = event, event.seq
        return told, bool(told)

    def _goes_on(self, events: list[FlowEvent]) -> bool:
        """Whether these events belong to the history that was read so far."""
        if self._seq == 0:
            return True
        if not events:
            return False
        first = events[0]
        return first.seq != self._seq or self._known in (None, first)
