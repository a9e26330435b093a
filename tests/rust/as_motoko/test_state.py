"""What a start makes of the stored flows: its cost, and tellings that nobody took."""

import pytest

from bridge import candid
from bridge.candid import Case
from bridge.principal import Principal

NOBODY = Principal.from_text("r7inp-6aaaa-aaaaa-aaabq-cai")
# A subnet lets an upgrade take 300 billion instructions.
SUBNET = 300_000_000_000


@pytest.fixture
async def agent(world):
    async with world.another_agent() as agent:
        yield agent


async def test_an_upgrade_at_the_quota_takes_a_fifth_of_what_a_subnet_allows(world, agent):
    a = await world.deploy("player", access={"agents": [agent.principal]})
    await world.upgrade(a, "player")
    with_none = await a.call("start_cost")
    settings = (await a.call("asyncFlow_status"))["settings"]
    quota = settings["open_flows"] + settings["tombstones"]
    await a.call("burst", {"to": NOBODY, "payload": b"x" * 10_000, "times": 200})
    await a.call("serve", {"peer": agent.principal, "first": 0, "payload": b"x", "times": 200})
    await world.upgrade(a, "player")
    gauges = await a.gauges()
    assert (gauges["sender open flows"], gauges["receiver tombstones"]) == (200, 200)
    each = (await a.call("start_cost") - with_none) / 400
    assert each * quota < SUBNET / 5


async def test_sums_due_times_and_payloads_are_after_an_upgrade_what_they_were(world, agent):
    a = await world.deploy("player", access={"agents": [agent.principal]})
    sizes = [0, 1, 247, 248, 249, 503, 504, 505, 20_000]
    for msg_id, size in enumerate(sizes):
        await a.open(agent.principal, msg_id, bytes([msg_id]) * size)
    await a.call("serve", {"peer": agent.principal, "first": 0, "payload": b"later", "times": 3})
    names = [f"{side} {what}" for side in ("sender", "receiver")
             for what in ("open flows", "tombstones", "bytes", "peers")]  # fmt: skip
    names.append("due flows")
    before, flows = await a.gauges(), await a.flows()
    await world.upgrade(a, "player", {"spread": 100_000_000_000})
    after = await a.gauges()
    assert {name: after[name] for name in names} == {name: before[name] for name in names}
    assert await a.flows() == flows
    outbox = {entry["message"].value["msg_id"]: entry["message"].value["payload"]
              for entry in await a.outbox(agent) if entry["message"].label == "NEW"}  # fmt: skip
    assert outbox == {n: bytes([n]) * size for n, size in enumerate(sizes)}


async def ticked(canister):
    """Instructions of all ticks of its timer."""
    return dict((await canister.call("asyncFlow_status"))["counters"])["instructions.tick"]


async def test_a_flow_that_waits_for_room_costs_no_more_for_a_large_payload(world, agent):
    spent = []
    for size in (10, 1_200_000):
        settings = {"outbox_messages": 1, "send_retry": 200_000_000}
        a = await world.deploy("player", settings, {"agents": [agent.principal]})
        await a.open(agent.principal, 1)
        await a.open(agent.principal, 2, b"x" * size)
        before = await ticked(a)
        for _ in range(10):
            await world.advance(0.2)
        await world.quiet()
        assert await a.state(2) == "queued"
        spent.append(await ticked(a) - before)
    assert 0 < spent[1] < 1.5 * spent[0]


async def with_a_telling_under_way(world):
    """A sender that has an answer, while its message to itself which tells that is held back."""
    a, b = await world.deploy("player"), await world.deploy("player")
    held = {"action": "delay", "from": str(a.id), "to": str(a.id), "method": "async_flow_self"}
    await world.admin("POST", "faults", held | {"nth": 1, "nanoseconds": 10**13})
    await a.open(b.id, 1)
    await a.until(1, "answered")
    await world.quiet()
    assert await a.heard() == []
    return a


async def is_told_again(world, a):
    await world.replace(a, "player", "upgrade")
    await world.advance(1.2)
    await a.until(1, "acknowledged")
    assert await a.heard() == [("answered", 2)]
    assert (await a.call("heard"))["told"][0]["redelivered"]


async def test_an_upgrade_without_a_stop_tells_again_what_nobody_took(world):
    a = await with_a_telling_under_way(world)
    await is_told_again(world, a)


async def test_a_telling_that_a_snapshot_caught_is_told_after_the_upgrade_that_follows(world):
    a = await with_a_telling_under_way(world)

    async def snapshot(method, types, value):
        arg = candid.encode([candid.Record(types)], [value])
        return await world.agent.update(
            Principal.management(), method, arg, effective_canister_id=a.id
        )

    name = {"canister_id": candid.PrincipalType}
    reply = await snapshot("take_canister_snapshot", name, {"canister_id": a.id})
    (taken,) = candid.decode([candid.Record({"id": candid.Blob})], reply)
    await a.call("act", Case("finish", 1))
    await a.until(1, "acknowledged")
    types = name | {"snapshot_id": candid.Blob}
    value = {"canister_id": a.id, "snapshot_id": taken["id"]}
    await snapshot("load_canister_snapshot", types, value)
    assert await a.state(1) == "answered"
    await is_told_again(world, a)
