"""What one caller sends takes no more than its share, and holds up nobody else's flows."""

from batch_canister import BatchCanister, news

from bridge.candid import Case
from bridge.network import AdminClient


async def serve(world, b, agent, payload, times, first=0):
    many = {"peer": agent.principal, "first": first, "payload": payload, "times": times}
    await b.call("serve", many)


async def test_a_strangers_batches_stall_no_running_handler_of_a_listed_peer(world):
    async with world.another_agent() as agent:
        b = await world.deploy("player", access={"agents": [agent.principal]})
        other = await BatchCanister.deploy(world)
        await world.quiet()
        await AdminClient(world.replica.url).pause()
        await other.send(b, news(range(100)), times=20)
        await serve(world, b, agent, b"running", 20, first=1_000)
        await world.quiet()
        states = [(await b.flow(1_000 + n))["state"].label for n in range(20)]
        counters = await b.counters()
    assert states == ["acknowledging"] * 20
    assert "own_queue_full" not in counters
    assert counters["forwards_full"] >= 100


async def test_entries_of_a_batch_that_name_no_flow_are_done_with_at_once(world):
    """They are counted, and no message of the canister to itself carries them."""
    b = await world.deploy("player", access={"agents": [], "canisters": []})
    other = await BatchCanister.deploy(world)
    admin = AdminClient(world.replica.url)
    await world.quiet()
    await admin.pause()
    start = (await admin.messages(0))[-1].seq
    fins = [Case("FIN", {"msg_id": n, "hash": None}) for n in range(100)]
    await other.send(b, [*fins[:50], *news(range(50))])
    await world.quiet()
    counters = await b.counters()
    assert (counters["unknown_fin"], counters["refused.access"]) == (50, 50)
    log = await admin.messages(start)
    assert [m for m in log if m.method == "asyncFlow_forward"] == []


async def test_entries_that_trap_leave_room_for_those_of_the_next_batches(world):
    b = await world.deploy("player")
    other = await BatchCanister.deploy(world)
    await world.quiet()
    await AdminClient(world.replica.url).pause()
    for _ in range(2):
        await other.send(b, news(range(100), b"trap"))
        await world.advance(0.3)  # longer than `send_retry`: a tick has seen that they began
    await other.send(b, news(range(100)))
    await world.quiet()
    assert len(await b.flows("receiver")) == 100
    assert "forwards_full" not in await b.counters()


async def test_a_handler_that_finds_the_own_queue_full_runs_later_and_has_not_failed(world):
    async with world.another_agent() as agent:
        b = await world.deploy("player", access={"agents": [agent.principal]})
        await world.quiet()
        await AdminClient(world.replica.url).pause()
        await serve(world, b, agent, b"running-now", 600)
        await world.quiet()
        assert (await b.counters())["own_queue_full"] >= 100
        for _ in range(20):
            if not await b.flows("receiver", "processing"):
                break
            await world.advance(0.3)  # longer than `send_retry`
            await world.quiet()
        assert {flow["state"].label for flow in await b.flows()} == {"acknowledging"}
        assert await b.heard() == []


async def test_what_a_quota_refuses_in_a_batch_is_not_paid_for(world):
    settings = {"min_cycles": 7, "open_flows_per_peer": 3}
    b = await world.deploy("priced", settings, {"agents": [], "canisters": None})
    other = await BatchCanister.deploy(world)
    await world.quiet()
    await AdminClient(world.replica.url).pause()
    before = (await world.usage(b))["cycles"]
    await other.send(b, news(range(10)), cycles=100)
    await world.quiet()
    assert len(await b.flows("receiver")) == 3
    assert (await b.counters())["refused.quota_open_flows_per_peer"] == 7
    assert (await world.usage(b))["cycles"] - before == 3 * 7


async def test_a_peer_keeps_no_more_marks_of_payments_than_tombstones(world):
    """A mark is kept for what was paid and is not stored: here, as its handler traps."""
    settings = {"min_cycles": 7, "tombstones_per_peer": 5}
    b = await world.deploy("priced", settings, {"agents": [], "canisters": None})
    one, two = await BatchCanister.deploy(world), await BatchCanister.deploy(world)
    await world.quiet()
    await AdminClient(world.replica.url).pause()
    before = (await world.usage(b))["cycles"]
    await one.send(b, news(range(8), b"trap"), cycles=100)
    await world.quiet()
    assert (await b.counters())["refused.quota_paid_marks"] == 3
    assert (await world.usage(b))["cycles"] - before == 5 * 7
    await two.send(b, news(range(1), b"trap"), cycles=100)
    await world.quiet()
    assert (await world.usage(b))["cycles"] - before == 6 * 7
    await one.send(b, news(range(5), b"x"), cycles=100)  # marks are redeemed, and free
    await world.quiet()
    assert len(await b.flows("receiver")) == 5
    assert (await world.usage(b))["cycles"] - before == 6 * 7


async def test_a_decision_sends_nothing_beyond_the_bound_of_what_is_in_flight(world):
    a = await world.deploy("player", {"in_flight": 1})
    other = await BatchCanister.deploy(world)
    await world.quiet()
    await AdminClient(world.replica.url).pause()
    await a.open(other.id, 1)
    await other.send(a, [Case("ACK", {"msg_id": 1, "payload": b"y", "hash": 7})])
    await world.quiet()
    assert await a.state(1) == "corrupt"
    await a.open(other.id, 2)  # takes the only place
    accept = {"key": Case("sender", 1), "decision": Case("accept", 7)}
    assert await a.act("decide", accept) is None
    await world.quiet()
    assert await a.state(1) == "acknowledged"
    assert (await a.gauges())["in flight"] == 1
    assert "sent.FIN" not in await a.counters()
    await world.advance(1.1)  # what was in flight is over
    await world.quiet()
    assert (await a.counters())["sent.FIN"] == 1


async def test_a_late_response_takes_only_bytes_that_are_free(world):
    """No room is set aside for it any more, as its flow is over."""
    async with world.another_agent() as agent:
        narrow = {"bytes_per_peer": 9_000, "response_room": 8_000, "open_flows_per_peer": 2}
        a = await world.deploy("player", narrow, {"agents": [agent.principal]})
        for msg_id in range(3):
            assert await a.open(agent.principal, msg_id) is None
            assert await a.act("cancel", msg_id) is None
            await world.quiet()
        for msg_id in range(3):
            await a.speak(agent, "ACK", msg_id=msg_id, payload=b"y" * 8_000)
        await world.quiet()
        assert (await a.gauges())["sender bytes"] <= 9_000
        assert (await a.counters())["refused.quota_bytes"] == 2
        assert [what for what, _ in await a.heard()] == ["failed"] * 3 + ["late"]
