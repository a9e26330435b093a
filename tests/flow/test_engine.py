"""Many flows in memory: routing, admission, room, the timer, restart."""

import dataclasses

import pytest

from bridge.errors import LocalProtocolError
from bridge.flow import (
    Ack,
    Answer,
    Cancel,
    Count,
    FailedForNow,
    Fin,
    HandOver,
    New,
    NotSent,
    PeerPolicy,
    Policy,
    ReceiverState,
    Refused,
    Returned,
    Role,
    SenderState,
    Tell,
    Telling,
    Transmit,
    payload_hash,
)
from bridge.flow.admission import Access, check_message
from bridge.flow.batch import open_batch
from bridge.flow.engine import Engine
from bridge.flow.trace import FlowKey, entry, key_of
from bridge.flow.usage import Usage, Usages
from bridge.principal import Principal

NOW = 1_000


def no_jitter():
    return 0


@pytest.fixture
def engine(seconds):
    return Engine(seconds, now=NOW)


def sent(effects):
    return [effect.message for effect in effects if isinstance(effect, Transmit)]


def opened(engine, peer, msg_id=1, payload=b"x"):
    engine.send(peer, msg_id, payload, now=NOW)
    return engine.tick(NOW, no_jitter)


def test_a_quiet_engine_has_nothing_due(engine):
    assert engine.next_due() is None
    assert engine.tick(NOW, no_jitter) == ()
    assert list(engine.flows()) == []


def test_a_flow_goes_both_ways(seconds, alice, bob):
    sender, receiver = Engine(seconds, now=NOW), Engine(seconds, now=NOW)
    (new,) = opened(sender, bob)
    assert new.message == New(1, b"x")
    (handed,), accepted = receiver.receive(new.message, alice, now=NOW)
    assert isinstance(handed, HandOver)
    assert accepted == 0
    key = FlowKey(Role.RECEIVER, alice, 1)
    (ack,) = receiver.answer(key, b"y", now=NOW)
    (fin, told), _ = sender.receive(ack.message, bob, now=NOW)
    assert fin.message == Fin(1, fin.message.hash)
    assert told == dataclasses.replace(told, what=Telling.ANSWERED, response=b"y")
    assert receiver.receive(fin.message, alice, now=NOW) == ((), 0)
    assert receiver.get(key).state is ReceiverState.FINISHED
    assert sender.get(FlowKey(Role.SENDER, alice, 1)).state is SenderState.ANSWERED
    assert sender.next_due() is None


def test_a_late_response_for_which_there_are_no_bytes_is_as_lost(seconds, alice, bob):
    policy = dataclasses.replace(seconds, bytes_per_peer=30, bytes_stored=30, response_room=10)
    engine = Engine(policy, now=NOW)
    opened(engine, bob, 1)
    key = FlowKey(Role.SENDER, bob, 1)
    (told,) = engine.apply(key, Cancel(), NOW)
    engine.apply(key, Returned(of=told), NOW)
    engine.send(bob, 2, bytes(15), now=NOW)  # with its room 25 bytes, and one is stored already
    failed = engine.get(key)

    late = Ack(1, b"12345", failed.payload_hash)
    assert engine.receive(late, bob, now=NOW) == ((), 0)
    assert engine.counters == {"refused.quota_bytes": 1}
    assert engine.get(key) is failed
    assert engine.receive(late, alice, now=NOW)[0] == (Count(reason="spoofed"),)

    # Its receiver repeats it, and by then the other flow has ended.
    (unsent,) = engine.apply(FlowKey(Role.SENDER, bob, 2), Cancel(), NOW)
    engine.apply(FlowKey(Role.SENDER, bob, 2), Returned(of=unsent), NOW)
    effects, _ = engine.receive(late, bob, now=NOW)
    assert sent(effects) == [Fin(1, payload_hash(b"12345"))]
    assert engine.get(key).response == b"12345"
    assert engine.counters == {"refused.quota_bytes": 1, "spoofed": 1}


def test_the_timer_is_the_earliest_due_time_of_all(engine, alice, bob):
    opened(engine, bob, 1)
    assert engine.next_due() == NOW + 330
    engine.send(bob, 2, b"x", now=NOW + 5)
    assert engine.next_due() == NOW + 5
    assert sent(engine.tick(NOW + 5, no_jitter)) == [New(2, b"x")]
    assert engine.next_due() == NOW + 330
    assert engine.tick(NOW + 329, no_jitter) == ()
    assert sent(engine.tick(NOW + 330, no_jitter)) == [New(1, b"x")]
    assert engine.next_due() == NOW + 335


