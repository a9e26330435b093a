"""Observed time, the rate of unknown-ACK FINs, paid marks, room in flight, batches."""

import dataclasses

from bridge.flow import (
    Ack,
    Answer,
    Due,
    Fin,
    New,
    Policy,
    Received,
    Send,
    Transmit,
    step,
)
from bridge.flow.batch import (
    BYTES_A_BATCH,
    MESSAGES_A_BATCH,
    METHOD,
    may_join,
    open_batch,
    pack,
)
from bridge.flow.inflight import BYTES_A_TICK, FLOWS_A_TICK, InFlight, in_turn, one_tick
from bridge.flow.world import FinRate, ObservedTime, PaidMarks

SECOND = 1_000_000_000
POLICY = Policy()

# --- Observed time ------------------------------------------------------------------------------


def test_observed_time_follows_the_clock_in_small_steps():
    time = ObservedTime(100)
    time = time.observe(100 + POLICY.time_gap, POLICY)
    assert time == ObservedTime(100 + POLICY.time_gap, 0)


def test_a_standstill_counts_as_one_gap():
    time = ObservedTime(100).observe(100 + POLICY.time_gap + 7, POLICY)
    assert time == ObservedTime(100 + POLICY.time_gap + 7, 7)
    assert time.observe(time.last + POLICY.time_gap + 1, POLICY).lag == 8


def test_observed_time_never_goes_back():
    time = ObservedTime(100).observe(40, POLICY)
    assert time == ObservedTime(40, -60)
    assert time.observe(50, POLICY) == ObservedTime(50, -60)


def test_time_is_looked_at_every_half_gap():
    assert ObservedTime(100).next_look(POLICY) == 100 + POLICY.time_gap // 2


# --- FINs for unknown ACKs ----------------------------------------------------------------------


def test_the_rate_is_so_many_a_second():
    policy = Policy(unknown_fins_per_second=2)
    rate = FinRate()
    answers = []
    for now in (0, 1, SECOND - 1, SECOND, SECOND + 1, SECOND + 2, 3 * SECOND):
        rate, may = rate.take(now, policy)
        answers.append(may)
    assert answers == [True, True, False, True, True, False, True]


def test_a_clock_that_was_set_back_begins_a_new_second():
    policy = Policy(unknown_fins_per_second=1)
    rate, may = FinRate().take(5 * SECOND, policy)
    assert may
    rate, may = rate.take(2 * SECOND, policy)
    assert may
    assert rate == FinRate(2 * SECOND, 1)


def test_a_rate_of_zero_answers_none():
    assert FinRate().take(0, Policy(unknown_fins_per_second=0)) == (FinRate(), False)


# --- Paid marks ---------------------------------------------------------------------------------


def test_a_paid_mark_holds_until_its_time(alice, bob):
    marks = PaidMarks()
    assert marks.remember(alice, 7, 100, POLICY)
    assert marks.holds(alice, 7, 99)
    assert not marks.holds(alice, 7, 100)
    assert not marks.holds(bob, 7, 0)
    marks.prune(99)
    assert marks.until == {(alice, 7): 100}
    marks.prune(100)
    assert marks.until == {}
    assert PaidMarks({(bob, 1): 5}).holds(bob, 1, 4)


def test_paid_marks_are_bounded_as_tombstones_are(alice, bob, eve):
    policy = dataclasses.replace(POLICY, tombstones_per_peer=2, tombstones=3)
    marks = PaidMarks({(alice, 1): 100})
    assert (marks.left(alice, policy), marks.left(bob, policy)) == (1, 2)
    assert marks.remember(alice, 2, 100, policy)
    assert not marks.remember(alice, 3, 100, policy)
    assert not marks.holds(alice, 3, 0)
    assert marks.remember(alice, 2, 200, policy), "the same one takes no other place"
    assert marks.holds(alice, 2, 199)
    assert marks.remember(bob, 1, 100, policy)
    assert (marks.left(bob, policy), marks.left(eve, policy)) == (0, 0)
    assert not marks.remember(eve, 1, 100, policy)
    marks.forget(alice, 1)
    marks.forget(alice, 1)
    assert marks.left(alice, dataclasses.replace(policy, tombstones=10)) == 1
    assert marks.remember(eve, 1, 150, policy)
    marks.prune(100)
    assert set(marks.until) == {(alice, 2), (eve, 1)}
    assert (marks.left(alice, policy), marks.left(bob, policy)) == (1, 1)
    less = dataclasses.replace(policy, tombstones_per_peer=0, tombstones=1)
    assert marks.left(alice, less) == 0


