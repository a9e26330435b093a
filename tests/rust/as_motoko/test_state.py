"""What a start makes of the stored flows, and what a waiting one costs."""

from bridge.principal import Principal

NOBODY = Principal.from_text("r7inp-6aaaa-aaaaa-aaabq-cai")
# A subnet lets an upgrade take 300 billion instructions.
SUBNET = 300_000_000_000


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
