"""`Survey`: one bounded look at all that matters of one source, and the sums drawn from it."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from bridge.flow import Role
from bridge.flow.records import OPEN_STATES
from bridge.monitor.records import UNSETTLED, FlowList, State, Status
from bridge.monitor.watch import Watch, together
from bridge.principal import Principal

MOST_FLOWS: Final = 10_000
"""Flows of one state that a survey reads of each source."""


@dataclass(frozen=True, slots=True)
class Survey:
    """A source's status, and its flows that are not settled.

    Attributes:
        status: As told.
        flows: Of each state at most as many as asked for.
    """

    status: Status
    flows: FlowList

    def counted(self) -> Counter[tuple[Role, State, Principal]]:
        """How many flows there are of each role, state and peer."""
        return Counter((flow.role, flow.state, flow.peer) for flow in self.flows)

    def oldest_open(self, role: Role) -> int:
        """For how long the oldest open flow of a role is open, in nanoseconds; 0 if there is none.

        A failed flow counts as open only in the quotas, until the application took its outcome.
        """
        opened = [
            flow.opened for flow in self.flows if flow.role is role and flow.state in OPEN_STATES
        ]
        return max(0, self.status.time - min(opened)) if opened else 0

    def most_overdue(self, role: Role) -> int:
        """For how long a role's most overdue flow has been due, in nanoseconds; 0 if none is.

        What is due for flows that are settled is forgetting them, and not looked at.
        """
        due = [flow.due for flow in self.flows if flow.role is role and flow.due is not None]
        return max(0, self.status.time - min(due)) if due else 0


async def survey(watch: Watch, *, most_flows: int = MOST_FLOWS) -> Survey:
    """Look at a source once.

    Args:
        watch: The source.
        most_flows: How many flows of each state are read of it: however many there are of one, they
            hide none of another.

    Raises:
        BridgeError: As `Watch.status` raises.
    """

    async def read_flows() -> list[FlowList]:
        return await together(watch.flows(state=state, limit=most_flows) for state in UNSETTLED)

    status, found = await together([watch.status(), read_flows()])
    assert isinstance(status, Status)
    assert isinstance(found, list)
    flows = FlowList(
        source=watch.name,
        trust=watch.trust,
        flows=tuple(flow for some in found for flow in some),
        complete=all(some.complete for some in found),
    )
    return Survey(status, flows)
