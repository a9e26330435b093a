"""Scenario O1 as an agent meets it: what waits for it in its mailbox, while it is away."""

from typing import Any, Final

from bridge import candid
from bridge.conformance.play import Play
from bridge.conformance.scenarios.flows import told_unknown
from bridge.conformance.scenarios.sender import right_ack
from bridge.conformance.world import HOUR
from bridge.reference import contract_method
from bridge.reference.contract import install_types

_ENTRY: Final = 1_200_000
_ROOM: Final = 2
_FLOWS: Final = 3


async def away(play: Play) -> None:
    """More comes than its mailbox takes while the agent is away, and a flow's lifetime ends."""
    await _bound(play)
    ids = [await play.open(b"hello", play.fresh_id()) for _ in range(_FLOWS)]
    acks = [await right_ack(play, i, bytes([nth]) * _ENTRY) for nth, i in enumerate(ids)]
    await play.a.leave()
    for ack in acks:
        await play.say(ack)
    waits = await _waiting(play)
    play.check(waits == _ROOM, f"{_ROOM} to wait: the mailbox is full", f"{waits}")
    if play.world.virtual:
        await play.world.wait(3 * HOUR, stride=HOUR // 2)
    await play.a.come_back()
    await play.settle()
    for msg_id in ids[:_ROOM]:
        await _is_told(play, msg_id, bytes([ids.index(msg_id)]) * _ENTRY)
    play.check(not await _waiting(play), "what was taken to be gone", "it waits still")
    dropped = (await play.wire()).said("FIN", ids[_ROOM])
    play.check(not dropped, "no FIN for what found no room", f"{len(dropped)}")
    await play.say(acks[_ROOM])
    await _is_told(play, ids[_ROOM], bytes([_ROOM]) * _ENTRY)
    if play.world.virtual:
        await _outlived(play)
    else:
        play.leave_out("no flow is failed by its lifetime: time cannot be moved")


async def _outlived(play: Play) -> None:
    """Insist that no NEW leaves whose lifetime has ended while the agent was away."""
    msg_id = await play.open(b"hello", play.fresh_id())
    wire = await play.expect(lambda wire: bool(wire.passed("NEW", msg_id)), "NEW")
    await play.a.leave()
    await play.world.wait(13 * HOUR, stride=HOUR)
    await play.a.come_back()
    await told_unknown(play, msg_id)
    said, before = (await play.wire()).said("NEW", msg_id), wire.said("NEW", msg_id)
    play.check(len(said) == len(before), "no NEW of a flow whose lifetime is over", f"{len(said)}")


async def _is_told(play: Play, msg_id: int, response: bytes) -> None:
    await play.expect(lambda wire: bool(wire.passed("FIN", msg_id)), "FIN to what waited")
    outcome = await play.outcome(msg_id)
    play.check(outcome and outcome.response == response, "the response exactly", outcome)


async def _bound(play: Play) -> None:
    """Let two messages wait in the mailbox, and no more."""
    (known,) = install_types("mailbox")
    assert isinstance(known, candid.Opt)
    record = candid.resolve(known.content)
    assert isinstance(record, candid.Record)
    change: dict[str, Any] = dict.fromkeys(str(field.label) for field in record.fields)
    change |= {"peers": [play.middle], "messages": _ROOM}
    method = contract_method("mailbox", "mailbox_configure")
    arg = candid.encode(method.args, [change])
    reply = await play.world.agent.update(play.a.address, "mailbox_configure", arg)
    (answer,) = candid.decode(method.results, reply)
    assert answer.label == "ok", answer


async def _waiting(play: Play) -> int:
    """How many messages wait in the mailbox."""
    method = contract_method("mailbox", "mailbox_status")
    reply = await play.world.agent.query(
        play.a.address, "mailbox_status", candid.encode(method.args, [])
    )
    (status,) = candid.decode(method.results, reply)
    return int(status["waiting"])