def test_while_there_are_tombstones_the_clock_is_looked_at(engine, alice, seconds):
    engine.receive(New(1, b"x"), alice, now=NOW)
    assert engine.next_due() == NOW + seconds.time_gap // 2
    assert engine.tick(NOW + 300, no_jitter) == ()
    assert engine.next_due() == NOW + 600
    assert engine.time.last == NOW + 300


def test_a_tick_serves_a_hundred_flows_and_the_next_the_rest(engine, bob):
    for n in range(130):
        engine.send(bob, n, b"x", now=NOW)
    assert len(engine.tick(NOW, no_jitter)) == 100
    assert engine.next_due() == NOW
    assert len(engine.tick(NOW, no_jitter)) == 30
    assert engine.next_due() == NOW + 330


def test_what_a_flow_has_left_to_do_at_the_same_time_is_done_in_the_next_tick(seconds, bob):
    policy = dataclasses.replace(seconds, handler_attempts=1, send_retry=330, spread=0)
    engine = Engine(policy, now=NOW)
    opened(engine, bob, 1)
    effects, _ = engine.receive(Ack(1, b"y"), bob, now=NOW)
    engine.failed(effects[0], NotSent, now=NOW)
    engine.restart(NOW + 330, no_jitter, no_jitter)
    engine.tick(NOW + 330, no_jitter)
    assert engine.senders[1].state is SenderState.DEAD_LETTER
    assert engine.senders[1].fin_due == engine.next_due() == NOW + 330
    assert [type(message) for message in sent(engine.tick(NOW + 330, no_jitter))] == [Fin]


def test_jitter_comes_from_outside(engine, bob):
    engine.send(bob, 1, b"x", now=NOW)
    engine.tick(NOW, lambda: 100_000)
    assert engine.next_due() == NOW + 363


def test_in_flight_is_bounded_per_peer(seconds, alice, bob):
    engine = Engine(dataclasses.replace(seconds, in_flight=2), now=NOW)
    for n in range(3):
        engine.send(bob, n, b"x", now=NOW)
    engine.send(alice, 9, b"x", now=NOW)
    messages = sent(engine.tick(NOW, no_jitter))
    assert sorted(message.msg_id for message in messages) == [0, 1, 9]
    assert engine.next_due() == NOW + 30
    assert engine.senders[2].state is SenderState.QUEUED
    engine.receive(Ack(0, b"y"), bob, now=NOW)
    assert sent(engine.tick(NOW + 30, no_jitter)) == [New(2, b"x")]


def test_a_transmission_that_did_not_leave_is_not_in_flight(seconds, bob):
    engine = Engine(dataclasses.replace(seconds, in_flight=1), now=NOW)
    (new,) = opened(engine, bob, 1)
    engine.send(bob, 2, b"x", now=NOW)
    assert engine.failed(new, NotSent, now=NOW) == ()
    assert engine.senders[1].state is SenderState.QUEUED
    assert sent(engine.tick(NOW, no_jitter)) == [New(2, b"x")]


def test_an_agents_calls_are_in_flight_until_they_ended(seconds, bob):
    engine = Engine(dataclasses.replace(seconds, in_flight=1), now=NOW, until_outcome=True)
    (new,) = opened(engine, bob, 1)
    engine.send(bob, 2, b"x", now=NOW)
    assert engine.tick(NOW + 5, no_jitter) == ()
    engine.ended(new)
    assert sent(engine.tick(NOW + 60, no_jitter)) == [New(2, b"x")]


def test_a_refusal_fails_the_flow(engine, bob):
    (new,) = opened(engine, bob)
    (told,) = engine.failed(new, Refused, now=NOW)
    assert isinstance(told, Tell)
    assert told.failure == "refused"


def test_an_ack_that_failed_concerns_the_receivers_flow(engine, alice):
    engine.receive(New(1, b"x"), alice, now=NOW)
    (ack,) = engine.answer(FlowKey(Role.RECEIVER, alice, 1), b"y", now=NOW)
    engine.failed(ack, NotSent, now=NOW)
    assert engine.receivers[alice, 1].attempts == 0


