"""Whatever is wrong with what is brought along, its cells say so and the run goes on."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import wasmtime

from bridge.conformance import entries
from bridge.conformance.place import Place
from bridge.conformance.results import CellEnded, RunEnded, Verdict
from bridge.conformance.runner import run
from bridge.errors import UsageError

TRAPS = """(module
  (func (export "canister_update asyncFlow") unreachable)
  (func (export "canister_update other") unreachable))"""
ANONYMOUS_OWNER = '(opt record { owner = opt principal "2vxsx-fae" })'
EMPTY = '(module (func (export "canister_update other")))'


def module(tmp_path, text):
    file = tmp_path / "theirs.wasm"
    file.write_bytes(bytes(wasmtime.wat2wasm(text)) if text.startswith("(") else text.encode())
    return file


def receiver(**given):
    raw = {"name": "theirs", "role": "receiver", "dialects": ["unified"], "install": "()"}
    return entries.from_mapping(raw | given, place=Path("/"), called="theirs")


async def cells_of(receivers, *, scenarios=("F1",), senders=None, **given):
    senders = senders or [entries.shipped("rust")]
    async for event in run(
        senders,
        receivers,
        scenarios=list(scenarios),
        dialects=["unified"],
        jobs=1,
        **given,
    ):
        if isinstance(event, RunEnded):
            return {(c.key.receiver, c.key.scenario): c for c in event.report.cells}
    raise AssertionError("the run did not end")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("this is no module", "does not begin like WebAssembly"),
        ("\x00asm\x01", "theirs.wasm: the module is not WebAssembly of version 1, or is cut off"),
        ("\x00asm\x01\0\0\0\x0a\1\5", "theirs.wasm is no valid module: "),
        (EMPTY, "no update method 'asyncFlow'"),
        (TRAPS, "none of "),
    ],
    ids=[
        "no module",
        "a module cut off",
        "an invalid module",
        "without the dialect's methods",
        "traps on everything",
    ],
)
async def test_a_module_that_cannot_be_used_is_an_error_with_its_cause(tmp_path, text, cause):
    theirs = receiver(wasm=str(module(tmp_path, text)))
    cells = await cells_of([theirs, entries.shipped("rust")])
    assert cells["theirs", "F1"].verdict is Verdict.ERROR
    assert cause in cells["theirs", "F1"].observed
    assert cells["rust", "F1"].verdict is Verdict.PASSED


ABOUT_DANGERS = ("S3", "S6", "H2", "G1", "R2")


@pytest.mark.parametrize(
    ("text", "cause"),
    [(EMPTY, "no update method 'asyncFlow'"), (TRAPS, "none of ")],
    ids=["without the dialect's methods", "traps on everything"],
)
async def test_what_executes_nothing_shows_no_danger_whatever_the_scenario_is_about(
    tmp_path, text, cause
):
    theirs = receiver(wasm=str(module(tmp_path, text)))
    for cell in (await cells_of([theirs], scenarios=ABOUT_DANGERS)).values():
        assert cell.verdict is Verdict.ERROR, (cell.key.scenario, cell.observed)
        assert cause in cell.observed, (cell.key.scenario, cell.observed)
        assert cell.hazard is None
        assert cell.clean_up_observed == ""


async def test_a_canister_that_publishes_no_method_of_the_dialect_is_an_error_before_it_is_played():
    theirs = receiver(packaged="rust/receiver", asked="watch", install="reference")
    maf = replace(theirs, dialects=("maf",), packaged={"maf": "rust/receiver"})
    async for event in run([entries.shipped("rust")], [maf], scenarios=["F1", "R1"], jobs=1):
        if isinstance(event, RunEnded):
            for cell in event.report.cells:
                assert cell.verdict is Verdict.ERROR
                assert "com_asyncFlow_newMessage" in cell.observed
                assert "publishes no method" in cell.observed


async def test_a_module_that_is_not_there_is_an_error_of_its_cells():
    cells = await cells_of([receiver(wasm="/nowhere/theirs.wasm"), entries.shipped("rust")])
    assert cells["theirs", "F1"].verdict is Verdict.ERROR
    assert "/nowhere/theirs.wasm" in cells["theirs", "F1"].observed
    assert cells["rust", "F1"].verdict is Verdict.PASSED


async def test_a_module_that_traps_on_its_install_argument_is_an_error():
    theirs = receiver(packaged="rust/mailbox", install=ANONYMOUS_OWNER)
    cells = await cells_of([theirs])
    assert cells["theirs", "F1"].verdict is Verdict.ERROR
    assert "bad install argument" in cells["theirs", "F1"].observed


async def test_a_sender_without_the_method_that_its_entry_names_is_an_error():
    theirs = entries.from_mapping(
        {
            "name": "theirs",
            "role": "sender",
            "dialects": ["unified"],
            "packaged": "rust/both",
            "send": {"method": "begin", "arguments": "({to}, {payload})"},
        },
        place=Path("/"),
        called="theirs",
    )
    cells = await cells_of([entries.shipped("rust")], senders=[theirs])
    assert cells["rust", "F1"].verdict is Verdict.ERROR
    assert "begin" in cells["rust", "F1"].observed


async def test_a_network_that_cannot_be_reached_is_the_error_of_every_cell():
    place = Place("http://127.0.0.1:9", root_key=None)
    cells = await cells_of([entries.shipped("rust")], scenarios=("F1", "S1"), place=place)
    assert {cell.verdict for cell in cells.values()} == {Verdict.ERROR}
    assert all("127.0.0.1:9" in cell.observed for cell in cells.values())


def driver(tmp_path, body):
    """An entry of a driver that answers each line by this expression of ``asked``."""
    script = tmp_path / "driver.py"
    script.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    asked = json.loads(line)\n"
        f"    print({body}, flush=True)\n"
    )
    return receiver(command=[sys.executable, str(script)], install="reference")


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("""'{"ok": null}'""", "was asked for a scenario that does not exist"),
        ("'what?'", "gives no answer to scenario"),
        ("'[]'", "no object"),
        (
            """json.dumps({"unsupported": "never"} if asked.get("id") == "X0" else {"ok": {}})""",
            "could not be judged",
        ),
    ],
    ids=["supports everything", "speaks no JSON", "answers a list", "answers nonsense"],
)
async def test_a_driver_whose_word_counts_for_nothing_is_an_error(tmp_path, body, cause):
    cells = await cells_of([driver(tmp_path, body), entries.shipped("rust")])
    assert cells["theirs", "F1"].verdict is Verdict.ERROR
    assert cause in cells["theirs", "F1"].observed
    assert cells["rust", "F1"].verdict is Verdict.PASSED


async def test_a_driver_that_cannot_be_started_is_an_error():
    theirs = receiver(command=["/nowhere/driver"], install="reference")
    cells = await cells_of([theirs])
    assert "/nowhere/driver" in cells["theirs", "F1"].observed


async def test_a_driver_may_state_itself_what_it_lacks(tmp_path):
    theirs = driver(tmp_path, """'{"unsupported": "not yet"}'""")
    body = """json.dumps({"unsupported": "not yet"} if asked["do"] == "scenario" else
        {"ok": {"principal": "aaaaa-aa", "powers": []}})"""
    theirs = driver(tmp_path, body)
    cells = await cells_of([theirs])
    assert cells["theirs", "F1"].verdict is Verdict.UNSUPPORTED
    assert cells["theirs", "F1"].observed == "not yet"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"scenarios": ["Z9"]}, "no scenario 'Z9'"),
        ({"dialects": ["klingon"]}, "no dialect 'klingon'"),
        ({"dialects": ["maf"]}, "nothing to play"),
    ],
)
async def test_what_makes_no_run_is_refused_before_it_begins(given, why):
    theirs = receiver(wasm="/nowhere/theirs.wasm")
    with pytest.raises(UsageError, match=why):
        async for _ in run([entries.shipped("rust")], [theirs], **given):
            pass


async def test_two_entries_of_one_name_are_refused():
    one, other = receiver(wasm="/a.wasm"), receiver(wasm="/b.wasm")
    with pytest.raises(UsageError, match="theirs"):
        async for _ in run([entries.shipped("rust")], [one, other]):
            pass


async def test_each_cell_has_a_line_that_plays_it_alone():
    async for event in run(
        [entries.shipped("rust")],
        [entries.shipped("rust")],
        scenarios=["F1"],
        dialects=["unified"],
        seed=11,
    ):
        if isinstance(event, CellEnded):
            words = shlex.split(event.cell.rerun)
    assert words[:2] == ["ic-bridge", "conformance"]
    assert dict(zip(words[2::2], words[3::2], strict=True)) == {
        "--sender": "rust",
        "--receiver": "rust",
        "--dialect": "unified",
        "--scenario": "F1",
        "--seed": "11",
    }
