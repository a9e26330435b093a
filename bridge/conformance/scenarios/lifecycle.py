"""Group L: upgrades, standstills, and jumps of time."""

from collections.abc import Sequence
from typing import Final

from bridge.conformance import hazards
from bridge.conformance.endpoint import Endpoint
from bridge.conformance.instruments import Fault
from bridge.conformance.payloads import Request
from bridge.conformance.play import Play
from bridge.conformance.results import Hazard
from bridge.conformance.scenarios.flows import (
    acknowledge,
    application,
    check_response,
    told_unknown,
)
from bridge.conformance.scenarios.receiver import acked, key, request_of
from bridge.conformance.scenarios.registry import Ends, Player, scenario
from bridge.conformance.scenarios.sender import UNPAYABLE, attached, right_ack
from bridge.conformance.world import HOUR
from bridge.flow import Ack, payload_hash

_GROUP: Final = "lifecycle"
_DAY: Final = 24 * HOUR
_TRIES: Final = 2
_FEW: Final = 3


@scenario(
    "L1",
    _GROUP,
    "sender upgraded in each state, also from the previous version's state",
    "completes, processed once",
    ends=Ends.SENDER,
    sender=("open", "upgrade"),
    sender_settings={"handler_attempts": _TRIES},
)
async def sender_upgraded(play: Play) -> None:
    await _from_each(play, play.a, _sender_states(play))


async def _from_each(play: Play, end: Endpoint, states: Sequence[Player]) -> None:
    """Play each state of an upgraded end; then the first from the previous version's state.

    An earlier version need not have our application, without which the others do not come about.
    """
    for state in states:
        await state(play)
    if await _goes_back(play, end):
        await states[0](play)


def _sender_states(play: Play) -> Sequence[Player]:
    if {"ids", "player", "settings", "flows"} <= play.a.powers:
        corrupt = () if play.dialect == "maf" else (_corrupt,)
        return (_sender_upgraded, _queued, *corrupt, _untaken, _dead_letter, _cancelled)
    play.leave_out(f"only two states of {play.a.entry.name} can be brought about")
    return (_sender_upgraded,)


async def _opened(play: Play) -> tuple[int, Ack]:
    """A flow whose NEW passed, and the ACK to it."""
    msg_id = await play.open(b"hello", play.fresh_id())
    await play.expect(lambda wire: bool(wire.passed("NEW", msg_id)), "NEW")
    return msg_id, await right_ack(play, msg_id)


async def _ends(play: Play, msg_id: int, *, late: bool = False) -> None:
    """Insist that an upgraded sender has the response, says so and tells it once."""
    await play.expect(
        lambda wire: bool(wire.passed("FIN", msg_id)), "FIN", hazard=await _lost(play, msg_id)
    )

    async def told() -> bool:
        outcome = await play.a.outcome(msg_id)
        return outcome is not None and outcome.response == play.done

    shown = await play.until_so(told, 6)
    outcome = await play.a.outcome(msg_id)
    play.check(
        shown and outcome and outcome.late == late and outcome.times == 1,
        f"{'a late' if late else 'an'} answer, told once",
        outcome,
        await _lost(play, msg_id),
    )


async def _lost(play: Play, msg_id: int) -> Hazard | None:
    """The danger that an upgraded sender shows which does not know a flow any more."""
    known = await play.a.state("sender", msg_id) is not None
    return None if known else hazards.LOST_STATE


async def _queued(play: Play) -> None:
    await play.a.configure(peers=[attached(play, new=UNPAYABLE)])
    msg_id = await play.open(b"hello", play.fresh_id())
    await play.reaches("sender", msg_id, "queued")
    await play.a.upgrade()
    await play.a.configure(peers=[attached(play)])
    await play.expect(
        lambda wire: bool(wire.passed("NEW", msg_id)),
        "NEW of a flow that was queued at the upgrade",
        hazard=hazards.LOST_STATE,
    )
    await play.say(await right_ack(play, msg_id))
    await _ends(play, msg_id)


async def _corrupt(play: Play) -> None:
    msg_id, ack = await _opened(play)
    assert ack.hash is not None
    await play.say(Ack(msg_id, b"damaged", ack.hash ^ 1))
    await play.a.upgrade()
    await play.say(ack)
    await _ends(play, msg_id)


async def _untaken(play: Play) -> None:
    await play.a.direct(trap_until=1)
    msg_id, ack = await _opened(play)
    await play.say(ack)
    await play.reaches("sender", msg_id, "answered")
    await play.a.upgrade()
    await _ends(play, msg_id)
    await play.a.direct()


