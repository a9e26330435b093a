"""Messages that wait for agents: paged, trimmed, bounded, and gone when their flow is over."""

from bridge.candid import Case


async def player_for(world, agent, settings=None):
    return await world.deploy("player", settings, {"agents": [agent.principal]})


async def test_messages_come_oldest_first_and_after_is_exclusive(world, agent):
    player = await player_for(world, agent)
    for msg_id in (5, 3, 4):
        await player.open(agent.principal, msg_id)
    entries = await player.outbox(agent)
    assert [e["message"].value["msg_id"] for e in entries] == [5, 3, 4]
    assert [e["seq"] for e in entries] == sorted(e["seq"] for e in entries)
    assert await player.outbox(agent, after=entries[0]["seq"]) == entries[1:]
    assert await player.outbox(agent, limit=2) == entries[:2]


async def test_trim_removes_up_to_and_including_and_a_retry_comes_back_with_a_new_number(
    world, agent
):
    player = await player_for(world, agent)
    await player.open(agent.principal, 1)
    (first,) = await player.outbox(agent)
    await player.call("asyncFlow_outbox_trim", first["seq"], agent=agent)
    assert await player.outbox(agent) == []
    await world.advance(1.1)

    while not (entries := await player.outbox(agent)):
        pass
    assert entries[0]["seq"] > first["seq"]
    assert entries[0]["message"] == first["message"]


async def test_a_retry_while_it_waits_counts_as_an_attempt_and_adds_nothing(
    world, agent, eventually
):
    player = await player_for(world, agent)
    await player.open(agent.principal, 1)
    await world.advance(1.1)

    async def twice():
        return (await player.flow(1))["attempts"] == 2

    await eventually(twice)
    assert len(await player.outbox(agent)) == 1


async def test_a_new_leaves_when_its_flow_has_failed_or_its_lifetime_is_over(world, agent):
    player = await player_for(world, agent)
    await player.open(agent.principal, 1)
    await player.act("cancel", 1)
    assert await player.outbox(agent) == []
    await player.open(agent.principal, 2)
    await world.advance(61)
    assert await player.outbox(agent) == []


async def test_an_ack_leaves_with_fin_and_a_fin_when_its_flow_is_forgotten(
    world, agent, eventually
):
    player = await player_for(world, agent)
    await player.speak(agent, "NEW", msg_id=1, payload=b"x")
    assert [e["message"].label for e in await player.outbox(agent)] == ["ACK"]
    await player.speak(agent, "FIN", msg_id=1)
    assert await player.outbox(agent) == []
    await player.open(agent.principal, 2)
    await player.speak(agent, "ACK", msg_id=2, payload=b"y")
    assert [e["message"].label for e in await player.outbox(agent)] == ["FIN"]
    await player.until(2, "acknowledged")
    await world.advance(61)
    await player.until(2, None)
    assert await player.outbox(agent) == []


async def test_a_full_outbox_counts_as_an_attempt_that_did_not_leave(world, agent):
    player = await player_for(world, agent, {"outbox_messages": 1})
    await player.open(agent.principal, 1)
    await player.open(agent.principal, 2)
    assert await player.state(2) == "queued"
    assert (await player.flow(2))["attempts"] == 0
    await player.speak(agent, "ACK", msg_id=1, payload=None)
    (fin,) = await player.outbox(agent)
    await player.call("asyncFlow_outbox_trim", fin["seq"], agent=agent)
    await world.advance(0.3)
    await player.until(2, "sending")


async def test_a_page_holds_what_fits_and_at_least_one(world, agent):
    player = await player_for(world, agent)
    for msg_id in range(3):
        await player.speak(agent, "NEW", msg_id=msg_id, payload=b"bytes 900000")
    page = await player.outbox(agent)
    assert len(page) == 2
    rest = await player.outbox(agent, after=page[-1]["seq"])
    assert [e["message"].value["msg_id"] for e in page + rest] == [0, 1, 2]


async def test_an_outbox_is_for_its_own_agent_alone(world, agent):
    player = await player_for(world, agent)
    await player.open(agent.principal, 1)
    async with world.another_agent() as other:
        lists = {"agents": [agent.principal, other.principal]}
        await player.configure(access=lists)
        assert await player.outbox(other) == []
        await player.call("asyncFlow_outbox_trim", 2**64 - 1, agent=other)
    assert len(await player.outbox(agent)) == 1


async def test_numbers_are_never_used_again_also_across_an_upgrade(world, agent):
    player = await player_for(world, agent)
    await player.open(agent.principal, 1)
    (first,) = await player.outbox(agent)
    await player.call("asyncFlow_outbox_trim", first["seq"], agent=agent)
    await world.upgrade(player, "player")
    await player.open(agent.principal, 2)
    (second,) = await player.outbox(agent)
    assert second["seq"] > first["seq"]
    assert second["message"] == Case("NEW", {"msg_id": 2, "payload": b"x"})
