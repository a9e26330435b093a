"""Group C: what canisters demand of those who call them."""

from typing import Final

from bridge.conformance.payloads import Request
from bridge.conformance.play import Play
from bridge.conformance.scenarios.flows import application, complete
from bridge.conformance.scenarios.registry import scenario
from bridge.conformance.scenarios.sender import attached

_GROUP: Final = "cycles"
_MINIMUM: Final = 1_000_000


@scenario(
    "C1",
    _GROUP,
    "the owner's minimum for incoming calls set on either side",
    "completes where `attach_cycles` meets it; else reported as what it is",
    sender=("open", "settings", "outcome"),
    receiver=("settings",),
    sender_settings={"attempts": 2},
    receiver_settings={"attempts": 2},
)
async def minimum(play: Play) -> None:
    for end in (play.a, play.b):
        await play.world.set(end.address, minimum_incoming_canister_call_cycles=_MINIMUM)
    msg_id = await play.open(Request.small(application(play)).payload)
    outcome = await play.outcome(msg_id, 40)
    play.check(
        outcome and outcome.failure == "unknown",
        "Failed(unknown) told where nothing is attached",
        outcome,
    )
    acks = (await play.wire()).said("ACK", msg_id)
    play.check(not acks, "no message to get through without cycles", f"{len(acks)} ACK")
    await play.a.configure(peers=[attached(play, new=_MINIMUM, fin=_MINIMUM)])
    await play.b.configure(peers=[attached(play, ack=_MINIMUM)])
    second = await complete(play, Request.small(application(play), 2))
    play.completed = {second}
    await play.b.configure(peers=[attached(play)])
    third = await play.open(Request.small(application(play), 3).payload)
    outcome = await play.outcome(third, 40)
    play.check(
        outcome and outcome.failure == "unknown",
        "Failed(unknown) told where nothing is attached to ACK",
        outcome,
    )
    wire = await play.wire()
    play.check(wire.said("ACK", third), "an ACK to be tried", wire.counts())
