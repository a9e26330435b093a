"""Group R: what a receiver makes of repeats, failing handlers and missing FINs."""

from typing import Final

from bridge.candid import Case
from bridge.conformance import hazards
from bridge.conformance.canister import peer
from bridge.conformance.payloads import Request
from bridge.conformance.play import Play
from bridge.conformance.results import Hazard
from bridge.conformance.scenarios.flows import acknowledge, application, check_response, no_state
from bridge.conformance.scenarios.registry import Ends, scenario
from bridge.conformance.scenarios.sender import UNPAYABLE, attached, nothing_to_acknowledge
from bridge.conformance.world import HOUR, MINUTE
from bridge.errors import BridgeError
from bridge.flow import New, payload_hash

_GROUP: Final = "receiver"
_HORIZON: Final = 48 * HOUR
_FEW: Final = 3
_OWN_CALLS: Final = 4


async def request_of(play: Play, payload: bytes | None = None, msg_id: int | None = None) -> New:
    """A NEW that is said to the receiver."""
    new = New(
        play.fresh_id() if msg_id is None else msg_id,
        Request.small(application(play)).payload if payload is None else payload,
    )
    await play.say(new)
    return new


async def acked(play: Play, new: New, times: int = 1) -> None:
    """Insist on so many ACKs of a flow."""
    await play.expect(
        lambda wire: len(wire.passed("ACK", new.msg_id)) >= times, f"{times} ACK of the flow"
    )


def key(play: Play, new: New) -> dict[str, object]:
    """The flow as a player's application names it."""
    return {"sender": play.middle, "msg_id": new.msg_id}


@scenario(
    "R1",
    _GROUP,
    "NEW twice",
    "processed once; acknowledged again within the echo rule",
    ends=Ends.RECEIVER,
)
async def twice(play: Play) -> None:
    new = await request_of(play)
    await acked(play, new)
    await play.say(new)
    await play.ran_once(new.msg_id, hazards.RUNS_TWICE)
    acks = len((await play.wire()).said("ACK", new.msg_id))
    play.check(acks == 1, "no ACK within echo_min of the last", f"{acks}", hazards.ENDLESS_ECHO)
    await play.wait(0.5)
    await play.say(new)
    await play.expect(  # before the receiver's own first retry is due
        lambda wire: len(wire.passed("ACK", new.msg_id)) >= 2, "an ACK for the repeated NEW", 0.3
    )
    await play.ran_once(new.msg_id, hazards.RUNS_TWICE)
    hashes = {seen.payload_hash for seen in (await play.wire()).said("ACK", new.msg_id)}
    play.check(len(hashes) == 1, "the same response again", f"{len(hashes)} responses")
    await acknowledge(play, new.msg_id)


@scenario("R2", _GROUP, "NEW again after FIN", "not processed again", ends=Ends.RECEIVER)
async def after_fin(play: Play) -> None:
    new = await request_of(play)
    await acked(play, new)
    await acknowledge(play, new.msg_id)
    before = len((await play.wire()).said("ACK"))
    await play.say(new)
    await play.wait(2)
    await play.ran_once(new.msg_id, hazards.RUNS_TWICE)
    acks = len((await play.wire()).said("ACK")) - before
    if acks:
        await acknowledge(play, new.msg_id)
    play.check(acks == 0, "silence: FIN said that it is over", f"{acks} ACK", hazards.RUNS_TWICE)


@scenario(
    "R3",
    _GROUP,
    "a synchronous handler traps [Incoming 1]",
    "nothing half done; a later NEW is processed",
    ends=Ends.RECEIVER,
    receiver=("player",),
)
async def handler_traps(play: Play) -> None:
    new = await request_of(play, b"trap")
    await play.wait(0.5)
    await no_state(play, new.msg_id)
    play.check(not (await play.wire()).said("ACK"), "no ACK", "one was said")
    # Of the same flow: were anything kept of it, this would be damage or a repeat.
    later = await request_of(play, msg_id=new.msg_id)
    await acked(play, later)
    await play.ran_once(later.msg_id)
    await acknowledge(play, later.msg_id)