# --- Room in flight -----------------------------------------------------------------------------


def test_a_call_counts_until_it_is_timed_out_with_margin(alice):
    calls = InFlight()
    calls.started(alice, [New(1, b"")], 0, POLICY)
    lasts = POLICY.call_timeout + POLICY.call_margin
    assert calls.count(alice, lasts - 1) == 1
    assert calls.count(alice, lasts) == 0


def test_a_fin_counts_for_send_retry(alice):
    calls = InFlight()
    calls.started(alice, [Fin(1)], 0, POLICY)
    assert calls.count(alice, POLICY.send_retry - 1) == 1
    assert calls.count(alice, POLICY.send_retry) == 0


def test_an_ack_frees_its_news_and_a_fin_its_acks(alice, bob):
    calls = InFlight()
    calls.started(alice, [New(1, b"")], 0, POLICY)
    calls.started(alice, [New(1, b"")], 0, POLICY)
    calls.started(alice, [Ack(1, b"")], 0, POLICY)
    calls.started(alice, [New(2, b"")], 0, POLICY)
    calls.heard(bob, Ack(1, b""))
    calls.heard(alice, New(1, b""))
    assert calls.count(alice, 1) == 4
    calls.heard(alice, Ack(1, b""))
    assert calls.count(alice, 1) == 2
    calls.heard(alice, Fin(1))
    assert calls.count(alice, 1) == 1
    calls.heard(alice, Ack(1, b""))
    assert calls.count(alice, 1) == 1
    calls.heard(alice, Ack(2, b""))
    assert calls.count(alice, 1) == 0


def test_a_batch_is_one_call_until_all_of_it_is_answered(alice):
    calls = InFlight()
    calls.started(alice, [New(1, b""), New(2, b"")], 0, POLICY)
    assert calls.count(alice, 0) == 1
    calls.heard(alice, Ack(1, b""))
    assert calls.count(alice, 0) == 1
    calls.heard(alice, Ack(2, b""))
    assert calls.count(alice, 0) == 0


def test_a_batch_of_a_fin_and_a_new_counts_as_long_as_the_new(alice):
    calls = InFlight()
    calls.started(alice, [Fin(1), New(2, b"")], 0, POLICY)
    assert calls.count(alice, POLICY.send_retry) == 1


def test_a_call_that_did_not_leave_is_not_in_flight(alice, bob):
    calls = InFlight()
    first = calls.started(alice, [New(1, b"")], 0, POLICY)
    second = calls.started(alice, [New(1, b"")], 0, POLICY)
    calls.latest_ended(alice, New(1, b""))
    assert calls.count(alice, 0) == 1
    calls.ended(alice, second)
    assert calls.count(alice, 0) == 1
    calls.ended(alice, first)
    assert calls.count(alice, 0) == 0
    calls.latest_ended(alice, New(1, b""))
    calls.ended(bob, first)
    assert calls.count(bob, 0) == 0


def test_what_was_freed_does_not_come_back_when_it_expires(alice):
    calls = InFlight()
    calls.started(alice, [New(1, b"")], 0, POLICY)
    calls.started(alice, [New(2, b"")], 5, POLICY)
    calls.heard(alice, Ack(1, b""))
    lasts = POLICY.call_timeout + POLICY.call_margin
    assert calls.count(alice, lasts + 4) == 1
    assert calls.count(alice, lasts + 5) == 0


def test_an_agents_calls_count_until_their_outcome_is_known(alice):
    calls = InFlight(until_outcome=True)
    token = calls.started(alice, [New(1, b"")], 0, POLICY)
    calls.heard(alice, Ack(1, b""))
    assert calls.count(alice, 10**18) == 1
    calls.ended(alice, token)
    assert calls.count(alice, 0) == 0


def test_a_call_that_ended_is_not_freed_again(alice):
    calls = InFlight()
    first = calls.started(alice, [New(1, b"")], 0, POLICY)
    calls.started(alice, [New(1, b"")], 0, POLICY)
    calls.ended(alice, first)
    calls.heard(alice, Ack(1, b""))
    assert calls.count(alice, 0) == 0


