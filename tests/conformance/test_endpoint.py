"""What a sender's application was told of a flow is counted whatever it was told."""

import pytest

from bridge.candid import Case
from bridge.conformance.endpoint import Outcome


def told(*whats):
    return [
        {
            "msg_id": 1,
            "what": Case(what),
            "failure": Case("unknown") if what == "failed" else None,
            "response": None if what == "failed" else b"done",
        }
        for what in whats
    ]


@pytest.mark.parametrize(
    "whats",
    [
        ("answered", "answered"),
        ("failed", "answered"),
        ("answered", "failed"),
        ("failed", "failed"),
        ("late",),
        ("late", "failed"),
        ("answered", "late"),
        ("failed", "late", "late"),
        ("failed", "answered", "late"),
        ("failed", "late", "answered"),
    ],
    ids=", then ".join,
)
def test_more_or_other_tellings_than_a_flow_has_are_not_one(whats):
    outcome = Outcome.among(told(*whats), 1)
    assert outcome is not None
    assert outcome.times != 1


@pytest.mark.parametrize(
    "whats", [("answered",), ("failed",), ("failed", "late")], ids=", then ".join
)
def test_what_a_flow_is_told_of_once_is_one(whats):
    outcome = Outcome.among(told("opened", *whats), 1)
    assert outcome is not None
    assert outcome.times == 1
    assert outcome.late == (whats[-1] == "late")


def test_other_flows_and_other_tellings_are_no_outcome():
    assert Outcome.among(told("opened"), 1) is None
    assert Outcome.among(told("answered"), 2) is None
