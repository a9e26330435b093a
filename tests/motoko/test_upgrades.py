"""An upgrade in any state loses no flow and lets none run twice."""

from pathlib import Path

import pytest

from bridge import contracts
from bridge.candid import Case
from bridge.errors import CallRejectedError
from bridge.principal import Principal


def key(sender, msg_id):
    return {"sender": sender.id, "msg_id": msg_id}


async def test_a_sending_flow_is_retried_after_an_upgrade(world):
    a, b = await world.deploy("player"), await world.deploy("player")
    await world.lose(a, b)
    await a.open(b.id, 1)
    await world.upgrade(a, "player")
    assert await a.state(1) == "sending"
    await world.advance(1.2)
    await a.until(1, "acknowledged")
    assert await b.call("handled", key(a, 1)) == 1


async def test_a_queued_flow_is_sent_after_an_upgrade(world, agent):
    a = await world.deploy("player", {"outbox_messages": 1}, {"agents": [agent.principal]})
    await a.open(agent.principal, 1)
    await a.open(agent.principal, 2)
    assert await a.state(2) == "queued"
    await world.upgrade(a, "player")
    assert await a.state(2) == "queued"
    await a.configure({"outbox_messages": 2})
    await world.advance(0.4)
    await a.until(2, "sending")


async def test_an_answered_flow_is_told_again_after_an_upgrade(world):
    a, b = await world.deploy("player"), await world.deploy("player")
    await a.direct(trap_until=1)
    await a.open(b.id, 1)
    await a.until(1, "answered")
    await world.upgrade(a, "player")
    await world.advance(1.2)
    await a.until(1, "acknowledged")
    assert await a.heard() == [("answered", 2)]
    assert (await a.call("heard"))["told"][0]["redelivered"]


async def test_a_dead_letter_is_kept_by_an_upgrade(world):
    a, b = await world.deploy("player", {"handler_attempts": 1}), await world.deploy("player")
    await a.direct(trap_until=99)
    await a.open(b.id, 1)
    await a.until(1, "dead_letter")
    await world.upgrade(a, "player")
    assert await a.state(1) == "dead_letter"
    await a.direct()
    assert await a.act("retry", 1) is None
    await a.until(1, "acknowledged")


async def test_an_open_question_is_asked_again_after_an_upgrade(world, agent, eventually):
    a = await world.deploy("player", access={"agents": [agent.principal]})
    await a.open(agent.principal, 1)
    await a.speak(agent, "ACK", msg_id=1, payload=b"?", hash=7)
    await a.until(1, "corrupt")
    assert len(await eventually(a.asked)) == 1
    await world.upgrade(a, "player")
    await world.advance(1.2)

    async def twice():
        return [q["tries"] for q in await a.asked()] == [1, 2]

    await eventually(twice)
    assert await a.state(1) == "corrupt"


async def test_an_acknowledged_and_a_failed_flow_are_kept_and_forgotten_in_time(world):
    a, b = await world.deploy("player"), await world.deploy("player")
    await a.open(b.id, 1)
    await a.until(1, "acknowledged")
    await a.open(b.id, 2, b"later")
    await a.act("cancel", 2)
    await a.until(2, "failed")
    await world.upgrade(a, "player")
    assert (await a.state(1), await a.state(2)) == ("acknowledged", "failed")
    await world.advance(61)
    await a.until(1, None)
    await a.until(2, None)


async def test_a_deferred_request_is_answered_after_an_upgrade_as_if_nothing_had_been(world):
    a, b = await world.deploy("player"), await world.deploy("player")
    await a.open(b.id, 1, b"later")
    await b.until(1, "processing")
    await world.upgrade(b, "player")
    assert await b.state(1) == "processing"
    assert await b.act("answer", key(a, 1) | {"response": b"ok"}) is None
    await a.until(1, "acknowledged")
    assert await b.call("handled", key(a, 1)) == 1


