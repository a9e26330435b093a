"""What holds for every single transition, whatever the record, the event and the time."""

import dataclasses
from random import Random

import pytest
from flow_lab.walk import ALICE, walk
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import LocalProtocolError, UsageError
from bridge.flow import (
    Ack,
    Count,
    Due,
    Fin,
    Flow,
    New,
    Policy,
    Received,
    ReceiverFlow,
    ReceiverState,
    SenderFlow,
    SenderState,
    Transmit,
    events,
    is_current,
    receiver,
    sender,
    step,
)
from bridge.flow.codec import from_json, to_json
from bridge.flow.trace import Entry, entry, replay

REQUESTS = {
    events.Send,
    events.Cancel,
    events.Finish,
    events.RetryDeadLetter,
    events.DropDeadLetter,
    events.Answer,
    events.FailedForGood,
    events.FailedForNow,
    events.Rerun,
    events.Decided,  # accept of a hash that nobody asked about
}
ROWS = {
    SenderFlow: {row.name: row for row in sender.TABLE.rows},
    ReceiverFlow: {row.name: row for row in receiver.TABLE.rows},
}


@pytest.fixture(scope="module")
def policy(seconds):
    return seconds


def visits(seed, policy, length=40):
    return list(walk(Random(seed), policy, length))


walks = st.integers(0, 2**32)


@given(walks)
def test_what_a_peer_or_the_clock_does_never_raises(policy, seed):
    for visit in visits(seed, policy):
        if visit.transition is None:
            assert type(visit.event) in REQUESTS


@given(walks)
def test_every_event_has_a_row_or_is_counted_or_is_no_due_time(policy, seed):
    for visit in visits(seed, policy):
        if visit.transition is not None and not visit.transition.rows:
            counted = any(isinstance(effect, Count) for effect in visit.transition.effects)
            assert counted or isinstance(visit.event, Due)


@given(walks)
def test_a_step_leads_where_its_rows_say(policy, seed):
    for visit in visits(seed, policy):
        if visit.transition is None or visit.transition.rows in ((), ("spoofed",)):
            continue
        kind = type(visit.before or visit.transition.flow)
        if kind is type(None):
            continue
        rows = [ROWS[kind][name] for name in visit.transition.rows]
        state = visit.before and visit.before.state
        reached = visit.transition.flow and visit.transition.flow.state
        allowed = {state}.union(*(row.to for row in rows))
        assert reached in allowed
        assert state in rows[0].states


@given(walks)
def test_the_version_grows_by_one_with_each_change(policy, seed):
    for visit in visits(seed, policy):
        if visit.transition is None or visit.transition.flow is None:
            continue
        before, after = visit.before, visit.transition.flow
        assert type(after) in (SenderFlow, ReceiverFlow)
        if after is before:
            continue
        assert after.version == (0 if before is None else before.version) + 1


@given(walks)
def test_a_record_that_went_in_is_never_changed(policy, seed):
    kept = [(v.before, v.before and to_json(v.before)) for v in visits(seed, policy)]
    for record, json in kept:
        assert (record and to_json(record)) == json


@given(walks)
def test_the_same_step_decides_the_same(policy, seed):
    for visit in visits(seed, policy, 15):
        if visit.transition is not None:
            assert step(visit.before, visit.event, visit.now, visit.policy) == visit.transition


@given(walks)
def test_nothing_is_due_before_its_time_and_something_is_then(policy, seed):
    for visit in visits(seed, policy):
        flow = visit.transition and visit.transition.flow
        if flow is None or flow is visit.before:  # its lag may be an older one
            continue
        if flow.due is None:
            far = step(flow, Due(), visit.now + 10**9, visit.policy)
            over = flow.state in sender.UNANSWERED
            assert far.flow is flow or over
            continue
        lag = visit.event.lag
        if visit.now < flow.due - 1:
            early = step(flow, Due(lag=lag), flow.due - 1, visit.policy)
            assert early.rows in ((), ("corrupt_due",))
        at = max(flow.due, visit.now)
        served = step(flow, Due(lag=lag), at, visit.policy)
        assert served.flow is None or served.flow != flow


@given(walks)
def test_attempts_and_wrong_hashes_are_bounded(policy, seed):
    for visit in visits(seed, policy, 60):
        flow = visit.transition and visit.transition.flow
        if isinstance(flow, SenderFlow):
            assert 0 <= flow.attempts <= visit.policy.attempts
            assert len(set(flow.wrong)) == len(flow.wrong) <= 3
            assert flow.fin_echoes <= visit.policy.attempts + 10
        elif isinstance(flow, ReceiverFlow):
            assert 0 <= flow.attempts <= visit.policy.attempts
            assert len(set(flow.wrong_news)) == len(flow.wrong_news) <= 3
            assert len(set(flow.wrong_fins)) == len(flow.wrong_fins) <= 3
            assert set(flow.asked) <= set(flow.wrong_fins)
            assert bool(flow.asked) == bool(flow.asks)
            assert flow.asked or flow.ask_due is None
            assert flow.ack_echoes <= visit.policy.attempts + 10


