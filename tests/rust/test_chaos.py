"""The chaos canister: faults between two peers, by a plan that can be replayed, with a log."""

import asyncio
import os
from collections import Counter

import pytest

from bridge.candid import Case
from bridge.errors import BridgeError
from bridge.network import AdminClient

SEED = int(os.environ.get("CHAOS_SEED", "7"))
FLOWS = int(os.environ.get("CHAOS_FLOWS", "100"))
SECOND = 1_000_000_000
NONE = dict.fromkeys(["lose", "reject", "corrupt", "repeat", "delay", "reorder"], 0)


def plan(a, b, *, seed=SEED, faults=(), **chances):
    """A plan between two canisters; chances in thousandths for everything said."""
    return {
        "seed": seed,
        "a": a.id,
        "b": b.id,
        "chances": [{"from": None, "kind": None, "chances": NONE | chances}],
        "faults": [
            {"from": Case(side), "kind": Case(kind), "nth": nth, "fault": fault}
            for side, kind, nth, fault in faults
        ],
        "longest_delay": 2 * SECOND,
        "longest_hold": SECOND,
        "monitors": [],
    }


async def between(world, one, other, **given):
    """Two canisters and chaos between them."""
    kept = {"linger": 900 * SECOND, "retention": 900 * SECOND, "horizon": 1_800 * SECOND}
    kept |= {"attempts": 20, "lifetime": 600 * SECOND, "open_flows_per_peer": 10_000}
    a = await world.deploy("both", kept, language=one)
    b = await world.deploy("both", kept, language=other)
    chaos = await world.deploy_with("chaos", plan(a, b, **given))
    return a, chaos, b


async def log_of(chaos):
    entries, after = [], 0
    while page := await chaos.call("chaos_log", {"after": after, "limit": 2_000}):
        entries += page
        after = page[-1]["seq"]
    return entries


async def ended(world, sender, ids):
    """How these flows ended. Time moves ahead whenever nothing else is left to do."""
    for _ in range(1_500):
        await world.admin("POST", "time", {"advance": 5 * SECOND, "quiet": True})
        states = {flow["msg_id"]: flow["state"].label for flow in await sender.flows("sender")}
        if all(states[msg_id] in ("acknowledged", "failed") for msg_id in ids):
            return [states[msg_id] for msg_id in ids]
    raise AssertionError(f"flows are open: {Counter(states.values())}")


@pytest.mark.parametrize(("one", "other"), [("motoko", "rust"), ("rust", "motoko")])
async def test_without_faults_the_two_see_but_each_other(world, one, other):
    a, chaos, b = await between(world, one, other)
    msg_id = await a.send(chaos.id, b"x")
    await a.until(msg_id, "acknowledged")
    (flow,) = await b.flows("receiver")
    assert flow["peer"] == chaos.id
    await b.until(msg_id, "finished")
    lines = [(e["from"].label, e["kind"].label, e["what"].label) for e in await log_of(chaos)]
    assert lines == [
        (side, kind, what)
        for side, kind in [("a", "NEW"), ("b", "ACK"), ("a", "FIN")]
        for what in ("came", "left")
    ]


@pytest.mark.slow
@pytest.mark.timeout(max(600, 2 * FLOWS))
@pytest.mark.parametrize(("one", "other"), [("motoko", "rust"), ("rust", "motoko")])
async def test_at_twenty_percent_faults_all_flows_end_and_each_is_processed_once(world, one, other):
    chances = {"lose": 50, "reject": 30, "corrupt": 30, "repeat": 30, "delay": 30, "reorder": 30}
    a, chaos, b = await between(world, one, other, **chances)
    ids = []
    for start in range(0, FLOWS, 50):
        some = range(start, min(start + 50, FLOWS))
        ids += await asyncio.gather(*(a.send(chaos.id, f"flow {n}".encode()) for n in some))
    ends = dict(zip(ids, await ended(world, a, ids), strict=True))
    # Where the first NEW that arrives is damaged, it stands: such a flow can only fail.
    damaged = {
        entry["msg_id"]
        for entry in await log_of(chaos)
        if entry["kind"].label == "NEW" and entry["what"].value == Case("corrupt")
    }
    assert {msg_id for msg_id, end in ends.items() if end == "failed"} <= damaged
    assert len(damaged) < max(FLOWS / 4, 10)
    for msg_id in ids:
        assert await b.call("handled", {"sender": chaos.id, "msg_id": msg_id}) == 1
    counters = dict((await chaos.call("chaos_status"))["counters"])
    wanted = ["lost", "rejected", "corrupted", "repeated", "delayed", "reordered", "passed"]
    if FLOWS < 100:  # too few for every chance to come
        wanted = ["passed"]
    assert all(counters.get(name, 0) > 0 for name in wanted), counters


