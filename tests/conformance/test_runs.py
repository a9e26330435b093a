"""A run of our own implementations: green, the same again from one seed, told as it goes."""

import dataclasses

import pytest

from bridge.conformance import entries
from bridge.conformance.cell import Job, Programs, play_cell
from bridge.conformance.instruments import Fault
from bridge.conformance.place import Place
from bridge.conformance.results import (
    CellEnded,
    CellKey,
    CellStarted,
    RunEnded,
    RunStarted,
    Verdict,
)
from bridge.conformance.runner import run
from bridge.conformance.scenarios import table
from bridge.conformance.world import World

OURS = [entries.shipped(name) for name in entries.SHIPPED]
SCENARIOS = ["F1", "S6", "R2", "I2", "H1", "L4"]


async def played(senders, receivers, **given):
    return [event async for event in run(senders, receivers, **given)]


def essence(cell):
    """A cell without what a clock says."""
    told = [dataclasses.replace(record, time=0) for record in cell.timeline]
    return dataclasses.replace(cell, seconds=0.0, virtual=0, timeline=tuple(told))


@pytest.mark.slow
async def test_our_own_are_green_and_two_runs_with_one_seed_say_the_same():
    reports = []
    for _ in range(2):
        events = await played(OURS, OURS, scenarios=SCENARIOS, dialects=["unified"], seed=23)
        reports.append(events[-1].report)
    bad = [cell for cell in reports[0].cells if cell.verdict is not Verdict.PASSED]
    assert [(str(cell.key), cell.observed, cell.clean_up_observed) for cell in bad] == []
    first, again = ([essence(cell) for cell in report.cells] for report in reports)
    assert first == again


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["maf", "bounty", "positional"])
async def test_every_pair_of_ours_works_together_in_each_older_dialect(dialect):
    scenarios = ["S1", "D2", "D3", "D4"]
    events = await played(OURS, OURS, scenarios=scenarios, dialects=[dialect], seed=1)
    cells = events[-1].report.cells
    assert len(cells) == 9 * 2
    assert {cell.verdict for cell in cells} == {Verdict.PASSED}


async def test_a_run_tells_what_comes_then_each_cell_then_the_whole():
    rust, motoko = entries.shipped("rust"), entries.shipped("motoko")
    events = await played([rust], [rust, motoko], scenarios=["F1", "R2"], dialects=["maf"])
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunEnded)
    keys = events[0].keys
    assert [(key.receiver, key.scenario) for key in keys] == [
        ("rust", "F1"),
        ("rust", "R2"),
        ("motoko", "F1"),
        ("motoko", "R2"),
    ]
    assert {event.cell.key for event in events if isinstance(event, CellEnded)} == set(keys)
    assert {event.key for event in events if isinstance(event, CellStarted)} == set(keys)
    assert tuple(cell.key for cell in events[-1].report.cells) == keys
    told = {one.name: one.answered_unknown for one in events[0].implementations}
    canister, driver = "not asked: a canister", "unsupported"
    assert told == {name: driver if name == "python" else canister for name in told}


async def test_what_an_entry_states_to_lack_is_unsupported_with_its_reason():
    rust = entries.shipped("rust")
    modest = dataclasses.replace(rust, name="modest", lacks={"F1": "not on Sundays"})
    events = await played([modest], [rust], scenarios=["F1", "S1"], dialects=["unified"])
    cells = {cell.key.scenario: cell for cell in events[-1].report.cells}
    assert cells["F1"].verdict is Verdict.UNSUPPORTED
    assert "not on Sundays" in cells["F1"].observed
    assert cells["S1"].verdict is Verdict.PASSED


async def test_a_cell_holds_what_a_reader_needs():
    rust = entries.shipped("rust")
    events = await played([rust], [rust], scenarios=["S1"], dialects=["unified"], seed=2)
    (cell,) = events[-1].report.cells
    assert [(r.sender, r.message, r.attempt, r.outcome) for r in cell.timeline] == [
        ("rust", "NEW", 1, "lost"),
        ("rust", "NEW", 2, "delivered"),
        ("rust", "ACK", 1, "delivered"),
        ("rust", "FIN", 1, "delivered"),
    ]
    assert cell.virtual > 330 * 10**9
    assert cell.seed == 2
    assert cell.requirement == "retried, completes"


async def test_an_upgrade_is_also_played_from_the_previous_version_where_an_entry_names_one():
    motoko = entries.shipped("motoko")
    # A build that keeps its state in another way cannot be gone on from.
    older = entries.Variant({"unified": "rust/player"})
    other = dataclasses.replace(motoko, name="other", variants={"previous": older})
    alone = dataclasses.replace(motoko, name="alone", variants={})
    senders = [motoko, other, alone]
    events = await played(senders, [motoko], scenarios=["L1"], dialects=["unified"])
    cells = {cell.key.sender: cell for cell in events[-1].report.cells}
    assert {cells[name].verdict for name in ("motoko", "alone")} == {Verdict.PASSED}
    flows = {name: len({one.flow for one in cell.timeline}) for name, cell in cells.items()}
    assert flows["motoko"] == flows["alone"] + 1
    assert cells["other"].verdict in (Verdict.FAILED, Verdict.ERROR)


async def test_a_scenario_whose_fault_met_no_message_has_not_passed():
    lossless = table()["F1"]

    async def never_met(play):
        await play.plan(Fault("b", "ACK", 7))
        await lossless.player(play)

    rust = entries.shipped("rust")
    job = Job(dataclasses.replace(lossless, player=never_met), "unified", rust, rust, seed=1)
    async with World.enter(Place()) as world:
        cell = await play_cell(world, job, CellKey("rust", "rust", "unified", "F1"), Programs())
    assert cell.verdict is Verdict.ERROR
    assert "no ACK from b met its fault 'lose'" in cell.observed