@given(walks)
def test_payloads_are_dropped_where_the_page_says(policy, seed):
    for visit in visits(seed, policy):
        flow = visit.transition and visit.transition.flow
        if flow is None:
            continue
        dropped = flow.state in (SenderState.ACKNOWLEDGED, ReceiverState.FINISHED)
        if dropped:
            assert flow.payload is None
            assert flow.response is None
            assert flow.response_hash is not None
        else:
            assert flow.payload is not None


@given(walks)
def test_a_transmission_that_was_just_decided_is_current(policy, seed):
    for visit in visits(seed, policy):
        if visit.transition is None:
            continue
        flow = visit.transition.flow
        if visit.before is not None and visit.before.state is not (flow and flow.state):
            continue
        for effect in visit.transition.effects:
            if isinstance(effect, Transmit):
                assert is_current(flow, effect, visit.now)


@given(walks)
def test_a_walk_is_the_same_after_a_round_trip_through_json(policy, seed):
    for visit in visits(seed, policy, 25):
        for value in (visit.before, visit.event):
            if value is not None:
                assert from_json(to_json(value)) == value
        if visit.transition is not None:
            for effect in visit.transition.effects:
                assert from_json(to_json(effect)) == effect


def trace_of(seed, policy):
    chosen = visits(seed, policy)
    made = [v for v in chosen if v.transition is not None]
    return [entry(v.before, v.event, v.now, v.transition) for v in made], chosen[0].policy


@given(walks)
def test_a_trace_replays_also_after_a_round_trip(policy, seed):
    trace, settings_ = trace_of(seed, policy)
    again = [Entry.from_json(each.to_json()) for each in trace]
    assert again == trace
    played = [each for each, _ in replay(again, settings_)]
    assert played == trace


def test_a_trace_that_was_tampered_with_does_not_replay(policy):
    trace, settings_ = trace_of(1, policy)
    trace[0] = dataclasses.replace(trace[0], after="finished")
    with pytest.raises(UsageError, match="does not replay"):
        list(replay(trace, settings_))


def test_a_trace_entry_that_lacks_a_field_is_refused():
    with pytest.raises(UsageError, match="lacks 'flow'"):
        Entry.from_json({"time": 1})


# --- Totality: every state with every event ------------------------------------------------------


def records(policy) -> dict[object, Flow | None]:
    """A record in each state, and none."""
    found: dict[object, Flow | None] = {None: None}
    for seed in range(400):
        for visit in visits(seed, policy):
            if visit.before is not None:
                found.setdefault(visit.before.state, visit.before)
    return found


def samples(policy) -> dict[type, object]:
    """An event of each class, and each kind of message."""
    found: dict[object, object] = {}
    for seed in range(400):
        for visit in visits(seed, policy):
            found.setdefault(
                (type(visit.event), type(getattr(visit.event, "message", None))), visit.event
            )
    return found


def test_every_state_meets_every_event(policy):
    states = records(policy)
    chosen = samples(policy)
    assert set(states) == {None, *SenderState, *ReceiverState}
    kinds = {kind for kind, _ in chosen}
    in_tables = {row.event for t in (sender.TABLE, receiver.TABLE) for row in t.rows}
    assert kinds == in_tables - {sender.LifetimeOver}
    for record in states.values():
        now = 1_000 if record is None else record.changed
        for event in chosen.values():
            try:
                transition = step(record, event, now, policy)
            except LocalProtocolError:
                assert type(event) in REQUESTS
                continue
            assert transition.rows or transition.effects or isinstance(event, Due)


def test_a_message_for_a_role_that_the_flow_has_not_is_counted(policy):
    for record in records(policy).values():
        if record is None:
            continue
        wrong = New(7, b"") if isinstance(record, SenderFlow) else Ack(7, b"", None)
        event = Received(message=wrong, caller=record.peer)
        transition = step(record, event, record.changed, policy)
        assert transition.flow is record
        assert transition.effects == (Count(reason="ignored"),)


def test_a_third_principal_changes_nothing_in_any_state(policy):
    for record in records(policy).values():
        if record is None:
            continue
        stranger = ALICE if record.peer != ALICE else events.Received
        if stranger is not ALICE:
            continue
        for message in (New(7, b"x"), Ack(7, b"x", None), Fin(7, None)):
            event = Received(message=message, caller=stranger)
            transition = step(record, event, record.changed + 10**6, policy)
            assert transition.flow is record
            assert transition.effects == (Count(reason="spoofed"),)


def test_the_page_policy_is_valid():
    assert Policy().validate() == Policy()
