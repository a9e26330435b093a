"""A driver that does not do what it says is found out; one that says less is asked for less."""

import sys
from pathlib import Path

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
TELLS_TWICE = """
    async def do_heard(self, asked):
        heard = await super().do_heard(asked)
        told = []
        for one in heard["told"]:
            if one["what"] == "answered":
                told.append(one | {"what": "failed", "failure": "unknown", "response": None})
            told.append(one)
        return heard | {"told": told}
"""
ANSWERS_WRONGLY = """
    async def do_start(self, asked):
        await super().do_start(asked)
        right = self._player.handle
        async def handle(request):
            await right(request)
            return b"garbage"
        self._player.handle = handle
        await self._begin()
"""
HIDES_ITS_FLOWS = (
    ANSWERS_WRONGLY
    + """
    async def do_flows(self, asked):
        raise driver._UnsupportedError("not today")
"""
)
DIES_WHEN_ASKED_FOR_FLOWS = (
    ANSWERS_WRONGLY
    + """
    async def do_flows(self, asked):
        import os
        os._exit(1)
"""
)
CANNOT_TELL = """
    async def do_heard(self, asked):
        raise driver._UnsupportedError("not today")
"""
UNDERSTANDS_PAYMENTS_ONLY = """
    async def do_start(self, asked):
        await super().do_start(asked)
        right = self._player.handle
        async def handle(request):
            if not request.payload.startswith(b"pay "):
                raise ValueError(request.payload)
            return await right(request)
        self._player.handle = handle
        await self._begin()

    async def do_heard(self, asked):
        heard = await super().do_heard(asked)
        odd = [t for t in heard["told"] if t["response"] not in (None, b"paid".hex())]
        return heard | {"told": [] if odd else heard["told"]}
"""
SAYS_LESS = """
    async def do_hello(self, asked):
        hello = await super().do_hello(asked)
        return hello | {"powers": [one for one in hello["powers"] if one not in ("alone", "life")]}
"""


@pytest.fixture
async def played(tmp_path):
    """Plays scenarios between a driver with a fault and Rust; cells by scenario."""

    async def play(fault, *scenarios, receives=False, **given):
        script = tmp_path / "driver.py"
        script.write_text(OURS.replace("{fault}", fault))
        raw = {
            "name": "wrong",
            "command": [sys.executable, str(script)],
            "dialects": ["maf"],
            "asked": "watch",
            "application": "player",
        }
        entry = entries.from_mapping(raw | given, place=tmp_path, called="wrong")
        pair = [[entry], [entries.shipped("rust")]]
        if receives:
            pair.reverse()
        tasks, _ = plan_tasks(*pair, scenarios=scenarios, dialects=["maf"], seed=3)
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


async def test_one_that_tells_of_a_failure_and_then_of_an_answer_does_not_tell_once(played):
    cells = await played(TELLS_TWICE, "F1", "S1", "S6")
    for cell in cells.values():
        assert cell.delivery is Verdict.FAILED
        assert (cell.expected, cell.observed) == ("one outcome", "2 were told")


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (ANSWERS_WRONGLY, ""),
        (HIDES_ITS_FLOWS, "says unsupported when it is asked for flows: not today"),
        (DIES_WHEN_ASKED_FOR_FLOWS, "gives no answer to flows"),
    ],
    ids=["by no excuse", "by an excuse", "by an end"],
)
async def test_a_failure_is_not_undone_by_what_comes_after_it(played, fault, cause):
    cell = (await played(fault, "F1", receives=True))["F1"]
    assert cell.delivery is Verdict.FAILED
    assert cell.expected == "the right response in every ACK"
    assert cell.verdict is Verdict.FAILED
    assert cell.clean_up is (Verdict.ERROR if cause else Verdict.PASSED)
    assert cause in cell.clean_up_observed


async def test_who_claims_a_power_and_says_that_it_has_not_got_it_is_an_error(played):
    cell = (await played(CANNOT_TELL, "F1"))["F1"]
    assert cell.verdict is Verdict.ERROR
    assert "claims outcome, player, and says unsupported" in cell.observed


PAYMENTS = ["pay 5", 'blob "pay\\206"']


async def test_a_receiver_is_asked_only_what_its_entry_says_that_it_understands(played):
    ids = ("F1", "F3", "H3", "I2", "R2")
    given = {"application": "unknown", "requests": PAYMENTS}
    cells = await played(UNDERSTANDS_PAYMENTS_ONLY, *ids, receives=True, **given)
    assert {id_: cell.observed for id_, cell in cells.items()} == dict.fromkeys(ids, "as expected")
    assert (
        "neither an empty payload nor one of 1.5 MB is among the requests" in cells["F3"].unjudged
    )
    cell = (await played(UNDERSTANDS_PAYMENTS_ONLY, "F1", receives=True))["F1"]
    assert cell.delivery is Verdict.FAILED


async def test_a_sender_is_answered_only_what_its_entry_says_that_it_understands(played):
    ids = ("S9", "L1")
    cells = await played(UNDERSTANDS_PAYMENTS_ONLY, *ids, response="paid")
    assert {id_: cell.observed for id_, cell in cells.items()} == dict.fromkeys(ids, "as expected")
    cell = (await played(UNDERSTANDS_PAYMENTS_ONLY, "S9"))["S9"]
    assert cell.delivery is Verdict.FAILED


async def test_of_a_sender_with_payloads_of_its_own_none_is_compared():
    arguments = '(record { to = {to}; payload = blob "mine" })'
    raw = {
        "name": "fixed",
        "role": "sender",
        "dialects": ["unified"],
        "packaged": "rust/both",
        "install": "reference",
        "send": {"method": "send", "arguments": arguments},
    }
    fixed = entries.from_mapping(raw, place=Path(), called="fixed")
    tasks, _ = plan_tasks(
        [fixed], [entries.shipped("rust")], scenarios=["F1", "S1"], dialects=None, seed=3
    )
    async with World.enter(Place()) as world:
        for task in tasks:
            cell = await play_cell(world, task.job, task.keys[0], Programs())
            assert cell.verdict is Verdict.PASSED, cell.observed
            if cell.key.scenario == "F1":
                assert "fixed sends payloads of its own: none is compared" in cell.unjudged
