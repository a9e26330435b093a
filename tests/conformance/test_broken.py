"""The canister that is wrong on purpose fails what its fault breaks, for its reason, and no more.

`broken` is right but for the faults that it is told of; its contract says which scenarios each of
them breaks, on which side. The other side is the Rust player, so a scenario that is about one end
alone is not broken by the other. What else fails with a fault stands in `ON_THE_WAY`, and no more
than that does. Without CONFORMANCE_BROKEN=all only a slice is played: of each fault the first
scenario that it breaks, and with every sixth some that it does not.
"""

import os
import re
from pathlib import Path

import pytest
import pytest_asyncio

from bridge.conformance import entries
from bridge.conformance.cell import Programs, play_cell
from bridge.conformance.place import Place
from bridge.conformance.results import Verdict
from bridge.conformance.runner import plan_tasks
from bridge.conformance.scenarios import Ends, table
from bridge.conformance.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).resolve().parents[2]
ALL = os.environ.get("CONFORMANCE_BROKEN") == "all"
SPOKEN = {"D2": "maf", "D3": "bounty", "D4": "positional"}
ALL_DIALECTS = ("unified", "maf", "bounty", "positional")
# These take long, whatever is wrong, and find what others find too.
LONG = {"F2", "H4", "N1", "O1"}
# Scenarios that go their way without whatever else is wrong.
UNRELATED = {"sender": ("F1", "S6", "H1", "D1"), "receiver": ("F1", "R2", "H2", "D1")}
EVERY = 6
# Scenarios of which a fault breaks not what they are about, but what they need on their way, as was
# seen: a retry, a repeated ACK, a told failure, a call that cannot be paid for, a tombstone, an
# outbox that knows how long a NEW lives; and whatever L1 and L2 carry across an upgrade.
ON_THE_WAY = {
    ("acks_for_ever", "receiver"): "H8 L2 C1",
    ("acks_once", "receiver"): "S6 I3 H2 L2 G1",
    ("attaches_no_cycles", "receiver"): "R4",
    ("attaches_no_cycles", "sender"): "S2 S6 S10 L1",
    ("believes_any_ack_hash", "sender"): "L1",
    ("drops_late", "sender"): "L1",
    ("echoes_no_fin", "sender"): "L1 N1",
    ("fails_as_unsent", "sender"): "S9 L4 O1 C1",
    ("fails_when_not_sent", "sender"): "S10 L1 O1",
    ("forgets_at_fin", "receiver"): "H4 L2 L3 N1",
    ("forgets_dead_letters", "sender"): "L1",
    ("forgets_interrupted", "receiver"): "L2",
    ("half_done", "receiver"): "D5",
    ("ignores_access", "receiver"): "H4",
    ("ignores_repeats", "receiver"): "L2",
    ("loses_state", "receiver"): "R8",
    ("loses_state", "sender"): "S4 S8",
    ("loses_tellings", "sender"): "L1",
    ("loses_timers", "sender"): "S4",
    ("never_retries", "sender"): "S4 S9 L1 L4 C1 G1",
    ("one_flow_per_id", "receiver"): "H2",
    ("processes_repeats", "receiver"): "R6 H8 L2 L3 L4 G1",
    ("retries_for_ever", "sender"): "S9 H8 L4 O1 C1 G1",
    ("sends_after_lifetime", "sender"): "O1",
    # Without FIN hardly a flow of any scenario completes.
    ("sends_no_fin", "sender"): "F3 S1 S2 S5 S8 S9 S10 R4 I1 I4 H1 H8 L1 L3 L4 D1 D2 D3 D4 C1 G1",
    ("small_only", "sender"): "O1",
    ("tells_no_failure", "sender"): "S9 S10 L1 L4 O1 C1 G1",
    ("waits_for_replies", "sender"): "S2 S6 S10 L1 C1",
}

