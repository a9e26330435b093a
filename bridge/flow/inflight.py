"""How many transmissions are in flight to each peer, and to whom room goes first.

Rule implemented: the protocol page, section Messages, "in flight". A small table in memory, lost by
a restart without harm: calls that left before it are bounded-wait calls.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from bridge.flow.messages import Ack, Fin, Message, kind_of
from bridge.flow.policy import Policy
from bridge.flow.records import Flow, ReceiverFlow, SenderFlow
from bridge.flow.states import SenderState
from bridge.principal import Principal

FLOWS_A_TICK: Final = 100
BYTES_A_TICK: Final = 1_900_000


@dataclass(slots=True)
class _Calls:
    """What is in flight to one peer.

    A call is a token. ``open`` knows what each still waits for; a call whose messages were all
    answered is in flight no more.
    """

    open: dict[int, set[tuple[str, int]]] = field(default_factory=dict)
    by_message: dict[tuple[str, int], set[int]] = field(default_factory=dict)
    expiries: list[tuple[int, int]] = field(default_factory=list)

    def drop(self, token: int) -> None:
        for message in self.open.pop(token, ()):
            tokens = self.by_message[message]
            tokens.discard(token)
            if not tokens:
                del self.by_message[message]


class InFlight:
    """Calls in flight, by peer.

    Args:
        until_outcome: For an agent, whose calls count until their outcome is known. A canister's
            calls count for ``call_timeout`` + ``call_margin``, since it never learns the outcome.
    """

    def __init__(self, *, until_outcome: bool = False) -> None:
        self._until_outcome = until_outcome
        self._peers: dict[Principal, _Calls] = {}
        self._token = 0

    def started(
        self, peer: Principal, messages: Iterable[Message], now: int, policy: Policy
    ) -> int:
        """One call leaves; a batch is one.

        Returns:
            A token for ``ended``.
        """
        calls = self._peers.setdefault(peer, _Calls())
        self._token += 1
        carried = {(kind_of(message), message.msg_id) for message in messages}
        calls.open[self._token] = carried
        for message in carried:
            calls.by_message.setdefault(message, set()).add(self._token)
        if not self._until_outcome:
            only_fins = all(kind == "FIN" for kind, _ in carried)
            lasts = policy.send_retry if only_fins else policy.call_timeout + policy.call_margin
            heapq.heappush(calls.expiries, (now + lasts, self._token))
        return self._token

    def ended(self, peer: Principal, token: int) -> None:
        """The outcome of a call is known, or it certainly did not leave."""
        calls = self._peers.get(peer)
        if calls is not None:
            calls.drop(token)
            self._tidy(peer, calls)

    def latest_ended(self, peer: Principal, message: Message) -> None:
        """The same for the latest call that carries a message, where no token was kept."""
        calls = self._peers.get(peer)
        tokens = calls and calls.by_message.get((kind_of(message), message.msg_id))
        if tokens:
            self.ended(peer, max(tokens))

    def heard(self, peer: Principal, message: Message) -> None:
        """A message came: an ACK frees its NEWs, a FIN its ACKs."""
        calls = self._peers.get(peer)
        answered = {Ack: "NEW", Fin: "ACK"}.get(type(message))
        if calls is None or answered is None or self._until_outcome:
            return
        key = answered, message.msg_id
        for token in tuple(calls.by_message.get(key, ())):
            calls.open[token].discard(key)
            if not calls.open[token]:
                calls.drop(token)
        calls.by_message.pop(key, None)
        self._tidy(peer, calls)

    def count(self, peer: Principal, now: int) -> int:
        """Calls in flight to a peer."""
        calls = self._peers.get(peer)
        if calls is None:
            return 0
        while calls.expiries and calls.expiries[0][0] <= now:
            calls.drop(heapq.heappop(calls.expiries)[1])
        self._tidy(peer, calls)
        return len(calls.open)

    def has_room(self, peer: Principal, now: int, policy: Policy) -> bool:
        """Whether one more transmission fits; where not, it counts as failed at once."""
        return self.count(peer, now) < policy.in_flight

    def _tidy(self, peer: Principal, calls: _Calls) -> None:
        if not calls.open:
            self._peers.pop(peer, None)


def _precedence(record: Flow, now: int) -> int:
    """FIN, then ACK, then repeated NEW, then new flows; what transmits nothing comes first."""
    if isinstance(record, ReceiverFlow):
        return 2 if record.send_due is not None and record.send_due <= now else 0
    if record.fin_due is not None and record.fin_due <= now:
        return 1
    return {SenderState.SENDING: 3, SenderState.QUEUED: 4}.get(record.state, 0)


def in_turn(due: Iterable[Flow], now: int) -> list[Flow]:
    """Due flows in the order in which they get room, fairly between peers.

    Args:
        due: Flows whose ``due`` has come, earliest first.
        now: Nanoseconds since 1970.
    """
    classes: dict[int, dict[Principal, deque[Flow]]] = {}
    for record in due:
        peers = classes.setdefault(_precedence(record, now), {})
        peers.setdefault(record.peer, deque()).append(record)
    ordered: list[Flow] = []
    for _, peers in sorted(classes.items()):
        queues = deque(peers.values())
        while queues:
            queue = queues.popleft()
            ordered.append(queue.popleft())
            if queue:
                queues.append(queue)
    return ordered


def one_tick(due: Iterable[Flow], now: int) -> list[Flow]:
    """What one tick serves: in turn, at most 100 flows and 1.9 MB of what they may transmit."""
    served: list[Flow] = []
    size = 0
    for record in in_turn(due, now):
        size += _may_transmit(record)
        if served and (len(served) >= FLOWS_A_TICK or size > BYTES_A_TICK):
            break
        served.append(record)
    return served


def _may_transmit(record: Flow) -> int:
    if isinstance(record, SenderFlow):
        waiting = record.state in (SenderState.QUEUED, SenderState.SENDING)
        return len(record.payload or b"") if waiting else 0
    return len(record.response or b"")
