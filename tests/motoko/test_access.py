"""Who gets in, what they may take up, and what strangers cannot do."""

import pytest
from canister_world import GUARDED

from bridge import candid
from bridge.candid import Case
from bridge.errors import BridgeError, CallRejectedError
from bridge.principal import Principal


@pytest.fixture
async def agents(world):
    """A listed agent and an unlisted one."""
    async with world.another_agent() as listed, world.another_agent() as stranger:
        yield listed, stranger


async def test_a_listed_agent_is_a_peer_and_an_unlisted_one_is_refused(world, agents):
    listed, stranger = agents
    echo = await world.deploy("echo", access={"agents": [listed.principal]})
    await echo.speak(listed, "NEW", msg_id=1, payload=b"in")
    assert await echo.state(1) == "acknowledging"
    with pytest.raises(BridgeError):  # refused by inspection, before it runs
        await echo.speak(stranger, "NEW", msg_id=2, payload=b"out")
    assert await echo.state(2) is None


async def test_without_inspection_an_unlisted_agent_is_refused_silently(world, agents):
    _, stranger = agents
    player = await world.deploy("player")
    await player.speak(stranger, "NEW", msg_id=2, payload=b"out")
    assert await player.flows() == []
    assert (await player.counters())["refused.caller"] == 1


@pytest.mark.parametrize(("method", "args"), GUARDED)
async def test_a_stranger_is_refused_by_every_method(world, agents, method, args):
    both = await world.deploy("both")
    with pytest.raises(BridgeError):
        await both.call(method, *args, agent=agents[1])


async def test_a_monitor_may_watch_but_not_configure(world, agents):
    monitor, _ = agents
    both = await world.deploy("both", access={"monitors": [monitor.principal]})
    assert (await both.call("asyncFlow_status", agent=monitor))["version"]
    change = {"settings": None, "access": None, "peers": None}
    with pytest.raises(CallRejectedError, match="only controllers"):
        await both.call("asyncFlow_configure", change, agent=monitor)


async def test_a_canister_that_is_not_on_the_list_is_refused(world, eventually):
    a, b = await world.deploy("player"), await world.deploy("player")
    await b.configure(access={"canisters": [b.id]})
    await a.open(b.id, 1)
    assert (await eventually(b.counters))["refused.access"] == 1
    assert await b.flows() == []
    peers = (await b.call("asyncFlow_status"))["peers"]
    assert {"peer": a.id, "sent": 0, "received": 0, "refused": 1} in peers


async def test_a_removal_from_the_list_ends_no_flow(world, agents):
    agent, _ = agents
    player = await world.deploy("player", access={"agents": [agent.principal]})
    await player.open(agent.principal, 1)
    await player.configure(access={"agents": []})
    assert [e["message"].label for e in await player.outbox(agent)] == ["NEW"]
    await player.speak(agent, "ACK", msg_id=1, payload=b"answer")
    await player.until(1, "acknowledged")
    await player.speak(agent, "NEW", msg_id=2, payload=b"more")
    assert await player.state(2) is None


async def test_an_ack_from_a_third_principal_changes_nothing(world, agents):
    peer, thief = agents
    player = await world.deploy("player", access={"agents": [peer.principal, thief.principal]})
    await player.open(peer.principal, 1)
    await player.speak(thief, "ACK", msg_id=1, payload=b"stolen")
    assert await player.state(1) == "sending"
    assert (await player.counters())["spoofed"] == 1
    assert await player.outbox(thief) == []


async def test_a_fin_from_a_third_principal_ends_nothing(world, agents):
    peer, thief = agents
    player = await world.deploy("player", access={"agents": [peer.principal, thief.principal]})
    await player.speak(peer, "NEW", msg_id=1, payload=b"x")
    await player.speak(thief, "FIN", msg_id=1)
    assert await player.state(1) == "acknowledging"
    assert (await player.counters())["unknown_fin"] == 1


