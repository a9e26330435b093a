"""The tables do what the test vectors say, which other languages run too."""

import json
from pathlib import Path

import pytest
from flow_lab import vectors as generator
from flow_lab.vectors import expected_of, outcome_of, policy_of

from bridge.flow import receiver, sender, step
from bridge.flow.codec import from_json

FOLDER = Path(__file__).resolve().parent.parent / "vectors"


def load(name):
    data = json.loads((FOLDER / name).read_text())
    return data["policies"], data["vectors"]


HAND_POLICIES, HAND = load("handwritten.json")


@pytest.mark.parametrize("vector", HAND, ids=[vector["name"] for vector in HAND])
def test_a_handwritten_vector_holds(vector):
    assert outcome_of(HAND_POLICIES, vector) == expected_of(vector)


def test_there_are_enough_handwritten_vectors_and_no_two_of_one_name():
    assert len(HAND) >= 60
    assert len({vector["name"] for vector in HAND}) == len(HAND)


def test_the_generated_vectors_hold():
    policies, vectors = load("generated.json")
    assert len(vectors) > 2_000
    for vector in vectors:
        assert outcome_of(policies, vector) == expected_of(vector), vector["name"]


def test_the_generated_file_is_what_make_vectors_writes():
    assert (FOLDER / "generated.json").read_text() == generator.text()


def test_every_row_of_the_tables_is_in_a_vector():
    policies, vectors = load("generated.json")
    rows = set()
    for each, vector in [(HAND_POLICIES, v) for v in HAND] + [(policies, v) for v in vectors]:
        if not vector.get("error"):
            before = vector["before"] and from_json(vector["before"])
            event = from_json(vector["event"])
            rows.update(step(before, event, vector["now"], policy_of(each, vector)).rows)
    # Rows that are an error to the application decide nothing that could be named.
    errors = {"answer_unstorable", "final_failure_unstorable", "answered_twice"}
    errors |= {"final_failure_twice"}
    # How a question about a FIN outlives a restart is an implementation's own matter.
    own = {"question_restart", "question_due", "question_failed"}
    for table in (sender.TABLE, receiver.TABLE):
        assert {row.name for row in table.rows} - rows <= errors | own
