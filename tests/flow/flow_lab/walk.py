"""Random walks of a single flow: realistic records, and every event on each of them.

A walk keeps the effects it has seen, so that what a handler or the system reports mostly speaks of
something that happened, and sometimes of something outdated. The same chance gives the same walk.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

from bridge.errors import LocalProtocolError
from bridge.flow import (
    Ack,
    Answer,
    Ask,
    Cancel,
    Decided,
    Decision,
    Deferred,
    DropDeadLetter,
    Due,
    FailedForGood,
    FailedForNow,
    Fin,
    Finish,
    HandlerFailed,
    HandOver,
    New,
    NotSent,
    PeerPolicy,
    Policy,
    Received,
    Refused,
    Rejected,
    Rerun,
    Restarted,
    RetryDeadLetter,
    Returned,
    Send,
    SenderFlow,
    Tell,
    Transition,
    Transmit,
    payload_hash,
    step,
)
from bridge.principal import Principal

ALICE, BOB, EVE = (Principal(bytes([0] * 7 + [n, 1, 1])) for n in (1, 2, 3))
AGENT = Principal(bytes(range(28)) + b"\x02")
PAYLOADS = (b"", b"\x01", b"\x02\x03")
RESPONSES = (None, b"", b"\x02", b"\x03\x04")
WRONG = (1, 2, 3, 4, 5)

# Settings that make rare rows frequent.
VARIANTS = (
    {},
    {"attempts": 2, "handler_attempts": 2},
    {"attempts": 1, "handler_attempts": 1, "rerun_stalled": True},
    {"rerun_stalled": True, "max_response": 1},
    {"peers": {BOB: PeerPolicy(null_ack="receipt")}, "attempts": 3},
)


@dataclass(frozen=True)
class Visit:
    """One step of a walk.

    Attributes:
        settings: How the policy differs.
        policy: The policy.
        before: The record.
        event: The event.
        now: The time.
        transition: What was decided; None if it was an error to the application.
    """

    settings: dict
    policy: Policy
    before: object
    event: object
    now: int
    transition: Transition | None


@dataclass
class _Memory:
    """What the walk has seen."""

    transmits: list = field(default_factory=list)
    tells: list = field(default_factory=list)
    asks: list = field(default_factory=list)
    hand_overs: list = field(default_factory=list)

    def see(self, effect) -> None:
        for kind, place in (
            (Transmit, self.transmits),
            (Tell, self.tells),
            (Ask, self.asks),
            (HandOver, self.hand_overs),
        ):
            if isinstance(effect, kind):
                place.append(effect)

    def some(self, chance: Random, place: list):
        """Mostly the latest, sometimes an older one."""
        if not place:
            return None
        return place[-1] if chance.random() < 0.8 else chance.choice(place)


def _common(chance: Random) -> dict:
    return {
        "u": chance.choice((0, 0, 50_000, 100_000)),
        "lag": chance.choice((0, 0, 0, 3_000)),
        "room": chance.random() < 0.85,
    }


def _received(chance: Random, record) -> Received:
    sending = isinstance(record, SenderFlow)
    caller = record.peer if record is not None else chance.choice((ALICE, ALICE, AGENT))
    if chance.random() < 0.08:
        caller = EVE
    kind = chance.choice((Ack, Ack, Ack, New) if sending else (New, New, Fin, Fin, Ack))
    right = None if record is None else record.payload_hash
    if kind is New:
        payload = chance.choice(PAYLOADS)
        if record is not None and record.payload is not None and chance.random() < 0.6:
            payload = record.payload
        message = New(7, payload)
    elif kind is Ack:
        hash_ = chance.choice((None, right, right, chance.choice(WRONG)))
        message = Ack(7, chance.choice(RESPONSES), hash_)
    else:
        ours = None if record is None else record.response_hash
        message = Fin(7, chance.choice((None, ours, ours, chance.choice(WRONG))))
    return Received(
        message=message,
        caller=caller,
        dialect=chance.choice(("unified", "unified", "maf")),
        refused="quota_open_flows" if record is None and chance.random() < 0.1 else None,
        paid=chance.random() < 0.3,
        floor=chance.choice((0, 0, 2_000)),
        **_common(chance),
    )


def _event(chance: Random, record, memory: _Memory):
    """Some event, any of them on any record."""
    common = _common(chance)
    transmit = memory.some(chance, memory.transmits)
    tell = memory.some(chance, memory.tells)
    asked = memory.some(chance, memory.asks)
    handed = memory.some(chance, memory.hand_overs)
    options = [
        (8, lambda: _received(chance, record)),
        (8, lambda: Due(**common)),
        (1, lambda: Restarted(share=chance.choice((0, 500_000, 1_000_000)), **common)),
        (
            0.5,
            lambda: Send(
                peer=chance.choice((BOB, BOB, BOB, EVE)), msg_id=7, payload=chance.choice(PAYLOADS)
            ),
        ),
        (0.5, lambda: Cancel(**common)),
        (0.5, lambda: Finish(**common)),
        (0.5, lambda: RetryDeadLetter(**common)),
        (0.5, lambda: DropDeadLetter(**common)),
        (
            1,
            lambda: Answer(response=chance.choice(RESPONSES), fits=chance.random() < 0.9, **common),
        ),
        (0.4, lambda: FailedForGood(response=chance.choice(RESPONSES), fits=True, **common)),
        (0.3, lambda: FailedForNow(**common)),
        (0.5, lambda: Deferred(**common)),
        (0.5, lambda: Rerun(**common)),
        (
            1,
            lambda: Decided(
                decision=chance.choice(list(Decision)),
                hash=chance.choice((None, getattr(record, "wrong_hash", None), 5)),
                **common,
            ),
        ),
    ]
    if transmit is not None:
        options += [
            (2, lambda: NotSent(transmit=transmit, **common)),
            (0.4, lambda: Refused(transmit=transmit, **common)),
            (0.4, lambda: Rejected(transmit=transmit, **common)),
        ]
    if tell is not None:
        options += [
            (2, lambda: Returned(of=tell, **common)),
            (3, lambda: HandlerFailed(of=tell, **common)),
        ]
    for of in (asked, handed):
        if of is not None:
            options.append((0.7, lambda of=of: HandlerFailed(of=of, **common)))
    weights = [weight for weight, _ in options]
    return chance.choices([make for _, make in options], weights)[0]()


def _later(chance: Random, record, now: int) -> int:
    """The time of the next event: soon, or when something is due, or around that."""
    due = getattr(record, "due", None)
    if due is not None and chance.random() < 0.45:
        return max(now, due + chance.choice((0, 0, 0, -1, 5)))
    return now + chance.choice((0, 1, 30, 70, 400, 5_000))


def walk(chance: Random, policy: Policy, length: int) -> Iterator[Visit]:
    """One walk from no flow.

    Args:
        chance: Where all chance comes from.
        policy: The settings, in seconds.
        length: Number of steps.
    """
    settings = chance.choice(VARIANTS)
    policy = replace(policy, **settings)
    now, record, memory = 1_000, None, _Memory()
    opens = Send(peer=BOB, msg_id=7, payload=chance.choice(PAYLOADS[:2]))
    event = opens if chance.random() < 0.5 else _received(chance, None)
    for _ in range(length):
        try:
            transition = step(record, event, now, policy)
        except LocalProtocolError:
            transition = None
        yield Visit(settings, policy, record, event, now, transition)
        if transition is not None:
            record = transition.flow
            for effect in transition.effects:
                memory.see(effect)
        now = _later(chance, record, now)
        event = _event(chance, record, memory)


__all__ = ["AGENT", "ALICE", "BOB", "EVE", "Visit", "payload_hash", "walk"]
