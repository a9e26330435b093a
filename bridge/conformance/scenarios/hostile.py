"""Group H: strangers, floods, and peers that mean ill."""

import asyncio
from dataclasses import replace
from typing import Final

from bridge import dialects
from bridge.agent import Agent, Identity
from bridge.candid import Case
from bridge.conformance import hazards
from bridge.conformance.canister import peer
from bridge.conformance.endpoint import Endpoint
from bridge.conformance.instruments import Fault, Relay, told
from bridge.conformance.least import least_arguments
from bridge.conformance.payloads import Request
from bridge.conformance.play import Play
from bridge.conformance.scenarios.flows import acknowledge, application
from bridge.conformance.scenarios.receiver import acked, request_of
from bridge.conformance.scenarios.registry import Ends, scenario
from bridge.conformance.scenarios.sender import nothing_to_acknowledge, right_ack
from bridge.conformance.world import HOUR, MINUTE, SECOND
from bridge.errors import BridgeError
from bridge.flow import Ack, Fin, New, payload_hash
from bridge.principal import Principal

_GROUP: Final = "hostile"
_FINS_A_SECOND: Final = 10
_QUOTA: Final = 5
_FLOOD: Final = 12
_AGENTS: Final = 10_000
_SOME_AGENTS: Final = 500
_FEW_AGENTS: Final = 20
_REPEATS: Final = 15
_COPIES: Final = 4
_FEW: Final = 3
_BOUND: Final = 2
_SOON: Final = 10.0  # real seconds


@scenario(
    "H1",
    _GROUP,
    "ACK from a third principal, for a known and for a forgotten id",
    "known: silent; forgotten: at most the global FIN rate",
    ends=Ends.SENDER,
    sender=("open",),
)
async def strangers_ack(play: Play) -> None:
    msg_id = await play.open()
    right = await right_ack(play, msg_id)
    stranger = await play.stranger()
    await stranger.say(play.a.address, play.dialect, Ack(msg_id, b"wrong", right.hash))
    await play.settle()
    said = told(await stranger.heard(), play.dialect)
    play.check(
        not said,
        "silence to the stranger",
        said,
        hazards.STRANGER_BELIEVED,
    )
    if play.can_ask(play.a, "outcome"):
        outcome = await play.a.outcome(msg_id)
        play.check(outcome is None, "the flow still open", outcome, hazards.STRANGER_BELIEVED)
    await play.say(right)
    await play.expect(
        lambda wire: bool(wire.passed("FIN", msg_id)),
        "FIN to the true ACK",
        hazard=hazards.STRANGER_BELIEVED,
    )
    if play.dialect != "maf":
        fin = (await play.wire()).said("FIN", msg_id)[-1]
        play.check(
            fin.hash in (None, payload_hash(play.done)),  # without a hash it is for any
            "FIN for the true response",
            f"hash {fin.hash}",
            hazards.STRANGER_BELIEVED,
        )
    if play.world.virtual:
        await play.world.wait(26 * HOUR, stride=HOUR)
    for nth in range(3 * _FINS_A_SECOND):
        forgotten = play.world.virtual and nth == 0
        forged = Ack(msg_id if forgotten else play.fresh_id(), b"?", right.hash)
        await stranger.say(play.a.address, play.dialect, forged)
    await play.settle()
    fins = len(await stranger.heard())
    if play.world.virtual:  # all of it was said in one instant
        play.check(fins <= _FINS_A_SECOND, f"at most {_FINS_A_SECOND} FINs a second", f"{fins}")
    else:
        play.leave_out("the FINs of a second are not counted: time does not stand still")


@scenario("H2", _GROUP, "FIN from a third principal", "ignored", ends=Ends.RECEIVER)
async def strangers_fin(play: Play) -> None:
    new = await request_of(play)
    await acked(play, new)
    ack = (await play.wire()).passed("ACK", new.msg_id)[-1]
    stranger = await play.stranger()
    await stranger.say(play.b.address, play.dialect, Fin(new.msg_id, ack.payload_hash or 0))
    await play.expect(
        lambda wire: len(wire.said("ACK", new.msg_id)) >= 2,
        "ACK to go on until its own sender says FIN",
        hazard=hazards.STRANGER_ENDS,
    )
    await acknowledge(play, new.msg_id)


