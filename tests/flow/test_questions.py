"""What the receiver's corruption handler was asked about a FIN outlives a restart."""

import dataclasses

import pytest

from bridge.flow import (
    Answer,
    Ask,
    Count,
    Decided,
    Decision,
    Due,
    Fin,
    HandlerFailed,
    New,
    Received,
    ReceiverState,
    Restarted,
    payload_hash,
    step,
)

NOW = 1_000
RIGHT = payload_hash(b"y")


def fin(hash_):
    return Fin(7, hash_)


@pytest.fixture
def play(seconds, alice):
    """Plays events on a flow that has just been answered; the record and the last effects."""
    opened = step(None, Received(message=New(7, b"x"), caller=alice), NOW, seconds).flow
    answered = step(opened, Answer(response=b"y"), NOW, seconds).flow

    def run(*events, record=answered):
        now, effects = NOW, ()
        for event in events:
            if isinstance(event, int):
                now = event
                continue
            if isinstance(event, Fin):
                event = Received(message=event, caller=alice)  # noqa: PLW2901 - as it comes
            transition = step(record, event, now, seconds)
            record, effects = transition.flow, transition.effects
        return record, effects

    return run


def questions(effects):
    return [(effect.their_hash, effect.tries) for effect in effects if isinstance(effect, Ask)]


def test_a_question_that_a_restart_took_is_asked_again_after_a_delay(play):
    record, effects = play(fin(9))
    assert questions(effects) == [(9, 1)]
    assert (record.asked, record.ask_due) == ((9,), None)
    record, effects = play(NOW + 5, Restarted(u=100_000), record=record)
    assert effects == ()
    assert record.ask_due == NOW + 5 + 363  # delay(1), with its jitter
    assert record.due == record.send_due == NOW + 330
    assert questions(play(NOW + 367, Due(), record=record)[1]) == []
    record, effects = play(NOW + 368, Due(), record=record)
    assert questions(effects) == [(9, 2)]
    (asked,) = (effect for effect in effects if isinstance(effect, Ask))
    assert (asked.kind, asked.decide, asked.our_payload) == ("FIN", True, b"y")
    assert (asked.our_hash, asked.their_payload) == (RIGHT, None)
    assert record.ask_due is None
    assert questions(play(NOW + 2_000, Due(), record=record)[1]) == []
    record, _ = play(NOW + 2_000, Restarted(), record=record)
    assert record.ask_due == NOW + 2_000 + 660


def test_it_is_due_even_where_nothing_else_is_for_long(play):
    record, _ = play(fin(9), Restarted())
    quiet = dataclasses.replace(record, send_due=NOW + 10_000)
    moved, _ = play(NOW + 1, Restarted(), record=quiet)
    assert moved.due == moved.ask_due == NOW + 330


def test_a_restart_before_the_question_came_again_puts_nothing_off(play):
    record, _ = play(fin(9), Restarted())
    assert record.ask_due == NOW + 330
    assert play(NOW + 329, Restarted(), record=record)[0].ask_due == NOW + 330
    overdue, _ = play(NOW + 400, Restarted(share=500_000), record=record)
    assert overdue.ask_due == NOW + 430


def test_all_questions_that_are_open_are_asked_again(play):
    record, _ = play(fin(9), fin(8), fin(7))
    assert record.asked == (9, 8, 7)
    record, _ = play(Decided(decision=Decision.RESEND, hash=8), Restarted(), record=record)
    assert questions(play(NOW + 330, Due(), record=record)[1]) == [(9, 2), (7, 2)]


def test_a_new_question_while_others_come_again_counts_on(play):
    record, _ = play(fin(9), Restarted(), NOW + 330, Due())
    assert questions(play(NOW + 331, fin(8), record=record)[1]) == [(8, 2)]
    decided, _ = play(Decided(decision=Decision.RESEND), record=record)
    assert (decided.asked, decided.asks) == ((), 0)
    assert questions(play(NOW + 331, fin(8), record=decided)[1]) == [(8, 1)]


@pytest.mark.parametrize("hash_", [None, 9])
@pytest.mark.parametrize("decision", [Decision.RESEND, Decision.ABANDON])
def test_a_question_that_was_decided_is_not_asked_again(play, decision, hash_):
    record, _ = play(fin(9), Restarted(), Decided(decision=decision, hash=hash_))
    assert (record.asked, record.asks, record.ask_due) == ((), 0, None)
    record, _ = play(Restarted(), record=record)
    assert record.ask_due is None


def test_the_flow_of_an_open_question_may_be_abandoned_meanwhile(play, seconds):
    record, _ = play(fin(9), NOW + seconds.lifetime, Due())
    assert (record.state, record.asked) == (ReceiverState.ABANDONED, (9,))
    later = NOW + seconds.lifetime + 1
    record, _ = play(later, Restarted(), record=record)
    record, effects = play(later + 330, Due(), record=record)
    assert questions(effects) == [(9, 2)]
    again = Decided(decision=Decision.ABANDON, hash=9)
    record, effects = play(later + 331, again, record=record)
    assert record.asked == ()
    assert effects == (Count(reason="ignored"),)


@pytest.mark.parametrize("end", [fin(RIGHT), Decided(decision=Decision.ACCEPT, hash=9)])
def test_a_finished_flow_has_no_questions(play, end):
    record, _ = play(fin(9), fin(8), Restarted(), end)
    assert record.state is ReceiverState.FINISHED
    assert (record.asked, record.asks, record.ask_due) == ((), 0, None)


def test_a_handler_that_fails_has_decided_nothing_and_is_not_asked_again(play):
    record, (asked,) = play(fin(9))
    failed = HandlerFailed(of=asked)
    after, effects = play(failed, record=record)
    assert effects == (Count(reason="outdated"),)
    assert after.asked == ()
    assert (after.state, after.due) == (record.state, record.due)
    assert play(Restarted(), record=after)[0].ask_due is None
    assert play(failed, record=after) == (after, (Count(reason="outdated"),))


def test_a_report_about_another_new_closes_no_question(play, alice):
    record, _ = play(fin(9))
    other = Received(message=New(7, b"other"), caller=alice)
    record, (report,) = play(other, record=record)
    assert (report.kind, report.decide) == ("NEW", False)
    same = dataclasses.replace(report, their_hash=9)
    assert play(HandlerFailed(of=same), record=record)[0] is record
