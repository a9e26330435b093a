"""Faults that may happen on the IC, made to happen on purpose: one by one, or by chance.

Rules implemented: interface specification, section Abstract behavior, transitions Request
rejection, Spontaneous request rejection and Call expiry, and the ordering guarantee of its canister
queues. What those do not allow is not done: `Fault.allows` is the list. Knows nothing of what the
messages mean, and not how they are then sent, held or answered.
"""

import enum
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from bridge.principal import Principal
from bridge.replica.state.messages import RejectCode

PER_THOUSAND: Final = 1000
OVERLOADED: Final = "The system is overloaded."
_SYSTEM_CODES: Final = frozenset({RejectCode.SYS_FATAL, RejectCode.SYS_TRANSIENT})


class Action(enum.Enum):
    """What may happen to a message."""

    LOSE = "lose"
    REJECT = "reject"
    DELAY = "delay"
    REORDER = "reorder"


class Kind(enum.Enum):
    """Who sent a message to whom: a user to a canister, a canister to another, or back."""

    INGRESS = "ingress"
    REQUEST = "request"
    RESPONSE = "response"


REQUESTS: Final = frozenset({Kind.INGRESS, Kind.REQUEST})
BETWEEN_CANISTERS: Final = frozenset({Kind.REQUEST, Kind.RESPONSE})


@dataclass(frozen=True, slots=True)
class Passing:
    """A message as it passes.

    Attributes:
        sender: Of this message: a response's sender is the callee.
        method: The method called; a response's is that of its call.
        content: The argument, a reply's data, or a reject's text.
        bounded: Whether the call has a deadline.
    """

    kind: Kind
    sender: Principal
    receiver: Principal
    method: str
    content: bytes
    bounded: bool


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages count; ``None`` lets all pass.

    Attributes:
        contains: Bytes that occur in the content.
    """

    kinds: frozenset[Kind]
    sender: Principal | None = None
    receiver: Principal | None = None
    method: str | None = None
    contains: bytes | None = None

    def matches(self, message: Passing) -> bool:
        """Whether the message is one of those."""
        return (
            message.kind in self.kinds
            and (self.sender is None or self.sender == message.sender)
            and (self.receiver is None or self.receiver == message.receiver)
            and (self.method is None or self.method == message.method)
            and (self.contains is None or self.contains in message.content)
        )


@dataclass(frozen=True, slots=True)
class Strike:
    """What happens to one message.

    Attributes:
        code: Of a reject.
        text: Of a reject.
        nanoseconds: Of a delay.
    """

    action: Action
    code: RejectCode = RejectCode.SYS_TRANSIENT
    text: str = OVERLOADED
    nanoseconds: int = 0

    def allows(self, message: Passing) -> bool:
        """Whether the IC might do this to the message.

        A request may be rejected, or kept waiting, at any time: one by a canister with any code, of
        which SYS_UNKNOWN is kept for calls with a deadline, one by a user with the system's own
        codes. An answer arrives for certain, with its content, in whatever order and as late as it
        will; only the caller of a bounded-wait call may be told that nothing is known of it.
        """
        if message.kind is Kind.RESPONSE:
            return self.action in (Action.DELAY, Action.REORDER) or (
                self.action is Action.LOSE and message.bounded
            )
        if self.action is not Action.REJECT:
            return True
        if message.kind is Kind.INGRESS:
            return self.code in _SYSTEM_CODES
        return self.code is not RejectCode.SYS_UNKNOWN or message.bounded


@dataclass(slots=True)
class Fault:
    """Strikes the ``nth`` message that matches and that it may strike, counted from now.

    Attributes:
        seen: Such messages so far.
    """

    fault_id: int
    filter: Filter
    nth: int
    strike: Strike
    seen: int = 0

    def counts(self, message: Passing) -> bool:
        """Whether the message is one of those that count."""
        return self.filter.matches(message) and self.strike.allows(message)


@dataclass(slots=True)
class Chances:
    """Strikes messages by chances, drawn from a seed.

    What happens to a message follows from the seed, its kind, sender and receiver, and how many of
    that kind the two have exchanged since: so it is the same in every run, whatever else goes on.

    Attributes:
        seed: Any number.
        of: Chances per thousand of each action.
        longest_delay: In nanoseconds.
        passed: Messages so far, of each kind, sender and receiver.
    """

    seed: int
    filter: Filter
    of: dict[Action, int]
    longest_delay: int
    code: RejectCode = RejectCode.SYS_TRANSIENT
    text: str = OVERLOADED
    passed: Counter[tuple[Kind, Principal, Principal]] = field(default_factory=Counter)

    def draw(self, message: Passing) -> Strike | None:
        """What happens to the message."""
        if not self.filter.matches(message):
            return None
        beside = message.sender == message.receiver or not message.receiver.raw
        if beside and self.filter.receiver is None:
            return None  # a canister's call to itself or to the management: only if asked for
        pair = (message.kind, message.sender, message.receiver)
        self.passed[pair] += 1
        name = (
            f"{self.seed} {message.kind.value} {message.sender} {message.receiver} "
            f"{self.passed[pair]}"
        )
        drawn = hashlib.sha256(name.encode()).digest()
        number = int.from_bytes(drawn[:8], "big") % PER_THOUSAND
        for action, chance in self.of.items():
            if number < chance:
                wait = 1 + int.from_bytes(drawn[8:16], "big") % self.longest_delay
                strike = Strike(action, self.code, self.text, wait)
                return strike if strike.allows(message) else None
            number -= chance
        return None


class Faults:
    """The faults still to happen, and those that have."""

    def __init__(self) -> None:
        self.struck: Counter[str] = Counter()
        self.chances: Chances | None = None
        self._pending: list[Fault] = []
        self._next = 1

    @property
    def idle(self) -> bool:
        """Whether no message can be struck."""
        return not self._pending and self.chances is None

    def add(self, filter_: Filter, nth: int, strike: Strike) -> int:
        """Plan a fault; its id."""
        fault = Fault(self._next, filter_, nth, strike)
        self._next += 1
        self._pending.append(fault)
        return fault.fault_id

    def clear(self) -> None:
        """Take back all that have not happened, and all chances."""
        self._pending.clear()
        self.chances = None

    def pending(self) -> int:
        """How many planned ones have not happened."""
        return len(self._pending)

    def strike(self, message: Passing) -> Strike | None:
        """Count a message, and tell what happens to it; ``None`` for nothing."""
        found: Fault | None = None
        for fault in self._pending:
            if fault.counts(message):
                fault.seen += 1
                if fault.seen >= fault.nth and found is None:
                    found = fault
        if found is not None:
            self._pending.remove(found)
            strike: Strike | None = found.strike
        else:
            strike = None
        if self.chances is not None:
            # Counted in any case, so that planned faults do not shift the drawn ones.
            drawn = self.chances.draw(message)
            strike = strike or drawn
        if strike is not None:
            self.struck[strike.action.value] += 1
        return strike
