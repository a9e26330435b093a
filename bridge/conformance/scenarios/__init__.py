"""The scenario matrix of the protocol, one module a group."""

from bridge.conformance.results import ScenarioInfo
from bridge.conformance.scenarios import flows, hostile, integrity, receiver, sender
from bridge.conformance.scenarios.registry import Ends, Scenario, table

__all__ = ["Ends", "Scenario", "catalogue", "flows", "hostile", "integrity", "receiver", "sender", "table"]


def catalogue() -> tuple[ScenarioInfo, ...]:
    """What there is to be played, in the matrix's order."""
    return tuple(scenario.info for scenario in table().values())