@scenario("H3", _GROUP, "two senders, one id", "both processed, apart", ends=Ends.RECEIVER)
async def one_id(play: Play) -> None:
    does = application(play)
    new = await request_of(play, Request.small(does, 1).payload)
    await acked(play, new)
    other = Request.small(does, 2)
    stranger = await play.stranger()
    await stranger.say(play.b.address, play.dialect, New(new.msg_id, other.payload))

    async def answered() -> bool:
        return bool(await stranger.heard())

    play.check(
        await play.until_so(answered),
        "an ACK to the second sender",
        "silence",
        hazards.IDS_COLLIDE,
    )
    theirs = await _heard_ack(play, stranger)
    ours = (await play.wire()).said("ACK", new.msg_id)[0]
    if does != "unknown":
        play.check(
            payload_hash(theirs.payload) != ours.payload_hash,
            "the second sender's own response",
            "the first sender's",
            hazards.IDS_COLLIDE,
        )
    fin = Fin(new.msg_id, payload_hash(theirs.payload))
    await stranger.say(play.b.address, play.dialect, fin)
    await acknowledge(play, new.msg_id)
    if play.can_ask(play.b, "handled"):
        for sender in (play.middle, stranger.canister_id):
            times = await play.b.handled(sender, new.msg_id)
            play.check(times == 1, "each processed once", f"{times} times", hazards.IDS_COLLIDE)


async def _heard_ack(play: Play, relay: Relay) -> Ack:
    message = (await relay.heard())[0].message(play.dialect)
    play.check(isinstance(message, Ack), "an ACK", message)
    assert isinstance(message, Ack)
    return message


@scenario(
    "H4",
    _GROUP,
    "flood over quota from one sender; NEW-FIN loops against tombstones; 10,000 fresh agents",
    "refused; a listed sender's flow completes",
    ends=Ends.RECEIVER,
    receiver=("settings",),
    receiver_settings={
        "open_flows_per_peer": _QUOTA,
        "open_flows": 2 * _QUOTA,
        "tombstones_per_peer": _QUOTA,
        "tombstones": 4 * _QUOTA,
    },
)
async def flood(play: Play) -> None:
    new = New(0, Request.small(application(play)).payload)
    flooders = await play.stranger(), await play.stranger()
    served = [await _floods(play, flooder, new) for flooder in flooders]
    play.check(
        served[0] <= _QUOTA,
        f"at most {_QUOTA} open flows of one sender",
        f"{served[0]}",
        hazards.UNBOUNDED,
    )
    play.check(
        sum(served) <= _QUOTA,
        f"at most half of {2 * _QUOTA} open flows of senders on no list",
        f"{sum(served)}",
        hazards.UNBOUNDED,
    )
    for flooder in flooders:
        for nth in range(_FLOOD):
            await flooder.say(play.b.address, play.dialect, Fin(nth))
    looper = await play.stranger()
    for nth in range(_FLOOD):
        await looper.say(play.b.address, play.dialect, replace(new, msg_id=nth))
        await looper.say(play.b.address, play.dialect, Fin(nth))
        await play.settle()
    loops = await _served(play, looper)
    play.check(
        loops <= _QUOTA,
        f"at most {_QUOTA} tombstones of one sender",
        f"{loops} flows were served",
        hazards.UNBOUNDED,
    )
    await _agents(play, new, {relay.canister_id for relay in (*flooders, looper)})
    holder = await play.stranger()  # its flows stay open while the listed sender's comes
    await _floods(play, holder, new)
    await play.b.configure(access={"canisters": [play.middle]})
    listed = await request_of(play, new.payload)
    await acked(play, listed)
    await acknowledge(play, listed.msg_id)
    for nth in range(_FLOOD):
        await holder.say(play.b.address, play.dialect, Fin(nth))


