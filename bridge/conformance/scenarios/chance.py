"""Group N: many flows under random faults."""

from collections import Counter
from typing import Final

from bridge.conformance import hazards
from bridge.conformance.payloads import Request
from bridge.conformance.play import Play
from bridge.conformance.scenarios.flows import all_answered, application
from bridge.conformance.scenarios.registry import scenario

_GROUP: Final = "random"
_FLOWS: Final = 200
_SAMPLE: Final = 20
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
    await play.open_many(Request.small(application(play)).payload, _FLOWS)
    wire = await play.expect(
        lambda wire: len({seen.msg_id for seen in wire.passed("FIN")}) >= _FLOWS,
        f"all {_FLOWS} flows to complete",
        40,
    )
    faults = {seen.fault for seen in wire.sightings if seen.fault}
    play.check(faults >= set(_CHANCES), "every fault to have been played", sorted(faults))
    ids = wire.ids()
    if play.can_ask(play.b, "handled"):
        for msg_id in ids[:: _FLOWS // _SAMPLE]:
            await play.ran_once(msg_id, hazards.RUNS_TWICE)
    await all_answered(play, ids, hazards.HANDED_TWICE)
    # Retries, and echoes to what was repeated, both of them bounded.
    a, b = play.a.entry.attempts + 2, play.b.entry.attempts + 2
    for kind, most in (("NEW", a), ("ACK", b + b + _ECHOES), ("FIN", a + b + _ECHOES)):
        said = Counter(seen.msg_id for seen in wire.said(kind))
        worst = max(said.values())
        play.check(worst <= most, f"at most {most} {kind}s of a flow", f"{worst}")
