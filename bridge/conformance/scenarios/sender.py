"""Group S: what a sender makes of losses, failures and crashes."""

from typing import Final

from bridge.candid import Case
from bridge.conformance import hazards
from bridge.conformance.canister import peer
from bridge.conformance.instruments import Fault
from bridge.conformance.payloads import Request
from bridge.conformance.play import Play
from bridge.conformance.scenarios.flows import all_answered, application, check_response
from bridge.conformance.scenarios.registry import Ends, scenario
from bridge.conformance.world import HOUR, MINUTE
from bridge.flow import Ack

_GROUP: Final = "sender"
UNPAYABLE: Final = 10**30
_BURST: Final = 8
_BOUND: Final = 3
_FEW: Final = 3


async def nothing_to_acknowledge(play: Play) -> None:
    """For flows that end without FIN: silence is all that is asked."""
    play.completed = set()
    await play.rests()


def attached(play: Play, *, new: int = 0, ack: int = 0, fin: int = 0) -> dict[str, object]:
    """What an end shall know of its peer: the dialect, and the cycles that it attaches."""
    cycles = {"new": new, "ack": ack, "fin": fin}
    return peer(play.middle, dialect=Case(play.dialect), attach_cycles=cycles)


async def right_ack(play: Play, msg_id: int, payload: bytes | None = None) -> Ack:
    """The ACK that a right receiver would send; by default with what the sender understands."""
    wire = await play.expect(lambda wire: bool(wire.said("NEW", msg_id)), "NEW")
    seen = wire.said("NEW", msg_id)[0]
    return Ack(msg_id, play.done if payload is None else payload, seen.payload_hash)


@scenario("S1", _GROUP, "NEW lost [Outgoing 1]", "retried, completes", sender=("open",))
async def new_lost(play: Play) -> None:
    await play.plan(Fault("a", "NEW", 1))
    request = Request.small(application(play))
    msg_id = await play.open(request.payload)
    await play.expect(
        lambda wire: bool(wire.passed("NEW", msg_id)),
        "NEW again after it was lost",
        hazard=hazards.GIVES_UP,
    )
    await play.answered(msg_id)
    await check_response(play, msg_id, request)
    await play.ran_once(msg_id)


@scenario(
    "S2",
    _GROUP,
    "queue full for 10 minutes [Outgoing 1]",
    "no failure told; completes; in-flight bound kept",
    sender=("open", "settings", "flows"),
    sender_settings={"in_flight": _BOUND},
)
async def queue_full(play: Play) -> None:
    # A call that cannot be paid for fails as one does that finds the queue full: at once.
    await play.a.configure(peers=[attached(play, new=UNPAYABLE)])
    await play.open_many(Request.small(application(play)).payload, _BURST)
    await play.world.wait(10 * MINUTE if play.world.virtual else 2 * play.retry)
    wire = await play.wire()
    play.check(not wire.said("NEW"), "no NEW while none can leave", wire.counts())
    states = [view["state"].label for view in await play.a.flows("sender")]
    play.check(states == ["queued"] * _BURST, f"{_BURST} flows queued", f"{states}")
    hold = [Fault("b", "ACK", nth, "delay", MINUTE) for nth in range(1, _BURST + 1)]
    if not play.world.virtual:
        hold = []
    await play.plan(*hold)
    await play.a.configure(peers=[attached(play)])
    wire = await play.expect(lambda wire: len(wire.passed("FIN")) >= _BURST, "all to complete", 9)
    await all_answered(play, wire.ids())
    if hold:
        first_ack = wire.passed("ACK")[0].seq
        before = len([seen for seen in wire.said("NEW") if seen.seq < first_ack])
        play.check(
            before <= _BOUND,
            f"at most {_BOUND} NEWs in flight",
            f"{before} left before the first ACK came",
        )
    else:
        play.leave_out("the bound on calls in flight is not seen: time cannot be moved")


@scenario(
    "S3",
    _GROUP,
    "ACK lost [Outgoing 2]",
    "NEW again, not processed again, ACK again",
    sender=("open",),
)
async def ack_lost(play: Play) -> None:
    # Two, because the receiver may repeat the first just before the sender repeats NEW.
    await play.plan(Fault("b", "ACK", 1), Fault("b", "ACK", 2))
    request = Request.small(application(play))
    msg_id = await play.open(request.payload)
    await play.expect(
        lambda wire: bool(wire.passed("ACK", msg_id)),
        "ACK again after it was lost",
        12,
        hazard=hazards.GIVES_UP,
    )
    wire = await play.answered(msg_id)
    play.check(len(wire.said("NEW", msg_id)) >= 2, "NEW again", wire.counts())
    await check_response(play, msg_id, request)
    await play.ran_once(msg_id, hazards.RUNS_TWICE)


