"""What travels between canisters: cycles, batches, dialects, the in-flight bound, the echo rule."""

import pytest

from bridge.candid import Case


def peer(canister, **given):
    nothing = {"dialect": None, "null_ack": None, "ids": None, "batch": None, "attach_cycles": None}
    return nothing | {"peer": canister.id} | given


# --- Dialects ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["unified", "maf", "bounty", "positional"])
@pytest.mark.parametrize("payload", [b"hello", b"null", b"fail"])
async def test_a_flow_completes_in_each_dialect(world, dialect, payload):
    name = "both" if dialect == "unified" else f"both_{dialect}"
    a, b = await world.deploy(name), await world.deploy(name)
    assert await a.configure(peers=[peer(b, dialect=Case(dialect))]) is None
    msg_id = await a.send(b.id, payload)
    await a.until(msg_id, "acknowledged")
    await b.until(msg_id, "finished")
    log = (await world.admin("GET", "messages"))["messages"]
    spoken = {
        m["method"] for m in log if m["from"] in (str(a.id), str(b.id)) and m["kind"] == "request"
    }
    expected = {
        "unified": {"asyncFlow"},
        "maf": {"com_asyncFlow_newMessage", "com_asyncFlow_ack", "com_asyncFlow_fin"},
        "bounty": {"com_asyncFlow_newMessage", "com_asyncFlow_ack", "com_asyncFlow_ackack"},
        "positional": {"com_asyncFlow_newMessage", "com_asyncFlow_ack", "com_asyncFlow_finish"},
    }[dialect]
    assert {method for method in spoken if "asyncFlow" in method} == expected


async def test_a_peer_whose_null_acks_are_receipts_is_not_answered_by_one(world):
    async with world.another_agent() as agent:
        a = await world.deploy("player", access={"agents": [agent.principal]})
        receipt = peer(a, null_ack=Case("receipt")) | {"peer": agent.principal}
        assert await a.configure(peers=[receipt]) is None
        await a.open(agent.principal, 1)
        await a.speak(agent, "ACK", msg_id=1, payload=None)
        assert await a.state(1) == "sending"
        await a.speak(agent, "ACK", msg_id=1, payload=b"response")
        await a.until(1, "acknowledged")


# --- Cycles --------------------------------------------------------------------------------------


async def test_a_request_without_the_minimum_of_cycles_is_refused_and_one_with_it_is_charged_once(
    world, eventually
):
    a, priced = await world.deploy("player"), await world.deploy("priced")
    assert await priced.configure({"min_cycles": 1_000_000}) is None
    await a.open(priced.id, 1)
    assert (await eventually(priced.counters))["refused.cycles"] == 1
    assert await priced.state(1) is None
    assert (
        await a.configure(
            peers=[peer(priced, attach_cycles={"new": 5_000_000, "ack": 0, "fin": 0})]
        )
        is None
    )
    await a.open(priced.id, 2)
    await a.until(2, "acknowledged")
    assert await priced.call("handled", {"sender": a.id, "msg_id": 2}) == 1


async def test_a_call_that_cannot_be_paid_for_certainly_did_not_leave(world):
    a, b = await world.deploy("player"), await world.deploy("player")
    await a.configure(peers=[peer(b, attach_cycles={"new": 10**30, "ack": 0, "fin": 0})])
    assert await a.open(b.id, 1) is None
    assert await a.state(1) == "queued"
    assert (await a.flow(1))["attempts"] == 0
    assert (await a.counters())["not_sent.NEW"] == 1
    await a.configure(peers=[peer(b)])
    await world.advance(0.3)
    await a.until(1, "acknowledged")


