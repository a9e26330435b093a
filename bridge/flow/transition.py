"""The result of one step."""

from dataclasses import dataclass

from bridge.flow.effects import Effect
from bridge.flow.records import Flow


@dataclass(frozen=True, slots=True)
class Transition:
    """What a step decided. Commit ``flow``, then carry ``effects`` out in their order.

    Args:
        flow: The record to be stored; None if there is none, or it is to be forgotten. The same
            object that went in if nothing was set in it.
        effects: What to do after the commit.
        rows: Names of the table rows that decided, in order (``bridge.flow.tables``).
    """

    flow: Flow | None
    effects: tuple[Effect, ...] = ()
    rows: tuple[str, ...] = ()
