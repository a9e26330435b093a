"""Group N: many flows under random faults."""

from collections import Counter
from typing import Final

from bridge.conformance import hazards
from bridge.conformance.payloads import Request
from bridge.conformance.play import Play
from bridge.conformance.scenarios.flows import (
    all_answered,
    all_ran_once,
    application,
    own_responses,
)
from bridge.conformance.scenarios.registry import scenario
from bridge.errors import BridgeError

_GROUP: Final = "random"
_FLOWS: Final = 200
_ECHOES: Final = 10
_CHANCES: Final = {"lose": 80, "reject": 40, "repeat": 60, "delay": 60, "reorder": 60}


@scenario(
    "N1",
    _GROUP,
    "200 flows under random loss, duplication, delay and reorder",
    "invariants 1 to 5",
    sender=("open",),
)
async def random_faults(play: Play) -> None:
    await play.plan(chances=_CHANCES)
    requests = [Request.small(application(play), number) for number in (1, 2)]
    for request in requests:  # the second half comes while the first is still repeated
        await play.open_many(request.payload, _FLOWS // len(requests))
    wire = await play.expect(
        lambda wire: len({seen.msg_id for seen in wire.passed("FIN")}) >= _FLOWS,
        f"all {_FLOWS} flows to complete",
        40,
    )
    unplayed = set(_CHANCES) - {seen.fault for seen in wire.sightings}
    if unplayed:
        raise BridgeError(f"chance did not play {sorted(unplayed)} with this seed: use another")
    ids = wire.ids()
    play.check(len(ids) == _FLOWS, f"{_FLOWS} ids", f"{len(ids)} ids")
    own_responses(play, wire, requests)
    await all_ran_once(play, ids, hazards.RUNS_TWICE)
    await all_answered(play, ids, hazards.HANDED_TWICE)
    # Retries, and echoes to what was repeated, both of them bounded.
    a, b = play.a.entry.attempts + 2, play.b.entry.attempts + 2
    for kind, most in (("NEW", a), ("ACK", b + b + _ECHOES), ("FIN", a + b + _ECHOES)):
        said = Counter(seen.msg_id for seen in wire.said(kind))
        worst = max(said.values())
        play.check(worst <= most, f"at most {most} {kind}s of a flow", f"{worst}")