async def test_an_unconfirmed_ack_is_repeated_after_an_upgrade(world):
    a, b = await world.deploy("player"), await world.deploy("player")
    await world.lose(b, a)
    await a.open(b.id, 1)
    await b.until(1, "acknowledging")
    await world.upgrade(b, "player")
    assert await b.state(1) == "acknowledging"
    await world.advance(1.2)
    await a.until(1, "acknowledged")
    await b.until(1, "finished")
    assert await b.call("handled", key(a, 1)) == 1


async def test_a_tombstone_outlives_an_upgrade_so_that_a_late_duplicate_is_not_processed(
    world, agent
):
    b = await world.deploy("player", access={"agents": [agent.principal]})
    await b.speak(agent, "NEW", msg_id=1, payload=b"x")
    await b.speak(agent, "FIN", msg_id=1)
    assert await b.state(1) == "finished"
    await world.upgrade(b, "player")
    await b.speak(agent, "NEW", msg_id=1, payload=b"x")
    assert await b.state(1) == "finished"
    assert await b.outbox(agent) == []
    assert (await b.counters())["repeated"] == 1


async def test_a_stalled_and_an_abandoned_flow_are_told_again_after_an_upgrade(
    world, agent, eventually
):
    b = await world.deploy("player", {"attempts": 1}, {"agents": [agent.principal]})
    await b.direct(trap_until=1)
    await b.speak(agent, "NEW", msg_id=1, payload=b"trap-once")
    await b.until(1, "stalled")
    await b.speak(agent, "NEW", msg_id=2, payload=b"x")
    await world.advance(1.1)
    await b.until(2, "abandoned")
    await world.upgrade(b, "player")
    await world.advance(1.2)

    async def both_told():
        # A try that the stop cut short counts too: a later one may be the one that is heard.
        again = {what for what, tries in await b.heard() if tries > 1}
        return again == {"abandoned", "stalled"}

    await eventually(both_told)
    # The response of an abandoned flow is kept, and echoed when it is asked for.
    await b.speak(agent, "NEW", msg_id=2, payload=b"x")
    assert [e["message"].label for e in await b.outbox(agent)] == ["ACK"]
    await b.speak(agent, "FIN", msg_id=2)
    assert await b.state(2) == "finished"


async def test_work_at_hand_is_finished_before_the_canister_stops_for_the_upgrade(world):
    a, b = await world.deploy("player"), await world.deploy("player")
    await a.open(b.id, 1, b"running")
    await world.upgrade(b, "player")
    await world.advance(1.2)
    await a.until(1, "acknowledged")
    assert await b.call("handled", key(a, 1)) == 1


async def test_whether_interrupted_work_runs_again_follows_the_application_from_the_next_start_on(
    world,
):
    a, b = await world.deploy("player"), await world.deploy("player")
    await b.direct(rerun=True)
    await world.upgrade(b, "player")
    await a.open(b.id, 1, b"trap-once")
    await a.until(1, "acknowledged")
    assert await b.call("handled", key(a, 1)) == 2
    assert await b.history(1) == ["processing", "acknowledging", "finished"]


async def test_a_stop_and_a_start_without_an_upgrade_lose_no_telling(world, eventually):
    a, b = await world.deploy("player"), await world.deploy("player")
    ids = await a.call("burst", {"to": b.id, "payload": b"x", "times": 10})
    await world.manage("stop_canister", a)
    await world.manage("start_canister", a)
    for _ in range(3):
        await a.configure()  # a message, after which a timer that was lost is armed anew
        await world.advance(1.1)
    for msg_id in ids:
        await a.until(msg_id, "acknowledged")


async def test_settings_lists_and_counters_survive_an_upgrade_and_a_new_argument_changes_them(
    world,
):
    a = await world.deploy("player", {"attempts": 3})
    await a.open(a.id, 1)
    await a.until(1, "acknowledged")
    counters = await a.counters()
    await world.upgrade(a, "player")
    status = await a.call("asyncFlow_status")
    assert status["settings"]["attempts"] == 3
    assert await a.counters() == counters
    await world.upgrade(a, "player", {"attempts": 4})
    assert (await a.call("asyncFlow_status"))["settings"]["attempts"] == 4


