"""Group O: the outbox that a canister keeps for an agent."""

from typing import Any, Final

from bridge import candid, dialects
from bridge.conformance import hazards
from bridge.conformance.play import Play, refusal_is_failure
from bridge.conformance.scenarios.mailbox import away
from bridge.conformance.scenarios.registry import Ends, scenario
from bridge.conformance.scenarios.sender import nothing_to_acknowledge
from bridge.conformance.verdicts import LackingError, NotHeldError
from bridge.conformance.world import HOUR
from bridge.dialects.unified import from_case
from bridge.errors import CallRejectedError
from bridge.flow import Ack, New, payload_hash
from bridge.reference import contract_method

_GROUP: Final = "outbox"
_ENTRY: Final = 1_200_000
_PAGE: Final = 1_900_000


async def outbox(play: Play, after: int | None = None, *, limit: int = 100) -> list[Any]:
    """What waits for the run's own agent."""
    method = contract_method("outbox", "asyncFlow_outbox")
    arg = candid.encode(method.args, [{"after": after, "limit": limit}])
    try:
        reply = await play.world.agent.update(play.a.address, "asyncFlow_outbox", arg)
    except CallRejectedError as error:
        raise NotHeldError("a page of what waits", str(error)) from error
    play.check(len(reply) <= _PAGE, f"a page of at most {_PAGE} bytes", f"{len(reply)}")
    (entries,) = candid.decode(method.results, reply)
    return list(entries)


async def trim(play: Play, seq: int) -> None:
    """Take entries out."""
    method = contract_method("outbox", "asyncFlow_outbox_trim")
    arg = candid.encode(method.args, [seq])
    await play.world.agent.update(play.a.address, "asyncFlow_outbox_trim", arg)


@scenario(
    "O1",
    _GROUP,
    "outbox full, two large entries, the agent away for hours, the NEW of a Failed flow",
    "nothing lost, page fits, the dead NEW is gone",
    ends=Ends.SENDER,
    clean_up=nothing_to_acknowledge,
    sender=("open", "settings", "flows"),
    sender_settings={"outbox_messages": 2},
)
async def waiting(play: Play) -> None:
    if "mailbox" in play.a.powers:  # an agent keeps no outbox: what waits is for it
        await away(play)
        return
    if play.dialect != "unified":
        raise LackingError("outboxes carry messages of unified")
    play.a.need("outbox")
    us = play.world.agent.principal
    await play.a.configure(access={"agents": [us]})
    ids = [await _open(play, bytes([nth]) * _ENTRY) for nth in range(3)]
    states = {view["msg_id"]: view["state"].label for view in await play.a.flows("sender")}
    play.check(
        [states[i] for i in ids] == ["sending", "sending", "queued"],
        "two to wait and the third to be queued: the outbox is full",
        states,
    )
    first = await outbox(play)
    play.check(len(first) == 1, "one large entry a page", f"{len(first)}")
    rest = await outbox(play, first[0]["seq"])
    play.check(len(rest) == 1, "the other on the next page", f"{len(rest)}")
    if play.world.virtual:
        await play.world.wait(3 * HOUR, stride=HOUR // 2)
    again = [*await outbox(play), *await outbox(play, first[0]["seq"])]
    play.check(again == [*first, *rest], "the same two after hours", f"{len(again)} entries")
    new = from_case(first[0]["message"])
    assert isinstance(new, New)
    play.check(new.payload == bytes([0]) * _ENTRY, "the payload exactly", "another")
    ack = Ack(new.msg_id, b"done", payload_hash(new.payload))
    method, arg = dialects.get("unified").call_for(ack)
    await play.world.agent.update(play.a.address, method, arg)
    await play.reaches("sender", ids[0], "acknowledged")

    async def third() -> bool:
        entries = await outbox(play, rest[0]["seq"])
        for entry in entries:
            if entry["message"].label == "FIN":
                await trim(play, first[0]["seq"])
        return any(_id(entry) == ids[2] for entry in entries)

    fin = [e for e in await outbox(play, rest[0]["seq"]) if e["message"].label == "FIN"]
    if fin:  # it took the room of the NEW that it answers; read, it can go
        await trim(play, fin[0]["seq"])
    play.check(await play.until_so(third, 6), "the third NEW once there is room", "it is lost")
    if not play.world.virtual:
        play.leave_out("no flow is failed by its lifetime: time cannot be moved")
        return
    await play.world.wait(13 * HOUR, stride=HOUR)
    left = [entry["message"].label for entry in await _all(play)]
    play.check("NEW" not in left, "no NEW of a flow whose lifetime is over", "one waits still")
    states = {view["msg_id"]: view["state"].label for view in await play.a.flows("sender")}
    play.check(states[ids[1]] == states[ids[2]] == "failed", "both Failed", states)
    if play.can_ask(play.a, "outcome"):
        for msg_id in ids[1:]:
            outcome = await play.a.outcome(msg_id)
            play.check(
                outcome and outcome.failure == "unknown",
                "Failed(unknown) told",
                outcome,
                hazards.SILENT_FAILURE,
            )


async def _all(play: Play) -> list[Any]:
    """What waits, entry by entry."""
    found: list[Any] = []
    while page := await outbox(play, found[-1]["seq"] if found else None, limit=1):
        found += page
    return found


def _id(entry: Any) -> int:
    return int(entry["message"].value["msg_id"])


async def _open(play: Play, payload: bytes) -> int:
    msg_id = play.fresh_id() if "ids" in play.a.powers else None
    with refusal_is_failure():
        opened = await play.a.open(play.world.agent.principal, payload, msg_id)
    assert opened is not None
    return opened
