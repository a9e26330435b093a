"""On a network by URL, whose time runs: short waits, canisters that stand there already."""

from pathlib import Path

import pytest

from bridge.agent import Identity
from bridge.conformance import entries
from bridge.conformance.place import Place
from bridge.conformance.results import RunEnded, Verdict
from bridge.conformance.runner import run
from bridge.contracts import rust_canister
from bridge.network import Network
from bridge.reference import SHORT_WAITS, install_argument


async def report_of(senders, receivers, **given):
    async for event in run(senders, receivers, **given):
        if isinstance(event, RunEnded):
            return event.report
    raise AssertionError("the run did not end")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_scenarios_are_played_in_real_time_and_those_of_hours_are_unsupported():
    ours = [entries.shipped("rust"), entries.shipped("python")]
    async with Network.embedded() as network:
        report = await report_of(
            ours,
            ours[:1],
            scenarios=["F1", "S1", "R6", "H2"],
            dialects=["unified"],
            place=Place(network.url, network.root_key),
            jobs=2,
        )
    cells = {(cell.key.sender, cell.key.scenario): cell for cell in report.cells}
    for sender in ("rust", "python"):
        for scenario in ("F1", "S1", "H2"):
            cell = cells[sender, scenario]
            assert cell.verdict is Verdict.PASSED, (cell.observed, cell.clean_up_observed)
        assert cells[sender, "R6"].verdict is Verdict.UNSUPPORTED
        assert "embedded replica" in cells[sender, "R6"].observed
    assert report.network == network.url
    assert "--network" in cells["rust", "F1"].rerun


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_canister_that_stands_there_is_used_as_it_stands():
    identity = Identity.generate()
    async with Network.embedded() as network, network.agent(identity) as agent:
        argument = install_argument(SHORT_WAITS, agents=[agent.principal])
        theirs = await network.deploy(agent, rust_canister("receiver"), argument)
        entry = entries.from_mapping(
            {
                "name": "standing",
                "role": "receiver",
                "dialects": ["unified"],
                "canister": str(theirs),
                "asked": "watch",
                "application": "compute",
                "first_retry": "2 s",
            },
            place=Path(),
            called="standing",
        )
        report = await report_of(
            [entries.shipped("rust")],
            [entry],
            scenarios=["F1", "L2"],
            dialects=["unified"],
            place=Place(network.url, network.root_key, identity),
            jobs=1,
        )
        cells = {cell.key.scenario: cell for cell in report.cells}
        assert cells["F1"].verdict is Verdict.PASSED, cells["F1"].observed
        assert cells["L2"].verdict is Verdict.UNSUPPORTED
        assert await agent.module_hash(theirs) is not None