async def _floods(play: Play, flooder: Relay, new: New) -> int:
    """How many of a stranger's flows are served."""
    for nth in range(_FLOOD):
        await flooder.say(play.b.address, play.dialect, replace(new, msg_id=nth))
    await play.settle()
    return await _served(play, flooder)


async def _served(play: Play, relay: Relay) -> int:
    return len({_id(heard.message(play.dialect)) for heard in await relay.heard()})


async def _agents(play: Play, new: New, known: set[Principal]) -> None:
    """Insist that of agents on no list none is served, however many they are."""
    many = _AGENTS if play.world.virtual else _FEW_AGENTS
    if play.dialect != "unified":
        many = min(many, _SOME_AGENTS)  # who may call does not depend on the dialect
    method, arg = dialects.get(play.dialect).call_for(new)
    taken = await play.world.crowd(play.b.address, method, arg, many)
    await play.settle()
    if play.can_ask(play.b, "flows"):
        served = {view["peer"] for view in await play.b.flows("receiver")} - known
        play.check(
            not served,
            f"none of {many} fresh agents served",
            f"{len(served)} have flows",
            hazards.UNBOUNDED,
        )
    play.notes.append(f"{taken} of {many} calls by fresh agents were let in, none was served")


def _id(message: object) -> int | None:
    return getattr(message, "msg_id", None)


async def _is_taken(
    play: Play, identity: Identity | None, method: str, arg: bytes, *, query: bool = False
) -> bool:
    """Whether a call by somebody without any right is executed."""
    network = play.world.network
    async with Agent(
        network.url, identity=identity, root_key=network.root_key, clock=lambda: play.world.now
    ) as agent:
        try:
            ask = agent.query if query else agent.update
            await ask(play.b.address, method, arg)
        except BridgeError:
            return False
        return True


@scenario(
    "H5",
    _GROUP,
    "a receiver that never replies to the call itself",
    "the sender stops within 330 s and upgrades; slots and the replies' reserve return",
    ends=Ends.SENDER,
    clean_up=nothing_to_acknowledge,
    sender=("open", "upgrade", "life"),
    # A retry would take the place that has become free.
    sender_settings={"in_flight": _BOUND, "first_retry": HOUR},
)
async def never_replies(play: Play) -> None:
    play.needs_virtual_time("330 seconds")
    spinner = await play.stranger()
    await spinner.spin()
    await _tell_dialect(play, play.a, spinner)
    times = _BOUND + 1 if play.a.takes_settings else 1
    await play.a.open_many(spinner.canister_id, b"hello", times)
    try:  # the replica never comes to rest from now on
        if play.a.takes_settings:
            await _slots_return(play, spinner)
            await play.a.open(spinner.canister_id, b"hello", _given_id(play))
        else:
            play.leave_out(f"{play.a.entry.name} takes no bound on its calls: no bound was met")
        await _stops(play)
        taken = await play.world.slots(play.a.address, spinner.canister_id)
        play.check(not taken, "all slots of the queue to be free", f"{taken} are taken")
    finally:
        # Without code it answers nothing any more, and what waits for it is let go.
        await play.world.manage("uninstall_code", spinner.canister_id)
        await play.settle()
        await play.a.start()
    await play.a.upgrade()
    await play.settle()


async def _stops(play: Play) -> None:
    """Insist that the sender can be stopped while its last call is not answered."""
    stopping = asyncio.create_task(play.a.stop())
    try:
        await play.world.becomes(play.a.address, "stopping", "stopped")
        play.check(not stopping.done(), "the call to hold it at first", "it stopped at once")
        await play.world.step(330 * SECOND, quiet=False)
        await asyncio.wait([stopping], timeout=_SOON)
        if stopping.done() and stopping.exception() is not None:
            # A request to stop lasts five minutes, as long as the call itself: it is made again.
            stopping = asyncio.create_task(play.a.stop())
            await asyncio.wait([stopping], timeout=_SOON)
        stopped = stopping.done() and stopping.exception() is None
        play.check(stopped, "to be stopped within 330 s", "it never is", hazards.KEPT_FROM_STOPPING)
    finally:
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)


