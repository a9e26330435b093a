"""Who speaks another dialect than the one that is judged fails; the entry of the page does not."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli import root
from bridge.conformance import entries
from bridge.conformance.results import RunEnded, Verdict
from bridge.conformance.runner import run
from bridge.conformance.wire import Sighting, Wire
from bridge.contracts import motoko_canister

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "bring-your-own-canister.md"
# Its `send` opens a flow in the dialect that its peer is known to speak: in unified, if none is.
SEND = {"method": "send", "arguments": "(record { to = {to}; payload = {payload} })"}


def sender(**more):
    raw = {"name": "theirs", "dialects": ["maf"], "packaged": "motoko/both_maf", "send": SEND}
    return entries.from_mapping(raw | more, place=Path(), called="theirs")


async def played(entry, *scenarios):
    """The cells of an entry that sends to Rust, by scenario."""
    rust = entries.shipped("rust")
    async for event in run([entry], [rust], scenarios=list(scenarios), dialects=["maf"], seed=1):
        if isinstance(event, RunEnded):
            return {cell.key.scenario: cell for cell in event.report.cells}
    raise AssertionError("the run has no end")


async def test_a_sender_that_opens_flows_in_another_dialect_fails_in_words_that_say_so():
    cells = await played(sender(install="()"), "F1", "F3", "S7", "D2", "H1", "L3")
    for cell in cells.values():
        assert cell.verdict is Verdict.FAILED
        assert cell.expected == "theirs to say NEW in maf, by com_asyncFlow_newMessage"
        assert cell.observed == "a NEW in unified, by asyncFlow"
        assert cell.hazard is None
    assert cells["F1"].timeline[0].message == "NEW"


async def test_the_same_sender_passes_where_its_peer_is_known_to_speak_the_dialect():
    cells = await played(sender(install="reference"), "F1", "D2")
    assert {cell.verdict for cell in cells.values()} == {Verdict.PASSED}


async def test_a_failure_that_nobody_can_ask_for_is_not_judged_and_accuses_nobody():
    cell = (await played(sender(install="reference"), "L3"))["L3"]
    assert cell.verdict is Verdict.PASSED
    assert "theirs does not say, in maf, that it can be asked how a flow ended" in cell.unjudged


def test_the_entry_of_the_page_passes_as_a_sender_in_all_that_can_be_played(tmp_path, monkeypatch):
    text = PAGE.read_text(encoding="utf-8")
    (entry,) = re.findall(
        r'^```toml title="theirs.toml"\n(.*?)^```', text, re.DOTALL | re.MULTILINE
    )
    (module,) = re.findall(r'motoko_canister\("(\w+)"\)', text)
    (tmp_path / "theirs.toml").write_text(entry, encoding="utf-8")
    (tmp_path / "my.wasm").write_bytes(motoko_canister(module))
    monkeypatch.chdir(tmp_path)
    words = ["conformance", "--sender", "theirs.toml", "--receiver", "rust", "--seed", "1"]
    result = CliRunner().invoke(root, words)
    assert result.exit_code == 0, result.output
    assert re.search(r"^[3-9]\d passed", result.stdout, re.MULTILINE), result.stdout
    assert not re.search(r"\d (failed|error)", result.stdout)


@pytest.mark.parametrize(
    ("side", "kind", "dialect", "what", "foreign"),
    [
        ("a", "NEW", "unified", "came", True),
        ("a", "NEW", "maf", "came", False),
        ("a", "NEW", "unified", "left", False),  # what is passed on is the same message again
        ("b", "ACK", "unified", "came", False),  # the other side's
        ("a", None, None, "came", False),  # no message of any dialect
    ],
)
def test_only_what_a_side_says_itself_counts_as_said_in_a_dialect(
    side, kind, dialect, what, foreign
):
    seen = Sighting(1, 1, side, kind, 1, what, "", "m", dialect, 7, None, None, 5)
    assert Wire([seen]).foreign("a", "maf") == (seen if foreign else None)
