"""What the documentation says of our own matrix is what its page says, and what would be played."""

import re
from pathlib import Path

import pytest

from bridge.conformance import entries
from bridge.conformance.reports.words import IN_PART, SIGNS
from bridge.conformance.results import Verdict
from bridge.conformance.runner import plan_tasks

DOCS = Path(__file__).resolve().parents[2] / "docs"
PASSED, UNSUPPORTED = (SIGNS[one] for one in (Verdict.PASSED, Verdict.UNSUPPORTED))


@pytest.fixture(scope="module")
def page():
    return (DOCS / "conformance-matrix.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def plan():
    ours = [entries.shipped(name) for name in entries.SHIPPED]
    return plan_tasks(ours, ours, scenarios=None, dialects=None, seed=1)


def signs(page):
    """The signs of the matrix's cells, by the scenario of their row."""
    any_sign = "".join(SIGNS.values())
    rows = re.findall(
        rf"^\| ([A-Z]\d+) [^|]*\|((?: [{any_sign}]{IN_PART}? \|)+)$", page, re.MULTILINE
    )
    return [(id_, sign) for id_, row in rows for sign in row if sign in any_sign]


def test_the_page_has_every_cell_that_would_be_played_and_none_failed(page, plan):
    _, keys = plan
    shown = signs(page)
    assert sorted(id_ for id_, _ in shown) == sorted(key.scenario for key in keys)
    passed = sum(sign == PASSED for _, sign in shown)
    part = page.count(f" {PASSED}{IN_PART} ")
    of_them = f" ({part:,} of them not judged in all)" if part else ""
    told = f"**{passed:,} passed{of_them}, {len(shown) - passed:,} unsupported**"
    assert told in page


def test_the_text_about_it_counts_the_same(page, plan):
    tasks, keys = plan
    unsupported = sum(sign == UNSUPPORTED for _, sign in signs(page))
    text = " ".join((DOCS / "conformance.md").read_text(encoding="utf-8").split())
    assert f"{len(keys):,} cells" in text
    assert f"{len(tasks):,} plays" in text
    assert f"{unsupported} are unsupported" in text
