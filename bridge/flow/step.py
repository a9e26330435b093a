"""The door to the tables: one event on one flow."""

from bridge.flow.effects import Effect
from bridge.flow.events import Event
from bridge.flow.policy import Policy
from bridge.flow.records import Flow
from bridge.flow.transition import Transition


def step(record: Flow | None, event: Event, now: int, policy: Policy) -> Transition:
    """Decide one event on one flow.

    Args:
        record: The stored flow; None if there is none.
        event: What happened.
        now: Nanoseconds since 1970.
        policy: The settings.

    Raises:
        LocalProtocolError: If the application asked for what the state does not allow; nothing
            changes. What a peer sends never raises.
    """
    raise NotImplementedError


def is_current(record: Flow | None, effect: Effect, now: int, policy: Policy) -> bool:
    """Whether a pending effect is still wanted, right before it is carried out.

    Args:
        record: The flow as it is stored now; None if there is none.
        effect: The pending effect.
        now: Nanoseconds since 1970.
        policy: The settings.
    """
    raise NotImplementedError
