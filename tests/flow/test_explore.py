"""The small world keeps every invariant; each rule, broken on purpose, is found out."""

import dataclasses

import pytest
from flow_lab.explore import explore
from flow_lab.small_world import BOB, POLICY, RECEIVER, SLOT_OF, Budget, World

from bridge.flow import (
    Ack,
    Due,
    Fin,
    New,
    Received,
    ReceiverState,
    Restarted,
    SenderState,
    Tell,
    Telling,
    Transition,
    Transmit,
    is_current,
    step,
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


def no_caller_check(record, event, now, policy):
    if isinstance(event, Received) and record is not None:
        event = dataclasses.replace(event, caller=record.peer)
    return step(record, event, now, policy)


def forgotten_tombstone(record, event, now, policy):
    transition = step(record, event, now, policy)
    if transition.flow is not None and transition.flow.state is ReceiverState.FINISHED:
        return Transition(None, transition.effects)
    return transition


def no_echo_limit(record, event, now, policy):
    if record is not None and isinstance(event, Received):
        name = "ack_at" if isinstance(event.message, New) else "fin_at"
        if hasattr(record, name):
            record = dataclasses.replace(record, **{name: None})
    return step(record, event, now, policy)


def fin_before_store(record, event, now, policy):
    """FIN leaves in a step of its own; the response is stored only when the ACK comes again."""
    transition = step(record, event, now, policy)
    fresh = (
        isinstance(event, Received)
        and record is not None
        and transition.flow is not None
        and transition.flow.state is SenderState.ANSWERED
        and record.state is SenderState.SENDING
        and record.fin_at is None
    )
    if fresh:
        fins = tuple(e for e in transition.effects if isinstance(e, Transmit))
        return Transition(dataclasses.replace(record, fin_at=now), fins)
    return transition


def outcome_told_again_on_a_late_answer(record, event, now, policy):
    transition = step(record, event, now, policy)
    effects = tuple(
        dataclasses.replace(e, what=Telling.ANSWERED)
        if isinstance(e, Tell) and e.what is Telling.LATE
        else e
        for e in transition.effects
    )
    return Transition(transition.flow, effects)


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


def restart_forgets_tellings(record, event, now, policy):
    transition = step(record, event, now, policy)
    if isinstance(event, Restarted) and transition.flow is not None:
        return Transition(dataclasses.replace(transition.flow, tell_due=None, due=None), ())
    return transition


def restart_runs_the_handler_unmarked(record, event, now, policy):
    if isinstance(event, Restarted) and getattr(record, "state", None) is ReceiverState.PROCESSING:
        transition = step(record, event, now, dataclasses.replace(policy, rerun_stalled=True))
        effects = tuple(dataclasses.replace(e, redelivered=False) for e in transition.effects)
        return Transition(transition.flow, effects)
    return step(record, event, now, policy)


def ack_retries_without_end(record, event, now, policy):
    """The ACK is repeated for ever: a quiet system never comes."""
    unlimited = dataclasses.replace(policy, attempts=10**9, lifetime=10**9)
    if getattr(record, "state", None) is ReceiverState.ACKNOWLEDGING and isinstance(event, Due):
        return step(dataclasses.replace(record, ends=now + 10**6), event, now, unlimited)
    return step(record, event, now, policy)


def new_retries_without_end(record, event, now, policy):
    if getattr(record, "state", None) is SenderState.SENDING and isinstance(event, Due):
        record = dataclasses.replace(record, attempts=1)
    return step(record, event, now, policy)


def wrong_hash_is_believed(record, event, now, policy):
    if isinstance(event, Received) and isinstance(event.message, Ack):
        event = dataclasses.replace(event, message=dataclasses.replace(event.message, hash=None))
    return step(record, event, now, policy)


def repeated_new_is_processed_again(record, event, now, policy):
    stalled = getattr(record, "state", None) is ReceiverState.STALLED
    if stalled and isinstance(event, Received) and isinstance(event.message, New):
        return step(None, event, now, policy)
    return step(record, event, now, policy)


MUTANTS = {
    no_caller_check: NONE._replace(hostile=1),
    forgotten_tombstone: NONE._replace(duplicates=1),
    no_echo_limit: NONE._replace(duplicates=1),
    fin_before_store: NONE,
    outcome_told_again_on_a_late_answer: NONE,
    restart_forgets_tellings: NONE._replace(crashes=1),
    restart_runs_the_handler_unmarked: NONE._replace(crashes=1),
    ack_retries_without_end: NONE,
    new_retries_without_end: NONE,
    wrong_hash_is_believed: NONE._replace(damages=1),
    repeated_new_is_processed_again: NONE._replace(crashes=1, duplicates=1),
}


# These two rules are guarded twice: by the table, and by what is still carried out.
MUST_BE_LAX = dict.fromkeys(
    (fin_before_store, outcome_told_again_on_a_late_answer), lambda *_: True
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
        return explore(World(step=no_caller_check, flows=1), NONE._replace(hostile=1)).timeline

    assert once() == once()
