"""Who gets in, in the page's order, and what the quotas hold."""

import dataclasses

import pytest

from bridge.errors import LocalProtocolError
from bridge.flow import Ack, Cancel, Fin, New, PeerPolicy, Policy, Received, Returned, Send, step
from bridge.flow.admission import (
    Access,
    Verdict,
    ack_fits,
    answer_fits,
    check_message,
    check_new,
    check_send,
    free_bytes_needed,
    ulid_time,
)
from bridge.flow.usage import Usage, Usages, usage_change
from bridge.principal import Principal

AGENT = Principal(bytes(range(28)) + b"\x02")
EVERYONE = Access()
NOW = 1_700_000_000_000_000_000
MILLISECOND = 1_000_000


def new(payload=b"x", msg_id=7):
    return New(msg_id, payload)


def decide(caller, message=None, policy=None, **changes):
    arguments = {"now": NOW, "lag": 0, "access": EVERYONE, "usages": Usages()} | changes
    return check_new(caller, message or new(), policy=policy or Policy(), **arguments)


# --- Every message ------------------------------------------------------------------------------


def test_a_send_with_a_huge_id_is_a_readable_error(bob, seconds):
    with pytest.raises(LocalProtocolError, match="an id of 8000001 bits"):
        step(None, Send(peer=bob, msg_id=1 << 8_000_000, payload=b""), 0, seconds)


@pytest.mark.parametrize("msg_id", [0, 2**32 - 1, 2**64, 2**128 - 1])
def test_ids_below_2_to_the_128_are_well_formed(alice, msg_id):
    assert check_message(alice, new(msg_id=msg_id), EVERYONE, Policy()) is None


@pytest.mark.parametrize("msg_id", [2**128, -1, 1 << 8_000_000], ids=["2^128", "-1", "1 MB"])
def test_other_ids_are_malformed(alice, msg_id):
    for message in (new(msg_id=msg_id), Ack(msg_id, b"", None), Fin(msg_id)):
        assert check_message(alice, message, EVERYONE, Policy()) == "malformed_id"


def test_sizes_are_bounded_each_by_its_own_setting(alice):
    policy = Policy(max_payload=3, max_response=5)
    assert check_message(alice, new(b"123"), EVERYONE, policy) is None
    assert check_message(alice, new(b"1234"), EVERYONE, policy) == "too_large"
    assert check_message(alice, Ack(7, b"12345", None), EVERYONE, policy) is None
    assert check_message(alice, Ack(7, b"123456", None), EVERYONE, policy) == "too_large"
    assert check_message(alice, Ack(7, None, None), EVERYONE, policy) is None
    assert check_message(alice, Fin(7), EVERYONE, policy) is None


def test_canisters_may_call_and_agents_only_if_listed(alice):
    anonymous = Principal.anonymous()
    listed = Access(agents=frozenset({AGENT}))
    for message in (new(), Ack(7, b"", None), Fin(7)):
        assert check_message(alice, message, EVERYONE, Policy()) is None
        assert check_message(AGENT, message, EVERYONE, Policy()) == "caller"
        assert check_message(AGENT, message, listed, Policy()) is None
        assert check_message(anonymous, message, EVERYONE, Policy()) == "caller"
        assert check_message(Principal.management(), message, EVERYONE, Policy()) == "caller"


def test_the_access_list_holds_for_new_only(alice, bob):
    only_bob = Access(canisters=frozenset({bob}))
    assert check_message(alice, Ack(7, b"", None), only_bob, Policy()) is None
    assert check_message(alice, new(), only_bob, Policy()) is None
    assert decide(alice, access=only_bob) == Verdict(refused="access")
    assert decide(bob, access=only_bob) == Verdict()
    assert decide(AGENT, access=EVERYONE) == Verdict(refused="access")
    assert decide(AGENT, access=Access(agents=frozenset({AGENT}))) == Verdict()


def test_who_is_listed(alice, bob):
    access = Access(canisters=frozenset({bob}), agents=frozenset({AGENT}))
    assert access.is_listed(bob)
    assert access.is_listed(AGENT)
    assert not access.is_listed(alice)
    assert not EVERYONE.is_listed(alice)
    assert EVERYONE.may_send(alice)
    assert not access.may_send(alice)