def test_flows_with_one_id_are_apart(engine, alice, bob):
    engine.receive(New(1, b"x"), alice, now=NOW)
    engine.receive(New(1, b"z"), bob, now=NOW)
    engine.send(bob, 1, b"w", now=NOW)
    assert len(list(engine.flows())) == 3


def test_an_ack_is_looked_up_among_all_our_flows(engine, bob, eve):
    opened(engine, bob)
    assert engine.receive(Ack(1, b"y"), eve, now=NOW) == engine_silent(engine, "spoofed")
    effects, _ = engine.receive(Ack(2, b"y"), eve, now=NOW)
    assert sent(effects) == [Fin(2, None)]


def engine_silent(engine, reason):
    from bridge.flow import Count

    return (Count(reason=reason),), 0


def test_fins_for_unknown_acks_have_one_rate(engine, eve, bob, seconds):
    engine = Engine(dataclasses.replace(seconds, unknown_fins_per_second=2), now=NOW)
    answered = [
        bool(sent(engine.receive(Ack(n, b"y"), peer, now=NOW)[0]))
        for n, peer in enumerate((eve, bob, eve))
    ]
    assert answered == [True, True, False]
    assert engine.counters["unknown_ack"] == 3


def test_what_is_not_well_formed_is_counted_and_silent(engine, alice):
    assert engine.receive(New(2**128, b""), alice, now=NOW) == ((), 0)
    assert engine.counters == {"refused.malformed_id": 1}


def test_what_admission_refuses_is_counted_and_leaves_nothing(seconds, alice, bob):
    engine = Engine(seconds, now=NOW, access=Access(canisters=frozenset({bob})))
    engine.receive(New(1, b"x"), alice, now=NOW)
    assert list(engine.flows()) == []
    assert engine.counters == {"refused.access": 1}
    engine.receive(New(1, b"x"), bob, now=NOW)
    assert len(engine.receivers) == 1


def test_a_message_for_a_role_that_is_not_taken_is_counted_and_silent(seconds, alice):
    sender = Engine(seconds, now=NOW, roles=[Role.SENDER])
    for message in (New(1, b"x"), Fin(1)):
        assert sender.receive(message, alice, now=NOW) == ((), 0)
    assert list(sender.flows()) == []
    receiver = Engine(seconds, now=NOW, roles=[Role.RECEIVER])
    assert receiver.receive(Ack(1, b"x"), alice, now=NOW) == ((), 0)
    assert sender.counters == {"refused.role": 2}
    assert receiver.counters == {"refused.role": 1}


def test_a_batch_is_paid_in_order_and_one_that_traps_harms_no_other(seconds, alice):
    """Scenario D5: cycles for 40 of 50, the 7th traps, then the last 10 come alone."""
    policy = dataclasses.replace(seconds, min_cycles=5, oneway_new=False)
    engine = Engine(policy, now=NOW)
    entries = [New(n, b"x") for n in range(50)]

    def is_paid(msg_id):
        return engine.paid.holds(alice, msg_id, NOW) or (alice, msg_id) in engine.receivers

    def admits(message):
        return check_message(alice, message, engine.access, policy) is None

    left = engine.paid.left(alice, policy)
    batch = open_batch(
        entries, cycles=200, admits=admits, is_paid=is_paid, marks_left=left, policy=policy
    )
    assert (batch.accept_cycles, batch.refused) == (200, 10)
    for msg_id in batch.paid:
        assert engine.paid.remember(alice, msg_id, NOW + policy.lifetime, policy)

    def play(message, cycles=0):
        _, accepted = engine.receive(message, alice, now=NOW, cycles=cycles)
        engine.answer(FlowKey(Role.RECEIVER, alice, message.msg_id), b"y", now=NOW)
        return accepted

    for message in batch.forward:
        if message.msg_id != 6:  # it traps, and its commit is undone with it
            assert play(message) == 0
    assert len(engine.receivers) == 39
    assert sum(play(message, 7) for message in entries[40:]) == 50
    assert len(engine.receivers) == 49
    assert play(entries[6], 7) == 0  # it was paid with the batch
    assert {flow.state for flow in engine.flows()} == {ReceiverState.ACKNOWLEDGING}


