"""A driver that does not do what it says is found out; one that says less is asked for less."""

import sys

import pytest

from bridge.conformance import entries
from bridge.conformance.cell import Programs, play_cell
from bridge.conformance.place import Place
from bridge.conformance.results import Verdict
from bridge.conformance.runner import plan_tasks
from bridge.conformance.world import World

# What is wrong with the Python end's driver: its own program, with one method replaced.
OURS = """
import asyncio
from bridge.conformance import driver

class Wrong(driver.Driver):
{fault}

driver.Driver = Wrong
asyncio.run(driver.serve())
"""
FORGETS = """
    async def do_restart(self, asked):
        await self.do_stop(asked)
        for file in self._folder.glob("flows.db*"):
            file.unlink()
        await super().do_restart(asked)
"""
HAS_BOTH_ROLES = """
    async def do_start(self, asked):
        await super().do_start(asked | {"role": None})
"""
SAYS_LESS = """
    async def do_hello(self, asked):
        hello = await super().do_hello(asked)
        return hello | {"powers": [one for one in hello["powers"] if one not in ("alone", "life")]}
"""


@pytest.fixture
async def played(tmp_path):
    """Plays scenarios between a driver with a fault and Rust; cells by scenario."""

    async def play(fault, *scenarios):
        script = tmp_path / "driver.py"
        script.write_text(OURS.replace("{fault}", fault))
        raw = {
            "name": "wrong",
            "command": [sys.executable, str(script)],
            "dialects": ["maf"],
            "asked": "watch",
            "application": "player",
        }
        entry = entries.from_mapping(raw, place=tmp_path, called="wrong")
        tasks, _ = plan_tasks(
            [entry], [entries.shipped("rust")], scenarios=scenarios, dialects=["maf"], seed=3
        )
        programs = Programs()
        cells = {}
        async with World.enter(Place()) as world:
            try:
                for task in tasks:
                    cell = await play_cell(world, task.job, task.keys[0], programs)
                    cells[cell.key.scenario] = cell
            finally:
                await programs.end()
        return cells

    return play


async def test_one_that_forgets_when_it_comes_back_loses_what_waited_for_it(played):
    cells = await played(FORGETS, "F1", "O1")
    assert cells["F1"].verdict is Verdict.PASSED
    assert cells["O1"].delivery is Verdict.FAILED
    assert cells["O1"].expected == "the response exactly"


async def test_one_that_keeps_both_roles_answers_what_is_meant_for_the_other(played):
    cells = await played(HAS_BOTH_ROLES, "F1", "D6")
    assert cells["F1"].verdict is Verdict.PASSED
    assert cells["D6"].delivery is Verdict.FAILED
    assert cells["D6"].expected == "silence to the other role's message"


async def test_one_that_says_less_is_not_asked_for_more(played):
    cells = await played(SAYS_LESS, "F1", "D6", "O1")
    assert cells["F1"].verdict is Verdict.PASSED
    assert {cells[i].verdict for i in ("D6", "O1")} == {Verdict.UNSUPPORTED}
    assert "it can have one role alone" in cells["D6"].observed
