"""What applications do to flows: trap, put off, fail, give up, decide. `player` obeys the test."""

import pytest

from bridge.candid import Case


@pytest.fixture
async def pair(world):
    return await world.deploy("player"), await world.deploy("player")


def key(sender, msg_id):
    return {"sender": sender.id, "msg_id": msg_id}


# --- The receiver's handler ----------------------------------------------------------------------


async def test_a_synchronous_trap_leaves_nothing_and_the_next_new_is_processed(world, pair):
    a, b = pair
    await a.open(b.id, 1, b"trap")
    assert await b.flows() == []
    assert await a.state(1) == "sending"
    await world.advance(1.1)
    assert (await a.flow(1))["attempts"] in {1, 2}
    assert await b.flows() == []


async def test_a_deferred_answer_is_given_by_id(pair):
    a, b = pair
    await a.open(b.id, 1, b"later")
    await b.until(1, "processing")
    assert await b.act("answer", key(a, 1) | {"response": b"done"}) is None
    await a.until(1, "acknowledged")
    assert await b.call("handled", key(a, 1)) == 1


async def test_an_answer_given_twice_is_an_error_and_the_first_stands(pair):
    a, b = pair
    await a.open(b.id, 1, b"later")
    await b.until(1, "processing")
    await b.act("answer", key(a, 1) | {"response": b"one"})
    assert "answer already" in await b.act("answer", key(a, 1) | {"response": b"two"})
    await a.until(1, "acknowledged")
    assert (await a.call("heard"))["told"][0]["response"] == b"one"


async def test_an_answer_to_what_never_came_is_an_error(pair):
    a, b = pair
    assert "no such flow" in await b.act("answer", key(a, 77) | {"response": b""})


async def test_an_answer_beyond_max_response_is_an_error_and_the_flow_stalls_with_its_handler(
    pair, eventually
):
    a, b = pair
    await b.configure({"max_response": 100})
    await a.open(b.id, 1, b"bytes 101")
    await b.until(1, "stalled")
    assert ("stalled", 1) in await eventually(b.heard)
    assert await b.act("answer", key(a, 1) | {"response": b"short"}) is None
    await a.until(1, "acknowledged")


async def test_failed_for_good_is_an_answer(pair):
    a, b = pair
    await a.open(b.id, 1, b"fail")
    await a.until(1, "acknowledged")
    assert (await a.call("heard"))["told"][0]["response"] == b"failed for good"


async def test_failed_for_now_forgets_so_that_the_next_new_is_processed_anew(
    world, pair, eventually
):
    a, b = pair
    await a.open(b.id, 1, b"retry")
    assert await b.flows() == []
    assert await b.history(1) == ["processing", None]
    await world.advance(1.1)
    await eventually(lambda: longer(b, 2))
    assert await b.history(1) == ["processing", None] * 2


async def longer(canister, length):
    return len(await canister.history(1)) > length


async def test_work_that_awaits_answers_when_it_is_done(pair):
    a, b = pair
    await a.open(b.id, 1, b"running")
    await a.until(1, "acknowledged")
    assert (await a.call("heard"))["told"][0]["response"] == b"running"


async def test_a_trap_of_work_that_awaits_stalls_the_flow_which_is_told_and_can_run_again(
    pair, eventually
):
    a, b = pair
    await a.open(b.id, 1, b"trap-once")
    await b.until(1, "stalled")
    assert await eventually(b.heard) == [("stalled", 1)]
    assert await b.act("rerun", key(a, 1)) is None
    await a.until(1, "acknowledged")
    assert (await a.call("heard"))["told"][0]["response"] == b"redelivered"
    assert await b.call("handled", key(a, 1)) == 2


async def test_a_handler_that_exceeds_answer_within_is_stalled(world, pair):
    a, b = pair
    await a.open(b.id, 1, b"later")
    await b.until(1, "processing")
    await world.advance(61)
    await b.until(1, "stalled")


# --- The sender's outcome handler ----------------------------------------------------------------


async def test_an_outcome_whose_handler_traps_is_told_again_until_it_is_taken(world, pair):
    a, b = pair
    await a.direct(trap_until=2)
    await a.open(b.id, 1)
    await a.until(1, "answered")
    await world.advance(1.1)
    await world.advance(2.1)
    await a.until(1, "acknowledged")
    # What a trapping handler noted is undone with it.
    assert await a.heard() == [("answered", 3)]
    assert await b.state(1) == "finished"


async def test_after_handler_attempts_the_response_is_a_dead_letter_for_the_operator(world, pair):
    a, b = pair
    await a.configure({"handler_attempts": 2})
    await a.direct(trap_until=2)
    await a.open(b.id, 1)
    await a.until(1, "answered")
    await world.advance(1.1)
    await a.until(1, "dead_letter")
    await a.direct()
    assert await a.act("retry", 1) is None
    await a.until(1, "acknowledged")
    assert await a.heard() == [("answered", 1)]
    assert await b.call("handled", key(a, 1)) == 1


async def test_a_dead_letter_can_be_dropped_and_finished(world, pair):
    a, b = pair
    await a.configure({"handler_attempts": 1})
    await a.direct(trap_until=9)
    for msg_id, how in ((1, "drop"), (2, "finish")):
        await a.open(b.id, msg_id)
        await a.until(msg_id, "dead_letter")
        assert await a.act(how, msg_id) is None
        assert await a.state(msg_id) == "acknowledged"
        assert "no dead letter" in await a.act("drop", msg_id)