async def _dead_letter(play: Play) -> None:
    await play.a.direct(trap_until=_TRIES)
    msg_id, ack = await _opened(play)
    await play.say(ack)
    await play.reaches("sender", msg_id, "dead_letter", 20)
    await play.a.direct()
    await play.a.upgrade()
    refused = await play.a.act("retry", msg_id)
    play.check(refused is None, "the retry to be taken", refused, hazards.LOST_STATE)
    await _ends(play, msg_id)


async def _cancelled(play: Play) -> None:
    msg_id, ack = await _opened(play)
    refused = await play.a.act("cancel", msg_id)
    play.check(refused is None, "the cancel to be taken", refused)
    await play.reaches("sender", msg_id, "failed")
    await play.a.upgrade()
    await play.say(ack)
    await _ends(play, msg_id, late=True)


async def _sender_upgraded(play: Play) -> None:
    given = play.fresh_id() if "ids" in play.a.powers else None
    msg_id = await play.open(msg_id=given)
    await play.expect(lambda wire: bool(wire.passed("NEW", msg_id)), "NEW")
    await play.wait(0.1)
    await play.a.upgrade()
    await play.expect(
        lambda wire: len(wire.said("NEW", msg_id)) >= 2,
        "NEW again after the upgrade",
        hazard=hazards.LOST_STATE,
    )
    ack = await right_ack(play, msg_id)
    await play.say(ack)
    await play.expect(
        lambda wire: bool(wire.passed("FIN", msg_id)), "FIN", hazard=hazards.LOST_STATE
    )
    await play.a.upgrade()
    before = len((await play.wire()).said("FIN", msg_id))
    await play.wait(0.5)
    await play.say(ack)
    wire = await play.expect(
        lambda wire: len(wire.said("FIN", msg_id)) > before,
        "FIN echoed by an upgraded sender that has the response",
        hazard=hazards.LOST_STATE,
    )
    fin = wire.said("FIN", msg_id)[-1]
    if play.dialect != "maf":
        play.check(
            fin.hash in (None, payload_hash(play.done)),  # without a hash it is for any
            "FIN with the accepted response's hash",
            f"hash {fin.hash}",
            hazards.LOST_STATE,
        )
    if play.can_ask(play.a, "outcome"):
        outcome = await play.outcome(msg_id)
        play.check(
            outcome and outcome.failure is None and outcome.response == play.done,
            "the answer told, and told still",
            outcome,
            hazards.LOST_STATE,
        )
        assert outcome is not None
        play.check(outcome.times == 1, "told once", f"{outcome.times}", hazards.HANDED_TWICE)


@scenario(
    "L2",
    _GROUP,
    "receiver upgraded in each state, also from the previous version's state",
    "completes, processed once",
    ends=Ends.RECEIVER,
    receiver=("upgrade",),
    receiver_settings={"attempts": _FEW},
)
async def receiver_upgraded(play: Play) -> None:
    await _from_each(play, play.b, _receiver_states(play))


def _receiver_states(play: Play) -> Sequence[Player]:
    if not play.can_ask(play.b, "flows"):
        return (_receiver_upgraded,)
    if not play.can_ask(play.b, "player"):
        return (_receiver_upgraded, _abandoned)
    return (_receiver_upgraded, _stalled, _abandoned)


async def _stalled(play: Play) -> None:
    new = await request_of(play, b"trap-once")
    await play.reaches("receiver", new.msg_id, "stalled")
    await play.b.upgrade()
    refused = await play.b.act("rerun", key(play, new))
    play.check(refused is None, "the rerun to be taken", refused, hazards.LOST_STATE)
    await acked(play, new)
    await acknowledge(play, new.msg_id)


async def _abandoned(play: Play) -> None:
    new = await request_of(play)
    await acked(play, new)
    most = play.b.attempts(_FEW)
    await play.reaches("receiver", new.msg_id, "abandoned", max(40, 10 * most))
    await play.b.upgrade()
    before = len((await play.wire()).said("ACK", new.msg_id))
    await play.say(new)
    await play.expect(
        lambda wire: len(wire.said("ACK", new.msg_id)) > before,
        "ACK echoed by an upgraded receiver that has the response",
        hazard=hazards.LOST_STATE,
    )
    await play.ran_once(new.msg_id, hazards.LOST_STATE)
    await acknowledge(play, new.msg_id)


async def _receiver_upgraded(play: Play) -> None:
    if "player" in play.b.powers:
        deferred = await request_of(play, b"later")
        await play.b.upgrade()
        refused = await play.b.act("answer", key(play, deferred) | {"response": b"done"})
        play.check(refused is None, "the answer to be taken", refused, hazards.LOST_STATE)
        await acked(play, deferred)
        await acknowledge(play, deferred.msg_id)
    new = await request_of(play)
    await acked(play, new)
    await play.wait(0.1)
    await play.b.upgrade()
    await play.expect(
        lambda wire: len(wire.said("ACK", new.msg_id)) >= 2,
        "ACK again after the upgrade",
        hazard=hazards.LOST_STATE,
    )
    await acknowledge(play, new.msg_id)
    await play.b.upgrade()
    before = len((await play.wire()).said("ACK"))
    await play.say(new)
    await play.wait(1.5)
    acks = len((await play.wire()).said("ACK")) - before
    if acks:
        await acknowledge(play, new.msg_id)
    play.check(acks == 0, "silence to a duplicate after the upgrade", f"{acks} ACK")
    await play.ran_once(new.msg_id, hazards.LOST_STATE)