def test_a_removal_from_the_list_ends_no_flow_but_takes_no_new(seconds, alice):
    engine = Engine(seconds, now=NOW, access=Access(canisters=frozenset({alice})))
    engine.receive(New(1, b"x"), alice, now=NOW)
    engine.answer(FlowKey(Role.RECEIVER, alice, 1), b"y", now=NOW)
    engine.access = Access(canisters=frozenset())
    assert engine.receive(New(1, b"x"), alice, now=NOW + 100) == ((), 0)
    assert engine.counters["refused.access"] == 1
    engine.receive(Fin(1), alice, now=NOW + 100)
    assert engine.receivers[alice, 1].state is ReceiverState.FINISHED


def test_an_agent_that_is_removed_from_the_list_still_ends_its_flows(seconds):
    agent = Principal(bytes(range(28)) + b"\x02")
    engine = Engine(seconds, now=NOW, access=Access(agents=frozenset({agent})))
    engine.receive(New(1, b"x"), agent, now=NOW)
    engine.answer(FlowKey(Role.RECEIVER, agent, 1), b"y", now=NOW)
    opened(engine, agent, 2)
    opened(engine, agent, 3)
    engine.access = Access()
    for message in (New(1, b"x"), New(4, b"x"), Fin(9), Ack(9, b"y")):
        assert engine.receive(message, agent, now=NOW) == ((), 0)
    assert engine.counters == {"refused.caller": 4}
    engine.receive(Fin(1), agent, now=NOW)
    engine.receive(Ack(2, b"y"), agent, now=NOW)
    assert engine.receivers[agent, 1].state is ReceiverState.FINISHED
    assert engine.senders[2].state is SenderState.ANSWERED
    other = Principal(bytes(range(1, 29)) + b"\x02")
    assert engine.receive(Ack(3, b"y"), other, now=NOW) == ((), 0)
    assert engine.counters["refused.caller"] == 5


def test_an_ack_that_names_no_flow_is_answered_only_where_there_is_room(seconds, alice, bob):
    agent = Principal(bytes(range(28)) + b"\x02")
    policy = dataclasses.replace(seconds, in_flight=1, unknown_fins_per_second=1)
    engine = Engine(policy, now=NOW, access=Access(agents=frozenset({agent})))
    opened(engine, alice, 1)  # which fills what may be in flight to it
    assert sent(engine.receive(Ack(9, b"y"), alice, now=NOW)[0]) == []
    assert sent(engine.receive(Ack(9, b"y"), agent, now=NOW)[0]) == []
    assert sent(engine.receive(Ack(9, b"y"), bob, now=NOW)[0]) == [Fin(9)]  # they took no turn
    assert engine.counters == {"unknown_ack": 3}


def test_cycles_are_taken_once_and_remembered_over_a_retry(seconds, alice):
    policy = dataclasses.replace(seconds, min_cycles=5, oneway_new=False)
    engine = Engine(policy, now=NOW)
    key = FlowKey(Role.RECEIVER, alice, 1)
    assert engine.receive(New(1, b"x"), alice, now=NOW, cycles=4) == engine_silent(
        engine, "refused.cycles"
    )
    effects, accepted = engine.receive(New(1, b"x"), alice, now=NOW, cycles=7)
    assert accepted == 5
    assert engine.receivers[alice, 1].paid
    assert engine.receive(New(1, b"x"), alice, now=NOW, cycles=7)[1] == 0
    engine.apply(key, FailedForNow(), NOW)
    assert engine.receivers == {}
    effects, accepted = engine.receive(New(1, b"x"), alice, now=NOW, cycles=7)
    assert (len(effects), accepted) == (1, 0)
    engine.apply(key, FailedForNow(), NOW)
    engine.tick(NOW + policy.lifetime, no_jitter)
    assert engine.receive(New(1, b"x"), alice, now=NOW + policy.lifetime, cycles=7)[1] == 5


def test_a_mark_is_dropped_while_its_flow_is_stored_and_paid_again_without_one(seconds, alice):
    policy = dataclasses.replace(
        seconds, min_cycles=5, oneway_new=False, tombstones_per_peer=1, tombstones=1
    )
    engine = Engine(policy, now=NOW, access=Access(canisters=frozenset({alice})))
    for msg_id in (1, 2):
        assert engine.receive(New(msg_id, b"x"), alice, now=NOW, cycles=5)[1] == 5
        assert engine.paid.until == {}
    engine.apply(FlowKey(Role.RECEIVER, alice, 1), FailedForNow(), NOW)
    assert engine.counters == {}
    engine.apply(FlowKey(Role.RECEIVER, alice, 2), FailedForNow(), NOW)
    assert engine.counters == {"paid_mark_refused": 1}
    assert engine.receive(New(2, b"x"), alice, now=NOW, cycles=5)[1] == 5
    assert engine.receive(New(1, b"x"), alice, now=NOW)[1] == 0
    assert engine.receivers[alice, 1].paid
    assert engine.paid.until == {}


