"""The door to the tables: errors, pending effects, messages, the JSON form."""

import dataclasses

import pytest

from bridge.errors import LocalProtocolError, UsageError
from bridge.flow import (
    MAX_MSG_ID,
    Ack,
    Answer,
    Ask,
    Cancel,
    Count,
    Decided,
    Decision,
    DropDeadLetter,
    Due,
    FailedForGood,
    FailedForNow,
    Fin,
    Finish,
    HandlerFailed,
    HandOver,
    New,
    NotSent,
    Received,
    Refused,
    Rejected,
    RememberPaid,
    Rerun,
    Restarted,
    RetryDeadLetter,
    Returned,
    Role,
    Send,
    Tell,
    Telling,
    Transmit,
    is_current,
    is_open,
    is_well_formed,
    kind_of,
    payload_hash,
    step,
    stored_bytes,
)
from bridge.flow.codec import from_json, to_json


def play(policy, *events, record=None, now=1_000):
    """The record and the last effects after events at given times."""
    effects = ()
    for event in events:
        if isinstance(event, int):
            now = event
            continue
        transition = step(record, event, now, policy)
        record, effects = transition.flow, transition.effects
    return record, effects


@pytest.fixture
def send(bob):
    return Send(peer=bob, msg_id=7, payload=b"x")


@pytest.fixture
def new(alice):
    return Received(message=New(7, b"x"), caller=alice)


# --- Messages -----------------------------------------------------------------------------------


def test_the_hash_is_crc_32_and_null_equals_empty():
    assert payload_hash(b"123456789") == 0xCBF43926
    assert payload_hash(b"") == payload_hash(None) == 0


def test_kinds():
    assert [kind_of(m) for m in (New(1, b""), Ack(1, b""), Fin(1))] == ["NEW", "ACK", "FIN"]


def test_well_formed_messages():
    bounds = {"max_payload": 2, "max_response": 3}
    assert is_well_formed(New(MAX_MSG_ID, b"12"), **bounds)
    assert not is_well_formed(New(MAX_MSG_ID + 1, b""), **bounds)
    assert not is_well_formed(New(-1, b""), **bounds)
    assert not is_well_formed(New(0, b"123"), **bounds)
    assert is_well_formed(Ack(0, b"123"), **bounds)
    assert is_well_formed(Ack(0, None), **bounds)
    assert not is_well_formed(Ack(0, b"1234"), **bounds)
    assert is_well_formed(Fin(0), **bounds)
    assert not is_well_formed(Fin(-1), **bounds)


# --- Errors to the application ------------------------------------------------------------------


def test_an_error_says_which_flow_in_which_state_cannot_do_what(seconds, send, bob):
    record, _ = play(seconds, send)
    with pytest.raises(LocalProtocolError) as caught:
        step(record, Answer(response=b""), 1_000, seconds)
    assert str(caught.value) == f"flow 7 with {bob} is queued and cannot be answered"
    with pytest.raises(LocalProtocolError, match="no such flow to be cancelled"):
        step(None, Cancel(), 1_000, seconds)


def test_a_request_to_a_flow_whose_lifetime_is_over_meets_the_failed_flow(seconds, send):
    record, _ = play(seconds, send)
    with pytest.raises(LocalProtocolError, match="is failed and cannot be cancelled"):
        step(record, Cancel(), 1_000 + seconds.lifetime, seconds)


def test_an_agents_own_principal_is_a_peer_but_no_other(seconds):
    from bridge.principal import Principal

    agent = Principal(bytes(range(28)) + b"\x02")
    assert step(None, Send(peer=agent, msg_id=7, payload=b""), 0, seconds).flow is not None
    for nobody in (Principal.anonymous(), Principal.management(), Principal(b"\x01\x02\x7f")):
        with pytest.raises(LocalProtocolError, match="is neither a canister nor an agent"):
            step(None, Send(peer=nobody, msg_id=7, payload=b""), 0, seconds)


def test_events_without_a_flow_are_counted(seconds, send, bob):
    record, (new,) = play(seconds, send, Due())
    _, (told,) = play(seconds, Cancel(), record=record)
    for event, reason in (
        (Due(), "ignored"),
        (Decided(decision=Decision.RESEND), "ignored"),
        (NotSent(transmit=new), "outdated"),
        (Returned(of=told), "outdated"),
        (HandlerFailed(of=told), "outdated"),
        (Refused(transmit=new), "rejected"),
        (Rejected(transmit=new), "rejected"),
    ):
        transition = step(None, event, 0, seconds)
        assert transition.flow is None
        assert transition.effects == (Count(reason=reason),)


# --- Pending effects ----------------------------------------------------------------------------


def test_a_new_is_current_while_its_flow_is_sending_that_attempt(seconds, send):
    record, (first,) = play(seconds, send, Due())
    assert is_current(record, first, 1_001)
    again, (second,) = play(seconds, 1_330, Due(), record=record)
    assert not is_current(again, first, 1_331)
    assert is_current(again, second, 1_331)
    queued, _ = play(seconds, send)
    assert not is_current(queued, first, 1_000)
    assert not is_current(None, first, 1_000)