async def test_ids_go_on_rising_across_an_upgrade(world):
    a, b = await world.deploy("player"), await world.deploy("echo")
    first = await a.call("burst", {"to": b.id, "payload": b"x", "times": 3})
    await world.upgrade(a, "player")
    second = await a.call("burst", {"to": b.id, "payload": b"x", "times": 3})
    assert [*first, *second] == sorted({*first, *second})
    now = (await a.call("asyncFlow_status"))["time"] // 1_000_000
    assert abs((second[-1] >> 80) - now) < 60_000


async def test_a_restart_spreads_what_fell_due_before_it(world, agent, eventually):
    a = await world.deploy("player", {"spread": 100_000_000_000}, {"agents": [agent.principal]})
    for msg_id in range(8):
        await a.open(agent.principal, msg_id)
    await a.call("asyncFlow_outbox_trim", 2**64 - 1, agent=agent)
    # All fall due while the canister is stopped: nothing of them may be sent at once.
    await world.manage("stop_canister", a)
    await world.advance(1.5)
    await world.upgrade(a, "player")
    await world.quiet()
    dues = [flow["due"] for flow in await a.flows("sender")]
    assert max(dues) - min(dues) > 5_000_000_000  # of the 100 s of `spread`
    await world.advance(11)

    async def all_sent():
        return len(await a.outbox(agent)) == 8

    await eventually(all_sent)


async def test_a_module_of_another_kind_of_state_is_refused_and_the_old_one_goes_on(world):
    a = await world.deploy("player")
    await a.open(a.id, 1)
    await a.until(1, "acknowledged")
    with pytest.raises(CallRejectedError, match="compatib"):
        await world.replace(a, "tables", "upgrade")
    assert await a.state(1) == "acknowledged"


async def test_what_an_upgrade_takes_does_not_grow_with_the_flows_that_are_kept(world, agent):
    a = await world.deploy("player", access={"agents": [agent.principal]})
    await world.upgrade(a, "player")
    with_none = await a.call("start_cost")
    nobody = Principal.from_text("r7inp-6aaaa-aaaaa-aaabq-cai")
    for first in (0, 200):
        await a.call("burst", {"to": nobody, "payload": b"x" * 1_000, "times": 200})
        served = {"peer": agent.principal, "first": first, "payload": b"x", "times": 200}
        await a.call("serve", served)
    await world.upgrade(a, "player")
    gauges = await a.gauges()
    assert (gauges["sender open flows"], gauges["receiver tombstones"]) == (400, 400)
    assert await a.call("start_cost") < 1.2 * with_none


PREVIOUS = Path(__file__).parents[2] / "bridge" / "conformance" / "implementations" / "previous"
BUILDS = {
    "layout 1": (PREVIOUS / "motoko_layout_1.wasm").read_bytes(),
    "this version": contracts.motoko_canister("player"),
}