def test_a_trusted_time_is_kept_with_the_flow(seconds, alice):
    policy = dataclasses.replace(seconds, peers={alice: PeerPolicy(ids="ulid")})
    millisecond = 1_000_000
    now = 10**9 * millisecond
    engine = Engine(policy, now=now)
    engine.receive(New((10**9) << 80, b"x"), alice, now=now)
    assert engine.receivers[alice, 10**9 << 80].floor == now


def test_quotas_count_what_is_stored_and_free_what_is_forgotten(seconds, alice, bob):
    policy = dataclasses.replace(seconds, open_flows_per_peer=1)
    engine = Engine(policy, now=NOW)
    engine.send(bob, 1, b"four", now=NOW)
    taken = Usage(open=1, bytes=4, unanswered=1)
    assert engine.usages(Role.SENDER, bob) == Usages(taken, taken, taken)
    assert engine.usages(Role.SENDER, alice) == Usages(Usage(), taken, taken)
    assert engine.usages(Role.RECEIVER, bob) == Usages()
    with pytest.raises(LocalProtocolError, match="open_flows_per_peer"):
        engine.send(bob, 2, b"x", now=NOW)
    engine.send(bob, 1, b"four", now=NOW)
    (told,) = engine.apply(FlowKey(Role.SENDER, bob, 1), Cancel(), NOW)
    from bridge.flow import Returned

    engine.apply(FlowKey(Role.SENDER, bob, 1), Returned(of=told), NOW)
    assert engine.usages(Role.SENDER, bob).peer == Usage(tombstones=1, bytes=4)
    engine.tick(NOW + policy.retention, no_jitter)
    assert engine.senders == {}
    assert engine.usages(Role.SENDER, bob) == Usages()


def test_listed_peers_are_not_counted_with_the_others(seconds, alice, bob):
    engine = Engine(seconds, now=NOW, access=Access(canisters=frozenset({bob})))
    engine.receive(New(1, b"x"), bob, now=NOW)
    assert engine.usages(Role.RECEIVER, bob).unlisted == Usage()
    assert engine.usages(Role.RECEIVER, bob).everyone.open == 1


def test_a_change_of_the_lists_counts_anew_who_is_unlisted(seconds, alice, bob):
    engine = Engine(seconds, now=NOW)
    engine.receive(New(1, b"x"), alice, now=NOW)
    engine.receive(New(2, b"xx"), bob, now=NOW)
    taken = engine.usages(Role.RECEIVER, alice)
    assert taken.unlisted == taken.everyone
    engine.access = Access(canisters=frozenset({bob}))
    assert engine.access.is_listed(bob)
    assert engine.usages(Role.RECEIVER, alice).unlisted == taken.peer
    engine.access = Access(canisters=frozenset({alice, bob}))
    assert engine.usages(Role.RECEIVER, alice).unlisted == Usage()


def test_an_answer_that_the_quotas_cannot_store_is_an_error(seconds, alice):
    policy = dataclasses.replace(seconds, bytes_per_peer=20, response_room=10)
    engine = Engine(policy, now=NOW)
    engine.receive(New(1, b"x"), alice, now=NOW)
    key = FlowKey(Role.RECEIVER, alice, 1)
    with pytest.raises(LocalProtocolError):
        engine.answer(key, bytes(20), now=NOW)
    assert engine.receivers[alice, 1].state is ReceiverState.PROCESSING
    (ack,) = engine.answer(key, bytes(19), now=NOW, final=True)
    assert ack.message.payload == bytes(19)