def test_no_new_leaves_after_its_lifetime(seconds, send):
    record, (first,) = play(seconds, send, Due())
    over = 1_000 + seconds.lifetime
    assert is_current(record, first, over - 1)
    assert not is_current(record, first, over)


def test_an_ack_is_current_while_its_flow_is_at_that_attempt(seconds, new):
    record, (first,) = play(seconds, new, Answer(response=b"y"))
    assert is_current(record, first, 1_000)
    again, (second,) = play(seconds, 1_330, Due(), record=record)
    assert not is_current(again, first, 1_330)
    assert is_current(again, second, 1_330)
    finished, _ = play(seconds, Received(message=Fin(7), caller=new.caller), record=record)
    assert not is_current(finished, first, 1_000)


def test_an_abandoned_flow_sends_echoes_only(seconds, new):
    record, (first,) = play(seconds, new, Answer(response=b"y"))
    abandoned, _ = play(seconds, Refused(transmit=first), record=record)
    assert not is_current(abandoned, first, 1_000)
    _, (echo,) = play(seconds, 2_000, new, record=abandoned)
    assert echo.echo
    assert is_current(abandoned, echo, 2_000)


def test_a_fin_is_current_for_the_response_that_stands(seconds, send, bob, eve):
    sending, _ = play(seconds, send, Due())
    ack = Received(message=Ack(7, b"y"), caller=bob)
    answered, (fin, told) = play(seconds, ack, record=sending)
    assert is_current(answered, fin, 1_000)
    assert not is_current(answered, dataclasses.replace(fin, message=Fin(7)), 1_000)
    assert is_current(None, fin, 1_000)
    receiver, _ = play(seconds, Received(message=New(7, b""), caller=bob))
    assert not is_current(receiver, fin, 1_000)
    assert is_current(answered, told, 1_000)


def test_a_telling_is_current_until_it_is_taken_or_tried_again(seconds, send, bob):
    answered, (_, told) = play(seconds, send, Due(), Received(message=Ack(7, b"y"), caller=bob))
    assert not is_current(None, told, 1_000)
    failed, _ = play(seconds, HandlerFailed(of=told), record=answered)
    assert is_current(failed, told, 1_000)
    again, (second,) = play(seconds, 1_330, Due(), record=failed)
    assert not is_current(again, told, 1_330)
    assert is_current(again, second, 1_330)
    taken, _ = play(seconds, Returned(of=told), record=answered)
    assert not is_current(taken, told, 1_000)


def test_a_receivers_telling_is_current_until_it_is_taken(seconds, new):
    record, (handed,) = play(seconds, new)
    assert isinstance(handed, HandOver)
    assert is_current(record, handed, 1_000)
    stalled, (told,) = play(seconds, HandlerFailed(of=handed), record=record)
    assert not is_current(stalled, handed, 1_000)
    assert is_current(stalled, told, 1_000)
    taken, _ = play(seconds, Returned(of=told), record=stalled)
    assert not is_current(taken, told, 1_000)
    assert not is_current(dataclasses.replace(record, tries=2), handed, 1_000)


def test_a_question_is_current_while_it_is_open(seconds, send, bob):
    wrong = Received(message=Ack(7, b"z", 9), caller=bob)
    corrupt, (asked,) = play(seconds, send, Due(), wrong)
    assert is_current(corrupt, asked, 1_000)
    assert not is_current(corrupt, dataclasses.replace(asked, their_hash=8), 1_000)
    assert not is_current(corrupt, dataclasses.replace(asked, tries=2), 1_000)
    resent, _ = play(seconds, Decided(decision=Decision.RESEND), record=corrupt)
    assert not is_current(resent, asked, 1_000)


def test_what_is_only_reported_stays_current_while_there_is_a_flow(seconds, new, alice):
    other = Received(message=New(7, b"other"), caller=alice)
    record, (report,) = play(seconds, new, other)
    assert isinstance(report, Ask)
    assert is_current(record, report, 1_000)
    assert not is_current(None, report, 1_000)


def test_effects_of_no_state_are_always_current(seconds, alice):
    forgotten = Tell(role=Role.RECEIVER, peer=alice, msg_id=7, what=Telling.FORGOTTEN)
    assert is_current(None, forgotten, 0)
    assert is_current(None, Count(reason="x"), 0)
    assert is_current(None, RememberPaid(peer=alice, msg_id=7, until=3), 0)


# --- What counts in the quotas ------------------------------------------------------------------


