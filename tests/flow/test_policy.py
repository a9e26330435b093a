"""Settings: read from configuration, refused with the reason where they are bad."""

import dataclasses
import tomllib

import pytest

from bridge.errors import PolicyError
from bridge.flow import Cycles, PeerPolicy, Policy
from bridge.flow.quantities import parse_duration, parse_size

SECOND = 1_000_000_000
ALICE = "rrkah-fqaaa-aaaaa-aaaaq-cai"


def load(text):
    return Policy.from_mapping(tomllib.loads(text))


def test_an_empty_configuration_is_the_pages():
    assert load("") == Policy()


def test_every_setting_can_be_configured(alice):
    policy = load(f"""
        first_retry = "400 s"
        backoff = 3
        max_delay = "2 h"
        jitter = 0.25
        attempts = 5
        lifetime = "8 h"
        send_retry = "500 ms"
        call_timeout = "200 s"
        call_margin = "1.5 min"
        in_flight = 100
        linger = "1 d"
        retention = "3 d"
        horizon = "4 d"
        skew = "1 min"
        slack = "30 min"
        time_gap = "5 min"
        spread = "0 s"
        answer_within = "1 h"
        handler_attempts = 3
        echo_min = "61 s"
        unknown_fins_per_second = 4
        max_payload = "1 MB"
        max_response = "1 KiB"
        response_room = 100
        open_flows_per_peer = 10
        open_flows = 20
        tombstones_per_peer = 30
        tombstones = 40
        bytes_per_peer = "1 MiB"
        bytes = "2 GiB"
        outbox_messages = 7
        outbox_bytes = "3 kB"
        events = 9
        min_cycles = 5
        oneway_new = false
        rerun_stalled = true
        admit_from = 1700000000000000000
        attach_cycles = {{ new = 1, ack = 2, fin = 3 }}
        [peers."{ALICE}"]
        dialect = "maf"
        null_ack = "receipt"
        ids = "ulid"
        attach_cycles = {{ new = 9 }}
    """)
    assert policy == Policy(
        first_retry=400 * SECOND,
        backoff=3,
        max_delay=7200 * SECOND,
        jitter_permille=250,
        attempts=5,
        lifetime=8 * 3600 * SECOND,
        send_retry=SECOND // 2,
        call_timeout=200 * SECOND,
        call_margin=90 * SECOND,
        in_flight=100,
        linger=86_400 * SECOND,
        retention=3 * 86_400 * SECOND,
        horizon=4 * 86_400 * SECOND,
        skew=60 * SECOND,
        slack=1800 * SECOND,
        time_gap=300 * SECOND,
        spread=0,
        answer_within=3600 * SECOND,
        handler_attempts=3,
        echo_min=61 * SECOND,
        unknown_fins_per_second=4,
        max_payload=1_000_000,
        max_response=1024,
        response_room=100,
        open_flows_per_peer=10,
        open_flows=20,
        tombstones_per_peer=30,
        tombstones=40,
        bytes_per_peer=1024**2,
        bytes_stored=2 * 1024**3,
        outbox_messages=7,
        outbox_bytes=3000,
        events=9,
        min_cycles=5,
        oneway_new=False,
        rerun_stalled=True,
        admit_from=1_700_000_000_000_000_000,
        attach_cycles=Cycles(new=1, ack=2, fin=3),
        peers={
            alice: PeerPolicy(
                dialect="maf", null_ack="receipt", ids="ulid", attach_cycles=Cycles(new=9)
            )
        },
    )


