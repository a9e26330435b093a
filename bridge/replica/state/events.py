"""What is planned for a time, as plain records: so it can be copied, kept and read back.

Knows no clock, and not what happens when the time has come: the scheduler does.
"""

from dataclasses import dataclass
from typing import TypeAlias

from bridge.principal import Principal
from bridge.replica.state.messages import Origin


@dataclass(frozen=True, slots=True)
class CallDeadline:
    """A bounded-wait call of a canister expires."""

    canister_id: Principal
    callback_id: int


@dataclass(frozen=True, slots=True)
class TimerDue:
    """A canister's timer is to be looked at.

    Attributes:
        planned: For when this was planned; a later plan makes it void.
    """

    canister_id: Principal
    planned: int


@dataclass(frozen=True, slots=True)
class StopDeadline:
    """A request to stop a canister has waited long enough.

    Attributes:
        origin: Of that request.
    """

    canister_id: Principal
    origin: Origin


@dataclass(frozen=True, slots=True)
class ChargingDue:
    """All canisters pay for memory and compute allocation."""


Event: TypeAlias = CallDeadline | TimerDue | StopDeadline | ChargingDue
