"""Flows between Motoko canisters: they complete, whatever message is lost."""

import pytest

from bridge import candid
from bridge.candid import Case
from bridge.principal import Principal

NUMBERS = candid.Codec([candid.Record({"numbers": candid.Vec(candid.Nat64)})])
RESPONSE = candid.Codec(
    [
        candid.Variant(
            {
                "ok": candid.Record(
                    {"sum": candid.Nat, "largest": candid.Opt(candid.Nat64), "crc32": candid.Nat32}
                ),
                "err": candid.Text,
            }
        )
    ]
)


async def test_a_flow_ends_acknowledged_and_finished_with_the_right_response(world):
    sender, receiver = await world.deploy("sender"), await world.deploy("receiver")
    payload = NUMBERS.encode({"numbers": [2**64 - 1, 7, 1]})
    msg_id = await sender.send(receiver.id, payload)
    assert await sender.until(msg_id, "acknowledged") == "acknowledged"
    assert await receiver.state(msg_id) == "finished"
    outcome = await sender.call("outcome", msg_id)
    assert outcome.label == "answered"
    assert outcome.value["late"] is False
    (answer,) = RESPONSE.decode(outcome.value["response"])
    assert answer.value["sum"] == 2**64 + 7
    assert answer.value["largest"] == 2**64 - 1
    assert await receiver.call("handled", {"sender": sender.id, "msg_id": msg_id}) == 1
    assert await sender.history(msg_id) == ["queued", "sending", "answered", "acknowledged"]
    assert await receiver.history(msg_id) == ["processing", "acknowledging", "finished"]


@pytest.mark.parametrize(
    "payload", [b"", b"DIDL", b"\x00" * 100, NUMBERS.encode({"numbers": []})[:-1]]
)
async def test_a_payload_that_is_no_request_is_answered_with_an_error(world, payload):
    both = await world.deploy("both")
    msg_id = await both.send(both.id, payload)
    await both.until(msg_id, "acknowledged")
    outcome = await both.call("outcome", msg_id)
    (answer,) = RESPONSE.decode(outcome.value["response"])
    assert answer.label == "err"
    assert "vec nat64" in answer.value


async def test_a_lost_new_is_sent_again(world):
    sender, receiver = await world.deploy("sender"), await world.deploy("receiver")
    await world.lose(sender, receiver)
    msg_id = await sender.send(receiver.id)
    assert await sender.state(msg_id) == "sending"
    await world.advance(1.1)
    await sender.until(msg_id, "acknowledged")
    assert (await sender.flow(msg_id))["attempts"] == 2
    assert await receiver.call("handled", {"sender": sender.id, "msg_id": msg_id}) == 1


async def test_a_lost_ack_is_sent_again_and_the_request_is_processed_once(world):
    sender, receiver = await world.deploy("sender"), await world.deploy("receiver")
    await world.lose(receiver, sender)
    msg_id = await sender.send(receiver.id)
    await receiver.until(msg_id, "acknowledging")
    await world.advance(1.1)
    await sender.until(msg_id, "acknowledged")
    await receiver.until(msg_id, "finished")
    assert await receiver.call("handled", {"sender": sender.id, "msg_id": msg_id}) == 1


async def test_after_a_lost_fin_the_next_ack_is_echoed_with_fin(world):
    sender, receiver = await world.deploy("sender"), await world.deploy("receiver")
    await world.lose(sender, receiver, nth=2)
    msg_id = await sender.send(receiver.id)
    await sender.until(msg_id, "acknowledged")
    assert await receiver.state(msg_id) == "acknowledging"
    await world.advance(1.1)
    await receiver.until(msg_id, "finished")
    assert (await sender.counters())["sent.FIN"] == 2
    assert await sender.history(msg_id) == ["queued", "sending", "answered", "acknowledged"]


async def all_are(canister, state, number):
    return len(await canister.flows(state=state)) == number


@pytest.mark.slow
async def test_a_hundred_flows_at_once_all_complete(world, eventually):
    a, b = await world.deploy("player"), await world.deploy("echo")
    ids = await a.call("burst", {"to": b.id, "payload": b"x", "times": 100})
    assert len(set(ids)) == 100
    assert ids == sorted(ids)
    await eventually(lambda: all_are(a, "acknowledged", 100))
    assert len(await b.flows("receiver", "finished")) == 100
    assert (await a.gauges())["sender open flows"] == 0