@scenario(
    "R4",
    _GROUP,
    "ACK transmission fails at once [Incoming 2]",
    "retried, completes",
    sender=("open",),
    receiver=("settings",),
)
async def ack_fails_at_once(play: Play) -> None:
    await play.b.configure(peers=[attached(play, ack=UNPAYABLE)])
    request = Request.small(application(play))
    msg_id = await play.open(request.payload)
    await play.expect(lambda wire: bool(wire.passed("NEW", msg_id)), "NEW")
    await play.world.wait(min(MINUTE, play.retry // 2))
    play.check(not (await play.wire()).said("ACK"), "no ACK while none can leave", "one came")
    await play.b.configure(peers=[attached(play)])
    await play.answered(msg_id)
    await check_response(play, msg_id, request)
    await play.ran_once(msg_id, hazards.RUNS_TWICE)


@scenario(
    "R5",
    _GROUP,
    "FIN never comes [Incoming 3]",
    "ACK repeats, then Abandoned, then quiet",
    ends=Ends.RECEIVER,
    clean_up=nothing_to_acknowledge,
    receiver_settings={"attempts": _FEW},
)
async def fin_never_comes(play: Play) -> None:
    new = await request_of(play)
    await acked(play, new, 2)
    if "flows" in play.b.powers:
        most = play.b.attempts(_FEW)
        await play.reaches("receiver", new.msg_id, "abandoned", max(40, 10 * most))
        acks = len((await play.wire()).said("ACK"))
        play.check(acks == most, f"{most} ACKs", f"{acks}")
    else:
        play.leave_out(f"{play.b.entry.name} cannot be asked whether a flow is abandoned")


@scenario(
    "R6",
    _GROUP,
    'from an ids = "ulid" peer: replay at horizon + 1 min, and a ULID from the future',
    "not processed",
    ends=Ends.RECEIVER,
    receiver=("settings",),
)
async def old_and_future_ids(play: Play) -> None:
    play.needs_virtual_time("the horizon is two days")
    trusted = peer(play.middle, dialect=Case(play.dialect), ids=Case("ulid"))
    await play.b.configure(peers=[trusted])

    def ulid(time: int) -> int:
        return (time // 1_000_000 << 80) | play.fresh_id()

    now = await request_of(play, msg_id=ulid(play.world.now))
    await acked(play, now)
    await acknowledge(play, now.msg_id)
    future = await request_of(play, msg_id=ulid(play.world.now + HOUR))
    await play.world.wait(_HORIZON + MINUTE, stride=HOUR)
    before = len((await play.wire()).said("ACK"))
    play.check(before == 1, "no ACK to the one from the future", f"{before - 1}")
    await play.say(now)
    await play.wait(1)
    acks = len((await play.wire()).said("ACK")) - before
    play.check(acks == 0, "no ACK to the replay", f"{acks}", hazards.RUNS_TWICE)
    await play.ran_once(now.msg_id, hazards.RUNS_TWICE)
    if play.can_ask(play.b, "handled"):
        times = await play.handled(future.msg_id)
        play.check(times == 0, "the one from the future not to be processed", f"{times} times")
    await no_state(play, future.msg_id)
    play.completed = {now.msg_id}


@scenario(
    "R7",
    _GROUP,
    "the handler answers after three NEWs",
    "processed once",
    ends=Ends.RECEIVER,
    receiver=("player",),
)
async def slow_handler(play: Play) -> None:
    new = await request_of(play, b"later")
    for _ in range(2):
        await play.wait(0.5)
        await play.say(new)
    await _answered_later(play, new)
    await play.ran_once(new.msg_id, hazards.RUNS_TWICE)
    await acknowledge(play, new.msg_id)


async def _answered_later(play: Play, new: New, hazard: Hazard | None = None) -> None:
    """Have a deferred flow answered; insist that what is acknowledged is that, and only then."""
    early = len((await play.wire()).said("ACK", new.msg_id))
    play.check(not early, "no ACK before the answer", f"{early}")
    refused = await play.b.act("answer", key(play, new) | {"response": b"done"})
    play.check(refused is None, "the deferred answer to be taken", refused, hazard)
    await acked(play, new)
    hashes = {seen.payload_hash for seen in (await play.wire()).said("ACK", new.msg_id)}
    play.check(hashes == {payload_hash(b"done")}, "the answer in every ACK", f"hashes {hashes}")


@scenario(
    "R8",
    _GROUP,
    "a handler traps after its own await; a restart with one running, with one deferred",
    "Stalled and told, rerun is marked; the deferred one answers as if nothing had been",
    ends=Ends.RECEIVER,
    receiver=("player", "upgrade", "flows"),
)
async def interrupted(play: Play) -> None:
    trapped = await request_of(play, b"trap-once")
    await _runs_again(play, trapped)
    deferred = await request_of(play, b"later")
    running = await _under_way(play)
    if running is None:
        play.leave_out("no handler can be held here: the restart interrupts none")
        await play.b.upgrade()
    else:
        await play.b.crash()
        await _runs_again(play, running)
    await _answered_later(play, deferred, hazards.LOST_STATE)
    await play.ran_once(deferred.msg_id, hazards.RUNS_TWICE)
    await acknowledge(play, deferred.msg_id)


async def _under_way(play: Play) -> New | None:
    """A request whose handler has begun, and waits for something of its own; ``None`` if none can.

    Which call of a canister to itself is its handler's own differs; at an earlier one the handler
    has not begun yet.
    """
    for nth in range(1, _OWN_CALLS + 1):
        payload = await play.b.hold(nth)
        if payload is None:
            return None
        new = await request_of(play, payload)
        begun = await play.handled(new.msg_id)
        state = await play.b.state("receiver", new.msg_id)
        play.check(state == "processing", "the flow to be processing", f"it is {state}")
        if begun:
            return new
        await _runs_again(play, new)
    raise BridgeError(f"none of {_OWN_CALLS} calls to itself was made by a handler that had begun")


async def _runs_again(play: Play, new: New) -> None:
    """Insist that an interrupted flow is stalled and told, and that its rerun is marked."""
    await play.reaches("receiver", new.msg_id, "stalled")

    async def told() -> bool:
        return any(
            (t["what"].label, t["msg_id"]) == ("stalled", new.msg_id) for t in await play.b.told()
        )

    play.check(await play.until_so(told), "the stall to be told", "it was not")
    refused = await play.b.act("rerun", key(play, new))
    play.check(refused is None, "the rerun to be taken", refused)
    await acked(play, new)
    ack = (await play.wire()).said("ACK", new.msg_id)[-1]
    play.check(
        ack.payload_hash == payload_hash(b"redelivered"),
        "the rerun to be marked as such to the handler",
        "another response",
    )
    await acknowledge(play, new.msg_id)


@scenario(
    "R9",
    _GROUP,
    "answer twice, answer late, answer too large",
    "error to the application; flow undisturbed",
    ends=Ends.RECEIVER,
    receiver=("player", "settings"),
    receiver_settings={"max_response": 1_000},
)
async def wrong_answers(play: Play) -> None:
    new = await request_of(play, b"later")
    answer = key(play, new)

    async def refuses(response: bytes, what: str) -> None:
        reason = await play.b.act("answer", answer | {"response": response})
        play.check(reason is not None, f"an error to {what}", "it was taken")

    await refuses(b"x" * 1_001, "an answer that is too large")
    refused = await play.b.act("answer", answer | {"response": b"first"})
    play.check(refused is None, "the answer to be taken", refused)
    await refuses(b"second", "a second answer")
    await acked(play, new)
    ack = (await play.wire()).said("ACK", new.msg_id)[-1]
    play.check(ack.payload_hash == payload_hash(b"first"), "the first answer", "another")
    await acknowledge(play, new.msg_id)
    await refuses(b"late", "an answer after FIN")