# Words of what each fault's failed cell says: expected, observed, what was left, the danger.
REASONS = {
    "answers_other_role": "silence to the other role's message",
    "sends_no_fin": "0 FIN",
    "stops_at_fifty": "complete|flows with FIN",
    "small_only": "to open a flow|4 NEW",
    "null_as_empty": "a response of 0 bytes, not the right one",
    "wide_ids": r"no reply to a NEW whose id is 2\^128",
    "never_retries": "NEW again|1 NEW|200 NEW",
    "fails_when_not_sent": "flows queued",
    "ignores_in_flight": "NEWs in flight",
    "retries_for_ever": "a failure to be told|flow to be failed",
    "tells_no_failure": "a failure is never told",
    "forgets_dead_letters": "to be dead_letter",
    "echoes_no_fin": "a lost FIN is never made good",
    "silent_to_unknown": "a lost FIN is never made good",
    "loses_tellings": "state is lost at an upgrade",
    "drops_late": "FIN to the late ACK|a late answer is lost",
    "fails_as_unsent": r"Failed\(unknown\)|a request that was done is told as not done",
    "cancels_as_unsent": r"Failed\(cancelled\)",
    "believes_any_ack": "an ACK from a stranger is believed",
    "answers_all_unknown": "at most 10 FINs a second",
    "believes_any_ack_hash": "a damaged message is accepted",
    "asks_again_and_again": "asked at most 3 times",
    "sends_after_lifetime": "no NEW after its lifetime",
    "waits_for_replies": "a silent peer keeps the canister from being stopped",
    "attaches_no_cycles": "NEW, ACK and FIN of the flow to pass",
    "fin_by_one_name": "0 FIN",
    "opt_to_blob": "an ACK that the peer's type cannot decode",
    "ignores_repeats": "an ACK for the repeated NEW",
    "wrong_after_fifty": "the right response in every ACK",
    "processes_repeats": "a duplicate runs twice",
    "forgets_at_fin": "a duplicate runs twice",
    "half_done": "nothing kept of it",
    "acks_once": "ACK",
    "acks_for_ever": "abandoned",
    "ignores_ulid_time": "no ACK to the one from the future",
    "forgets_interrupted": "to be stalled",
    "answers_twice": "an error to a second answer",
    "replaces_payload": "the first request's response in every ACK",
    "believes_any_fin_hash": "ACK to go on after a damaged FIN",
    "takes_malformed": "no flow of it",
    "believes_any_fin": "a FIN from a stranger is believed",
    "one_flow_per_id": "flows of different senders collide",
    "no_quotas": "one peer can use up the canister",
    "ignores_access": "silence to one who is not listed",
    "keeps_all_cycles": "nothing accepted of too few",
    "charges_again": "a retry is charged again",
    "no_echo_limit": "a tiny repeat buys a large answer for ever",
    "loses_state": "state is lost at an upgrade",
    "loses_timers": "state is lost at an upgrade",
    "forgets_at_standstill": "a duplicate runs twice",
    "tombstones_age_by_clock": "a duplicate runs twice",
    "batch_all_or_nothing": "of 50 answered",
    "oversized_pages": "a page",
    "keeps_dead_news": "no NEW of a flow whose lifetime is over",
}


def played_on(side):
    """The scenarios that a canister on this side has a part in."""
    return {id_ for id_, scenario in table().items() if scenario.ends in (Ends.PAIR, Ends(side))}


def faults():
    """Each fault that breaks something: its name, its side, the scenarios that it breaks there."""
    contract = ROOT / "rust_reference" / "canisters" / "broken" / "broken_own.did"
    lines = re.findall(r"^  (\w+);  // (\w+): (.*)$", contract.read_text("utf-8"), re.MULTILINE)
    for name, side, broken in lines:
        for one in ("sender", "receiver") if side == "both" else (side,):
            about = [id_ for id_ in broken.split() if id_ in played_on(one)]
            if about:
                yield name, one, about


FAULTS = list(faults())


