"""What was under way between a canister and itself, when an upgrade or a snapshot overtakes it.

The application is told by a message of the canister to itself. The replica loses that message,
holds it back, or holds back its answer, so that the canister does not hear that its application
trapped. Meanwhile the canister is upgraded without a stop, or made what it was at a snapshot.
"""

from canister_world import SECOND

from bridge.candid import Case

HELD = 100
HOLD = {"action": "delay", "nanoseconds": HELD * SECOND}


async def overtaken(world, canister):
    """Upgrade without a stop, once all has happened that can before time goes on."""
    await world.quiet()
    assert await canister.heard() == []
    await world.replace(canister, "player", "upgrade")


async def told(canister):
    heard = (await canister.call("heard"))["told"]
    return [(t["msg_id"], t["what"].label, t["tries"], t["redelivered"]) for t in heard]


async def acks(canister, agent):
    messages = [entry["message"] for entry in await canister.outbox(agent)]
    return {ack.value["msg_id"]: ack.value["payload"] for ack in messages if ack.label == "ACK"}


# --- Upgrades without a stop ----------------------------------------------------------------------


async def test_a_response_on_which_the_handler_trapped_unheard_is_told_again(world):
    a, b = await world.deploy("player"), await world.deploy("player")
    await a.direct(trap_until=1)
    await world.strike(a, **HOLD, kinds=["response"])
    await a.open(b.id, 1)
    await a.until(1, "answered")
    await overtaken(world, a)
    await world.advance(0.2)  # longer than `spread`
    assert await told(a) == [(1, "answered", 2, True)]
    assert await a.state(1) == "acknowledged"


async def test_a_failure_on_which_the_handler_trapped_unheard_is_told_again(world, agent):
    a = await world.deploy("player", access={"agents": [agent.principal]})
    await a.open(agent.principal, 1)
    await a.direct(trap_until=1)
    await world.strike(a, **HOLD, kinds=["response"])
    assert await a.act("cancel", 1) is None
    await overtaken(world, a)
    await world.advance(0.2)
    assert await told(a) == [(1, "failed", 2, True)]


async def test_an_abandoned_answer_on_which_the_handler_trapped_unheard_is_told_again(world, agent):
    b = await world.deploy("player", access={"agents": [agent.principal]})
    await b.speak(agent, "NEW", msg_id=1, payload=b"x")
    await b.direct(trap_until=1)
    await world.strike(b, **HOLD, kinds=["response"])
    abandon = {"key": Case("receiver", (agent.principal, 1)), "decision": Case("abandon")}
    assert await b.act("decide", abandon) is None
    await overtaken(world, b)
    await world.advance(0.2)
    assert await told(b) == [(1, "abandoned", 2, True)]


async def test_a_telling_that_was_lost_is_told_again_when_it_is_due(world):
    a, b = await world.deploy("player"), await world.deploy("player")
    await world.strike(a)
    await a.open(b.id, 1)
    await a.until(1, "answered")
    await overtaken(world, a)
    await world.advance(1.1)
    assert await told(a) == [(1, "answered", 2, True)]
    assert await a.state(1) == "acknowledged"


async def test_a_telling_that_outlives_the_upgrade_in_its_queue_is_told_once(world):
    a, b = await world.deploy("player"), await world.deploy("player")
    await world.strike(a, **HOLD)
    await a.open(b.id, 1)
    await a.until(1, "answered")
    await overtaken(world, a)
    await world.advance(HELD / 10 + 0.1)
    await world.advance(1.1)
    assert await told(a) == [(1, "answered", 1, False)]
    assert await a.state(1) == "acknowledged"


async def test_a_handler_at_work_is_stalled_though_a_wrong_message_came_before_the_first_look(
    world, agent
):
    b = await world.deploy("player", access={"agents": [agent.principal]})
    await world.strike(b, **HOLD)
    await b.speak(agent, "NEW", msg_id=1, payload=b"running")
    await overtaken(world, b)
    await b.speak(agent, "NEW", msg_id=1, payload=b"another payload")
    assert await b.state(1) == "processing"
    await world.advance(HELD / 10 + 0.1)
    assert await b.state(1) == "stalled"
    assert await told(b) == [(1, "stalled", 1, False)]
    assert [question["kind"].label for question in await b.asked()] == ["new"]


async def test_the_message_of_a_handler_at_work_takes_no_work_of_another_flow(world, agent):
    b = await world.deploy("player", access={"agents": [agent.principal]})
    await world.strike(b, **HOLD)
    await b.speak(agent, "NEW", msg_id=1, payload=b"running one")
    await overtaken(world, b)
    await b.speak(agent, "NEW", msg_id=2, payload=b"running two")
    await world.advance(HELD / 10 + 0.1)
    assert await b.state(1) == "stalled"
    assert await acks(b, agent) == {2: b"running two"}


# --- Snapshots ------------------------------------------------------------------------------------


async def test_a_telling_under_way_at_a_snapshot_is_told_again_within_answer_within(world):
    a = await world.deploy("player", {"answer_within": 30 * SECOND})
    b = await world.deploy("player")
    await world.strike(a, **HOLD)
    await a.open(b.id, 1)
    await a.until(1, "answered")
    await world.quiet()
    snapshot = await world.snapshot(a)
    await world.advance(HELD / 10 + 0.1)
    assert await a.state(1) == "acknowledged"
    await world.restore(a, snapshot)
    assert (await a.state(1), await a.heard()) == ("answered", [])
    await a.configure()  # a message, after which a timer that was lost is armed anew
    await world.advance(1.1)  # the next try
    assert await told(a) == [(1, "answered", 2, True)]
    assert await a.state(1) == "acknowledged"
    assert (await a.counters())["never_ended"] == 1
