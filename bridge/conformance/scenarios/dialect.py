"""Group D: each dialect, batches, and one-sided implementations."""

from typing import Final

from bridge import candid, dialects
from bridge.candid import Case
from bridge.conformance import hazards
from bridge.conformance.canister import peer
from bridge.conformance.endpoint import Endpoint
from bridge.conformance.instruments import Relay, named, told
from bridge.conformance.payloads import Request
from bridge.conformance.play import Play
from bridge.conformance.scenarios.flows import application, complete
from bridge.conformance.scenarios.registry import Ends, scenario
from bridge.conformance.scenarios.sender import nothing_to_acknowledge
from bridge.dialects.unified import MESSAGE_TYPE, to_case
from bridge.flow import Ack, Fin, Message, New, payload_hash

_GROUP: Final = "dialects"
_BATCH: Final = "asyncFlow_batch"
_BATCHED: Final = 50
_PAID: Final = 40
_TRAPS: Final = 7
# Counters that move with whatever message comes.
_EVERY_MESSAGE: Final = ("instructions", "received")
_ONLY_UNIFIED: Final = "batches carry messages of unified"


async def whole_way(play: Play) -> None:
    """A flow in the dialect; then a null response, told to the sender by a relay."""
    await complete(play, Request.small(application(play)))
    if "null" in play.b.powers:
        await complete(play, Request.null())
        return
    if "settings" not in play.a.powers or "outcome" not in play.a.powers:
        play.leave_out("neither end can be made to say or show a null response")
        return
    other = await play.stranger()
    await play.a.configure(peers=[peer(other.canister_id, dialect=Case(play.dialect))])
    await play.a.open(other.canister_id, b"hello")
    new = await _first(play, other)
    play.check(isinstance(new, New), "a NEW in the dialect", new)
    assert isinstance(new, New)
    ack = Ack(new.msg_id, None, payload_hash(new.payload))
    await other.say(play.a.address, play.dialect, ack)
    outcome = await play.outcome(new.msg_id)
    play.check(
        outcome and outcome.failure is None and not outcome.response,
        "a null response, or an empty one, told to the application",
        outcome,
        hazards.UNDECODABLE_ACK,
    )
    fins = [m for m in [h.message(play.dialect) for h in await other.heard()] if isinstance(m, Fin)]
    play.check(fins, "FIN to a null response", "none", hazards.UNDECODABLE_ACK)


async def _first(play: Play, relay: Relay) -> Message | None:
    async def any_heard() -> bool:
        return bool(await relay.heard())

    await play.until_so(any_heard)
    heard = await relay.heard()
    return heard[0].message(play.dialect) if heard else None


for _id, _dialect in zip(("D1", "D2", "D3", "D4"), dialects.DIALECTS, strict=True):
    scenario(
        _id,
        _GROUP,
        f"{_dialect}, both ways, with a null response",
        "completes",
        sender=("open",),
        dialects=(_dialect,),
        only=True,
    )(whole_way)


def batch_of(messages: list[Message]) -> bytes:
    """The argument of a batch."""
    cases = [to_case(message) for message in messages]
    return candid.encode([candid.Vec(MESSAGE_TYPE)], [cases])


@scenario(
    "D5",
    _GROUP,
    "batch of 50 new flows, synchronous handler, cycles for 40, the 7th traps, nothing retried; "
    "then the 10 retried alone with cycles",
    "39 complete, one leaves no flow, 10 refused; then the 10 complete",
    ends=Ends.RECEIVER,
    receiver=("batch",),
    dialects=("unified",),
    why_not=_ONLY_UNIFIED,
)
async def batch(play: Play) -> None:
    price = 1_000_000_000
    priced = await play.variant(play.b, "priced", min_cycles=price)
    traps = "player" in priced.powers
    ordinary = Request.small("compute").payload
    news = _entries(ordinary, traps=traps)
    payer = await play.stranger()
    before = await play.world.balance(priced.address)
    await payer.say_raw(priced.address, _BATCH, batch_of(news), cycles=_PAID * price)
    await play.settle()
    acks = await _acks(payer)
    wanted = set(range(1, _PAID + 1)) - ({_TRAPS} if traps else set())
    play.check(
        set(acks) == wanted,
        f"{len(wanted)} of {_BATCHED} answered: as many as were paid for"
        + (", but the one that traps" if traps else ""),
        f"{len(acks)}, of the right ones {len(wanted & set(acks))}",
    )
    taken = await play.world.balance(priced.address) - before
    play.check(taken == _PAID * price, f"{_PAID * price} cycles taken", f"{taken}")
    refused = [new for new in news if new.msg_id > _PAID]
    for new in refused:
        await payer.say(priced.address, "unified", new, cycles=price)
    await play.settle()
    acks = await _acks(payer)
    wanted |= {new.msg_id for new in refused}
    play.check(
        set(acks) == wanted,
        f"the {len(refused)} refused ones answered when retried",
        f"{len(acks)} answered in all",
    )
    await _finish(play, priced, payer, acks)
    if traps:
        return
    if "player" not in play.b.powers:
        play.leave_out(f"no handler of {play.b.entry.name} can be made to trap")
        return
    # The build with a price has a handler that never traps: another, without a price, is made to.
    other = await play.stranger()
    await other.say_raw(play.b.address, _BATCH, batch_of(_entries(b"x", traps=True)))
    await play.settle()
    acks = await _acks(other)
    play.check(
        set(acks) == set(range(1, _BATCHED + 1)) - {_TRAPS},
        "all answered but the one that traps",
        f"{len(acks)} answered",
    )
    await _finish(play, play.b, other, acks)


