"""The scenario matrix of the protocol, one module a group."""

from typing import Final

from bridge.conformance.results import ScenarioInfo

# Importing a group puts its scenarios into the table.
from bridge.conformance.scenarios import (
    chance,
    cycles,
    dialect,
    flows,
    hostile,
    integrity,
    lifecycle,
    outbox,
    receiver,
    saga,
    sender,
)
from bridge.conformance.scenarios.registry import Ends, Scenario
from bridge.conformance.scenarios.registry import table as _unsorted

__all__ = ["Ends", "Scenario", "catalogue", "table"]

_GROUPS: Final = {
    flows: "F",
    sender: "S",
    receiver: "R",
    integrity: "I",
    hostile: "H",
    lifecycle: "L",
    saga: "G",
    dialect: "D",
    outbox: "O",
    cycles: "C",
    chance: "N",
}
_ORDER: Final = "FSRIHLDOCGN"


def table() -> dict[str, Scenario]:
    """The scenarios by id, in the order of the protocol's matrix."""
    return dict(
        sorted(_unsorted().items(), key=lambda item: (_ORDER.index(item[0][0]), int(item[0][1:])))
    )


def catalogue() -> tuple[ScenarioInfo, ...]:
    """What there is to be played, in the matrix's order."""
    return tuple(scenario.info for scenario in table().values())


def modules() -> dict[str, str]:
    """The letters of the ids that each group's module holds."""
    return {module.__name__.rpartition(".")[2]: letters for module, letters in _GROUPS.items()}
