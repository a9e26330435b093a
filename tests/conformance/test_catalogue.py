"""The table of scenarios is the protocol page's matrix."""

import re
from pathlib import Path

import pytest
import wasmtime

from bridge.conformance.scenarios import catalogue, modules, table

ROOT = Path(__file__).resolve().parents[2]


def matrix():
    """The rows of the page's matrix: id, scenario, what must hold."""
    page = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| ([A-Z]\d[^|]*) \| (.*) \| (.*) \|$",
        page.partition("## Scenario matrix")[2],
        re.MULTILINE,
    )
    for ids, title, requirement in rows:
        first, last = re.match(r"([A-Z]\d+)(?:(?:-|, )([A-Z]\d+))?", ids).groups()
        for number in range(int(first[1:]), int((last or first)[1:]) + 1):
            yield f"{first[0]}{number}", title, requirement


def test_every_id_of_the_page_is_played_in_its_order_and_no_other():
    assert [info.id for info in catalogue()] == [id_ for id_, _, _ in matrix()]


def plain(text):
    return re.sub(r"[`*]", "", text)


@pytest.mark.parametrize(("id_", "title", "requirement"), list(matrix()))
def test_each_cites_what_the_page_says_must_hold(id_, title, requirement):
    assert plain(table()[id_].info.requirement) == plain(requirement)
    # A title may say less or be more exact; it must speak of the same thing.
    words = set(re.findall(r"\w{5,}", title.lower()))
    said = set(re.findall(r"\w{5,}", table()[id_].info.title.lower()))
    assert not words or words & said


def test_each_stands_in_the_module_of_its_group():
    for id_, scenario in table().items():
        module = scenario.player.__module__.rpartition(".")[2]
        assert id_[0] in modules()[module], id_


def test_the_relay_is_what_its_text_says():
    folder = ROOT / "bridge" / "conformance"
    text = (folder / "relay.wat").read_text(encoding="utf-8")
    assert bytes(wasmtime.wat2wasm(text)) == (folder / "relay.wasm").read_bytes()
