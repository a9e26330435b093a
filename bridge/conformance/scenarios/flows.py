"""Group F: flows without faults."""

from typing import Final

from bridge.conformance import hazards
from bridge.conformance.payloads import Application, Request, right_answer
from bridge.conformance.play import Play
from bridge.conformance.results import Hazard
from bridge.conformance.scenarios.registry import Ends, scenario
from bridge.conformance.verdicts import NotHeldError
from bridge.conformance.wire import Wire
from bridge.flow import Fin, New
from bridge.principal import Principal

_GROUP: Final = "flows"
_MANY: Final = 100
_SAMPLE: Final = 20


async def check_response(
    play: Play, msg_id: int, request: Request, hazard: Hazard | None = None
) -> None:
    """Insist on the right response: on the wire, and told where the sender can be asked."""
    right = request.answer_hash(application(play))
    for ack in (await play.wire()).passed("ACK", msg_id):
        play.check(
            right is None or (ack.payload_hash or 0) == right,
            "the right response in every ACK",
            f"one with another hash: {ack.payload_hash}",
            hazard,
        )
    if not play.can_ask(play.a, "outcome"):
        return

    async def ended() -> bool:
        return await play.a.outcome(msg_id) is not None

    await play.until_so(ended, 2)
    outcome = await play.a.outcome(msg_id)
    if outcome is None:
        raise NotHeldError("an outcome told to the sender's application", "none was told")
    play.check(
        outcome.failure is None and not outcome.late,
        "an answer",
        f"{outcome.failure or 'a late answer'}",
        hazard,
    )
    play.check(outcome.times == 1, "one outcome", f"{outcome.times} were told", hazard)
    fault = right_answer(application(play), request, outcome.response, play.dialect)
    play.check(fault is None, "the right response", fault)


def application(play: Play) -> Application:
    """What the receiver does with a request."""
    if play.receiver is None:
        return Application("unknown")
    does = play.receiver.application if _says_payload(play) else "unknown"
    return Application(does, play.receiver.entry.requests)


def _says_payload(play: Play) -> bool:
    """Whether what is sent is what the scenario has chosen, and not the sender's own."""
    return play.sender is None or play.sender.says_payload


async def complete(play: Play, request: Request, retries: float = 4) -> int:
    """One flow from its NEW to its end, with the right response; its id."""
    msg_id = await play.open(request.payload)
    wire = await play.answered(msg_id, retries)
    said = wire.said("NEW", msg_id)[0]
    if _says_payload(play):
        play.check(
            said.payload_hash == request.hash,
            "NEW to carry the payload exactly",
            f"another hash: {said.payload_hash}",
        )
    else:
        play.leave_out(f"{play.a.entry.name} sends payloads of its own: none is compared")
    await check_response(play, msg_id, request)
    await play.ran_once(msg_id)
    return msg_id


@scenario("F1", _GROUP, "one flow", "NEW, ACK, FIN; response delivered once", sender=("open",))
async def one_flow(play: Play) -> None:
    msg_id = await complete(play, Request.small(application(play)))
    wire = await play.wire()
    said = [(seen.side, seen.kind) for seen in wire.sightings if seen.what == "came"]
    play.check(
        said == [("a", "NEW"), ("b", "ACK"), ("a", "FIN")],
        "NEW, ACK, FIN and nothing else",
        f"{said} of {msg_id}",
    )


@scenario("F2", _GROUP, "100 flows at once", "all complete", sender=("open",))
async def many_flows(play: Play) -> None:
    request = Request.small(application(play))
    await play.open_many(request.payload, _MANY)
    wire = await play.expect(
        lambda wire: len({seen.msg_id for seen in wire.passed("FIN")}) >= _MANY,
        f"{_MANY} flows with FIN",
    )
    ids = wire.ids()
    play.check(len(ids) == _MANY, f"{_MANY} ids", f"{len(ids)} ids")
    own_responses(play, wire, [request])
    await all_answered(play, ids)
    await all_ran_once(play, ids)


def own_responses(
    play: Play, wire: Wire, requests: list[Request], hazard: Hazard | None = None
) -> None:
    """Insist that each ACK has the response to its own flow's request."""
    does = application(play)
    asked = {request.hash: request for request in requests}
    request_of = {seen.msg_id: asked.get(seen.payload_hash or 0) for seen in wire.said("NEW")}
    for ack in wire.said("ACK"):
        request = request_of.get(ack.msg_id)
        right = None if request is None else request.answer_hash(does)
        play.check(
            right is None or (ack.payload_hash or 0) == right,
            "the right response in every ACK",
            f"one with another hash: {ack.payload_hash}",
            hazard,
        )


