"""Hands messages to the system, and says what became of each as an event of the protocol.

Rule implemented: the protocol page, Sender, the rows of what did not leave and what was rejected.
Bounds what is in flight to one peer. The outcome of an agent's call is known when it ends, so that
is when it leaves the count; what a mailbox forwards counts as a canister's.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import Enum
from weakref import WeakValueDictionary

from bridge.agent.error_codes import NO_SUCH_TARGET
from bridge.errors import (
    BridgeError,
    CallNeverExecutedError,
    CallRejectedError,
    NotSentError,
    StoreError,
    TrustError,
)
from bridge.flow import Message, NotSent, Policy, Refused, Rejected, Transmit
from bridge.flow.inflight import InFlight
from bridge.principal import Principal
from bridge.service.carrier import Carrier

_log = logging.getLogger("bridge.service")


class Handed(Enum):
    """What became of a transmission that nothing went wrong with."""

    EXECUTED = "executed"
    DROPPED = "dropped"


class Transmitter:
    """Carries `Transmit` effects out.

    Args:
        carrier: Hands single messages over.
        policy: Bounds what is in flight to one peer.
        clock: Nanoseconds since 1970.
        concurrency: How many calls may be open to all peers, and half as many to one, so that a
            peer whose calls hang does not hold up the messages to others.
    """

    def __init__(
        self, carrier: Carrier, policy: Policy, *, clock: Callable[[], int], concurrency: int
    ) -> None:
        self._carrier = carrier
        self._policy = policy
        self._clock = clock
        self._slots = asyncio.Semaphore(concurrency)
        self._share = max(1, concurrency // 2)
        self._of_peer: WeakValueDictionary[Principal, asyncio.Semaphore] = WeakValueDictionary()
        self._in_flight = InFlight(until_outcome=carrier.until_outcome)

    def has_room(self, peer: Principal, *, more: int = 0) -> bool:
        """Whether another transmission to this peer fits, beside ``more`` that are planned."""
        return self._in_flight.count(peer, self._clock()) + more < self._policy.in_flight

    def reset(self) -> None:
        """Count from nothing again: every transmission has ended or was cut off."""
        self._in_flight = InFlight(until_outcome=self._carrier.until_outcome)

    def heard(self, peer: Principal, message: Message) -> None:
        """A message came: what it answers is in flight no more."""
        self._in_flight.heard(peer, message)

    def begin(self, effect: Transmit) -> int:
        """Count a transmission as in flight, from its decision on.

        Returns:
            A token for `transmit`.
        """
        return self._in_flight.started(effect.peer, [effect.message], self._clock(), self._policy)

    async def transmit(
        self, effect: Transmit, token: int, wanted: Callable[[], Awaitable[bool]]
    ) -> NotSent | Refused | Rejected | Handed:
        """Call the peer.

        Args:
            effect: What to transmit.
            token: What `begin` returned for it.
            wanted: Whether it still is; asked right before it is handed to the system, since the
                wait for a free call may have taken its time.

        Returns:
            The event that says what went wrong, or what became of it otherwise.
        """
        ended = True
        try:
            result = await self._carry(effect, wanted)
            left = not isinstance(result, NotSent) and result is not Handed.DROPPED
            ended = self._carrier.until_outcome or not left
            return result
        finally:
            if ended:
                self._in_flight.ended(effect.peer, token)

    async def _carry(
        self, effect: Transmit, wanted: Callable[[], Awaitable[bool]]
    ) -> NotSent | Refused | Rejected | Handed:
        of_peer = self._of_peer.setdefault(effect.peer, asyncio.Semaphore(self._share))
        try:
            async with of_peer, self._slots:
                try:
                    if not await wanted():
                        return Handed.DROPPED
                except StoreError as error:
                    _log.error("nothing is sent to %s: %s", effect.peer, error)
                    return NotSent(transmit=effect)
                left = await self._carrier.carry(effect)
        except (NotSentError, CallNeverExecutedError):
            return NotSent(transmit=effect)
        except CallRejectedError as error:
            if error.certified and (error.code == 3 or error.error_code in NO_SUCH_TARGET):
                return Refused(transmit=effect)
            return Rejected(transmit=effect)
        except TrustError as error:
            _log.warning("an answer of %s cannot be believed: %s", effect.peer, error)
            return Rejected(transmit=effect)
        except BridgeError:
            return Rejected(transmit=effect)
        return Handed.EXECUTED if left else NotSent(transmit=effect)