async def test_two_senders_with_one_id_are_processed_apart(world, agents):
    one, two = agents
    player = await world.deploy("player", access={"agents": [one.principal, two.principal]})
    await player.speak(one, "NEW", msg_id=1, payload=b"one")
    await player.speak(two, "NEW", msg_id=1, payload=b"two")
    for agent, text in ((one, b"one"), (two, b"two")):
        (entry,) = await player.outbox(agent)
        assert entry["message"].value["payload"] == text


async def test_an_unknown_ack_of_a_canister_is_answered_with_a_null_fin(world):
    a, b = await world.deploy("player"), await world.deploy("player")
    await world.lose(a, b, nth=2)  # FIN
    await a.open(b.id, 1)
    await a.until(1, "acknowledged")
    assert await b.state(1) == "acknowledging"
    # Reinstalled: it knows no flow any more.
    await world.replace(a, "player", "reinstall")
    await world.advance(1.1)
    await b.until(1, "finished")
    assert (await a.counters())["unknown_ack"] == 1


async def test_a_message_for_a_role_that_is_lacking_is_counted_and_ignored(world, eventually):
    a, only_sender = await world.deploy("player"), await world.deploy("sender")
    await a.open(only_sender.id, 1)
    assert (await eventually(only_sender.counters))["no_receiver"] == 1
    assert await only_sender.flows() == []


@pytest.mark.parametrize("msg_id", [2**128, 1 << 80_000], ids=["2^128", "10 kB long"])
async def test_an_id_out_of_range_leaves_nothing(world, agents, msg_id):
    agent, _ = agents
    player = await world.deploy("player", access={"agents": [agent.principal]})
    await player.speak(agent, "NEW", msg_id=msg_id, payload=b"")
    assert await player.flows() == []
    assert (await player.counters())["refused.malformed_id"] == 1


async def test_what_is_no_candid_of_the_type_is_rejected_and_changes_nothing(world, agents):
    agent, _ = agents
    player = await world.deploy("player", access={"agents": [agent.principal]})
    before = await player.counters()
    for junk in (b"", b"DIDL", b"DIDL\x00\x01\x71\x02no", b"DIDL\x01\x6b\x01\x00\x7f\x01\x00\x00"):
        with pytest.raises(CallRejectedError):
            await agent.update(player.id, "asyncFlow", junk)
    assert await player.flows() == []
    assert await player.counters() == before


def leb128(number):
    digits = []
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