def test_a_flow_is_open_until_its_outcome_and_late_response_were_taken(seconds, send, bob):
    sending, _ = play(seconds, send, Due())
    failed, (told,) = play(seconds, Cancel(), record=sending)
    assert is_open(failed)
    taken, _ = play(seconds, Returned(of=told), record=failed)
    assert not is_open(taken)
    ack = Received(message=Ack(7, b"y"), caller=bob)
    late, (_, handed) = play(seconds, ack, record=taken)
    assert is_open(late)
    done, _ = play(seconds, Returned(of=handed), record=late)
    assert not is_open(done)


def test_bytes_as_stored_plus_room_for_an_answer(seconds, send, bob, new):
    queued, _ = play(seconds, send)
    assert stored_bytes(queued, 100) == 101
    corrupt, _ = play(seconds, send, Received(message=Ack(7, b"wrong", 9), caller=bob))
    assert stored_bytes(corrupt, 100) == 106
    answered, _ = play(seconds, send, Received(message=Ack(7, b"four"), caller=bob))
    assert stored_bytes(answered, 100) == 5
    failed, (told,) = play(seconds, Cancel(), record=queued)
    assert stored_bytes(failed, 100) == 101
    taken, _ = play(seconds, Returned(of=told), record=failed)
    assert stored_bytes(taken, 100) == 1
    processing, _ = play(seconds, new)
    assert stored_bytes(processing, 100) == 101
    acknowledging, _ = play(seconds, new, Answer(response=None))
    assert stored_bytes(acknowledging, 100) == 1


# --- JSON ---------------------------------------------------------------------------------------


def test_the_json_form_is_the_documented_one(bob):
    transmit = Transmit(peer=bob, dialect="maf", message=Ack(2**127, None, 3), attempt=1)
    assert to_json(NotSent(transmit=transmit, u=5)) == {
        "event": "not_sent",
        "u": 5,
        "transmit": {
            "effect": "transmit",
            "peer": str(bob),
            "dialect": "maf",
            "message": {"kind": "ACK", "msg_id": str(2**127), "payload": None, "hash": 3},
            "attempt": 1,
        },
    }


def test_a_record_is_tagged_by_its_role_and_leaves_defaults_out(seconds, send, bob):
    queued, _ = play(seconds, send)
    assert to_json(queued) == {
        "flow": "sender",
        "peer": str(bob),
        "msg_id": "7",
        "dialect": "unified",
        "state": "queued",
        "payload": "78",
        "payload_hash": payload_hash(b"x"),
        "opened": 1_000,
        "changed": 1_000,
        "ends": 1_000 + seconds.lifetime,
        "send_due": 1_000,
        "due": 1_000,
        "version": 1,
    }


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({}, "is no flow, event, effect or message"),
        ({"event": "sneeze"}, "is no flow, event, effect or message"),
        ({"event": ["due"]}, "is no flow, event, effect or message"),
        ({"kind": "NEW", "msg_id": "1"}, "is not a well-formed kind"),
        ({"kind": "NEW", "msg_id": "one", "payload": ""}, "is not a well-formed kind"),
        ({"kind": "NEW", "msg_id": "1", "payload": "0"}, "is not a well-formed kind"),
        ({"event": "due", "colour": 3}, "is not a well-formed event"),
    ],
)
def test_what_is_not_of_the_format_is_refused(value, says):
    with pytest.raises(UsageError, match=says):
        from_json(value)


def test_what_has_no_form_in_json_is_refused():
    with pytest.raises(UsageError, match="a dict has no form in JSON"):
        to_json({})


def test_an_event_that_says_no_more_has_no_jitter_no_lag_and_room():
    assert (Due().u, Due().lag, Due().room) == (0, 0, True)
    assert Restarted().share == 0


@pytest.mark.parametrize(
    ("event", "word"),
    [
        (Cancel(), "cancelled"),
        (Finish(), "finished"),
        (RetryDeadLetter(), "retried as a dead letter"),
        (DropDeadLetter(), "dropped as a dead letter"),
        (FailedForNow(), "failed for now"),
        (Rerun(), "run again"),
    ],
)
def test_an_error_names_the_request(seconds, event, word):
    with pytest.raises(LocalProtocolError, match=f"^there is no such flow to be {word} "):
        step(None, event, 0, seconds)


def test_what_is_asked_of_the_wrong_side_is_an_error(seconds, send, new):
    sender, _ = play(seconds, send)
    receiver, _ = play(seconds, new)
    for event in (FailedForGood(response=b""), Answer(response=b"")):
        with pytest.raises(LocalProtocolError, match=r"is queued and cannot be answered$"):
            step(sender, event, 1_000, seconds)
    with pytest.raises(LocalProtocolError, match=r"is processing and cannot be opened$"):
        step(receiver, send, 1_000, seconds)


def test_a_question_about_a_fin_stays_current_while_there_is_a_flow(seconds, new, alice):
    wrong = Received(message=Fin(7, 9), caller=alice)
    record, (asked,) = play(seconds, new, Answer(response=b"y"), wrong)
    assert asked.kind == "FIN"
    assert is_current(record, asked, 1_000)
    assert not is_current(None, asked, 1_000)