async def _goes_back(play: Play, end: Endpoint) -> bool:
    """Whether it is the previous version of itself now, so that the next upgrade is from there."""
    if await end.go_back():
        return True
    play.leave_out(f"the entry of {end.entry.name} names no previous version in {play.dialect}")
    return False


@scenario(
    "L3",
    _GROUP,
    "receiver stopped, started later; frozen 8 h, then thawed",
    "completes or ends Failed, told",
    sender=("open",),
    receiver=("life",),
)
async def standstill(play: Play) -> None:
    request = Request.small(application(play))
    if play.world.virtual:  # a duplicate that comes after all that
        await play.plan(Fault("a", "NEW", 1, "delay", 10 * HOUR))
    await play.b.stop()
    msg_id = await play.open(request.payload)
    await play.wait(2)
    play.check(not (await play.wire()).said("ACK"), "silence of what is stopped", "an ACK")
    await play.b.start()
    await play.answered(msg_id, 12)
    await check_response(play, msg_id, request)
    await play.ran_once(msg_id, hazards.RUNS_TWICE)
    if not play.world.virtual:
        play.leave_out("not frozen: only the embedded replica's time can be moved")
        return
    await play.world.charge(fees=True)
    await play.world.set(play.b.address, freezing_threshold=2**60)
    try:
        frozen = await play.open(Request.small(application(play), 2).payload)
        await play.world.wait(8 * HOUR, stride=HOUR // 2)
        acks = (await play.wire()).said("ACK", frozen)
        play.check(not acks, "silence of what is frozen", f"{len(acks)} ACK")
    finally:
        await play.world.set(play.b.address, freezing_threshold=0)
        await play.world.charge(fees=False)

    async def over() -> bool:
        return bool((await play.wire()).passed("FIN", frozen)) or (
            "outcome" in play.a.powers and await play.a.outcome(frozen) is not None
        )

    ended = await play.world.until(over, 4 * HOUR, stride=play.stride)
    if ended or play.can_ask(play.a, "outcome"):  # who cannot be asked may have told its failure
        play.check(
            ended,
            "it to complete, or to end Failed and told",
            "neither",
            hazards.SILENT_FAILURE,
        )
    if not (await play.wire()).passed("FIN", frozen):
        play.completed = {msg_id}
    await play.world.wait(3 * HOUR, stride=HOUR // 2)
    await play.ran_once(msg_id, hazards.RUNS_TWICE)


@scenario(
    "L4",
    _GROUP,
    "time jumps 3 days",
    "tombstones hold; a queued duplicate is not processed; no NEW leaves after its lifetime",
    sender=("open",),
)
async def time_jumps(play: Play) -> None:
    play.needs_virtual_time("3 days")
    await play.plan(Fault("a", "NEW", 1, "delay", 20 * HOUR))
    request = Request.small(application(play))
    msg_id = await play.open(request.payload)
    await play.expect(lambda wire: bool(wire.passed("FIN", msg_id)), "the flow to complete")
    before = await play.wire()
    await play.world.jump(3 * _DAY)
    await play.wait(0.5)
    wire = await play.wire()
    play.check(
        len(wire.passed("NEW", msg_id)) == len(before.passed("NEW", msg_id)) + 1,
        "the duplicate to arrive late",
        wire.counts(),
    )
    play.check(
        len(wire.said("ACK", msg_id)) == len(before.said("ACK", msg_id)),
        "silence to the late duplicate",
        wire.counts(),
        hazards.RUNS_TWICE,
    )
    await play.ran_once(msg_id, hazards.RUNS_TWICE)
    await play.plan(*(Fault("a", "NEW", nth) for nth in range(1, 9)), certain=False)
    second = await play.open(Request.small(application(play), 2).payload)
    sent = len((await play.wire()).said("NEW", second))
    await play.world.jump(3 * _DAY)
    await play.wait(2)
    wire = await play.wire()
    play.check(
        len(wire.said("NEW", second)) == sent,
        "no NEW after its lifetime",
        f"{len(wire.said('NEW', second)) - sent} more",
    )
    if play.can_ask(play.a, "outcome"):
        await told_unknown(play, second)
    play.completed = {msg_id}
