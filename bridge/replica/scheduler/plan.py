"""What a subnet is going to do and when, as one record that can be kept."""

from dataclasses import dataclass

from bridge.principal import Principal
from bridge.replica.scheduler.clock import Position
from bridge.replica.state.events import Event


@dataclass(frozen=True, slots=True)
class Plan:
    """A subnet's clock, its plans, and which canisters have something to do now.

    Attributes:
        clock: Where the clock is.
        due: A heap of times, numbers that order equal times, and events.
        ties: The last of those numbers.
        line: The canisters with messages to process, in the order of their turns.
        heartbeats: The canisters that have one, in the order in which they get it.
        next_heartbeat: Nanoseconds since 1970.
        time: The subnet's time, in nanoseconds since 1970.
        fees: Whether memory and compute allocation cost cycles.
        charging: Whether the next charging is planned.
    """

    clock: Position
    due: tuple[tuple[int, int, Event], ...]
    ties: int
    line: tuple[Principal, ...]
    heartbeats: tuple[Principal, ...]
    next_heartbeat: int
    time: int
    fees: bool
    charging: bool
