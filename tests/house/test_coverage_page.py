"""The page that tells what the replica covers says what the tests show, and nothing else."""

import importlib.util
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]

_spec = importlib.util.spec_from_file_location(
    "house_coverage_page", Path(__file__).with_name("coverage_page.py")
)
coverage_page = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(coverage_page)


def all_features():
    return [
        ("tests/x.py::test_it", feature, "own", "")
        for features in coverage_page.FEATURES.values()
        for feature in features
    ]


def test_the_page_is_what_the_marks_say() -> None:
    shown = (PROJECT / "docs" / "replica-coverage.md").read_text(encoding="utf-8")
    assert shown == coverage_page.page(coverage_page.collected()), "run: make coverage-page"


def test_no_feature_is_listed_twice() -> None:
    features = [mark[1] for mark in all_features()]
    assert len(set(features)) == len(features)


def test_a_feature_without_a_test_makes_no_page() -> None:
    marks = all_features()
    assert coverage_page.page(marks)
    with pytest.raises(coverage_page.BadMarkError, match="no test covers"):
        coverage_page.page(marks[1:])
    test, feature, client, _ = marks[0]
    with pytest.raises(coverage_page.BadMarkError, match="no test covers"):
        coverage_page.page([*marks[1:], (test, feature, client, "it does not")])


def test_a_mark_that_names_no_feature_or_client_is_refused() -> None:
    for mark in (("t", "query", "nobody", ""), ("t", "flight", "own", "")):
        with pytest.raises(coverage_page.BadMarkError, match="unknown"):
            coverage_page.page([*all_features(), mark])


def test_a_defect_of_a_client_is_a_note() -> None:
    text = coverage_page.page([*all_features(), ("t", "query", "ic-py", "It guesses.")])
    assert "| query |  |  |  | no (1) |  | 1 |" in text
    assert "1. It guesses." in text
