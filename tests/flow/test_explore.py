"""The small world keeps every invariant; each rule, broken on purpose, is found out."""

import dataclasses

import pytest
from flow_lab import broken_rules as rules
from flow_lab.explore import explore
from flow_lab.small_world import BOB, POLICY, RECEIVER, SLOT_OF, Budget, World

from bridge.flow import (
    Fin,
    Received,
    is_current,
)

NONE = Budget(*[0] * len(Budget._fields))


def test_one_flow_with_each_single_fault_keeps_the_invariants():
    for fault in Budget._fields:
        found = explore(World(flows=1), NONE._replace(**{fault: 1}), most=6_000)
        assert found.fault == "", found.timeline


def test_one_flow_under_delay_and_loss_is_explored_to_the_end():
    found = explore(World(flows=1), NONE)
    assert found.complete
    assert found.fault == "", found.timeline
    assert found.states > 1_000


def test_two_flows_with_one_id_keep_the_invariants():
    found = explore(World(prompt=True), Budget(), most=15_000)
    assert found.fault == "", found.timeline


# --- Rules broken on purpose --------------------------------------------------------------------


class FlowsKnownByIdAlone(World):
    """A receiver that looks a FIN up by its id, whoever sent it."""

    def _receive(self, state, moving):
        if isinstance(moving.message, Fin) and moving.to is RECEIVER:
            slot = SLOT_OF[RECEIVER, BOB]
            event = Received(message=moving.message, caller=BOB)
            return self._apply(state, slot, event)._replace(
                fault="" if moving.caller is BOB else "4: a third principal ended a flow"
            )
        return super()._receive(state, moving)


def test_flows_known_by_their_id_alone_are_found():
    found = explore(FlowsKnownByIdAlone(flows=1), NONE._replace(hostile=1), most=5_000)
    assert found.fault.startswith("4: ")


MUTANTS = {
    rules.no_caller_check: NONE._replace(hostile=1),
    rules.forgotten_tombstone: NONE._replace(duplicates=1),
    rules.no_echo_limit: NONE._replace(duplicates=1),
    rules.fin_before_store: NONE,
    rules.late_is_told_as_the_outcome: NONE,
    rules.restart_forgets_tellings: NONE._replace(crashes=1),
    rules.rerun_unmarked: NONE._replace(crashes=1),
    rules.ack_retries_without_end: NONE,
    rules.new_retries_without_end: NONE,
    rules.wrong_hash_is_believed: NONE._replace(damages=1),
    rules.repeated_new_is_processed_again: NONE._replace(crashes=1, duplicates=1),
}


# These two rules are guarded twice: by the table, and by what is still carried out.
MUST_BE_LAX = dict.fromkeys(
    (rules.fin_before_store, rules.late_is_told_as_the_outcome), lambda *_: True
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_rule_broken_on_purpose_is_found_with_a_timeline(mutant):
    world = World(step=mutant, is_current=MUST_BE_LAX.get(mutant, is_current), flows=1)
    found = explore(world, MUTANTS[mutant], most=30_000)
    assert found.fault != ""
    assert found.timeline[0] == "the flows are opened"
    assert len(found.timeline) >= 2


def test_a_horizon_shorter_than_the_lifetime_lets_a_duplicate_through():
    short = dataclasses.replace(POLICY, horizon=2)
    found = explore(World(policy=short, flows=1), NONE._replace(duplicates=1), most=30_000)
    assert found.fault.startswith("1: ")


def test_the_same_exploration_finds_the_same():
    def once():
        return explore(
            World(step=rules.no_caller_check, flows=1), NONE._replace(hostile=1)
        ).timeline

    assert once() == once()