def test_what_is_sent_along_is_the_peers_own_or_everybodys(alice, bob):
    policy = Policy(
        attach_cycles=Cycles(new=1), peers={alice: PeerPolicy(attach_cycles=Cycles(fin=2))}
    )
    assert policy.cycles_for(alice) == Cycles(fin=2)
    assert policy.cycles_for(bob) == Cycles(new=1)
    assert policy.peer(bob) == PeerPolicy()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("first_retri = 3", "there is no setting 'first_retri'"),
        ("first_retry = 330", "first_retry is 330, which cannot be read"),
        ('first_retry = "330"', "first_retry is '330', which cannot be read"),
        ('first_retry = "3 weeks"', "the units are ns, us, ms, s, min, h, d"),
        ('first_retry = "-3 s"', "cannot be read"),
        ('first_retry = "0.5 ns"', "which is not a whole number of ns"),
        ('first_retry = "0 s"', "first_retry is 0, but it has to be at least 1"),
        ('spread = "-0 s"', "spread is '-0 s', which cannot be read"),
        ("max_payload = -1", "max_payload is -1, which cannot be read"),
        ("max_payload = true", "max_payload is True, which cannot be read"),
        ('max_payload = "1 mb"', "max_payload is '1 mb', which cannot be read"),
        ("attempts = 1.5", "attempts is 1.5, but it has to be a whole number"),
        ("attempts = true", "attempts is True, but it has to be a whole number"),
        ("attempts = 0", "attempts is 0, but it has to be at least 1"),
        ("min_cycles = -1", "min_cycles is -1, but it has to be at least 0"),
        ("jitter = 1.5", "jitter is 1.5, but it has to be a fraction from 0 to 1"),
        ("jitter = -0.1", "it has to be a fraction from 0 to 1"),
        ("jitter = true", "it has to be a fraction from 0 to 1"),
        ('jitter = "10 %"', "it has to be a fraction from 0 to 1"),
        ("jitter = 0.0005", "it has to be a whole number of thousandths"),
        ("rerun_stalled = 1", "rerun_stalled is 1, but it has to be true or false"),
        ("attach_cycles = 3", "attach_cycles is 3, but it has to be a table"),
        ("attach_cycles = { nwe = 3 }", "attach_cycles has the keys ['nwe']"),
        ("attach_cycles = { new = -3 }", "attach_cycles has an amount below 0"),
        ('attach_cycles = { new = "3" }', "attach_cycles.new is '3'"),
        ("peers = 3", "peers is 3, but it has to be a table"),
        ("[peers.nobody]", "peers: 'nobody' is not a principal"),
        (f'[peers."{ALICE}"]\ndialect = "x"', f"peers.{ALICE}.dialect is 'x'"),
        (f'[peers."{ALICE}"]\nids = "uuid"', "choose one of opaque, ulid"),
        (f'[peers."{ALICE}"]\nnull_ack = 3', "choose one of response, receipt"),
        (f'[peers."{ALICE}"]\nname = 3', f"there is no setting peers.{ALICE}.name"),
    ],
)
def test_a_bad_configuration_is_refused_with_the_reason(text, says):
    with pytest.raises(PolicyError) as caught:
        load(text)
    assert says in str(caught.value)


BAD = [
    ({"echo_min": 330 * SECOND}, "echo_min must be below first_retry"),
    ({"call_margin": 31 * SECOND}, "call_timeout + call_margin must not exceed first_retry"),
    (
        {"call_timeout": 301 * SECOND, "first_retry": 400 * SECOND},
        "call_timeout must not exceed 300 s",
    ),
    ({"slack": 39 * 3600 * SECOND}, "lifetime + slack must be below horizon"),
    ({"linger": 9 * 3600 * SECOND - 1}, "lifetime must not exceed linger"),
    ({"retention": 9 * 3600 * SECOND - 1}, "lifetime must not exceed retention"),
    ({"answer_within": 48 * 3600 * SECOND}, "answer_within must be below horizon"),
    ({"skew": 48 * 3600 * SECOND}, "skew must be below horizon"),
    ({"in_flight": 501}, "in_flight must not exceed 500"),
    ({"open_flows": 999}, "open_flows_per_peer must not exceed open_flows"),
    ({"tombstones": 99_999}, "tombstones_per_peer must not exceed tombstones"),
    ({"bytes_stored": 64 * 1024**2 - 1}, "bytes_per_peer must not exceed bytes"),
    ({"min_cycles": 1}, "min_cycles needs a NEW method that is not oneway"),
]


@pytest.mark.parametrize(("changes", "says"), BAD)
def test_settings_that_contradict_each_other_are_refused(changes, says):
    with pytest.raises(PolicyError, match=says.replace("+", r"\+")):
        Policy(**changes).validate()


@pytest.mark.parametrize(
    "changes",
    [
        {"echo_min": 330 * SECOND - 1},
        {"call_margin": 30 * SECOND},
        {"call_timeout": 300 * SECOND},
        {"slack": 39 * 3600 * SECOND - 1},
        {"linger": 9 * 3600 * SECOND},
        {"retention": 9 * 3600 * SECOND},
        {"answer_within": 48 * 3600 * SECOND - 1},
        {"skew": 48 * 3600 * SECOND - 1},
        {"in_flight": 500},
        {"open_flows": 1_000},
        {"tombstones": 100_000},
        {"bytes_stored": 64 * 1024**2},
        {"min_cycles": 1, "oneway_new": False},
    ],
)
def test_settings_at_the_bound_are_accepted(changes):
    assert Policy(**changes).validate() == Policy(**changes)