def test_a_restart_tells_again_and_frees_what_was_in_flight(seconds, bob):
    engine = Engine(dataclasses.replace(seconds, in_flight=1), now=NOW)
    opened(engine, bob, 1)
    engine.send(bob, 2, b"x", now=NOW)
    assert engine.tick(NOW, no_jitter) == ()
    engine.receive(Ack(1, b"y"), bob, now=NOW)
    assert engine.restart(NOW + 1, no_jitter, lambda: 500_000) == ()
    assert engine.senders[1].tell_due == NOW + 31
    effects = engine.tick(NOW + 31, no_jitter)
    assert sent(effects) == [New(2, b"x")]
    assert [e.redelivered for e in effects if isinstance(e, Tell)] == [True]


def test_flows_kept_elsewhere_are_taken_over(seconds, alice, bob):
    old = Engine(seconds, now=NOW)
    old.send(bob, 1, b"x", now=NOW)
    old.receive(New(1, b"x"), alice, now=NOW)
    new = Engine(seconds, now=NOW)
    new.load(old.flows())
    assert (new.senders, new.receivers) == (old.senders, old.receivers)
    assert new.next_due() == old.next_due()
    assert new.usages(Role.SENDER, bob) == old.usages(Role.SENDER, bob)


def test_observed_time_stands_behind_after_a_standstill(engine, alice, seconds):
    engine.receive(New(1, b"x"), alice, now=NOW)
    engine.answer(FlowKey(Role.RECEIVER, alice, 1), b"y", now=NOW)
    engine.receive(Fin(1), alice, now=NOW)
    late = NOW + 3 * seconds.horizon
    engine.tick(late, no_jitter)
    effects, _ = engine.receive(New(1, b"x"), alice, now=late)
    assert not any(isinstance(effect, HandOver) for effect in effects)
    assert engine.counters["repeated"] == 1


def test_pending_effects_are_judged_by_what_is_stored_now(engine, bob):
    (new,) = opened(engine, bob)
    key = FlowKey(Role.SENDER, bob, 1)
    assert engine.is_current(key, new, NOW)
    engine.apply(key, Cancel(), NOW)
    assert not engine.is_current(key, new, NOW)


def test_each_step_is_reported_for_a_trace(seconds, bob):
    seen = []
    engine = Engine(seconds, now=NOW, on_step=lambda *step: seen.append(entry(*step[:3], step[3])))
    opened(engine, bob)
    assert [(e.time, e.before, e.after, e.rows) for e in seen] == [
        (NOW, None, "queued", ("send",)),
        (NOW, "queued", "sending", ("queued_due",)),
    ]
    assert seen[0].key == f"sender {bob} 1"
    assert seen[0].to_json()["flow"] == seen[0].key
    assert [e.line() for e in seen] == [
        f"1000 sender {bob} 1: send: - -> queued send",
        f"1000 sender {bob} 1: due: queued -> sending queued_due => transmit",
    ]


def test_which_flow_a_message_names(alice, bob):
    from bridge.flow import Received, Send

    assert key_of(Send(peer=bob, msg_id=1, payload=b"")) == FlowKey(Role.SENDER, bob, 1)
    for message, role in (
        (New(1, b""), Role.RECEIVER),
        (Fin(1), Role.RECEIVER),
        (Ack(1, b""), Role.SENDER),
    ):
        event = Received(message=message, caller=alice)
        assert key_of(event) == FlowKey(role, alice, 1)


def test_answering_what_is_gone_is_an_error(engine, alice):
    with pytest.raises(LocalProtocolError, match="no such flow to answer"):
        engine.answer(FlowKey(Role.RECEIVER, alice, 1), b"y", now=NOW)
    with pytest.raises(LocalProtocolError, match="no such flow to answer"):
        engine.apply(FlowKey(Role.RECEIVER, alice, 1), Answer(response=b""), NOW)


def test_a_million_ids_keep_the_timer_exact(alice, bob):
    engine = Engine(Policy(open_flows=10**6, open_flows_per_peer=10**6), now=0)
    for n in range(1_000):
        engine.send(bob, n, b"x", now=1_000 - n)
    assert engine.next_due() == 1
    assert len(engine.tick(10, no_jitter)) == 10


def test_the_timer_knows_the_receivers_flows_too(seconds, alice):
    engine = Engine(dataclasses.replace(seconds, time_gap=10_000), now=NOW)
    engine.receive(New(1, b"x"), alice, now=NOW)
    engine.answer(FlowKey(Role.RECEIVER, alice, 1), b"y", now=NOW)
    assert engine.next_due() == NOW + 330