def broken(fault, side):
    """The canister with one fault, as an entry."""
    wrong = [fault]
    one_sided = fault == "answers_other_role"
    if one_sided:
        wrong.append(f"only_{side}")
    kinds = "variant { " + "; ".join(wrong) + " }"
    listed = "; ".join(f"(variant {{ {name} }} : {kinds})" for name in wrong)
    raw = {
        "name": "broken",
        "packaged": "rust/broken",
        "role": side if one_sided else "both",
        "dialects": list(ALL_DIALECTS),
        "asked": "watch",
        "application": "player",
        "install_fields": f"record {{ faults = opt vec {{ {listed} }} }}",
        "variants": {"priced": "rust/broken"},
    }
    return entries.from_mapping(raw, place=ROOT, called="broken")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world():
    async with World.enter(Place()) as world:
        yield world


async def play(world, entry, side, ids):
    """The cells of some scenarios with that entry on that side and Rust on the other."""
    rust = entries.shipped("rust")
    pair = ([entry], [rust]) if side == "sender" else ([rust], [entry])
    cells = {}
    for id_ in ids:
        spoken = [SPOKEN.get(id_, "unified")]
        tasks, _ = plan_tasks(*pair, scenarios=[id_], dialects=spoken, seed=5)
        for task in tasks:
            cells[id_] = await play_cell(world, task.job, task.keys[0], Programs())
    return cells


def chosen(fault, side, about):
    """All that can be played; or the first that it breaks, and some of what it does not."""
    if ALL:
        return sorted(played_on(side))
    first = [id_ for id_ in about if id_ not in LONG][:1] or about[:1]
    if FAULTS.index((fault, side, about)) % EVERY:
        return first
    affected = {*about, *ON_THE_WAY.get((fault, side), "").split()}
    return [*first, *(id_ for id_ in UNRELATED[side] if id_ not in affected)]


def words(cell):
    danger = cell.hazard.name if cell.hazard else ""
    return f"{cell.expected} | {cell.observed} | {cell.clean_up_observed} | {danger}"


async def test_there_is_a_fault_for_each_scenario_that_can_be_played_and_a_reason_for_each_fault():
    broken_ids = {id_ for _, _, about in FAULTS for id_ in about}
    assert set(table()) <= broken_ids
    assert {name for name, _, _ in FAULTS} == set(REASONS)


@pytest.mark.timeout(1800 if ALL else 240)
@pytest.mark.parametrize(
    ("fault", "side", "about"), FAULTS, ids=[f"{name} as {side}" for name, side, _ in FAULTS]
)
async def test_each_fault_fails_its_scenarios_for_its_reason_and_no_unrelated_one(
    world, fault, side, about
):
    affected = {*about, *ON_THE_WAY.get((fault, side), "").split()}
    cells = await play(world, broken(fault, side), side, chosen(fault, side, about))
    found = {id_ for id_, cell in cells.items() if cell.verdict is Verdict.FAILED}
    right = affected & set(cells)
    differs = {id_: words(cells[id_]) for id_ in found ^ right}
    assert differs == {}
    unplayed = {id_: words(cell) for id_, cell in cells.items() if cell.verdict is Verdict.ERROR}
    assert unplayed == {}
    for id_ in set(about) & set(cells):
        assert re.search(REASONS[fault], words(cells[id_])), (id_, words(cells[id_]))


async def test_what_fails_on_the_way_is_of_a_fault_and_is_not_what_it_breaks():
    known = {(fault, side): about for fault, side, about in FAULTS}
    for one, ids in ON_THE_WAY.items():
        assert set(ids.split()) <= played_on(one[1]) - set(known[one]), one


async def test_without_a_fault_the_same_canister_passes(world):
    for side in ("sender", "receiver"):
        entry = entries.from_mapping(
            {
                "name": "broken",
                "packaged": "rust/broken",
                "dialects": ["unified"],
                "asked": "watch",
                "application": "player",
            },
            place=ROOT,
            called="broken",
        )
        cells = await play(world, entry, side, ["F1", "S1", "R2", "H1", "H2", "L1", "L2"])
        assert {cell.verdict for cell in cells.values()} == {Verdict.PASSED}