BOMBS = {
    "2^28 nulls": b"DIDL\x01\x6d\x7f\x01\x00" + leb128(1 << 28),
    "2^60 nulls": b"DIDL\x01\x6d\x7f\x01\x00" + leb128(1 << 60),
    "a huge type table": b"DIDL" + leb128(100_000) + b"\x6e\x7f" * 100_000 + b"\x00",
    "a deep option": b"DIDL\x01\x6e\x00\x01\x00" + b"\x01" * 200_000 + b"\x00",
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_decoding_bomb_is_rejected_and_changes_nothing(world, agents, bomb):
    agent, _ = agents
    player = await world.deploy("player", access={"agents": [agent.principal]})
    with pytest.raises(CallRejectedError):
        await agent.update(player.id, "asyncFlow", BOMBS[bomb])
    assert await player.flows() == []


async def test_a_bomb_behind_a_good_message_is_rejected_with_it(world, agents):
    agent, _ = agents
    player = await world.deploy("player", access={"agents": [agent.principal]})
    message = player.interface.service.methods["asyncFlow"].args[0]
    new = Case("NEW", {"msg_id": 1, "payload": b"x"})
    both = candid.encode([message, candid.Vec(candid.Null)], [new, [None]])
    with pytest.raises(CallRejectedError):
        await agent.update(player.id, "asyncFlow", both[:-1] + leb128(1 << 40))
    assert await player.flows() == []


# --- Quotas --------------------------------------------------------------------------------------


async def test_at_a_quota_new_flows_are_refused_and_known_ones_go_on(world, agents):
    agent, other = agents
    lists = {"agents": [agent.principal, other.principal]}
    player = await world.deploy("player", {"open_flows_per_peer": 2}, lists)
    for msg_id in (1, 2, 3):
        await player.speak(agent, "NEW", msg_id=msg_id, payload=b"x")
    assert await player.state(3) is None
    assert (await player.counters())["refused.quota_open_flows_per_peer"] == 1
    await player.speak(other, "NEW", msg_id=3, payload=b"x")
    assert await player.state(3) == "acknowledging"
    await player.speak(agent, "FIN", msg_id=1)
    await player.speak(agent, "NEW", msg_id=4, payload=b"x")
    assert await player.state(4) == "acknowledging"


async def test_canisters_that_are_not_listed_share_half(world, eventually):
    a, b = await world.deploy("player"), await world.deploy("player")
    await b.configure({"open_flows_per_peer": 4, "open_flows": 4})
    await a.call("burst", {"to": b.id, "payload": b"later", "times": 3})
    assert (await eventually(b.counters))["refused.quota_unlisted_open_flows"] == 1
    assert len(await b.flows("receiver")) == 2


async def test_a_senders_own_quota_is_an_error_to_its_application(world):
    a = await world.deploy("sender", {"open_flows_per_peer": 1})
    nobody = Principal.from_text("r7inp-6aaaa-aaaaa-aaabq-cai")
    await a.send(nobody)
    answer = await a.call("send", {"to": nobody, "payload": b""})
    assert answer == Case("err", "quota_open_flows_per_peer")


async def test_bytes_count_as_stored_with_room_for_each_answer(world, agents):
    agent, _ = agents
    player = await world.deploy("player", access={"agents": [agent.principal]})
    await player.speak(agent, "NEW", msg_id=1, payload=b"later")
    assert (await player.gauges())["receiver bytes"] == 5 + 8192
    answer = {"sender": agent.principal, "msg_id": 1, "response": b"12345678"}
    await player.act("answer", answer)
    assert (await player.gauges())["receiver bytes"] == 5 + 8
    await player.speak(agent, "FIN", msg_id=1)
    assert (await player.gauges())["receiver bytes"] == 0


async def test_a_late_answer_that_finds_no_room_is_an_error(world, agents):
    agent, _ = agents
    settings = {"bytes_per_peer": 10_000, "bytes": 20_000}
    player = await world.deploy("player", settings, {"agents": [agent.principal]})
    await player.speak(agent, "NEW", msg_id=1, payload=b"later")
    answer = {"sender": agent.principal, "msg_id": 1, "response": b"x" * 10_001}
    assert "no room" in await player.act("answer", answer)
    assert await player.state(1) == "processing"


# --- Times in ids --------------------------------------------------------------------------------


async def test_a_trusted_ulid_from_beyond_the_horizon_or_from_the_future_is_refused(world, agents):
    agent, _ = agents
    player = await world.deploy("player", access={"agents": [agent.principal]})
    opaque = {"dialect": None, "null_ack": None, "batch": None, "attach_cycles": None}
    await player.configure(peers=[opaque | {"peer": agent.principal, "ids": Case("ulid")}])
    now = (await player.call("asyncFlow_status"))["time"] // 1_000_000
    for milliseconds, state in (
        (now, "acknowledging"),
        (now - 1_210_000, None),
        (now + 60_000, None),
    ):
        msg_id = milliseconds << 80
        await player.speak(agent, "NEW", msg_id=msg_id, payload=b"x")
        assert await player.state(msg_id) == state
    counters = await player.counters()
    assert (counters["refused.horizon"], counters["refused.future"]) == (1, 1)


async def test_before_admit_from_only_known_flows_and_later_trusted_ids_are_served(world, agents):
    agent, _ = agents
    player = await world.deploy("player", access={"agents": [agent.principal]})
    now = (await player.call("asyncFlow_status"))["time"]
    await player.configure({"admit_from": now + 3_600_000_000_000})
    await player.speak(agent, "NEW", msg_id=1, payload=b"x")
    assert await player.state(1) is None
    assert (await player.counters())["refused.admit_from"] == 1