@pytest.mark.slow
@pytest.mark.parametrize("build", BUILDS)
async def test_flows_in_every_state_go_on_after_an_upgrade_from(world, agent, build):
    """What an older build, or this one, stored in each state ends as if nothing had been."""
    lists = {"agents": [agent.principal]}
    patient = {"handler_attempts": 2, "outbox_messages": 1}
    a = await world.deploy("player", patient, lists, module=BUILDS[build])
    brief = {"answer_within": 30_000_000_000, "attempts": 1}
    b = await world.deploy("player", brief, lists, module=BUILDS[build])
    states = await in_every_state(world, agent, a, b)
    heard = await a.heard()
    for canister in (a, b):
        await world.upgrade(canister, "player")
    assert await states_of(a, b) == states
    assert len(set(states.values())) == 12
    assert await a.heard() == heard
    assert dict((await a.call("asyncFlow_status"))["settings"])["handler_attempts"] == 2

    await a.direct()
    await b.direct()
    await a.configure({"outbox_messages": 10})
    answer = {"sender": a.id, "response": b"at last"}
    assert await b.act("answer", answer | {"msg_id": PROCESSING}) is None
    assert await b.act("answer", answer | {"msg_id": STALLED}) is None
    assert await a.act("retry", DEAD_LETTER) is None
    accept = {"key": Case("sender", CORRUPT), "decision": Case("accept", 7)}
    assert await a.act("decide", accept) is None
    await world.advance(1.2)  # what was told in vain is told again, what was lost is repeated
    for msg_id in (QUEUED, SENDING):
        await a.until(msg_id, "sending")
        await a.speak(agent, "ACK", msg_id=msg_id, payload=b"y")
    await b.speak(agent, "NEW", msg_id=ABANDONED, payload=b"x")  # its ACK is echoed
    assert [e["message"].label for e in await b.outbox(agent)] == ["ACK"]
    await b.speak(agent, "FIN", msg_id=ABANDONED)
    for role, msg_id in states:
        if role == "receiver":
            await b.until(msg_id, "finished")
        elif msg_id != FAILED:
            await a.until(msg_id, "acknowledged")
    assert await a.state(FAILED) == "failed"
    for msg_id in (DONE, DEAD_LETTER, ANSWERED, PROCESSING, STALLED, ACKNOWLEDGING):
        assert await b.call("handled", key(a, msg_id)) == 1
    told = [t["msg_id"] for t in (await a.call("heard"))["told"] if t["what"].label == "answered"]
    assert sorted(told) == sorted(set(told))


DONE, FAILED, QUEUED, SENDING, CORRUPT, ANSWERED, DEAD_LETTER = range(1, 8)
PROCESSING, STALLED, ACKNOWLEDGING, ABANDONED = range(11, 15)


async def states_of(a, b):
    """The states of all flows, by role and id."""
    flows = [*await a.flows("sender"), *await b.flows("receiver")]
    return {(flow["role"].label, flow["msg_id"]): flow["state"].label for flow in flows}


async def in_every_state(world, agent, a, b):
    """Bring flows between two players, and an agent, into each of the twelve states."""
    # First what takes time to come about.
    await a.open(b.id, STALLED, b"later")
    await b.speak(agent, "NEW", msg_id=ABANDONED, payload=b"x")
    await a.direct(trap_until=9)
    await a.open(b.id, DEAD_LETTER)
    await a.until(DEAD_LETTER, "answered")
    await world.advance(1.1)
    await a.until(DEAD_LETTER, "dead_letter")
    await b.until(ABANDONED, "abandoned")
    await world.advance(2.1)
    await b.until(STALLED, "stalled")
    await agent_trims(b, agent)
    await a.direct()
    await a.open(b.id, DONE)
    await a.until(DONE, "acknowledged")
    await a.open(b.id, FAILED, b"later")
    await a.act("cancel", FAILED)
    await a.until(FAILED, "failed")
    await world.quiet()
    await b.act("answer", {"sender": a.id, "msg_id": FAILED, "response": None})
    await b.until(FAILED, "finished")
    await a.open(agent.principal, CORRUPT)
    await a.speak(agent, "ACK", msg_id=CORRUPT, payload=b"?", hash=7)
    await a.open(agent.principal, SENDING)
    await a.open(agent.principal, QUEUED)  # the outbox is full
    await a.open(b.id, PROCESSING, b"later")
    await b.until(PROCESSING, "processing")
    await a.direct(trap_until=1)
    await a.open(b.id, ANSWERED)
    await a.until(ANSWERED, "answered")
    await world.lose(b, a)
    await a.open(b.id, ACKNOWLEDGING)
    await b.until(ACKNOWLEDGING, "acknowledging")
    await world.quiet()
    return await states_of(a, b)


async def agent_trims(canister, agent):
    await canister.call("asyncFlow_outbox_trim", 2**64 - 1, agent=agent)