def test_nothing_is_kept_of_calls_that_are_over(alice):
    calls = InFlight()
    calls.ended(alice, calls.started(alice, [New(1, b"")], 0, POLICY))
    assert calls._peers == {}
    calls.started(alice, [New(1, b"")], 0, POLICY)
    calls.heard(alice, Ack(1, b""))
    assert calls._peers == {}
    calls.started(alice, [Fin(1)], 0, POLICY)
    calls.count(alice, POLICY.send_retry)
    assert calls._peers == {}


def test_room_ends_at_the_bound_and_is_each_peers_own(alice, bob):
    policy = Policy(in_flight=2)
    calls = InFlight()
    assert calls.has_room(alice, 0, policy)
    calls.started(alice, [New(1, b"")], 0, policy)
    assert calls.has_room(alice, 0, policy)
    calls.started(alice, [New(2, b"")], 0, policy)
    assert not calls.has_room(alice, 0, policy)
    assert calls.has_room(bob, 0, policy)


# --- Whose turn it is ---------------------------------------------------------------------------


def flows(alice, bob):
    """A due flow of each kind, by what it would transmit."""

    def queued(peer, msg_id, payload=b"x"):
        return step(None, Send(peer=peer, msg_id=msg_id, payload=payload), 0, POLICY).flow

    def sending(peer, msg_id):
        return step(queued(peer, msg_id), Due(), 0, POLICY).flow

    def fin(peer, msg_id):
        event = Received(message=Ack(msg_id, b"r"), caller=peer, room=False)
        return step(sending(peer, msg_id), event, 0, POLICY).flow

    def ack(peer, msg_id):
        new = Received(message=New(msg_id, b"x"), caller=peer)
        flow = step(None, new, 0, POLICY).flow
        return step(flow, Answer(response=b"r"), 0, POLICY).flow

    return queued, sending, fin, ack


def test_room_goes_to_fin_then_ack_then_repeated_new_then_new_flows(alice, bob):
    queued, sending, fin, ack = flows(alice, bob)
    now = 10**15
    new, again, last, answer = queued(bob, 1), sending(bob, 2), fin(bob, 3), ack(alice, 4)
    assert in_turn([new, again, answer, last], now) == [last, answer, again, new]


def test_what_transmits_nothing_waits_for_nobody(alice, bob):
    queued, _, _, ack = flows(alice, bob)
    answer = ack(alice, 4)
    done = step(answer, Received(message=Fin(4), caller=alice), 0, POLICY).flow
    assert in_turn([queued(bob, 1), done], 10**15)[0] is done
    not_yet = dataclasses.replace(answer, msg_id=5)
    assert in_turn([queued(bob, 1), not_yet], 1)[0] is not_yet


def test_room_is_for_what_is_due_at_this_very_moment_too(alice, bob):
    queued, _, fin, ack = flows(alice, bob)
    last, answer = fin(bob, 3), ack(alice, 4)
    assert in_turn([queued(bob, 1), answer], answer.send_due)[0] is answer
    assert in_turn([answer, last], last.fin_due)[0] is answer
    assert in_turn([answer, last], max(last.fin_due, answer.send_due)) == [last, answer]
    only_fin = dataclasses.replace(last, tell_due=0)
    assert in_turn([queued(bob, 1), only_fin], last.fin_due - 1)[0] is only_fin


def test_what_transmits_nothing_comes_before_a_fin(alice, bob):
    _, sending, fin, ack = flows(alice, bob)
    last = fin(bob, 3)
    tombstone = step(ack(alice, 4), Received(message=Fin(4), caller=alice), 0, POLICY).flow
    answered = step(sending(alice, 5), Received(message=Ack(5, b""), caller=alice), 0, POLICY).flow
    for other in (tombstone, answered):
        assert in_turn([last, other], last.fin_due) == [other, last]


def test_peers_take_turns(alice, bob):
    queued, *_ = flows(alice, bob)
    many = [queued(alice, n) for n in range(3)] + [queued(bob, n) for n in (8, 9)]
    assert [flow.msg_id for flow in in_turn(many, 0)] == [0, 8, 1, 9, 2]