async def all_ran_once(play: Play, ids: list[int], hazard: Hazard | None = None) -> None:
    """Insist that the handler ran once for each flow; where asking takes an update, for some."""
    if not play.can_ask(play.b, "handled"):
        return
    if "player" not in play.b.powers:
        ids = ids[:: max(1, len(ids) // _SAMPLE)]
    for msg_id in ids:
        await play.ran_once(msg_id, hazard)


async def all_answered(play: Play, ids: list[int], hazard: Hazard | None = None) -> None:
    """Insist that the sender's application hears one answer for each flow, and no failure.

    Where it has to be asked for each flow alone, it is asked for some.
    """
    if not play.can_ask(play.a, "outcome"):
        return
    if "player" not in play.a.powers:
        ids = ids[:: max(1, len(ids) // _SAMPLE)]

    async def all_told() -> bool:
        return all((await play.a.outcomes(ids)).values())

    await play.until_so(all_told, 2)
    for outcome in (await play.a.outcomes(ids)).values():
        play.check(
            outcome and outcome.failure is None and not outcome.late and outcome.times == 1,
            "one answer told for each flow",
            outcome,
            hazard,
        )


@scenario(
    "F3",
    _GROUP,
    "empty payload, 1.5 MB payload, null response",
    "carried exactly (null as null in unified, as empty elsewhere)",
    sender=("open",),
)
async def sizes(play: Play) -> None:
    does = application(play)
    if does.requests or not _says_payload(play):
        await complete(play, Request.small(does))
        play.leave_out("neither an empty payload nor one of 1.5 MB is among the requests")
        return
    for request in (Request.empty(does), Request.large(does)):
        await complete(play, request)
    if "null" not in play.b.powers:
        play.leave_out(
            f"{play.b.entry.name} cannot be made to answer with null in {play.dialect}: left out"
        )
        return
    request = Request.null()
    msg_id = await complete(play, request)
    ack = (await play.wire()).passed("ACK", msg_id)[0]
    carried = "null" if ack.payload_hash is None else "empty"
    wanted = "null" if play.dialect == "unified" else "empty"
    play.check(carried == wanted, f"a null response to travel as {wanted}", carried)


GOOD_IDS: Final = (0, 2**32 - 1, 2**64, 2**128 - 1)
BAD_IDS: Final = {"2^128": 2**128, "one of a megabyte": 1 << (8 * 1_000_000)}


@scenario(
    "F4",
    _GROUP,
    "ids 0, 2^32-1, 2^64, 2^128-1; 2^128; a megabyte-long id",
    "the first four work; the others are refused: no state, no reply",
    ends=Ends.RECEIVER,
)
async def ids(play: Play) -> None:
    request = Request.small(application(play))
    for msg_id in GOOD_IDS:
        await play.say(New(msg_id, request.payload))
        await play.expect(
            lambda wire, msg_id=msg_id: bool(wire.passed("ACK", msg_id)),  # type: ignore[misc]
            f"an ACK for the id {msg_id}",
        )
        await acknowledge(play, msg_id)
    before = len((await play.wire()).said("ACK"))
    for name, msg_id in BAD_IDS.items():
        # Straight to the receiver: what stands between might refuse such ids itself.
        stranger = await play.stranger()
        await stranger.say(play.b.address, play.dialect, New(msg_id, request.payload))
        await play.wait(1.5)
        play.check(
            not await stranger.heard() and len((await play.wire()).said("ACK")) == before,
            f"no reply to a NEW whose id is {name}",
            "it was answered",
        )
        await no_state(play, msg_id, stranger.canister_id)


async def told_unknown(play: Play, msg_id: int) -> None:
    """Insist that the sender's application is told of a failure that leaves open what was done."""
    outcome = await play.outcome(msg_id)
    play.check(
        outcome and outcome.failure == "unknown",
        "Failed(unknown) told",
        outcome,
        hazards.SILENT_FAILURE,
    )


async def acknowledge(play: Play, msg_id: int) -> None:
    """Have the relay accept the response that it was sent last."""
    ack = (await play.wire()).passed("ACK", msg_id)[-1]
    await play.say(Fin(msg_id, ack.payload_hash or 0))


async def no_state(play: Play, msg_id: int, peer: Principal | None = None) -> None:
    """Insist that the receiver keeps nothing of a flow, nor of a peer, where it can be asked."""
    if play.can_ask(play.b, "flows"):
        known = [
            view
            for view in await play.b.flows("receiver")
            if view["msg_id"] == msg_id or view["peer"] == peer
        ]
        play.check(not known, "nothing kept of it", f"{len(known)} flows")