def test_what_is_not_said_is_unified_without_jitter_or_cycles(alice, bob):
    policy = Policy(min_cycles=1, oneway_new=False)
    engine = Engine(policy, now=0)
    engine.receive(New(1, b"x"), alice, now=0)
    assert engine.counters == {"refused.cycles": 1}
    engine.receive(New(1, b"x"), alice, now=0, cycles=1)
    key = FlowKey(Role.RECEIVER, alice, 1)
    engine.answer(key, b"y", now=0)
    assert engine.get(key).dialect == "unified"
    assert engine.get(key).send_due == policy.first_retry
    later = policy.echo_min
    engine.receive(New(1, b"x"), alice, now=later)
    assert engine.get(key).ack_echoes == 1
    assert engine.get(key).send_due == later + policy.first_retry
    (new,) = opened(engine, bob)
    assert new.dialect == "unified"
    engine.failed(new, NotSent, now=NOW)
    assert engine.senders[1].send_due == NOW + policy.send_retry


def test_each_message_is_a_look_at_the_clock(engine, alice, seconds):
    late = NOW + 5 * seconds.time_gap
    engine.receive(New(1, b"x"), alice, now=late)
    assert (engine.time.last, engine.time.lag) == (late, 4 * seconds.time_gap)


def test_the_rate_for_unknown_acks_does_not_concern_known_flows(seconds, bob):
    engine = Engine(dataclasses.replace(seconds, unknown_fins_per_second=0), now=NOW)
    opened(engine, bob)
    effects, _ = engine.receive(Ack(1, b"y"), bob, now=NOW)
    assert [type(message) for message in sent(effects)] == [Fin]
    assert sent(engine.receive(Ack(2, b"y"), bob, now=NOW)[0]) == []


def test_a_known_new_uses_no_rate(seconds, alice):
    engine = Engine(dataclasses.replace(seconds, unknown_fins_per_second=1), now=NOW)
    engine.receive(New(1, b"x"), alice, now=NOW)
    assert len(sent(engine.receive(Ack(2, b"y"), alice, now=NOW)[0])) == 1


def test_a_restart_forgets_what_was_in_flight(seconds, bob):
    engine = Engine(dataclasses.replace(seconds, in_flight=1), now=NOW)
    opened(engine, bob, 1)
    engine.send(bob, 2, b"x", now=NOW)
    assert engine.tick(NOW, no_jitter) == ()
    engine.restart(NOW + 100, no_jitter, no_jitter)
    assert sent(engine.tick(NOW + 100, no_jitter)) == [New(2, b"x")]


def test_a_restart_is_a_look_at_the_clock(engine, alice, seconds):
    engine.receive(New(1, b"x"), alice, now=NOW)
    late = NOW + 5 * seconds.time_gap
    (told,) = engine.restart(late, no_jitter, no_jitter)
    assert told.what is Telling.STALLED
    assert engine.time.lag == 4 * seconds.time_gap
    assert engine.receivers[alice, 1].ends == NOW + seconds.time_gap + seconds.horizon


def test_paid_marks_are_pruned_in_a_tick(engine, alice, seconds):
    assert engine.paid.remember(alice, 1, NOW + 5, seconds)
    engine.tick(NOW + 5, no_jitter)
    assert engine.paid.until == {}


def test_an_answer_is_no_failure_unless_it_is_said_to_be_final(seconds, alice):
    from bridge.flow import FailedForGood

    seen = []
    engine = Engine(seconds, now=NOW, on_step=lambda _b, event, *_: seen.append(type(event)))
    for msg_id, final in ((1, {}), (2, {"final": True})):
        engine.receive(New(msg_id, b"x"), alice, now=NOW)
        engine.answer(FlowKey(Role.RECEIVER, alice, msg_id), b"y", now=NOW, **final)
    assert seen[1::2] == [Answer, FailedForGood]


def test_an_answers_jitter_comes_from_outside(alice):
    engine = Engine(Policy(), now=NOW)
    for msg_id, jitter, extra in ((1, {}, 0), (2, {"u": 1}, 330_000)):
        engine.receive(New(msg_id, b"x"), alice, now=NOW)
        engine.answer(FlowKey(Role.RECEIVER, alice, msg_id), b"y", now=NOW, **jitter)
        due = engine.receivers[alice, msg_id].send_due
        assert due == NOW + engine.policy.first_retry + extra
