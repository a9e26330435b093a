"""Group I: damage, on either side."""

from typing import Final

from bridge import dialects
from bridge.conformance import hazards
from bridge.conformance.endpoint import Endpoint
from bridge.conformance.payloads import Request
from bridge.conformance.play import Play
from bridge.conformance.scenarios.flows import acknowledge, application, complete
from bridge.conformance.scenarios.receiver import acked, request_of
from bridge.conformance.scenarios.registry import Ends, scenario
from bridge.conformance.scenarios.sender import right_ack
from bridge.flow import Ack, Fin, New

_GROUP: Final = "integrity"
_HASHED: Final = ("unified", "bounty", "positional")
_NO_HASH: Final = "maf carries no hash"


@scenario(
    "I1",
    _GROUP,
    "ACKs with wrong hashes, again and again",
    "corruption handler for at most three; bounded; not completed",
    ends=Ends.SENDER,
    sender=("open",),
    dialects=_HASHED,
    why_not=_NO_HASH,
)
async def wrong_acks(play: Play) -> None:
    msg_id = await play.open(b"hello", play.fresh_id() if "ids" in play.a.powers else None)
    right = await right_ack(play, msg_id)
    assert right.hash is not None
    for wrong in (1, 1, 2, 3, 4, 5):
        await play.say(Ack(msg_id, b"damaged", right.hash ^ wrong))
    await play.wait(0.5)
    fins = (await play.wire()).said("FIN")
    play.check(not fins, "no FIN to a damaged ACK", f"{len(fins)}", hazards.ACCEPTS_DAMAGE)
    if play.can_ask(play.a, "outcome"):
        outcome = await play.a.outcome(msg_id)
        play.check(outcome is None, "no outcome yet", outcome, hazards.ACCEPTS_DAMAGE)
    if "player" in play.a.powers:
        asked = [q for q in await play.a.asked() if q["msg_id"] == msg_id]
        play.check(1 <= len(asked) <= 3, "the corruption handler asked at most 3 times", len(asked))
    else:
        _no_handler(play, play.a)
    await play.say(right)
    await play.expect(lambda wire: bool(wire.passed("FIN", msg_id)), "FIN to the right ACK")


@scenario(
    "I2",
    _GROUP,
    "same id, other payload",
    "corruption handler; the first stands",
    ends=Ends.RECEIVER,
)
async def other_payload(play: Play) -> None:
    does = application(play)
    first = await request_of(play, Request.small(does, 1).payload)
    await acked(play, first)
    ack = (await play.wire()).said("ACK", first.msg_id)[0]
    await play.wait(0.5)
    await play.say(New(first.msg_id, Request.small(does, 2).payload))
    await play.wait(1)
    acks = (await play.wire()).said("ACK", first.msg_id)
    play.check(
        {seen.payload_hash for seen in acks} == {ack.payload_hash},
        "the first request's response in every ACK",
        "another response was sent",
        hazards.ACCEPTS_DAMAGE,
    )
    await play.ran_once(first.msg_id, hazards.RUNS_TWICE)
    if "player" in play.b.powers:
        asked = [q for q in await play.b.asked() if q["msg_id"] == first.msg_id]
        play.check(
            len(asked) == 1 and not asked[0]["decide"],
            "one report to the corruption handler, without a decision",
            f"{len(asked)} reports",
        )
    else:
        _no_handler(play, play.b)
    await acknowledge(play, first.msg_id)


@scenario(
    "I3",
    _GROUP,
    "FIN with a wrong hash",
    "corruption handler; timers go on",
    ends=Ends.RECEIVER,
    dialects=_HASHED,
    why_not=_NO_HASH,
)
async def wrong_fin(play: Play) -> None:
    new = await request_of(play)
    await acked(play, new)
    ack = (await play.wire()).passed("ACK", new.msg_id)[-1]
    await play.say(Fin(new.msg_id, (ack.payload_hash or 0) ^ 1))
    await play.expect(
        lambda wire: len(wire.said("ACK", new.msg_id)) >= 2,
        "ACK to go on after a damaged FIN",
        hazard=hazards.ACCEPTS_DAMAGE,
    )
    if "player" in play.b.powers:
        asked = [q for q in await play.b.asked() if q["msg_id"] == new.msg_id]
        play.check(len(asked) == 1, "the corruption handler asked once", f"{len(asked)} times")
    else:
        _no_handler(play, play.b)
    await acknowledge(play, new.msg_id)


def _no_handler(play: Play, end: Endpoint) -> None:
    play.leave_out(f"{end.entry.name} cannot be asked what its corruption handler was asked")


def leb128(number: int) -> bytes:
    """An unsigned number as Candid writes it."""
    digits = []
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


MALFORMED: Final = {
    "nothing": b"",
    "an empty message": b"DIDL",
    "a text": b"DIDL\x00\x01\x71\x02no",
    "a variant that is none of the three": b"DIDL\x01\x6b\x01\x00\x7f\x01\x00\x00",
    "a huge type table": b"DIDL" + leb128(50_000) + b"\x6e\x7f" * 50_000 + b"\x00",
    "2^28 values of no size": b"DIDL\x01\x6d\x7f\x01\x00" + leb128(1 << 28),
}


@scenario(
    "I4",
    _GROUP,
    "malformed Candid, wrong variant, huge type table, zero-sized vector bomb",
    "rejected, state unchanged",
    sender=("open",),
)
async def malformed(play: Play) -> None:
    stranger = await play.stranger()
    methods = dict.fromkeys(dialects.get(play.dialect).methods.values())
    before = await _known(play)
    for end in (play.a, play.b):
        for method in methods:
            for arg in MALFORMED.values():
                await stranger.say_raw(end.address, method, arg)
    await play.wait(0.1)
    play.check(await _known(play) == before, "no flow of it", "flows came to be")
    play.check(not await stranger.heard(), "no message in return", "one came")
    for call in await play.world.calls([play.a.address, play.b.address]):
        if call.sender == stranger.canister_id:
            rejected = call.outcome != "executed"
            play.check(rejected, "each to be rejected", f"{call.method} was executed")
    await complete(play, Request.small(application(play)))


async def _known(play: Play) -> list[int]:
    known = []
    for role, end in (("sender", play.a), ("receiver", play.b)):
        if play.can_ask(end, "flows"):
            known.append(len(await end.flows(role)))
    return known
