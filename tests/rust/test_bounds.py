"""What strangers, applications and restarts cannot use up: own queue, room, counters, memory."""

import asyncio
from collections import Counter

import pytest
from batch_canister import BatchCanister, news
from canister_world import FAST, install_value

from bridge.candid import Case
from bridge.errors import BridgeError
from bridge.network import AdminClient
from bridge.principal import Principal

LARGE = b"x" * 900_000


@pytest.fixture
async def speak(world):
    """Batches of a canister that stands on no list."""
    return (await BatchCanister.deploy(world)).send


async def states(canister, ids):
    found = {flow["msg_id"]: flow["state"].label for flow in await canister.flows()}
    return Counter(found.get(msg_id) for msg_id in ids)


# --- The canister's queue to itself ---------------------------------------------------------------


@pytest.mark.parametrize("who", ["nobody", "everybody"])
async def test_a_flood_of_batches_stalls_no_handler_of_a_listed_peer(world, agent, speak, who):
    lists = {"agents": [agent.principal], "canisters": [] if who == "nobody" else None}
    b = await world.deploy("player", {"open_flows_per_peer": 10_000}, access=lists)
    await world.quiet()
    await AdminClient(world.replica.url).pause()
    entries = [
        Case("FIN", {"msg_id": n, "hash": None}) if n % 2 else news([n])[0] for n in range(100)
    ]
    await asyncio.gather(
        speak(b, entries, times=60),
        *(b.speak(agent, "NEW", msg_id=n, payload=b"running") for n in range(1_000, 1_020)),
    )
    await world.quiet()
    assert await states(b, range(1_000, 1_020)) == {"acknowledging": 20}
    counters = await b.counters()
    if who == "nobody":
        assert counters["refused.access"] == 60 * 50
    assert "own_queue_full" not in counters


async def test_of_batches_no_more_wait_than_leave_room_for_other_work(world, speak):
    b = await world.deploy("player", {"open_flows_per_peer": 10_000})
    await world.quiet()
    await AdminClient(world.replica.url).pause()
    await speak(b, news(range(100)), times=3)  # before the first entry begins, all are new
    await world.quiet()
    first = (await b.counters()).get("forwards_full", 0)
    assert await states(b, range(100)) == {"processing": 100}
    await speak(b, news(range(100, 200)))
    await world.quiet()
    assert await states(b, range(100, 200)) == {"processing": 100}
    assert (await b.counters()).get("forwards_full", 0) == first


async def test_what_its_own_queue_had_no_room_for_is_no_failure_and_comes_again(world, agent):
    """A handler's work is a message of the canister to itself; 500 may be under way."""
    b = await world.deploy("player", access={"agents": [agent.principal]})
    await world.quiet()
    await AdminClient(world.replica.url).pause()
    many = {"peer": agent.principal, "first": 1, "payload": b"running", "times": 600}
    await b.call("serve", many)
    await world.quiet()
    assert (await b.counters())["own_queue_full"] >= 100
    assert await states(b, range(501, 601)) == {"processing": 100}
    await world.advance(0.21)  # send_retry
    assert await states(b, range(501, 601)) == {"acknowledging": 100}


async def test_what_names_no_flow_is_done_with_in_the_message_of_the_batch(world, speak):
    b = await world.deploy("player")
    await speak(b, [Case("FIN", {"msg_id": n, "hash": None}) for n in range(100)])
    await world.quiet()
    log = await AdminClient(world.replica.url).messages(0)
    assert (await b.counters())["unknown_fin"] == 100
    assert sum(m.sender == m.receiver == b.id and m.kind == "request" for m in log) < 20


async def test_malformed_ids_are_entries_of_a_batch_too(world, speak):
    b = await world.deploy("player")
    await speak(b, news([2**128] * 150))
    await world.quiet()
    counters = await b.counters()
    assert (counters["refused.malformed_id"], counters["batch_cut"]) == (100, 50)


# --- The price of a batch -------------------------------------------------------------------------


async def test_what_a_quota_refuses_of_a_batch_has_paid_nothing(world, speak):
    b = await world.deploy("priced", {"min_cycles": 1, "open_flows_per_peer": 1})
    await speak(b, news(range(100)), cycles=100)
    await world.quiet()
    assert (await b.counters())["refused.quota_open_flows_per_peer"] == 99
    assert await b.configure({"open_flows_per_peer": 1_000}) is None
    await speak(b, news(range(100)))
    await world.quiet()
    assert (await b.counters())["refused.cycles"] == 99
    assert await states(b, range(100)) == {"processing": 1, None: 99}


async def test_marks_of_payments_are_bounded_as_tombstones_are(world, speak):
    b = await world.deploy("priced", {"min_cycles": 1, "tombstones_per_peer": 5})
    await speak(b, news(range(10), b"retry"), cycles=100)
    await world.quiet()
    assert (await b.counters())["refused.quota_paid_marks"] == 5
    # What is paid for and was to be retried is not charged again.
    await speak(b, news(range(5), b"later"))
    await world.quiet()
    assert await states(b, range(10)) == {"processing": 5, None: 5}
    # A flow that is stored needs no mark.
    await speak(b, news(range(5, 10), b"later"), cycles=100)
    await world.quiet()
    assert await states(b, range(10)) == {"processing": 10}