def test_a_tick_serves_at_most_a_hundred_flows(alice, bob):
    queued, *_ = flows(alice, bob)
    served = one_tick([queued(alice, n) for n in range(FLOWS_A_TICK + 5)], 0)
    assert [flow.msg_id for flow in served] == list(range(FLOWS_A_TICK))


def test_a_tick_serves_at_most_its_bytes_and_at_least_one(alice, bob):
    queued, _, _, ack = flows(alice, bob)
    half = bytes(BYTES_A_TICK // 2)
    due = [queued(alice, n, half) for n in range(3)]
    assert len(one_tick(due, 0)) == 2
    huge = dataclasses.replace(queued(alice, 1), payload=bytes(BYTES_A_TICK + 1))
    assert len(one_tick([huge], 0)) == 1
    large = dataclasses.replace(ack(alice, 1), response=half + b"1")
    assert len(one_tick([large, dataclasses.replace(large, msg_id=2)], 10**15)) == 1
    assert one_tick([], 0) == []


# --- Batches ------------------------------------------------------------------------------------


def transmit(peer, message, attempt=1):
    return Transmit(peer=peer, dialect="unified", message=message, attempt=attempt)


def test_what_went_in_a_batch_is_retried_alone(alice):
    assert may_join(transmit(alice, New(1, b"")))
    assert not may_join(transmit(alice, New(1, b""), 2))
    assert may_join(transmit(alice, New(1, b""), 3))


def test_a_batch_is_for_one_peer_that_offers_it(alice, bob, eve):
    some = [
        transmit(alice, New(1, b"")),
        transmit(bob, New(2, b"")),
        transmit(alice, New(3, b"")),
        transmit(eve, New(4, b"")),
        transmit(eve, New(5, b"")),
        transmit(alice, New(6, b""), 2),
    ]
    packed = pack(some, lambda peer: peer != eve)
    assert [[t.message.msg_id for t in group] for group in packed] == [[1, 3], [2], [4], [5], [6]]


def test_a_batch_has_at_most_a_hundred_messages(alice):
    packed = pack((transmit(alice, New(n, b"")) for n in range(250)), lambda _: True)
    assert [len(group) for group in packed] == [100, 100, 50]


def test_a_batch_stays_below_its_bytes(alice):
    third = bytes(BYTES_A_BATCH // 3)
    packed = pack((transmit(alice, New(n, third)) for n in range(4)), lambda _: True)
    assert [len(group) for group in packed] == [2, 2]
    exact = bytes(BYTES_A_BATCH // 2 - 64)
    packed = pack((transmit(alice, Ack(n, exact)) for n in range(2)), lambda _: True)
    assert [len(group) for group in packed] == [2]
    packed = pack((transmit(alice, Ack(n, exact + b"1")) for n in range(2)), lambda _: True)
    assert [len(group) for group in packed] == [1, 1]


PAID = Policy(min_cycles=10, oneway_new=False)


def anything(_):
    return True


def test_a_batch_without_a_price_is_passed_on_whole():
    entries = (New(1, b""), Ack(2, None), Fin(3))
    opened = open_batch(
        entries, cycles=100, admits=anything, is_paid=lambda _: False, marks_left=100, policy=POLICY
    )
    assert opened.forward == entries
    assert (opened.accept_cycles, opened.paid, opened.refused) == (0, (), 0)


def test_each_new_flow_of_a_batch_is_paid_in_order_until_the_cycles_run_out():
    entries = [New(n, b"") for n in range(5)]
    opened = open_batch(
        entries, cycles=39, admits=anything, is_paid=lambda _: False, marks_left=100, policy=PAID
    )
    assert opened.forward == tuple(entries[:3])
    assert (opened.accept_cycles, opened.paid, opened.refused) == (30, (0, 1, 2), 2)


def test_what_is_paid_or_known_is_not_charged_and_passes_without_cycles():
    entries = [New(1, b""), New(2, b""), Ack(3, None), Fin(4), New(5, b"")]
    opened = open_batch(
        entries, cycles=10, admits=anything, is_paid=lambda n: n == 1, marks_left=100, policy=PAID
    )
    assert opened.forward == (New(1, b""), New(2, b""), Ack(3, None), Fin(4))
    assert (opened.accept_cycles, opened.paid, opened.refused) == (10, (2,), 1)


def test_a_repeat_within_a_batch_is_charged_once():
    entries = [New(1, b""), New(1, b"")]
    opened = open_batch(
        entries, cycles=10, admits=anything, is_paid=lambda _: False, marks_left=100, policy=PAID
    )
    assert opened.forward == tuple(entries)
    assert opened.accept_cycles == 10


def test_a_new_flow_of_a_batch_that_cannot_be_marked_as_paid_is_not_charged():
    entries = [New(1, b""), New(2, b""), Fin(3), New(4, b"")]
    opened = open_batch(
        entries, cycles=90, admits=anything, is_paid=lambda n: n == 4, marks_left=1, policy=PAID
    )
    assert opened.forward == (New(1, b""), Fin(3), New(4, b""))
    assert (opened.accept_cycles, opened.paid, opened.refused) == (10, (1,), 1)


def test_what_is_not_admitted_pays_nothing_and_goes_no_further():
    entries = [New(n, b"") for n in range(5)]
    opened = open_batch(
        entries,
        cycles=50,
        admits=lambda m: m.msg_id != 1,
        is_paid=lambda _: False,
        marks_left=100,
        policy=PAID,
    )
    assert opened.forward == (*entries[:1], *entries[2:])
    assert (opened.accept_cycles, opened.paid, opened.refused) == (40, (0, 2, 3, 4), 1)


def test_entries_beyond_the_bounds_are_as_lost():
    entries = [Fin(n) for n in range(MESSAGES_A_BATCH + 7)]
    opened = open_batch(
        entries, cycles=0, admits=anything, is_paid=lambda _: False, marks_left=100, policy=POLICY
    )
    assert (len(opened.forward), opened.refused) == (MESSAGES_A_BATCH, 7)
    large = [Ack(1, bytes(BYTES_A_BATCH - 64)), Fin(2), Fin(3)]
    opened = open_batch(
        large, cycles=0, admits=anything, is_paid=lambda _: False, marks_left=100, policy=POLICY
    )
    assert (len(opened.forward), opened.refused) == (1, 2)


def test_a_batch_of_exactly_the_bytes_is_passed_on():
    exact = [Ack(1, bytes(BYTES_A_BATCH - 2 * 64)), Fin(2)]
    opened = open_batch(
        exact, cycles=0, admits=anything, is_paid=lambda _: False, marks_left=100, policy=POLICY
    )
    assert opened.forward == tuple(exact)


def test_the_bounds_are_the_pages():
    assert (MESSAGES_A_BATCH, BYTES_A_BATCH) == (100, 1_900_000)
    assert (FLOWS_A_TICK, BYTES_A_TICK) == (100, 1_900_000)
    assert METHOD == "asyncFlow_batch"


def test_a_senders_payload_counts_in_a_tick_only_while_it_may_be_sent(alice, bob):
    _, sending, _, ack = flows(alice, bob)
    large = dataclasses.replace(sending(bob, 1), payload=bytes(BYTES_A_TICK))
    answered = step(large, Received(message=Ack(1, b""), caller=bob), 0, POLICY).flow
    small = ack(alice, 2)
    assert one_tick([answered, small], 10**15) == [answered, small]
    assert len(one_tick([large, small], 10**15)) == 1
    other = dataclasses.replace(sending(alice, 3), payload=bytes(BYTES_A_TICK))
    assert one_tick([answered, other], 10**15) == [answered, other]
    exact = dataclasses.replace(large, payload=bytes(BYTES_A_TICK - 1))
    assert len(one_tick([exact, small], 10**15)) == 2


def test_a_price_of_one_is_a_price():
    price = Policy(min_cycles=1, oneway_new=False)
    opened = open_batch(
        [New(1, b""), New(2, b"")],
        cycles=1,
        admits=anything,
        is_paid=lambda _: False,
        marks_left=100,
        policy=price,
    )
    assert (len(opened.forward), opened.accept_cycles, opened.refused) == (1, 1, 1)


def test_two_acks_at_the_same_moment_share_the_rate():
    policy = Policy(unknown_fins_per_second=1)
    rate, may = FinRate().take(5 * SECOND, policy)
    assert (may, rate.take(5 * SECOND, policy)[1]) == (True, False)