async def _slots_return(play: Play, spinner: Relay) -> None:
    """Insist that a flow beyond the bound waits until the calls before it have run out."""

    async def heard() -> int:
        return len({_id(heard.message(play.dialect)) for heard in await spinner.heard()})

    async def as_many_as_may() -> bool:
        return await heard() >= _BOUND

    async def one_more() -> bool:
        return await heard() > _BOUND

    came = await play.world.comes(as_many_as_may)
    play.check(came, f"{_BOUND} NEWs in flight", f"{await heard()}")
    taken = await play.world.slots(play.a.address, spinner.canister_id)
    play.check(taken >= _BOUND, "each call to take a slot of the queue", f"{taken} are taken")
    await play.world.step(335 * SECOND, quiet=False)
    came = await play.world.comes(one_more)
    play.check(came, "another NEW once the calls before it have run out", "none is sent")
    taken = await play.world.slots(play.a.address, spinner.canister_id)
    play.check(
        taken <= 1,
        "the slots of the calls that ran out to be free again",
        f"{taken} are taken",
        hazards.KEPT_FROM_STOPPING,
    )


def _given_id(play: Play) -> int | None:
    return play.fresh_id() if "ids" in play.a.powers else None


async def _tell_dialect(play: Play, end: Endpoint, other: Relay) -> None:
    if "settings" in end.powers:
        spoken = peer(other.canister_id, dialect=Case(play.dialect))
        await end.configure(peers=[spoken])


@scenario(
    "H6",
    _GROUP,
    "a caller not on the access list; the anonymous principal on every method",
    "refused",
    ends=Ends.RECEIVER,
    receiver=("settings",),
)
async def not_on_the_list(play: Play) -> None:
    await play.b.configure(access={"canisters": [play.middle]})
    request = Request.small(application(play))
    stranger = await play.stranger()
    await stranger.say(play.b.address, play.dialect, New(1, request.payload))
    await play.settle()
    play.check(not await stranger.heard(), "silence to one who is not listed", "an answer")
    for message in (New(2, request.payload), Ack(2, b"x"), Fin(2)):
        method, arg = dialects.get(play.dialect).call_for(message)
        await _is_taken(play, None, method, arg)
    for method, type_ in play.b.methods.items():
        least = least_arguments(type_)
        if least is None:
            continue
        taken = await _is_taken(play, None, method, least, query="query" in type_.modes)
        if "oneway" not in type_.modes:  # that answers before anything is looked at
            play.check(not taken, f"{method} to refuse the anonymous principal", "it answers")
    if play.can_ask(play.b, "flows"):
        known = await play.b.flows("receiver")
        play.check(not known, "no flow of either", f"{len(known)} flows")
    new = await request_of(play, request.payload)
    await acked(play, new)
    await acknowledge(play, new.msg_id)


@scenario(
    "H7",
    _GROUP,
    "too few cycles on NEW; a retry that pays again",
    "refused, nothing accepted; taken once",
    ends=Ends.RECEIVER,
)
async def cycles(play: Play) -> None:
    price = 1_000_000_000
    priced = await play.variant(play.b, "priced")
    await priced.configure({"min_cycles": price})
    payer = await play.stranger()
    request = Request.small("compute")

    async def pay(msg_id: int, amount: int) -> int:
        """What it accepted of so many cycles."""
        before = await play.world.balance(priced.address)
        await payer.say(priced.address, play.dialect, New(msg_id, request.payload), cycles=amount)
        await play.settle()
        return await play.world.balance(priced.address) - before

    accepted = await pay(1, price - 1)
    play.check(accepted == 0, "nothing accepted of too few", f"{accepted} cycles")
    play.check(not await payer.heard(), "no answer", "one came")
    accepted = await pay(1, 3 * price)
    play.check(accepted == price, f"{price} cycles accepted, no more", f"{accepted}")
    play.check(await payer.heard(), "an ACK", "none came")
    again = await pay(1, 3 * price)
    play.check(again == 0, "nothing accepted of a retry", f"{again}", hazards.CHARGES_TWICE)
    ack = await _heard_ack(play, payer)
    await payer.say(priced.address, play.dialect, Fin(1, payload_hash(ack.payload)))