@scenario(
    "S4",
    _GROUP,
    "receiver gone for good",
    "Failed(unknown) after the attempts, told; a crash before the telling changes nothing",
    ends=Ends.SENDER,
    clean_up=nothing_to_acknowledge,
    sender=("open",),
    sender_settings={"attempts": _FEW},
)
async def receiver_gone(play: Play) -> None:
    crashes = {"player", "flows", "upgrade"} <= play.a.powers
    if crashes:
        await play.a.direct(trap_until=1)
    else:
        play.leave_out(f"{play.a.entry.name} cannot be upgraded between a failure and its telling")
    msg_id = await play.open()
    await play.expect(lambda wire: len(wire.said("NEW", msg_id)) >= 2, "NEW again")
    if "upgrade" in play.a.powers and play.world.virtual:
        # At the eve of the last due time, so that the new code has to tell.
        await play.expect(lambda wire: len(wire.said("NEW", msg_id)) >= 3, "NEW a third time")
        await play.a.upgrade()
    most = play.a.attempts(_FEW)
    if not play.can_ask(play.a, "outcome"):
        await play.wait(max(40, 10 * most))
        await _bounded(play, msg_id, most)
        return
    if crashes:  # between the failure and its telling, of which the first fails
        await play.reaches("sender", msg_id, "failed", max(40, 10 * most))
        play.check(await play.a.outcome(msg_id) is None, "nothing taken yet", "it was taken")
        await play.a.upgrade()
    outcome = await play.outcome(msg_id, max(40, 10 * most))
    play.check(outcome, "a failure to be told", "nothing was told", hazards.SILENT_FAILURE)
    assert outcome is not None
    play.check(outcome.failure == "unknown", "Failed(unknown)", outcome)
    play.check(outcome.times == 1, "one telling", f"{outcome.times}")
    await _bounded(play, msg_id, most)


async def _bounded(play: Play, msg_id: int, most: int) -> None:
    news = len((await play.wire()).said("NEW", msg_id))
    play.check(news <= most, f"at most {most} NEWs", f"{news}")


@scenario(
    "S5",
    _GROUP,
    "the sender's application fails on the response [Outgoing 3]",
    "handed over again; then dead letter; nothing lost",
    sender=("open", "ids", "player", "flows"),
    sender_settings={"handler_attempts": 3},
)
async def application_fails(play: Play) -> None:
    request = Request.small(application(play))
    await play.a.direct(trap_until=2)
    first = await play.open(request.payload, play.fresh_id())
    await play.answered(first)
    outcome = await play.outcome(first, 12)
    play.check(outcome, "the response handed over again", "it never was")
    tellings = [t for t in await play.a.told() if t["msg_id"] == first]
    play.check(len(tellings) == 1, "it taken once", f"{len(tellings)} times")
    telling = tellings[0]
    play.check(telling["tries"] == 3, "taken at the third try", f"at try {telling['tries']}")
    play.check(telling["redelivered"], "marked as handed over again", "it is not marked")
    await play.a.direct(trap_until=99)
    second = await play.open(request.payload, play.fresh_id())
    await play.answered(second)
    await play.reaches("sender", second, "dead_letter", 20)
    await play.a.direct()
    refused = await play.a.act("retry", second)
    play.check(refused is None, "the operator's retry to be taken", refused)
    await play.reaches("sender", second, "acknowledged")
    await check_response(play, second, request)


@scenario(
    "S6",
    _GROUP,
    "FIN lost [Outgoing 4]; FIN transmission fails at once",
    "the next ACK is echoed with FIN; application undisturbed",
    sender=("open",),
)
async def fin_lost(play: Play) -> None:
    await play.plan(Fault("a", "FIN", 1))
    request = Request.small(application(play))
    msg_id = await play.open(request.payload)
    wire = await play.expect(
        lambda wire: bool(wire.passed("FIN", msg_id)),
        "FIN again once ACK is repeated",
        12,
        hazards.NO_FIN_ECHO,
    )
    play.check(len(wire.said("ACK", msg_id)) >= 2, "ACK again", wire.counts())
    await check_response(play, msg_id, request, hazards.HANDED_TWICE)
    if "settings" not in play.a.powers:
        play.leave_out(f"{play.a.entry.name} cannot be made to fail at a FIN's transmission")
        return
    await play.a.configure(peers=[attached(play, fin=UNPAYABLE)])
    request = Request.small(application(play), 2)
    second = await play.open(request.payload)
    wire = await play.expect(lambda wire: bool(wire.passed("ACK", second)), "ACK")
    fins = wire.said("FIN", second)
    play.check(not fins, "no FIN while none can leave", f"{len(fins)} FIN")
    await play.a.configure(peers=[attached(play)])
    await play.answered(second)
    await check_response(play, second, request, hazards.HANDED_TWICE)