async def test_a_batch_is_served_as_far_as_its_cycles_go_and_the_rest_when_retried_with_more(
    world, eventually
):
    a, b = await world.deploy("player"), await world.deploy("priced")
    await b.configure({"min_cycles": 10_000})
    await a.configure(
        {"in_flight": 1},
        peers=[peer(b, batch=True, attach_cycles={"new": 8_000, "ack": 0, "fin": 0})],
    )
    ids = await a.call("burst", {"to": b.id, "payload": b"x", "times": 50})
    await a.configure({"in_flight": 400})
    await world.advance(0.3)  # the first left alone, and was refused; 49 leave in one batch

    async def paid_ones():
        return (await b.counters()).get("refused.cycles") == 1 + 49 - 49 * 8 // 10

    await eventually(paid_ones)
    await a.configure(
        peers=[peer(b, batch=True, attach_cycles={"new": 10_000, "ack": 0, "fin": 0})]
    )
    await world.advance(1.1)
    for msg_id in ids:
        await a.until(msg_id, "acknowledged")
        assert await b.call("handled", {"sender": a.id, "msg_id": msg_id}) == 1


# --- Batches -------------------------------------------------------------------------------------


async def test_retries_to_a_peer_that_takes_batches_travel_together(world, eventually):
    a, b = await world.deploy("player"), await world.deploy("player")
    await a.configure({"in_flight": 1}, peers=[peer(b, batch=True)])
    ids = await a.call("burst", {"to": b.id, "payload": b"x", "times": 10})
    await a.configure({"in_flight": 400})
    await world.advance(0.3)
    for msg_id in ids:
        await a.until(msg_id, "acknowledged")
    assert (await a.counters())["sent.batch"] >= 1
    for msg_id in ids:
        assert await b.call("handled", {"sender": a.id, "msg_id": msg_id}) == 1


async def test_one_entry_of_a_batch_that_traps_harms_no_other(world):
    async with world.another_agent() as agent:
        b = await world.deploy("player", access={"agents": [agent.principal]})
        entries = [
            Case("NEW", {"msg_id": i, "payload": b"trap" if i == 7 else b"x"}) for i in range(50)
        ]
        await b.call("asyncFlow_batch", entries, agent=agent)
        for msg_id in range(50):
            if msg_id != 7:
                await b.until(msg_id, "acknowledging")
        assert await b.state(7) is None


async def test_nobody_else_may_forward_in_anothers_name(world):
    async with world.another_agent() as agent:
        b = await world.deploy("player", access={"agents": [agent.principal]})
        message = Case("NEW", {"msg_id": 1, "payload": b"x"})
        await b.call("asyncFlow_forward", agent.principal, message, agent=agent)
        assert await b.flows() == []
        assert (await b.counters())["refused.caller"] == 1


async def test_of_a_batch_only_the_first_hundred_are_served(world, eventually):
    async with world.another_agent() as agent:
        b = await world.deploy("player", access={"agents": [agent.principal]})
        entries = [Case("NEW", {"msg_id": i, "payload": b"x"}) for i in range(101)]
        await b.call("asyncFlow_batch", entries, agent=agent)

        async def hundred():
            return len(await b.flows("receiver")) == 100

        await eventually(hundred)
        assert (await b.counters())["batch_cut"] == 1


# --- Bounds --------------------------------------------------------------------------------------


async def test_in_flight_bounds_what_leaves_and_the_rest_follows(world, eventually):
    a, b = await world.deploy("player", {"in_flight": 5}), await world.deploy("player")
    await a.call("burst", {"to": b.id, "payload": b"later", "times": 12})
    assert (await a.gauges())["in flight"] == 5
    assert len(await a.flows("sender", "queued")) == 7
    await world.advance(0.95)  # call_timeout + call_margin: their slots are free

    async def more():
        return len(await a.flows("sender", "queued")) <= 2

    await eventually(more)


async def test_a_repeat_is_echoed_no_sooner_than_echo_min_and_not_for_ever(world):
    async with world.another_agent() as agent:
        lists = {"agents": [agent.principal]}
        b = await world.deploy("player", {"attempts": 1, "echo_min": 9_000_000_000}, lists)
        await b.speak(agent, "NEW", msg_id=1, payload=b"x")
        for _ in range(3):
            await b.speak(agent, "NEW", msg_id=1, payload=b"x")
        assert (await b.counters())["echo_suppressed"] == 3
        for _ in range(14):
            await world.advance(0.95)
            await b.speak(agent, "NEW", msg_id=1, payload=b"x")
        sent = (await b.counters())["sent.ACK"]
        assert sent <= 1 + 1 + 10
