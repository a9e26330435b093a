"""How to speak to a peer to whom no flow was opened before.

Rule implemented: the protocol page, Dialects: configuration; else the peer's `candid:service`
metadata; else `unified`. The choice is stored with the flow, and remembered for the next one.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from bridge import dialects
from bridge.agent import Agent
from bridge.errors import BridgeError
from bridge.flow import Policy
from bridge.principal import Principal

_log = logging.getLogger("bridge.service")

_SECOND: Final = 1_000_000_000
DEFAULT_DIALECT: Final = "unified"
_PATIENCE: Final = 5.0
_TOLD_FOR: Final = 3600 * _SECOND
_SILENT_FOR: Final = 60 * _SECOND
_REMEMBERED: Final = 10_000


class PeerDialects:
    """Chooses the dialect of a new flow.

    Args:
        agent: Reads a peer's metadata, certified.
        policy: What is configured for single peers.
        clock: Nanoseconds since 1970.
    """

    def __init__(self, agent: Agent, policy: Policy, clock: Callable[[], int]) -> None:
        self._agent = agent
        self._policy = policy
        self._clock = clock
        self._known: dict[Principal, tuple[str, int]] = {}
        self._reading = asyncio.Lock()

    async def choose(self, peer: Principal, asked: str | None) -> str:
        """The dialect for a new flow to a peer.

        Args:
            peer: The receiver.
            asked: What the application asks for; it goes before everything else.

        Raises:
            UsageError: If there is no such dialect.
        """
        configured = self.configured(peer, asked)
        if configured is not None:
            return configured
        known = self._remembered(peer)
        if known is not None:
            return known
        async with self._reading:  # who waited for another's answer about this peer takes that
            return self._remembered(peer) or await self._read(peer)

    def configured(self, peer: Principal, asked: str | None) -> str | None:
        """The dialect that the application or the policy names; None where neither does.

        Raises:
            UsageError: If there is no such dialect.
        """
        name = asked or self._policy.peer(peer).dialect
        return None if name is None else dialects.get(name).name

    def _remembered(self, peer: Principal) -> str | None:
        dialect, until = self._known.get(peer, (None, 0))
        return dialect if self._clock() < until else None

    async def _read(self, peer: Principal) -> str:
        """What the peer's metadata tells; the default where it tells nothing in a few seconds."""
        found = None
        try:
            async with asyncio.timeout(_PATIENCE):
                text = await self._agent.metadata(peer, "candid:service")
            found = None if text is None else dialects.detect(text.decode())
        except (BridgeError, TimeoutError, UnicodeDecodeError) as error:
            _log.info(
                "%s does not tell its dialect, %s is spoken: %s", peer, DEFAULT_DIALECT, error
            )
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[peer] = (
            found or DEFAULT_DIALECT,
            self._clock() + (_TOLD_FOR if found else _SILENT_FOR),
        )
        return found or DEFAULT_DIALECT