@scenario(
    "H8",
    _GROUP,
    "tiny NEWs or ACKs repeated against a 1.5 MB response",
    "bytes bounded by the echo rule",
    sender=("open",),
    sender_settings={"attempts": _FEW},
    receiver_settings={"attempts": _FEW},
)
async def repeats(play: Play) -> None:
    large = b"bytes 1500000"
    payload = large if "player" in play.b.powers else Request.small(application(play)).payload
    if payload != large:
        play.leave_out(f"{play.b.entry.name} cannot be made to answer with 1.5 MB: a small answer")
    await play.plan(
        Fault("a", "NEW", 1, "repeat", _COPIES),
        Fault("b", "ACK", 1, "repeat", _COPIES),
    )
    msg_id = await play.open(payload)
    wire = await play.answered(msg_id)
    play.check(len(wire.passed("NEW", msg_id)) > _COPIES, "the repeats to pass", wire.counts())
    await play.ran_once(msg_id, hazards.RUNS_TWICE)
    for kind in ("ACK", "FIN"):
        said = len(wire.said(kind, msg_id))
        play.check(said == 1, f"one {kind} within echo_min", f"{said}", hazards.ENDLESS_ECHO)
    # The same for hours, by a sender that never says FIN.
    stranger = await play.stranger()
    gap = MINUTE + SECOND if play.world.virtual else SECOND
    new = New(play.fresh_id(), payload)
    attempts = play.b.attempts(_FEW)
    for _ in range(attempts + _REPEATS):  # more than can be answered, so that the bound is met
        await stranger.say(play.b.address, play.dialect, new)
        await play.settle()
        await play.world.wait(gap)
    acks = len(await stranger.heard())
    most = attempts + attempts + 10
    play.check(1 <= acks <= most, f"at most {most} ACKs", f"{acks}", hazards.ENDLESS_ECHO)
    await _repeated_acks(play)


async def _repeated_acks(play: Play) -> None:
    """The same ACK for hours, by a receiver that makes nothing of FIN."""
    if "settings" not in play.a.powers:
        play.leave_out(f"{play.a.entry.name} cannot be made to open a flow to a stranger")
        return
    stranger = await play.stranger()
    await _tell_dialect(play, play.a, stranger)
    await play.a.open(stranger.canister_id, b"hello", _given_id(play))
    await play.settle()

    async def heard_new() -> bool:
        return bool(await stranger.heard())

    play.check(await play.until_so(heard_new), "a NEW to the stranger", "silence")
    new = (await stranger.heard())[0].message(play.dialect)
    play.check(isinstance(new, New), "a NEW to the stranger", new)
    assert isinstance(new, New)
    ack = Ack(new.msg_id, b"done", payload_hash(new.payload))
    attempts = play.a.attempts(_FEW)
    for _ in range(attempts + _REPEATS):
        await stranger.say(play.a.address, play.dialect, ack)
        await play.settle()
        await play.world.wait(MINUTE + SECOND if play.world.virtual else SECOND)
    fins = [m for m in [h.message(play.dialect) for h in await stranger.heard()] if _is_fin(m)]
    most = attempts + 10 + 1
    play.check(1 <= len(fins) <= most, f"at most {most} FINs", f"{len(fins)}", hazards.ENDLESS_ECHO)


def _is_fin(message: object) -> bool:
    return isinstance(message, Fin)
