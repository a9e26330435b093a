"""The tables do what the test vectors say, which other languages run too."""

import dataclasses
import json
from pathlib import Path

import pytest

from bridge.errors import LocalProtocolError
from bridge.flow import PeerPolicy, Policy, step
from bridge.flow.codec import from_json, to_json
from bridge.principal import Principal

FOLDER = Path(__file__).resolve().parent.parent / "vectors"


def load(name):
    data = json.loads((FOLDER / name).read_text())
    return data["policies"], data["vectors"]


def policy_of(policies, vector):
    settings = dict(vector.get("settings", {}))
    peers = {
        Principal.from_text(text): PeerPolicy(**peer)
        for text, peer in settings.pop("peers", {}).items()
    }
    return Policy(**(policies[vector["policy"]] | settings), peers=peers)


def changes(before, after):
    if after is None:
        return None
    new = to_json(dataclasses.replace(after, version=0))
    if before is None:
        return new
    old = to_json(dataclasses.replace(before, version=0))
    defaults = {
        entry.name: entry.default
        for entry in dataclasses.fields(after)
        if entry.default is not dataclasses.MISSING
    }
    differing = {
        name: value for name, value in new.items() if name not in old or old[name] != value
    }
    reset = {name: defaults[name] for name in old if name not in new}
    return differing | reset


HAND_POLICIES, HAND = load("handwritten.json")


def check(policies, vector):
    policy = policy_of(policies, vector)
    before = vector["before"] and from_json(vector["before"])
    event = from_json(vector["event"])
    if vector.get("error"):
        with pytest.raises(LocalProtocolError):
            step(before, event, vector["now"], policy)
        return
    transition = step(before, event, vector["now"], policy)
    assert changes(before, transition.flow) == vector["after"]
    assert [to_json(effect) for effect in transition.effects] == vector["effects"]


@pytest.mark.parametrize("vector", HAND, ids=[vector["name"] for vector in HAND])
def test_a_handwritten_vector_holds(vector):
    check(HAND_POLICIES, vector)


def test_there_are_enough_handwritten_vectors_and_no_two_of_one_name():
    assert len(HAND) >= 60
    assert len({vector["name"] for vector in HAND}) == len(HAND)
