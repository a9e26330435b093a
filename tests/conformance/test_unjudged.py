"""What could not be judged of a cell that passed is told in every form of a report."""

import dataclasses
import json
from pathlib import Path

import junitparser
import pytest

from bridge.conformance import entries, reports
from bridge.conformance.results import RunEnded, Verdict
from bridge.conformance.runner import run

WHY = "theirs cannot be asked how often its handler ran"


@pytest.fixture
def report(sample_report):
    """One of which a cell that passed, and one that failed, were not judged in all."""
    first, second, *others = sample_report.cells
    assert first.verdict is Verdict.PASSED
    found = [dataclasses.replace(first, unjudged=(WHY,)), second]
    number = next(i for i, cell in enumerate(others) if cell.verdict is Verdict.FAILED)
    others[number] = dataclasses.replace(others[number], unjudged=("nor this",))
    return dataclasses.replace(sample_report, cells=(*found, *others))


def test_only_a_cell_that_passed_is_marked(report, sample_report):
    page, before = reports.to_markdown(report), reports.to_markdown(sample_report)
    assert before.count("✓°") == 0
    assert page.count("✓°") == 1
    assert "(1 of them not judged in all)" in page
    assert "of them not judged in all" not in before


def test_the_page_in_markdown_lists_the_reason_with_its_scenario_and_cells(report):
    page = reports.to_markdown(report)
    _, _, listed = page.partition("## What passed, but was not judged in all")
    listed, _, _ = listed.partition("\n## ")
    (row,) = [line for line in listed.splitlines() if WHY in line]
    key = report.cells[0].key
    assert row.startswith(f"| {key.scenario} |")
    assert f"{key.dialect}: {key.sender} → {key.receiver}" in row


def test_the_page_in_html_marks_the_cell_and_lists_the_reason(report):
    page = reports.to_page(report)
    assert page.count(">✓°</button>") == 1
    assert f"</b> {WHY} (1 cell)</summary>" in page
    assert "passed, but not judged in all" in page


def test_the_reason_stands_in_junit_and_comes_back_from_json(report):
    suites = junitparser.JUnitXml.fromstring(reports.to_junit(report))
    cases = [case for suite in suites for case in suite]
    assert f"not judged: {WHY}" in cases[0].system_out
    assert cases[0].is_passed
    document = json.dumps(reports.to_document(report))
    assert reports.read_document(document) == report


async def test_a_module_that_can_be_asked_nothing_passes_in_part():
    bare = entries.from_mapping(
        {"name": "bare", "role": "receiver", "dialects": ["unified"], "packaged": "rust/player"}
        | {"install": "(null)"},
        place=Path(),
        called="bare",
    )
    rust = entries.shipped("rust")
    async for event in run([rust], [bare, rust], scenarios=["R2", "I3"], dialects=["unified"]):
        if isinstance(event, RunEnded):
            cells = {(c.key.receiver, c.key.scenario): c for c in event.report.cells}
    for scenario in ("R2", "I3"):
        assert cells["bare", scenario].verdict is Verdict.PASSED
        assert cells["bare", scenario].in_part
        assert not cells["rust", scenario].unjudged
    said = "bare does not say, in unified, that it can be asked how often its handler ran"
    assert said in cells["bare", "R2"].unjudged
    assert (
        "bare cannot be asked what its corruption handler was asked" in cells["bare", "I3"].unjudged
    )