@pytest.mark.parametrize("payload", [b"", b"\xff" * 900_000], ids=["empty", "900 kB"])
async def test_payloads_are_carried_exactly(world, payload):
    a, echo = await world.deploy("sender"), await world.deploy("echo")
    msg_id = await a.send(echo.id, payload)
    await a.until(msg_id, "acknowledged")
    assert (await a.call("outcome", msg_id)).value["response"] == payload


async def test_a_response_of_1_5_megabytes_is_carried_exactly(world):
    a, b = await world.deploy("sender"), await world.deploy("player")
    msg_id = await a.send(b.id, b"bytes 1500000")
    await a.until(msg_id, "acknowledged")
    assert (await a.call("outcome", msg_id)).value["response"] == b"a" * 1_500_000


async def test_a_null_response_is_carried_as_null(world):
    a, b = await world.deploy("sender"), await world.deploy("player")
    msg_id = await a.send(b.id, b"null")
    await a.until(msg_id, "acknowledged")
    outcome = await a.call("outcome", msg_id)
    assert outcome.label == "answered"
    assert outcome.value["response"] is None


@pytest.mark.parametrize("msg_id", [0, 2**32 - 1, 2**64, 2**128 - 1])
async def test_every_id_below_2_to_the_128_works(world, msg_id):
    a = await world.deploy("player")
    assert await a.open(a.id, msg_id) is None
    await a.until(msg_id, "acknowledged")


async def test_an_id_of_2_to_the_128_is_an_error_and_leaves_nothing(world):
    a = await world.deploy("player")
    assert "2^128" in await a.open(a.id, 2**128)
    assert await a.flows() == []


async def test_a_used_id_repeats_the_very_same_send_and_refuses_any_other(world):
    a = await world.deploy("player")
    assert await a.open(a.id, 5) is None
    assert await a.open(a.id, 5) is None
    assert "fresh id" in await a.open(a.id, 5, b"y")
    await a.until(5, "acknowledged")
    assert await a.call("handled", {"sender": a.id, "msg_id": 5}) == 1


async def test_a_receiver_that_is_gone_for_good_ends_in_failed_unknown_and_is_told(world):
    a = await world.deploy("sender", {"attempts": 2})
    nobody = Principal.from_text("r7inp-6aaaa-aaaaa-aaabq-cai")
    msg_id = await a.send(nobody)
    await world.advance(1.1)
    assert (await a.flow(msg_id))["attempts"] == 2
    await world.advance(2.1)
    await a.until(msg_id, "failed")
    assert (await a.flow(msg_id))["failure"] == Case("unknown")
    assert await a.call("outcome", msg_id) == Case("failed", Case("unknown"))


@pytest.mark.parametrize(
    ("to", "why"),
    [
        (Principal.anonymous(), "a canister or a listed agent"),
        (Principal.management(), "a canister or a listed agent"),
    ],
)
async def test_who_is_no_peer_cannot_be_sent_to(world, to, why):
    a = await world.deploy("sender")
    answer = await a.call("send", {"to": to, "payload": b""})
    assert answer.label == "err"
    assert why in answer.value


async def test_a_response_after_failure_is_late_and_no_second_outcome(world):
    a, b = await world.deploy("player", {"attempts": 1}), await world.deploy("player")
    await a.open(b.id, 9, b"later")
    await world.advance(1.1)
    await a.until(9, "failed")
    answer = {"sender": a.id, "msg_id": 9, "response": b"at last"}
    assert await b.act("answer", answer) is None
    await b.until(9, "finished")
    assert (await a.flow(9))["late"]
    assert await a.heard() == [("failed", 1), ("late", 1)]
    assert (await a.call("heard"))["told"][1]["response"] == b"at last"


async def test_a_finished_flow_is_forgotten_after_linger_and_horizon(world):
    a, b = await world.deploy("sender"), await world.deploy("receiver")
    msg_id = await a.send(b.id)
    await a.until(msg_id, "acknowledged")
    await b.until(msg_id, "finished")
    await world.advance(61)
    await a.until(msg_id, None)
    assert await b.state(msg_id) == "finished"
    for _ in range(3):  # observed time takes steps of at most time_gap
        await world.advance(40)
    await b.until(msg_id, None)
    assert (await b.gauges())["receiver tombstones"] == 0
    assert (await b.gauges())["receiver bytes"] == 0
    assert (await b.gauges())["due flows"] == 0
