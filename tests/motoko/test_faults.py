"""Many flows under seeded loss, traps while a tick works, a receiver that never replies."""

import asyncio
import os

import pytest

from bridge.candid import Case
from bridge.network import AdminClient

FLOWS = int(os.environ.get("CHAOS_FLOWS", "1000"))
SEED = int(os.environ.get("CHAOS_SEED", "20"))


@pytest.mark.slow
async def test_many_flows_at_twenty_percent_faults_all_end_and_each_is_processed_once(world):
    """A fifth of what the two say to each other is lost, rejected, delayed or overtaken."""
    a, b = await world.deploy("player"), await world.deploy("player")
    admin = AdminClient(world.replica.url)
    await admin.pause()
    await admin.chances(
        SEED, lose=80, reject=40, delay=50, reorder=30, kinds=["request"], method="asyncFlow"
    )
    ids = []
    for start in range(0, FLOWS, 250):
        times = min(250, FLOWS - start)
        ids += await a.call("burst", {"to": b.id, "payload": b"x", "times": times})
    assert len(ids) == FLOWS
    until = (await admin.status())["time"] + 600 * 10**9  # the lifetime of the flows
    due = await admin.advance(0, quiet=True)
    while (await a.gauges())["sender open flows"] or (await b.gauges())["receiver open flows"]:
        now = (await admin.status())["time"]
        assert now < until
        due = await admin.advance(max(due - now, 1), quiet=True)
    await admin.clear_faults()
    assert {flow["state"].label for flow in await a.flows("sender")} == {"acknowledged"}
    assert {flow["state"].label for flow in await b.flows("receiver")} == {"finished"}
    for start in range(0, FLOWS, 50):
        some = [{"sender": a.id, "msg_id": msg_id} for msg_id in ids[start : start + 50]]
        assert await asyncio.gather(*(b.call("handled", flow) for flow in some)) == [1] * len(some)
    told = (await a.call("heard"))["told"]
    assert sorted(t["msg_id"] for t in told) == sorted(ids)
    assert {t["what"].label for t in told} == {"answered"}
    assert (await a.counters())["sent.NEW"] > FLOWS  # messages were lost indeed


async def test_a_peer_that_traps_at_every_message_does_not_hold_up_the_others(world, eventually):
    a, trapping, good = [await world.deploy("player") for _ in range(3)]
    await a.call("burst", {"to": trapping.id, "payload": b"trap", "times": 10})
    ids = await a.call("burst", {"to": good.id, "payload": b"x", "times": 10})
    for msg_id in ids:
        await a.until(msg_id, "acknowledged")
    assert await trapping.flows() == []
    assert len(await a.flows("sender", "sending")) == 10


async def test_each_of_many_flows_is_told_once_even_if_each_telling_traps_at_first(
    world, eventually
):
    a, b = await world.deploy("player"), await world.deploy("player")
    await a.direct(trap_until=1)
    ids = await a.call("burst", {"to": b.id, "payload": b"x", "times": 8})

    async def answered():
        return len(await a.flows("sender", "answered")) == 8

    await eventually(answered)
    await world.advance(1.1)
    for msg_id in ids:
        await a.until(msg_id, "acknowledged")
    assert await a.heard() == [("answered", 2)] * 8


async def test_a_telling_that_waits_long_in_its_queue_is_no_failed_try(world, eventually):
    """A message to oneself is given up only when a later one has begun, however late it is."""
    async with world.another_agent() as agent:
        a = await world.deploy("player", access={"agents": [agent.principal]})
        for msg_id in (1, 2):
            await a.open(agent.principal, msg_id)
        await world.quiet()
        await world.admin("POST", "time", {"pause": True})  # only this test moves it
        # A tick falls due, and its pause lasts; meanwhile a telling is sent, which lasts longer.
        # Before them both come the timer's own message and, of requests, the tick and its pause.
        itself = {"action": "delay", "from": str(a.id), "to": str(a.id)}
        pause = itself | {"kinds": ["response"], "nth": 2, "nanoseconds": 5 * 10**9}
        telling = itself | {"kinds": ["request"], "nth": 4, "nanoseconds": 15 * 10**9}
        await world.admin("POST", "faults", pause)
        await world.admin("POST", "faults", telling)
        await world.advance(1.1)
        await a.speak(agent, "ACK", msg_id=1, payload=b"response")
        await world.advance(0.8)  # the tick goes on, longer than send_retry after the telling
        assert await a.state(1) == "answered"
        assert (await a.flow(2))["attempts"] == 2
        await world.advance(1)
        await a.until(1, "acknowledged")
        assert await a.heard() == [("answered", 1)]
        assert "never_begun" not in await a.counters()


async def test_cycles_balance_to_the_unit(world):
    """What is attached is either accepted once or comes back; nothing is lost between."""
    a, priced = await world.deploy("player"), await world.deploy("priced")
    await priced.configure({"min_cycles": 7_000_000})
    attach = {"new": 9_000_000, "ack": 0, "fin": 0}
    given = {"peer": priced.id, "dialect": None, "null_ack": None, "ids": None, "batch": None}
    await a.configure(peers=[given | {"attach_cycles": attach}])
    before = (await world.usage(a))["cycles"], (await world.usage(priced))["cycles"]
    for msg_id in range(3):
        await a.open(priced.id, msg_id)
        await a.until(msg_id, "acknowledged")
    after = (await world.usage(a))["cycles"], (await world.usage(priced))["cycles"]
    assert sum(after) == sum(before)
    assert after[1] - before[1] == 3 * 7_000_000


@pytest.mark.parametrize("dialect", ["maf", "bounty", "positional"])
async def test_a_peer_that_does_not_know_the_method_looks_like_one_that_is_lost(world, dialect):
    a, b = await world.deploy("player", {"attempts": 2}), await world.deploy("player")
    await a.open(b.id, 1, dialect=dialect)
    await world.advance(1.1)
    await world.advance(2.1)
    await a.until(1, "failed")
    assert (await a.flow(1))["failure"] == Case("unknown")
