"""Flows between Rust canisters, and between Rust, Motoko and Python: they complete, once."""

import asyncio

import pytest

from bridge import candid
from bridge.candid import Case
from bridge.errors import BridgeError, CallRejectedError
from bridge.principal import Principal
from bridge.reference import SHORT_POLICY
from bridge.service import Bridge
from bridge.store import MemoryStore

NUMBERS = candid.Codec([candid.Record({"numbers": candid.Vec(candid.Nat64)})])
PAIRS = [("rust", "rust"), ("rust", "motoko"), ("motoko", "rust")]
OK = candid.Variant(
    {
        "ok": candid.Record(
            {"sum": candid.Nat, "largest": candid.Opt(candid.Nat64), "crc32": candid.Nat32}
        ),
        "err": candid.Text,
    }
)


@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_a_flow_ends_acknowledged_and_finished_with_the_right_response(world, one, other):
    sender, receiver = (
        await world.deploy("sender", language=one),
        await world.deploy("receiver", language=other),
    )
    payload = NUMBERS.encode({"numbers": [2**64 - 1, 7, 1]})
    msg_id = await sender.send(receiver.id, payload)
    await sender.until(msg_id, "acknowledged")
    await receiver.until(msg_id, "finished")
    outcome = await sender.call("outcome", msg_id)
    assert outcome.label == "answered"
    (answer,) = candid.decode([OK], outcome.value["response"])
    assert (answer.value["sum"], answer.value["largest"]) == (2**64 + 7, 2**64 - 1)
    assert await receiver.call("handled", {"sender": sender.id, "msg_id": msg_id}) == 1
    assert await sender.history(msg_id) == ["queued", "sending", "answered", "acknowledged"]
    assert await receiver.history(msg_id) == ["processing", "acknowledging", "finished"]


@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_each_lost_message_is_made_good(world, one, other):
    sender, receiver = (
        await world.deploy("sender", language=one),
        await world.deploy("receiver", language=other),
    )
    await world.lose(sender, receiver)  # NEW
    await world.lose(receiver, sender)  # ACK
    msg_id = await sender.send(receiver.id)
    await world.advance(1.1)
    await receiver.until(msg_id, "acknowledging")
    await world.lose(sender, receiver)  # FIN
    await world.advance(1.1)
    await sender.until(msg_id, "acknowledged")
    await world.advance(2.1)
    await receiver.until(msg_id, "finished")
    assert await receiver.call("handled", {"sender": sender.id, "msg_id": msg_id}) == 1


async def test_a_hundred_flows_at_once_all_complete(world, eventually):
    sender, receiver = await world.deploy("sender"), await world.deploy("echo")
    ids = await asyncio.gather(*(sender.send(receiver.id, b"x") for _ in range(100)))
    assert len(set(ids)) == 100

    async def all_done():
        finished = len(await receiver.flows(state="finished"))
        return (finished, len(await sender.flows(state="acknowledged"))) == (100, 100)

    await eventually(all_done)


async def test_large_payloads_and_responses_are_carried_exactly(world):
    sender, echo = await world.deploy("sender"), await world.deploy("echo")
    payload = bytes(range(256)) * 6_000
    msg_id = await sender.send(echo.id, payload)
    await sender.until(msg_id, "acknowledged")
    assert (await sender.call("outcome", msg_id)).value["response"] == payload


async def test_a_flow_to_nobody_fails_and_its_end_is_told(world):
    sender = await world.deploy("sender", {"attempts": 2})
    nobody = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")
    msg_id = await sender.send(nobody)
    for _ in range(3):
        await world.advance(4.1)
    await sender.until(msg_id, "failed")
    outcome = await sender.call("outcome", msg_id)
    assert outcome.label == "failed"
    assert outcome.value.label == "unknown"


# --- Upgrades -------------------------------------------------------------------------------------


async def test_upgraded_on_either_side_the_flow_completes_and_is_processed_once(world):
    sender, receiver = await world.deploy("sender"), await world.deploy("receiver")
    await world.lose(sender, receiver)
    msg_id = await sender.send(receiver.id)
    assert await sender.state(msg_id) == "sending"
    await world.upgrade(sender, "sender")
    await world.lose(receiver, sender)
    await world.advance(1.1)
    await receiver.until(msg_id, "acknowledging")
    await world.upgrade(receiver, "receiver")
    await world.advance(1.1)
    await sender.until(msg_id, "acknowledged")
    await receiver.until(msg_id, "finished")
    assert await receiver.call("handled", {"sender": sender.id, "msg_id": msg_id}) == 1
    assert (await sender.call("asyncFlow_status"))["settings"]["attempts"] == 10
    assert await sender.history(msg_id) == ["queued", "sending", "answered", "acknowledged"]