LEAST_ONE = [
    "first_retry", "backoff", "max_delay", "attempts", "lifetime", "send_retry", "call_timeout",
    "in_flight", "linger", "retention", "horizon", "time_gap", "answer_within", "handler_attempts",
    "max_payload", "max_response", "open_flows_per_peer", "open_flows", "tombstones_per_peer",
    "tombstones", "bytes_per_peer", "bytes_stored", "outbox_messages", "outbox_bytes", "events",
]  # fmt: skip


def test_each_number_has_a_least_value():
    for entry in dataclasses.fields(Policy):
        if entry.type is not int and entry.type != "int":
            continue
        least = 1 if entry.name in LEAST_ONE else 0
        with pytest.raises(PolicyError, match=f"^{entry.name} is {least - 1}, .* least {least}"):
            Policy(**{entry.name: least - 1}).validate()


def test_an_unknown_dialect_of_a_peer_is_refused(alice):
    with pytest.raises(PolicyError, match="'latin' is not a dialect"):
        Policy(peers={alice: PeerPolicy(dialect="latin")}).validate()


# --- delay(n) -----------------------------------------------------------------------------------


def test_waits_grow_by_the_factor_up_to_the_longest(seconds):
    waits = [seconds.delay(n, 0) for n in range(1, 8)]
    assert waits == [330, 660, 1320, 2640, 3600, 3600, 3600]
    assert seconds.delay(10_000, 0) == 3600
    assert dataclasses.replace(seconds, max_delay=100).delay(1, 0) == 100


def test_jitter_is_added_in_millionths_and_bounded(seconds):
    assert seconds.delay(1, 50_000) == 346
    assert seconds.delay(1, 100_000) == 363
    assert seconds.delay(1, 999_999) == 363
    assert seconds.delay(1, -5) == 330
    assert dataclasses.replace(seconds, jitter_permille=0).delay(1, 100_000) == 330


def test_ten_waits_end_within_the_pages_bounds():
    policy = Policy()
    low = sum(policy.delay(n, 0) for n in range(1, 11))
    high = sum(policy.delay(n, 100_000) for n in range(1, 11))
    minute = 60 * SECOND
    assert low // minute == 7 * 60 + 22
    assert round(high / minute) == 8 * 60 + 7


# --- Quantities ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("1ns", 1), ("1 us", 1_000), ("1.5 ms", 1_500_000), ("330 s", 330 * SECOND),
     ("2 min", 120 * SECOND), ("9 h", 32_400 * SECOND), ("2 d", 172_800 * SECOND), ("0 s", 0)],
)  # fmt: skip
def test_durations(text, nanoseconds):
    assert parse_duration(text, of="x") == nanoseconds


@pytest.mark.parametrize(
    ("text", "size"),
    [(0, 0), (17, 17), ("1 B", 1), ("1 kB", 1_000), ("1 KB", 1_000), ("1.9 MB", 1_900_000),
     ("1 GB", 10**9), ("8 KiB", 8192), ("64 MiB", 67_108_864), ("1 GiB", 2**30)],
)  # fmt: skip
def test_sizes(text, size):
    assert parse_size(text, of="x") == size


@pytest.mark.parametrize(
    "value", ["", "s", "1", "1  s", " 1 s", "1 s ", "1e3 s", "1,5 s", "\u0661 s", None, [], 1.5]
)
def test_what_is_no_quantity_is_refused(value):
    with pytest.raises(PolicyError, match=r"^x is"):
        parse_duration(value, of="x")
    with pytest.raises(PolicyError, match=r"^x is"):
        parse_size(value, of="x")


@pytest.mark.parametrize("name", ["unified", "maf", "bounty", "positional"])
def test_a_peer_can_be_given_each_dialect(alice, name):
    policy = load(f'[peers."{ALICE}"]\ndialect = "{name}"')
    assert policy.peer(alice).dialect == name


def test_a_peer_without_settings_is_opaque_and_its_nulls_are_responses():
    assert PeerPolicy() == PeerPolicy(
        dialect=None, null_ack="response", ids="opaque", attach_cycles=None
    )
    assert (Cycles().new, Cycles().ack, Cycles().fin) == (0, 0, 0)


def test_the_bounds_of_jitter():
    assert load("jitter = 0").jitter_permille == 0
    assert load("jitter = 1").jitter_permille == 1000
    assert Policy().delay(1, 10**6) == 363 * SECOND