@scenario(
    "S7",
    _GROUP,
    "ACK from a canister after the sender forgot",
    "answered with FIN(null)",
    ends=Ends.SENDER,
    sender=("open",),
)
async def ack_after_forgetting(play: Play) -> None:
    msg_id = await play.open()
    ack = await right_ack(play, msg_id)
    await play.say(ack)
    await play.expect(lambda wire: bool(wire.passed("FIN", msg_id)), "FIN")
    if play.world.virtual:
        await play.world.wait(26 * HOUR, stride=HOUR)
    else:
        msg_id = play.fresh_id()
        ack = Ack(msg_id, play.done, ack.hash)
        play.completed = set()
    before = len((await play.wire()).said("FIN"))
    await play.say(ack)
    wire = await play.expect(
        lambda wire: len(wire.said("FIN")) > before, "a FIN to the ACK", hazard=hazards.NO_FIN_ECHO
    )
    fin = wire.said("FIN")[-1]
    play.check(fin.hash is None, "FIN without a hash: nothing was accepted", f"hash {fin.hash}")


@scenario(
    "S8",
    _GROUP,
    "crash between FIN and the application",
    "handed over after restart",
    sender=("open", "ids", "player", "upgrade"),
)
async def crash_before_telling(play: Play) -> None:
    request = Request.small(application(play))
    await play.a.direct(trap_until=1)
    msg_id = await play.open(request.payload, play.fresh_id())
    await play.answered(msg_id)
    play.check(not await play.a.told(), "nothing taken yet", "it was taken")
    await play.a.upgrade()
    outcome = await play.outcome(msg_id, 6)
    play.check(outcome, "the response after the restart", "it is lost", hazards.LOST_STATE)
    await check_response(play, msg_id, request, hazards.HANDED_TWICE)
    telling = next(t for t in await play.a.told() if t["msg_id"] == msg_id)
    play.check(telling["redelivered"], "marked as handed over again", "it is not marked")


@scenario(
    "S9",
    _GROUP,
    "two ACKs after Failed",
    "late, once",
    ends=Ends.SENDER,
    sender=("open", "outcome"),
    sender_settings={"attempts": 1},
)
async def late_twice(play: Play) -> None:
    msg_id = await play.open()
    failed = await play.outcome(msg_id, 40)
    play.check(
        failed and failed.failure == "unknown",
        "Failed(unknown) told",
        failed or "nothing was told",
        hazards.SILENT_FAILURE,
    )
    ack = await right_ack(play, msg_id)
    await play.say(ack)
    await play.expect(lambda wire: bool(wire.passed("FIN", msg_id)), "FIN to the late ACK")
    await play.wait(1)
    await play.say(ack)
    await play.wait(1)
    outcome = await play.outcome(msg_id)
    play.check(
        outcome and outcome.late and outcome.response == play.done,
        "the response, marked late",
        outcome,
    )
    assert outcome is not None
    play.check(outcome.times == 1, "late once", f"{outcome.times} times", hazards.HANDED_TWICE)


@scenario(
    "S10",
    _GROUP,
    "cancel crosses ACK; cancel between transmit and commit",
    'one outcome, never "unsent" once it left; the response reaches the application, '
    "late if it must",
    ends=Ends.SENDER,
    sender=("open", "ids", "player", "settings"),
)
async def cancel_crosses(play: Play) -> None:
    msg_id = await play.open(b"hello", play.fresh_id())
    await play.expect(lambda wire: bool(wire.passed("NEW", msg_id)), "NEW")
    play.check(await play.a.act("cancel", msg_id) is None, "the cancel to be taken", "refused")
    ack = await right_ack(play, msg_id)
    outcome = await play.outcome(msg_id)
    play.check(outcome and outcome.failure == "cancelled", "Failed(cancelled)", outcome)
    await play.say(ack)
    await play.expect(lambda wire: bool(wire.passed("FIN", msg_id)), "FIN to the late ACK")
    late = await play.outcome(msg_id)
    play.check(late and late.late and late.response == play.done, "the response, late", late)
    await play.a.configure(peers=[attached(play, new=UNPAYABLE)])
    queued = await play.open(b"hello", play.fresh_id())
    play.check(await play.a.act("cancel", queued) is None, "the cancel to be taken", "refused")
    outcome = await play.outcome(queued)
    play.check(outcome and outcome.failure == "unsent", "Failed(unsent): it never left", outcome)
    wire = await play.wire()
    play.check(not wire.said("NEW", queued), "no NEW of the one that is unsent", wire.counts())
    # One NEW left, the next one did not: it is not known whether the first arrived.
    await play.a.configure(peers=[attached(play)])
    left = await play.open(b"hello", play.fresh_id())
    await play.expect(lambda wire: bool(wire.passed("NEW", left)), "NEW")
    await play.a.configure(peers=[attached(play, new=UNPAYABLE)])
    await play.wait(1.5)
    play.check(await play.a.act("cancel", left) is None, "the cancel to be taken", "refused")
    outcome = await play.outcome(left)
    play.check(outcome and outcome.failure == "cancelled", "Failed(cancelled)", outcome)
    await play.say(await right_ack(play, left))
    await play.expect(lambda wire: bool(wire.passed("FIN", left)), "FIN to the late ACK")
    play.completed = {msg_id, left}