async def test_cancel_before_the_answer_is_told_and_its_outcome_is_unknown(pair):
    a, b = pair
    await a.open(b.id, 1, b"later")
    assert await a.act("cancel", 1) is None
    await a.until(1, "failed")
    assert (await a.flow(1))["failure"] == Case("cancelled")
    assert "ended" in await a.act("cancel", 1)


@pytest.mark.parametrize("late", [False, True])
async def test_a_failure_and_a_late_response_are_told_again_if_their_handler_traps(
    world, pair, late
):
    a, b = pair
    await a.open(b.id, 1, b"later")
    await b.until(1, "processing")
    if not late:
        await a.direct(trap_until=1)
    await a.act("cancel", 1)
    await world.quiet()
    if late:
        await a.direct(trap_until=1)
        await b.act("answer", key(a, 1) | {"response": b"at last"})
        await world.quiet()
    await world.advance(1.1)
    await world.quiet()
    assert await a.heard() == ([("failed", 1), ("late", 2)] if late else [("failed", 2)])


async def test_a_trap_of_the_notice_of_a_stalled_flow_is_told_again(world, pair):
    a, b = pair
    await b.direct(trap_until=1)
    await a.open(b.id, 1, b"running-trap")
    await b.until(1, "stalled")
    await world.advance(1.1)
    await world.quiet()
    assert await b.heard() == [("stalled", 2)]
    assert await b.state(1) == "stalled"


async def test_a_trap_of_the_corruption_handler_is_asked_again_and_loses_nothing(world, with_agent):
    player, agent = with_agent
    await player.direct(trap_until=1, decision=Case("accept", 7))
    await player.speak(agent, "ACK", msg_id=1, payload=b"taken", hash=7)
    await player.until(1, "corrupt")
    await world.advance(1.1)
    await player.until(1, "answered")
    await world.advance(1.1)  # and so is the outcome told
    await player.until(1, "acknowledged")
    assert [q["tries"] for q in await player.asked()] == [2]
    assert (await player.call("heard"))["told"][0]["response"] == b"taken"


# --- Corruption ----------------------------------------------------------------------------------


@pytest.fixture
async def with_agent(world):
    """A player, and an agent that is its peer."""
    async with world.another_agent() as agent:
        player = await world.deploy("player", access={"agents": [agent.principal]})
        await player.open(agent.principal, 1)
        yield player, agent


async def test_a_wrong_ack_asks_the_corruption_handler_at_most_three_times(with_agent, eventually):
    player, agent = with_agent
    for wrong in (7, 7, 8, 9, 10):
        await player.speak(agent, "ACK", msg_id=1, payload=b"?", hash=wrong)
    assert await player.state(1) == "corrupt"

    async def asked():
        return [q["their_hash"] for q in await player.asked()] == [7, 8, 9]

    await eventually(asked)
    assert (await player.counters())["wrong_hash_again"] == 2


async def test_corrupt_and_resend_waits_for_the_right_ack(with_agent):
    player, agent = with_agent
    await player.direct(decision=Case("resend"))
    await player.speak(agent, "ACK", msg_id=1, payload=b"?", hash=7)
    await player.until(1, "sending")
    await player.speak(agent, "ACK", msg_id=1, payload=b"right")
    await player.until(1, "acknowledged")


async def test_corrupt_and_accept_takes_the_stored_ack(with_agent):
    player, agent = with_agent
    await player.speak(agent, "ACK", msg_id=1, payload=b"taken", hash=7)
    decide = {"key": Case("sender", 1), "decision": Case("accept", 8)}
    assert "another hash" in (await player.act("decide", decide)) or "no ACK" in (
        await player.act("decide", decide)
    )
    decide["decision"] = Case("accept", 7)
    assert await player.act("decide", decide) is None
    await player.until(1, "acknowledged")
    assert (await player.call("heard"))["told"][0]["response"] == b"taken"


async def test_corrupt_and_abandon_fails_with_a_null_fin(with_agent):
    player, agent = with_agent
    await player.direct(decision=Case("abandon"))
    await player.speak(agent, "ACK", msg_id=1, payload=b"?", hash=7)
    await player.until(1, "failed")
    assert (await player.flow(1))["failure"] == Case("corrupt")
    (fin,) = [e["message"] for e in await player.outbox(agent)]
    assert fin == Case("FIN", {"msg_id": 1, "hash": None})


async def test_a_fin_with_a_wrong_hash_asks_and_the_timers_go_on(world, with_agent, eventually):
    player, agent = with_agent
    await player.speak(agent, "NEW", msg_id=50, payload=b"request")
    await player.until(50, "acknowledging")
    await player.speak(agent, "FIN", msg_id=50, hash=1)
    (question,) = await eventually(player.asked)
    assert (question["kind"].label, question["decide"]) == ("fin", True)
    assert await player.state(50) == "acknowledging"
    await player.act(
        "decide", {"key": Case("receiver", (agent.principal, 50)), "decision": Case("accept", None)}
    )
    assert await player.state(50) == "finished"


async def test_another_payload_of_the_same_id_is_reported_and_the_first_stands(
    with_agent, eventually
):
    player, agent = with_agent
    await player.speak(agent, "NEW", msg_id=50, payload=b"first")
    await player.speak(agent, "NEW", msg_id=50, payload=b"second")
    (question,) = await eventually(player.asked)
    assert (question["our_payload"], question["their_payload"]) == (b"first", b"second")
    assert question["decide"] is False
    acks = [e["message"] for e in await player.outbox(agent) if e["message"].label == "ACK"]
    assert [ack.value["payload"] for ack in acks] == [b"first"]
