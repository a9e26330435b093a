"""A telling that was under way when its message was lost is told again, and marked as told again.

What tells the application is a message of the canister to itself. Those who lose it here upgrade
without stopping first, or load a snapshot that was taken in between.
"""

import pytest
from canister_world import FAST, install_value

from bridge.candid import Case
from bridge.errors import BridgeError
from bridge.network import AdminClient

SECOND = 1_000_000_000


async def told_again(world, canister, msg_id, *what, tries=2):
    """Upgrade without a stop; each telling that nobody heard is then heard as a later try."""
    await world.quiet()
    assert await canister.heard() == []
    await world.replace(canister, "player", "upgrade")
    await world.advance(0.2)  # longer than `spread`
    await world.quiet()
    told = (await canister.call("heard"))["told"]
    assert [(t["msg_id"], t["what"].label, t["tries"], t["redelivered"]) for t in told] == [
        (msg_id, one, tries, True) for one in what
    ]


async def test_a_response_that_nobody_heard_of_is_told_after_an_upgrade_without_a_stop(world):
    a, b = await world.deploy("player"), await world.deploy("player")
    await world.strike(a)
    await a.open(b.id, 1)
    await a.until(1, "answered")
    await told_again(world, a, 1, "answered")
    assert await a.state(1) == "acknowledged"


async def test_a_failure_that_nobody_heard_of_is_told_after_an_upgrade_without_a_stop(world, agent):
    a = await world.deploy("player", access={"agents": [agent.principal]})
    await a.open(agent.principal, 1)
    await world.strike(a)
    assert await a.act("cancel", 1) is None
    await told_again(world, a, 1, "failed")


async def test_an_abandoned_answer_that_nobody_heard_of_is_told_after_an_upgrade_without_a_stop(
    world, agent
):
    b = await world.deploy("player", access={"agents": [agent.principal]})
    await b.speak(agent, "NEW", msg_id=1, payload=b"x")
    await world.strike(b)
    abandon = {"key": Case("receiver", (agent.principal, 1)), "decision": Case("abandon")}
    assert await b.act("decide", abandon) is None
    await told_again(world, b, 1, "abandoned")


async def test_what_changes_a_flow_before_the_start_has_looked_at_it_hides_no_lost_handler(
    world, agent
):
    b = await world.deploy("player", access={"agents": [agent.principal]})
    await world.strike(b)  # the handler's message
    await b.speak(agent, "NEW", msg_id=1, payload=b"running")
    assert await b.state(1) == "processing"
    await world.strike(b)  # that of the start's first look
    await world.replace(b, "player", "upgrade")
    await world.advance(0.01)
    await world.quiet()
    assert await b.state(1) == "processing"
    await b.speak(agent, "NEW", msg_id=1, payload=b"another payload")
    await world.advance(0.3)  # longer than `send_retry`
    await world.quiet()
    assert await b.state(1) == "stalled"
    assert await b.heard() == [("stalled", 1)]
    assert [question["kind"].label for question in await b.asked()] == ["new"]


@pytest.mark.parametrize("nth", [1, 2], ids=["waits in its queue", "has begun"])
async def test_a_telling_that_a_snapshot_caught_while_it(world, nth):
    """It comes back with the snapshot, its message does not: it is given up in time, and told."""
    a = await world.deploy("player", {"answer_within": 30 * SECOND})
    b = await world.deploy("player")
    await world.strike(a, "delay", nanoseconds=100 * SECOND, nth=nth)
    await a.open(b.id, 1)
    await a.until(1, "answered")
    await world.advance(0.5)  # longer than `send_retry`
    await world.quiet()
    snapshot = await world.snapshot(a)
    await world.advance(10.1)
    await a.until(1, "acknowledged")
    await world.restore(a, snapshot)
    assert (await a.state(1), await a.heard()) == ("answered", [])
    await a.configure()  # a message, after which a timer that was lost is armed anew
    await world.advance(3.1)  # what had begun ends within `answer_within`
    await world.advance(1.1)  # the next try
    await world.quiet()
    assert await a.heard() == [("answered", 2)]
    assert await a.state(1) == "acknowledged"


async def test_what_a_version_without_a_listener_was_told_is_told_to_one_that_listens(world, agent):
    """`priced` is a receiver alone, and keeps what a `player` keeps."""
    a = await world.deploy("player", access={"agents": [agent.principal]})
    await a.open(agent.principal, 1)
    await world.strike(a)
    assert await a.act("cancel", 1) is None
    await world.quiet()
    await world.replace(a, "priced", "upgrade")
    await world.advance(1)  # longer than `spread`
    await world.quiet()
    assert (await a.counters())["no_sender"] == 1
    assert (await a.state(1), (await a.gauges())["sender open flows"]) == ("failed", 1)
    await told_again(world, a, 1, "failed", tries=3)


@pytest.mark.parametrize("role", [None, "sender"])
async def test_a_player_keeps_the_role_it_was_installed_with(world, role):
    value = install_value(FAST)
    mine = value | {"role": role and Case(role)}
    a = await world.deploy_with("player", mine)
    with pytest.raises(BridgeError, match="for good"):
        await world.upgrade_with(a, "player", value | {"role": Case("receiver")})
    await world.manage("start_canister", a)
    for again in (mine, value | {"role": None}):
        await world.upgrade_with(a, "player", again)
    assert (await a.gauges())["starts"] == 3


async def test_a_tick_after_a_start_hands_over_no_more_bytes_than_a_message_carries(world, agent):
    admin = AdminClient(world.replica.url)
    ticks = []
    for size in (10, 600_000):
        b = await world.deploy("player", access={"agents": [agent.principal]})
        await b.direct(rerun=True)
        for msg_id in range(6):
            await world.strike(b)  # the handler's message
            await b.speak(agent, "NEW", msg_id=msg_id, payload=b"running " + b"x" * size)
        assert {flow["state"].label for flow in await b.flows()} == {"processing"}
        start = (await admin.messages(0))[-1].seq
        await world.replace(b, "player", "upgrade")
        await world.advance(0.01)
        await world.quiet()
        assert {flow["state"].label for flow in await b.flows()} == {"acknowledging"}
        log = await admin.messages(start)
        ticks.append(sum(m.kind == "timer" and m.receiver == b.id for m in log))
    assert ticks[1] > ticks[0]