async def test_settings_lists_and_ids_survive_an_upgrade(world):
    async with world.another_agent() as agent:
        both = await world.deploy("both", access={"agents": [agent.principal]})
        first = await both.send(both.id)
        await both.until(first, "acknowledged", "finished")
        await world.upgrade(both, "both")
        await both.configure({"attempts": 3})
        status = await both.call("asyncFlow_status")
        assert status["settings"]["attempts"] == 3
        assert status["settings"]["horizon"] == 1_200_000_000_000
        assert await both.outbox(agent) == []
        assert await both.send(both.id) > first


# --- Dialects and batches -------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["maf", "bounty", "positional"])
@pytest.mark.parametrize(("one", "other"), [("rust", "motoko"), ("motoko", "rust")])
async def test_each_dialect_is_spoken_with_the_other_language(world, dialect, one, other):
    name = f"both_{dialect}"
    a, b = await world.deploy(name, language=one), await world.deploy(name, language=other)
    assert await a.configure(peers=[{"peer": b.id, "dialect": Case(dialect)}]) is None
    msg_id = await a.send(b.id, b"hello")
    await a.until(msg_id, "acknowledged")
    await b.until(msg_id, "finished")


@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_retries_travel_in_one_batch(world, one, other, eventually):
    sender, receiver = (
        await world.deploy("sender", language=one),
        await world.deploy("echo", language=other),
    )
    assert (
        await sender.configure({"in_flight": 1}, peers=[{"peer": receiver.id, "batch": True}])
        is None
    )
    await world.manage("stop_canister", receiver)
    for _ in range(10):
        await sender.send(receiver.id)
    await world.manage("start_canister", receiver)

    async def all_done():
        await world.advance(1.1)
        return len(await sender.flows(state="acknowledged")) == 10

    await eventually(all_done)
    for flow in await sender.flows():
        assert await receiver.call("handled", {"sender": sender.id, "msg_id": flow["msg_id"]}) == 1


# --- Access and malformed messages ----------------------------------------------------------------


async def test_strangers_neither_drive_nor_watch_nor_have_an_outbox(world):
    both = await world.deploy("both")
    async with world.another_agent() as stranger:
        for method, value in [
            ("send", {"to": both.id, "payload": b""}),
            ("asyncFlow_configure", {"settings": None, "access": None, "peers": None}),
            ("asyncFlow_outbox", {"after": None, "limit": 1}),
            ("asyncFlow_flows", {"role": None, "state": None, "cursor": None, "limit": 1}),
        ]:
            with pytest.raises(BridgeError):
                await both.call(method, value, agent=stranger)
        with pytest.raises(BridgeError):
            await both.speak(stranger, "NEW", msg_id=1, payload=b"")
    assert await both.flows() == []


async def test_nobody_but_the_canister_itself_gives_it_work(world):
    both = await world.deploy("both")
    with pytest.raises(BridgeError, match="only this canister itself"):
        await both.agent.update(both.id, "async_flow_self", b"\x05")


@pytest.mark.parametrize(
    "arg", [b"", b"DIDL", b"DIDL\x01\x6d\x7f\x01\x00\xff\xff\xff\xff\x0f", b"DIDL\x00\x01\x7d\x00"]
)
async def test_malformed_arguments_change_nothing(world, arg):
    async with world.another_agent() as agent:
        both = await world.deploy("both", access={"agents": [agent.principal]})
        with pytest.raises(BridgeError):
            await agent.update(both.id, "asyncFlow", arg)
        assert await both.flows() == []


async def test_an_id_of_2_to_the_128_cannot_be_asked_for_and_leaves_nothing(world):
    player = await world.deploy("player")
    with pytest.raises(CallRejectedError):
        await player.open(player.id, 2**128)
    assert await player.flows() == []
    assert await player.open(player.id, 2**128 - 1) is None


async def test_a_bad_setting_is_refused_with_the_reason(world):
    both = await world.deploy("both")
    assert "in_flight" in await both.configure({"in_flight": 501})
    assert "min_cycles" in await both.configure({"min_cycles": 1})


# --- Python, through the outbox -------------------------------------------------------------------


async def test_python_sends_and_receives_through_the_outbox(world):
    agent = world.agent
    both = await world.deploy("both", access={"agents": [agent.principal]})

    async def handle(request):
        return b"python heard " + request.payload

    async with Bridge(agent, MemoryStore(), policy=SHORT_POLICY, handler=handle) as bridge:
        bridge.watch(both.id)
        response = await bridge.send(both.id, NUMBERS.encode({"numbers": [1, 2, 3]}))
        (answer,) = candid.decode([OK], response)
        assert answer.value["sum"] == 6
        msg_id = await both.send(agent.principal, b"rust")
        await both.until(msg_id, "acknowledged")
        outcome = await both.call("outcome", msg_id)
        assert outcome.value["response"] == b"python heard rust"