def _entries(ordinary: bytes, *, traps: bool) -> list[Message]:
    """The batch; its 7th entry's handler traps, where there is one that can."""
    return [
        New(nth, b"trap" if traps and nth == _TRAPS else ordinary) for nth in range(1, _BATCHED + 1)
    ]


async def _finish(play: Play, end: Endpoint, relay: Relay, acks: dict[int, Ack]) -> None:
    """Complete the answered flows, and insist that there are no others."""
    for msg_id, ack in acks.items():
        await relay.say(end.address, "unified", Fin(msg_id, payload_hash(ack.payload)))
    await play.settle()
    if not play.can_ask(end, "flows"):
        return
    kept = [view for view in await end.flows("receiver") if view["peer"] == relay.canister_id]
    states = {view["msg_id"]: view["state"].label for view in kept}
    play.check(_TRAPS in acks or _TRAPS not in states, "no flow of the one that trapped", "one")
    play.check(
        set(states) <= set(acks) and set(states.values()) <= {"finished"},
        f"no flow but the {len(acks)} that are complete",
        f"{len(states)}, of them {list(states.values()).count('finished')} complete",
    )


async def _acks(relay: Relay) -> dict[int, Ack]:
    messages = [heard.message("unified") for heard in await relay.heard()]
    return {message.msg_id: message for message in messages if isinstance(message, Ack)}


@scenario(
    "D6",
    _GROUP,
    "a one-sided implementation gets the other role's message",
    "counted, silent",
    clean_up=nothing_to_acknowledge,
    sender=("open",),
)
async def one_sided(play: Play) -> None:
    await _only_sender(play)
    await _only_receiver(play)


async def _only_sender(play: Play) -> None:
    end = play.a if play.a.entry.has_only("sender") else await play.a.alone("sender")
    stranger = await play.stranger()
    await _counts(play, end, stranger, New(1, b"hello"))
    await _counts(play, end, stranger, Fin(1))
    if "settings" in end.powers:  # without them it is not known in which dialect it opens flows
        await end.configure(peers=[peer(stranger.canister_id, dialect=Case(play.dialect))])
        await end.open(stranger.canister_id, b"hello")
        new = await _first(play, stranger)
        play.check(isinstance(new, New), "it to open flows still", new or "silence")


async def _only_receiver(play: Play) -> None:
    end = play.b if play.b.entry.has_only("receiver") else await play.b.alone("receiver")
    stranger = await play.stranger()
    await _counts(play, end, stranger, Ack(1, b"done"))
    new = New(2, Request.small(application(play)).payload)
    await stranger.say(end.address, play.dialect, new)
    ack = await _first(play, stranger)
    play.check(isinstance(ack, Ack), "it to answer requests still", ack or "silence")
    assert isinstance(ack, Ack)
    fin = Fin(new.msg_id, payload_hash(ack.payload))
    await stranger.say(end.address, play.dialect, fin)


async def _counts(play: Play, end: Endpoint, stranger: Relay, message: Message) -> None:
    """Insist that the other role's message is counted, and nothing else."""
    counted = "counters" in end.powers
    before = await end.counters() if counted else {}
    await stranger.say(end.address, play.dialect, message)
    await play.settle()
    said = told(await stranger.heard(), play.dialect)
    if said:
        play.notes.append(f"{end.entry.name}, told {named(message)} by a stranger, said {said}")
    play.check(not said, "silence to the other role's message", f"{said}, to {named(message)}")
    if counted:
        now = await end.counters()
        moved = [name for name in now if now[name] != before.get(name, 0)]
        why = [name for name in moved if not name.startswith(_EVERY_MESSAGE)]
        play.check(why, "it to be counted as what it is", f"nothing but {moved} moved")
    else:
        play.leave_out(f"{end.entry.name} cannot be asked for its counters")