# --- Room, counters, memory -----------------------------------------------------------------------


async def test_late_responses_need_free_room(world, agent):
    quota = {"bytes_per_peer": 9_000}
    a = await world.deploy("player", quota, access={"agents": [agent.principal]})
    for msg_id in range(1, 7):
        assert await a.open(agent.principal, msg_id) is None
        assert await a.act("cancel", msg_id) is None
        await world.quiet()
    for msg_id in range(1, 7):
        await a.speak(agent, "ACK", msg_id=msg_id, payload=b"y" * 8_000)
        await world.quiet()
    assert [what for what, _ in await a.heard()] == ["failed"] * 6 + ["late"]
    assert (await a.counters())["refused.quota_bytes"] == 5
    assert (await a.gauges())["sender bytes"] <= 9_000
    await a.configure({"bytes_per_peer": 90_000})
    await a.speak(agent, "ACK", msg_id=2, payload=b"y" * 8_000)  # it comes again
    await world.quiet()
    assert [what for what, _ in await a.heard()][7:] == ["late"]


async def test_answers_that_are_refused_make_one_counter(world, agent):
    b = await world.deploy("player", {"max_response": 10}, access={"agents": [agent.principal]})
    for msg_id in range(1, 4):
        await b.speak(agent, "NEW", msg_id=msg_id, payload=b"bytes %d" % (1_000 * msg_id))
    await world.quiet()
    counters = await b.counters()
    assert counters["handler_answer_refused"] == 3
    assert not [name for name in counters if "flow" in name]


async def test_work_whose_message_was_lost_is_not_kept(world, agent):
    b = await world.deploy("player", access={"agents": [agent.principal]})
    await world.quiet()
    sizes = []
    for msg_id in range(1, 25):
        lost = {"action": "lose", "from": str(b.id), "to": str(b.id)}
        await world.admin("POST", "faults", lost)
        await b.speak(agent, "NEW", msg_id=msg_id, payload=b"running " + 2 * LARGE)
        await b.until(msg_id, "stalled")
        answer = {"sender": agent.principal, "msg_id": msg_id, "response": None}
        assert await b.act("answer", answer) is None
        await b.speak(agent, "FIN", msg_id=msg_id)
        await world.quiet()
        sizes.append((await world.usage(b))["memory_size"])
    assert sizes[-1] - sizes[3] < 10_000_000  # 20 payloads are 36 MB


# --- Restarts -------------------------------------------------------------------------------------


async def test_a_version_without_a_listener_takes_no_outcome(world, agent):
    a = await world.deploy("player", access={"agents": [agent.principal]})
    await a.open(agent.principal, 1)
    await AdminClient(world.replica.url).pause()
    await a.direct(trap_until=1)
    await a.act("cancel", 1)
    await world.quiet()
    await a.direct()
    await world.replace(a, "receiver", "upgrade")  # no sender any more
    await world.advance(1.1)
    await world.quiet()
    assert (await a.counters())["no_sender"] >= 1
    await world.replace(a, "player", "upgrade")
    await world.advance(0.2)
    await world.quiet()
    assert [what for what, _ in await a.heard()] == ["failed"]


async def test_a_player_keeps_the_role_it_was_installed_with(world):
    value = install_value(FAST)
    for one, other in (("sender", "receiver"), ("receiver", "sender"), (None, "receiver")):
        role = one and Case(one)
        a = await world.deploy_with("player", value | {"role": role})
        with pytest.raises(BridgeError, match="for good"):
            await world.upgrade_with(a, "player", value | {"role": Case(other)})
        await world.manage("start_canister", a)
        await world.upgrade_with(a, "player", value | {"role": role})
        await world.upgrade_with(a, "player", None)
        assert (await a.open(Principal((1).to_bytes(8, "big") + b"\x01\x01"), 1) is None) == (
            one != "receiver"
        )


async def test_after_a_restart_a_tick_tells_no_more_than_one_message_may_carry(world, agent):
    """Three responses of 0.9 MB are not told again in one tick, two are."""
    ticks = []
    admin = AdminClient(world.replica.url)
    await world.quiet()
    await admin.pause()
    for flows in (2, 3):
        a = await world.deploy("player", access={"agents": [agent.principal]})
        await a.direct(trap_until=1)
        for msg_id in range(flows):
            await a.open(agent.principal, msg_id)
            await a.speak(agent, "ACK", msg_id=msg_id, payload=LARGE)
        await world.quiet()
        await world.replace(a, "player", "upgrade")
        await world.quiet()
        start = (await admin.messages(0))[-1].seq
        await world.advance(1.2)
        for _ in range(flows):
            await world.advance(0.01)
        assert await a.heard() == [("answered", 2)] * flows  # what trapped is forgotten
        log = await admin.messages(start)
        ticks.append(sum(m.kind == "timer" and m.receiver == a.id for m in log))
    assert ticks[1] > ticks[0]