# --- The horizon --------------------------------------------------------------------------------


def ulid(time):
    return (time // MILLISECOND) << 80 | 12345


def test_the_time_in_a_ulid():
    assert ulid_time(ulid(NOW)) == NOW
    assert ulid_time((2**48 - 1) << 80) == (2**48 - 1) * MILLISECOND


def test_ids_are_opaque_unless_the_peer_is_trusted(alice):
    assert decide(alice, new(msg_id=3)) == Verdict(floor=0)
    policy = Policy(peers={alice: PeerPolicy(ids="ulid")})
    assert decide(alice, new(msg_id=3), policy) == Verdict(refused="horizon")


def test_a_trusted_ulid_has_a_window(alice):
    policy = Policy(peers={alice: PeerPolicy(ids="ulid")})
    oldest = NOW - policy.horizon
    assert decide(alice, new(msg_id=ulid(oldest)), policy).refused == "horizon"
    young = oldest + MILLISECOND
    assert decide(alice, new(msg_id=ulid(young)), policy) == Verdict(floor=young)
    newest = NOW + policy.skew
    assert decide(alice, new(msg_id=ulid(newest)), policy) == Verdict(floor=newest)
    future = newest + MILLISECOND
    assert decide(alice, new(msg_id=ulid(future)), policy).refused == "future"


def test_a_clock_that_was_set_back_does_not_reopen_the_window(alice):
    policy = Policy(peers={alice: PeerPolicy(ids="ulid")})
    time = NOW - policy.horizon + MILLISECOND
    assert decide(alice, new(msg_id=ulid(time)), policy, lag=-MILLISECOND).refused == "horizon"
    assert decide(alice, new(msg_id=ulid(time)), policy, lag=MILLISECOND).refused is None


def test_before_admit_from_only_later_trusted_ids_are_admitted(alice, bob):
    policy = Policy(admit_from=NOW + MILLISECOND, peers={bob: PeerPolicy(ids="ulid")})
    assert decide(alice, policy=policy) == Verdict(refused="admit_from")
    assert decide(bob, new(msg_id=ulid(NOW + MILLISECOND)), policy).refused == "admit_from"
    assert decide(bob, new(msg_id=ulid(NOW + 2 * MILLISECOND)), policy).refused is None
    later = NOW + MILLISECOND
    assert decide(alice, policy=policy, now=later).refused is None


# --- Quotas -------------------------------------------------------------------------------------

SMALL = Policy(
    open_flows_per_peer=2,
    open_flows=10,
    tombstones_per_peer=3,
    tombstones=20,
    bytes_per_peer=100,
    bytes_stored=1_000,
    response_room=10,
)


@pytest.mark.parametrize(
    ("usages", "reason"),
    [
        (Usages(peer=Usage(open=2)), "quota_open_flows_per_peer"),
        (Usages(peer=Usage(open=1)), None),
        (Usages(everyone=Usage(open=10)), "quota_open_flows"),
        (Usages(everyone=Usage(open=9)), None),
        (Usages(peer=Usage(tombstones=3)), "quota_tombstones_per_peer"),
        (Usages(peer=Usage(tombstones=2)), None),
        (Usages(everyone=Usage(tombstones=20)), "quota_tombstones"),
        (Usages(everyone=Usage(tombstones=19)), None),
        (Usages(peer=Usage(bytes=90)), "quota_bytes_per_peer"),
        (Usages(peer=Usage(bytes=89)), None),
        (Usages(peer=Usage(bytes=80, unanswered=1)), "quota_bytes_per_peer"),
        (Usages(peer=Usage(bytes=79, unanswered=1)), None),
        (Usages(everyone=Usage(bytes=990)), "quota_bytes"),
        (Usages(everyone=Usage(bytes=989)), None),
    ],
)
def test_at_a_quota_new_flows_are_refused(alice, usages, reason):
    listed = Access(canisters=frozenset({alice}))
    assert decide(alice, policy=SMALL, usages=usages, access=listed).refused == reason
    if reason is None:
        check_send(b"x", usages, SMALL)
    else:
        with pytest.raises(LocalProtocolError, match=reason.removeprefix("quota_")):
            check_send(b"x", usages, SMALL)


@pytest.mark.parametrize(
    ("usage", "reason"),
    [
        (Usage(open=5), "quota_unlisted_open_flows"),
        (Usage(open=4), None),
        (Usage(tombstones=10), "quota_unlisted_tombstones"),
        (Usage(tombstones=9), None),
        (Usage(bytes=490), "quota_unlisted_bytes"),
        (Usage(bytes=489), None),
    ],
)
def test_unlisted_senders_share_at_most_half(alice, usage, reason):
    usages = Usages(unlisted=usage)
    assert decide(alice, policy=SMALL, usages=usages).refused == reason
    listed = Access(canisters=frozenset({alice}))
    assert decide(alice, policy=SMALL, usages=usages, access=listed).refused is None
    check_send(b"x", usages, SMALL)


def test_an_answer_within_the_room_always_fits_and_a_larger_one_needs_free_bytes():
    full = Usages(peer=Usage(bytes=95, unanswered=1))
    assert answer_fits(None, full, SMALL)
    assert answer_fits(b"0123456789", full, SMALL)
    assert not answer_fits(b"0123456789a", full, SMALL)
    almost = Usages(peer=Usage(bytes=89, unanswered=1))
    assert answer_fits(b"0123456789a", almost, SMALL)
    assert not answer_fits(b"0123456789ab", almost, SMALL)
    everyone = Usages(everyone=Usage(bytes=999))
    assert answer_fits(b"0123456789a", everyone, SMALL)
    assert not answer_fits(b"0123456789ab", everyone, SMALL)
    unlisted = Usages(unlisted=Usage(bytes=499))
    assert answer_fits(b"0123456789ab", unlisted, SMALL)
    assert answer_fits(b"0123456789a", unlisted, SMALL, listed=False)
    assert not answer_fits(b"0123456789ab", unlisted, SMALL, listed=False)


@pytest.fixture
def open_flow(bob, seconds):
    return step(None, Send(peer=bob, msg_id=1, payload=b"x"), 0, seconds).flow


@pytest.fixture
def failed_flow(open_flow, seconds):
    """A flow whose failure the application was not told yet."""
    return step(open_flow, Cancel(), 1, seconds)


@pytest.fixture
def ended_flow(failed_flow, seconds):
    """A flow whose failure the application knows of."""
    (told,) = failed_flow.effects
    return step(failed_flow.flow, Returned(of=told), 2, seconds).flow


def test_a_response_within_the_room_of_an_open_flow_fits_and_more_needs_free_bytes(
    open_flow, failed_flow
):
    full = Usages(peer=Usage(bytes=95, unanswered=1))
    almost = Usages(peer=Usage(bytes=89, unanswered=1))
    for flow in (open_flow, failed_flow.flow):  # which is open until its failure was taken
        assert free_bytes_needed(flow, None, SMALL) == 0
        assert ack_fits(flow, b"0123456789", full, SMALL)
        assert not ack_fits(flow, b"0123456789a", full, SMALL)
        assert free_bytes_needed(flow, b"0123456789a", SMALL) == 1
        assert ack_fits(flow, b"0123456789a", almost, SMALL)
        assert not ack_fits(flow, b"0123456789ab", almost, SMALL)


def test_a_late_response_of_a_flow_that_is_open_no_more_needs_free_bytes_for_all_of_it(ended_flow):
    assert free_bytes_needed(ended_flow, b"four", SMALL) == 4
    assert ack_fits(ended_flow, b"four", Usages(peer=Usage(bytes=96)), SMALL)
    assert not ack_fits(ended_flow, b"four", Usages(peer=Usage(bytes=97)), SMALL)
    assert ack_fits(ended_flow, b"four", Usages(everyone=Usage(bytes=996)), SMALL)
    assert not ack_fits(ended_flow, b"four", Usages(everyone=Usage(bytes=997)), SMALL)
    assert not ack_fits(ended_flow, b"four", Usages(peer=Usage(bytes=87, unanswered=1)), SMALL)
    full = Usages(peer=Usage(bytes=100), everyone=Usage(bytes=1_000))
    assert ack_fits(ended_flow, None, full, SMALL)
    assert ack_fits(ended_flow, b"", full, SMALL)
    strangers = Usages(unlisted=Usage(bytes=1_000))  # whose share is the receiver's matter
    assert ack_fits(ended_flow, b"four", strangers, SMALL)


def test_a_response_after_the_first_is_not_stored_and_needs_no_bytes(
    open_flow, ended_flow, bob, seconds
):
    full = Usages(peer=Usage(bytes=100))
    for flow in (open_flow, ended_flow):
        answered = step(flow, Received(message=Ack(1, b"y"), caller=bob), 3, seconds).flow
        assert free_bytes_needed(answered, b"0123456789ab", SMALL) == 0
        assert ack_fits(answered, b"0123456789ab", full, SMALL)


# --- Cycles -------------------------------------------------------------------------------------

PAID = Policy(min_cycles=5, oneway_new=False)


def test_cycles_are_accepted_exactly_last_and_once(alice):
    assert decide(alice, policy=PAID, cycles=4) == Verdict(refused="cycles")
    assert decide(alice, policy=PAID, cycles=5) == Verdict(accept_cycles=5, paid=True)
    assert decide(alice, policy=PAID, cycles=50) == Verdict(accept_cycles=5, paid=True)
    assert decide(alice, policy=PAID, cycles=50, marked_paid=True) == Verdict(paid=True)
    full = dataclasses.replace(PAID, open_flows_per_peer=1)
    used = Usages(peer=Usage(open=1))
    assert decide(alice, policy=full, cycles=5, usages=used).accept_cycles == 0
    assert decide(alice, cycles=50) == Verdict()
    assert decide(alice, policy=dataclasses.replace(PAID, min_cycles=1)).refused == "cycles"


# --- Sums ---------------------------------------------------------------------------------------


def test_what_records_take(alice, bob, seconds):
    opened = step(None, Send(peer=bob, msg_id=1, payload=b"four"), 0, seconds).flow
    assert Usage.of(None) == Usage()
    assert Usage.of(opened) == Usage(open=1, bytes=4, unanswered=1)
    assert Usage.of(opened).counted_bytes(10) == 14
    two = Usage.of(opened) + Usage(tombstones=2, bytes=1)
    assert two == Usage(open=1, tombstones=2, bytes=5, unanswered=1)
    assert two - Usage.of(opened) == Usage(tombstones=2, bytes=1)
    assert usage_change(None, opened) == Usage.of(opened)
    assert usage_change(opened, None) == Usage() - Usage.of(opened)
    assert usage_change(opened, dataclasses.replace(opened, attempts=3)) is None
    received = step(None, Received(message=New(1, b"x"), caller=alice), 0, seconds).flow
    assert usage_change(received, dataclasses.replace(received, deferred=True)) is None


def test_sums_follow_every_change_of_a_walk(seconds):
    from random import Random

    from flow_lab.walk import walk

    for seed in range(150):
        total = Usage()
        now = None
        for visit in walk(Random(seed), seconds, 40):
            if visit.transition is not None:
                change = usage_change(visit.before, visit.transition.flow)
                total = total + (change or Usage())
                now = visit.transition.flow
            assert total == Usage.of(now)


def test_a_second_wrong_ack_changes_what_is_stored(bob, seconds):
    flow = step(None, Send(peer=bob, msg_id=7, payload=b"x"), 0, seconds).flow
    first = Received(message=Ack(7, b"four", 1), caller=bob)
    second = Received(message=Ack(7, b"sixsix", 2), caller=bob)
    corrupt = step(flow, first, 0, seconds).flow
    again = step(corrupt, second, 0, seconds).flow
    assert usage_change(corrupt, again) == Usage(bytes=2)