async def test_an_agent_is_a_peer_of_it_by_its_mailbox(world, eventually):
    """The mailbox stands in the plan, and its owner speaks through both."""
    async with world.another_agent() as owner:
        rest = ["peers", "closed", "messages", "bytes", "messages_per_caller", "bytes_per_caller"]
        settings = dict.fromkeys(rest) | {"owner": owner.principal}
        box = await world.deploy_with("mailbox", settings)
        echo = await world.deploy("echo")
        faults = [("a", "NEW", 1, Case("lose")), ("b", "ACK", 1, Case("repeat", 1))]
        chaos = await world.deploy_with("chaos", plan(box, echo, faults=faults))

        async def say(kind, **fields):
            message = Case(kind, {"msg_id": 7} | fields)
            request = {"to": chaos.id, "dialect": Case("unified"), "cycles": 0, "message": message}
            assert (await box.call("mailbox_send", request, agent=owner)).label == "sent"

        await say("NEW", payload=b"x")
        await eventually(lambda: log_of(chaos))
        assert await echo.flows() == []
        await say("NEW", payload=b"x")
        page = {"after": None, "limit": 10}
        (entry,) = await eventually(lambda: box.call("mailbox_outbox", page, agent=owner))
        assert (entry["from"], entry["message"].label) == (chaos.id, "ACK")
        await say("FIN", hash=None)
        await echo.until(7, "finished")


async def test_the_same_plan_does_the_same_again(world, eventually):
    a, chaos, b = await between(world, "rust", "rust")
    faults = []
    for _ in range(2):
        await chaos.call("chaos_plan", plan(a, b, lose=200, reject=100, repeat=100, delay=100))
        before = (await chaos.call("chaos_status"))["logged"]
        await asyncio.gather(*(a.send(chaos.id, b"x") for _ in range(20)))

        async def all_came(before=before):
            news = [e for e in await log_of(chaos) if e["seq"] > before and is_new(e)]
            return len(news) >= 20 and news

        news = await eventually(all_came)
        faults.append([entry["what"].value for entry in news[:20]])
        await ended(world, a, [flow["msg_id"] for flow in await a.flows("sender")])
    assert faults[0] == faults[1]
    assert any(faults[0])


def is_new(entry):
    return entry["kind"].label == "NEW" and entry["what"].label == "came"


async def test_an_exact_fault_hits_that_message_and_the_log_tells_it(world):
    faults = [("a", "NEW", 1, Case("corrupt")), ("b", "ACK", 1, Case("lose"))]
    a, chaos, b = await between(world, "rust", "rust", faults=faults)
    msg_id = await a.send(chaos.id, b"intact")
    await b.until(msg_id, "acknowledging")
    entries = await log_of(chaos)
    came, left = entries[0], entries[1]
    assert came["what"].value == Case("corrupt")
    assert came["payload_hash"] != left["payload_hash"]
    assert entries[2]["what"] == Case("came", Case("lose"))
    # b answered what it got, a asks about the strange hash, and resends what it meant.
    assert came["msg_id"] == msg_id


async def test_held_messages_survive_an_upgrade(world, eventually):
    faults = [("a", "NEW", 1, Case("delay", 30 * SECOND))]
    a, chaos, b = await between(world, "rust", "rust", faults=faults)
    msg_id = await a.send(chaos.id, b"x")

    async def held():
        return (await chaos.call("chaos_status"))["held"] == 1

    await eventually(held)
    assert await b.flows() == []
    await world.upgrade_with(chaos, "chaos", None)
    assert (await chaos.call("chaos_status"))["held"] == 1
    assert len(await log_of(chaos)) >= 1
    await world.advance(3.1)
    await b.until(msg_id, "acknowledging", "finished")


async def test_what_is_overtaken_goes_at_most_a_hundred_at_a_time(world, eventually):
    """All NEWs wait to be overtaken, but for the last, which passes and lets the others go."""
    once = {"first_retry": 500 * SECOND, "max_delay": 500 * SECOND}
    a, b = await world.deploy("player", once), await world.deploy("player")
    waits = plan(a, b, faults=[("a", "NEW", 250, Case("repeat", 0))], reorder=1_000)
    waits["chances"][0] |= {"from": Case("a"), "kind": Case("NEW")}
    waits["longest_hold"] = 3_600 * SECOND
    chaos = await world.deploy_with("chaos", waits)
    ids = await a.call("burst", {"to": chaos.id, "payload": b"later", "times": 250})

    async def left():
        went = [e["msg_id"] for e in await log_of(chaos) if e["what"].label == "left"]
        return len(went) == 250 and went

    assert await eventually(left) == [ids[-1], *ids[:-1]]
    status = await chaos.call("chaos_status")
    assert (status["held"], dict(status["counters"])["reordered"]) == (0, 249)
    log = await AdminClient(world.replica.url).messages(0)
    assert sum(m.kind == "timer" and m.receiver == chaos.id for m in log) >= 2


async def test_strangers_pass_nothing_and_read_nothing(world, eventually):
    a, chaos, _ = await between(world, "rust", "rust")
    stranger = await world.deploy("both")
    await stranger.send(chaos.id, b"x")

    async def counters():
        return dict((await chaos.call("chaos_status"))["counters"])

    assert await eventually(counters) == {"refused.caller": 1}
    async with world.another_agent() as nobody:
        with pytest.raises(BridgeError):
            await chaos.call("chaos_log", {"after": 0, "limit": 1}, agent=nobody)
        with pytest.raises(BridgeError):
            await chaos.call("chaos_plan", plan(a, stranger), agent=nobody)


async def test_a_bad_plan_is_refused_with_the_reason(world):
    a, chaos, b = await between(world, "rust", "rust")
    answer = await chaos.call("chaos_plan", plan(a, b, lose=600, reject=600))
    assert (answer.label, "1000" in answer.value) == ("err", True)
    assert (await chaos.call("chaos_plan", plan(a, a))).label == "err"
