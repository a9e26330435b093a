"""On a network by URL, whose time runs: short waits, canisters that stand there already."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import wasmtime

from bridge.agent import Identity
from bridge.conformance import entries
from bridge.conformance.canister import install_argument as argument_of
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


KNOWS_FLOWS_BY_ID_ALONE = (
    "record { faults = opt vec { (variant { one_flow_per_id } : variant { one_flow_per_id }) } }"
)


def standing(**given):
    raw = {
        "name": "standing",
        "role": "receiver",
        "dialects": ["unified"],
        "asked": "watch",
        "application": "player",
        "first_retry": "2 s",
    }
    return entries.from_mapping(raw | given, place=Path(), called="standing")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_what_stands_on_the_network_that_its_entry_names_is_played_again_and_left_as_it_was():
    identity = Identity.generate()
    async with Network.embedded() as network, network.agent(identity) as agent:
        argument = argument_of(
            entries.from_mapping(
                {
                    "name": "standing",
                    "dialects": ["unified"],
                    "packaged": "rust/broken",
                    "asked": "watch",
                    "install_fields": KNOWS_FLOWS_BY_ID_ALONE,
                },
                place=Path(),
                called="standing",
            ),
            SimpleNamespace(virtual=False),
            {},
            [],
        )
        theirs = await network.deploy(agent, rust_canister("broken"), argument)
        entry = standing(canister=str(theirs), url=network.url)
        for _ in range(2):
            report = await report_of(
                [entries.shipped("rust")],
                [entry],
                scenarios=["R2", "H6", "C1"],
                dialects=["unified"],
                place=Place(identity=identity),
                jobs=2,
            )
            cells = {cell.key.scenario: cell for cell in report.cells}
            assert cells["R2"].verdict is Verdict.PASSED, cells["R2"].observed
            for id_ in ("H6", "C1"):
                assert cells[id_].verdict is Verdict.UNSUPPORTED, cells[id_].observed
                assert "its settings can be changed" in cells[id_].observed
        assert report.implementations[1].source == f"{theirs} at {network.url}"


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_canister_without_the_methods_of_its_dialect_is_an_error_on_a_network_too():
    identity = Identity.generate()
    async with Network.embedded() as network, network.agent(identity) as agent:
        empty = bytes(wasmtime.wat2wasm('(module (func (export "canister_update other")))'))
        entry = standing(canister=str(await network.deploy(agent, empty)), asked="nothing")
        report = await report_of(
            [entries.shipped("rust")],
            [entry],
            scenarios=["S3"],
            dialects=["unified"],
            place=Place(network.url, network.root_key, identity),
        )
    (cell,) = report.cells
    assert cell.verdict is Verdict.ERROR
    assert "standing executes no message" in cell.observed
    assert cell.hazard is None


async def test_ends_that_stand_on_different_networks_are_an_error_of_their_cell():
    one, other = (
        standing(canister="aaaaa-aa", url=f"http://127.0.0.1:{port}", name=name, role=role)
        for port, name, role in ((9, "one", "sender"), (10, "other", "receiver"))
    )
    report = await report_of([one], [other], scenarios=["F1"])
    (cell,) = report.cells
    assert cell.verdict is Verdict.ERROR
    assert "different networks: http://127.0.0.1:9 and http://127.0.0.1:10" in cell.observed
