"""How one message leaves: by the agent's own call of the peer, or by whoever forwards it.

Knows neither flows nor what is in flight.
"""

from typing import Protocol

from bridge import dialects
from bridge.agent import Agent
from bridge.flow import Transmit


class Carrier(Protocol):
    """Hands messages to the system.

    Attributes:
        until_outcome: Whether a message is under way no longer than `carry` takes. Where not, it
            may wait in a queue of the system's for ``call_timeout``.
    """

    @property
    def until_outcome(self) -> bool:
        """See the class."""
        ...

    async def carry(self, effect: Transmit) -> bool:
        """Hand over one message.

        Returns:
            Whether it left; where not, it certainly did not.

        Raises:
            NotSentError: If it certainly did not leave, either.
            CallNeverExecutedError: The same.
            BridgeError: As `Agent.update`; a reject is the peer's.
        """
        ...


class OwnCalls:
    """Calls the peer, as the agent.

    Args:
        agent: Through whom.
    """

    until_outcome = True

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def carry(self, effect: Transmit) -> bool:
        """See `Carrier.carry`."""
        method, arg = dialects.get(effect.dialect).call_for(effect.message)
        await self._agent.update(effect.peer, method, arg)
        return True
