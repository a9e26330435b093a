"""Peers that mean harm, and owners' settings that do: what they can take, and what they cannot."""

import asyncio
from pathlib import Path

import pytest
import wasmtime
from canister_world import GUARDED

from bridge import candid
from bridge.agent import Agent, Identity
from bridge.candid import Case
from bridge.errors import BridgeError, CallRejectedError
from bridge.network import AdminClient, create_canister, install_code
from bridge.principal import Principal

SECOND = 1_000_000_000
BOTH = Path(__file__).resolve().parents[2] / "motoko_reference" / "canisters" / "both.did"


def peer(canister, **given):
    nothing = {"dialect": None, "null_ack": None, "ids": None, "batch": None, "attach_cycles": None}
    return nothing | {"peer": canister.id} | given


# --- Messages of strangers ----------------------------------------------------------------------


async def test_acks_of_forgotten_flows_are_answered_at_one_rate_for_all(world):
    a, b = (
        await world.deploy("player", {"unknown_fins_per_second": 3}),
        await world.deploy("player"),
    )
    ids = await a.call("burst", {"to": b.id, "payload": b"later", "times": 20})
    await world.quiet()
    await world.replace(a, "player", "reinstall")  # it knows no flow any more
    await a.configure({"unknown_fins_per_second": 3})
    admin = AdminClient(world.replica.url)
    await admin.pause()  # all in one second
    for msg_id in ids:
        await b.act("answer", {"sender": a.id, "msg_id": msg_id, "response": b"x"})
    await admin.advance(0, quiet=True)
    counters = await a.counters()
    assert (counters["sent.FIN"], await a.flows()) == (3, [])
    assert len(await b.flows("receiver", "finished")) == 3
    await admin.advance(11 * SECOND, quiet=True)  # the others come again
    assert (await a.counters())["sent.FIN"] == 6


@pytest.mark.parametrize(
    ("method", "args"),
    [
        *GUARDED,
        ("asyncFlow", [Case("NEW", {"msg_id": 1, "payload": b"x"})]),
        ("asyncFlow_batch", [[Case("NEW", {"msg_id": 1, "payload": b"x"})]]),
        ("asyncFlow_forward", [Principal.anonymous(), Case("FIN", {"msg_id": 1, "hash": None})]),
    ],
)
async def test_the_anonymous_principal_is_refused_by_every_method(world, method, args):
    both = await world.deploy("both")
    async with Agent(
        world.replica.url, identity=Identity.anonymous(), root_key=world.replica.root_key
    ) as nobody:
        with pytest.raises(BridgeError):
            await both.call(method, *args, agent=nobody)
    assert await both.flows() == []


def test_no_method_is_missing_there():
    methods = candid.parse_did(BOTH.read_text(encoding="utf-8")).service.methods
    (mark,) = test_the_anonymous_principal_is_refused_by_every_method.pytestmark
    assert {method for method, _ in mark.args[1]} == set(methods)


# --- What they may take up -----------------------------------------------------------------------


async def test_tombstones_of_new_and_fin_loops_are_bounded_and_a_listed_sender_goes_on(
    world, agent
):
    settings = {"tombstones_per_peer": 3, "tombstones": 100}
    flooder = await world.deploy("player")
    b = await world.deploy("player", settings, {"agents": [agent.principal]})
    for msg_id in range(5):
        await flooder.open(b.id, msg_id)
        await world.quiet()
    assert len(await b.flows("receiver", "finished")) == 3
    assert (await b.counters())["refused.quota_tombstones_per_peer"] == 2
    assert (await b.gauges())["receiver tombstones"] == 3
    await b.speak(agent, "NEW", msg_id=0, payload=b"x")
    assert [f["peer"] for f in await b.flows("receiver", "acknowledging")] == [agent.principal]


async def test_fresh_canisters_share_half_of_the_tombstones_however_many_they_are(world, agent):
    b = await world.deploy(
        "player", {"tombstones_per_peer": 8, "tombstones": 8}, {"agents": [agent.principal]}
    )
    for _ in range(3):
        fresh = await world.deploy("player")
        await fresh.call("burst", {"to": b.id, "payload": b"x", "times": 2})
        await world.quiet()
    assert len(await b.flows("receiver", "finished")) == 4
    assert (await b.counters())["refused.quota_unlisted_tombstones"] == 2
    await b.speak(agent, "NEW", msg_id=1, payload=b"x")
    await b.speak(agent, "FIN", msg_id=1)
    assert len(await b.flows("receiver", "finished")) == 5


async def test_an_id_from_the_near_future_is_not_served_again_before_it_is_too_old_itself(
    world, agent
):
    """Its tombstone outlives the time in the id by the horizon, not only the last transition."""
    brief = dict.fromkeys(("lifetime", "linger", "retention", "answer_within"), 20 * SECOND)
    brief |= {"slack": SECOND, "skew": 9 * SECOND, "horizon": 60 * SECOND}
    b = await world.deploy("player", brief, {"agents": [agent.principal]})
    await b.configure(peers=[peer(b, ids=Case("ulid")) | {"peer": agent.principal}])
    await world.admin("POST", "time", {"pause": True})
    now = (await b.call("asyncFlow_status"))["time"]
    new = {"msg_id": (now + 8 * SECOND) // 1_000_000 << 80, "payload": b"x"}
    for later, state in ((0, "acknowledging"), (6.2, "finished"), (1, None)):
        if later:
            await world.advance(later)
            await world.quiet()
        await b.speak(agent, "NEW", **new)
        assert await b.state(new["msg_id"]) == state
        await b.speak(agent, "FIN", msg_id=new["msg_id"])
    assert (await b.counters())["refused.horizon"] == 1


async def test_fresh_agents_leave_no_trace_but_a_counter(world):
    b = await world.deploy("player")
    for _ in range(20):
        async with world.another_agent() as fresh:
            await b.speak(fresh, "NEW", msg_id=1, payload=b"x")
    status = await b.call("asyncFlow_status")
    assert dict(status["counters"])["refused.caller"] == 20
    assert await b.flows() == []
    assert [row["peer"] for row in status["peers"]] == [None]  # the row of all others


async def test_tiny_repeats_buy_a_large_response_no_more_often_than_the_echo_rule_says(
    world, agent
):
    """NEW again and again against 1.5 MB; each ACK that goes out is trimmed, as if it were lost."""
    settings = {"attempts": 1, "max_payload": 100}
    b = await world.deploy("player", settings, {"agents": [agent.principal]})
    handed = 0
    for _ in range(16):
        for _ in range(3):
            await b.speak(agent, "NEW", msg_id=1, payload=b"bytes 1500000")
        entries = await b.outbox(agent)
        handed += sum(len(entry["message"].value["payload"]) for entry in entries)
        await b.call("asyncFlow_outbox_trim", 2**64 - 1, agent=agent)
        await world.advance(0.15)  # beyond echo_min
    assert handed == (1 + 1 + 10) * 1_500_000  # the attempt, and attempts + 10 echoes


# --- Cycles --------------------------------------------------------------------------------------


async def test_a_retry_that_pays_again_is_charged_once(world):
    a, priced = await world.deploy("player"), await world.deploy("priced")
    await priced.configure({"min_cycles": 7_000_000})
    attach = {"new": 9_000_000, "ack": 0, "fin": 0}
    await a.configure(peers=[peer(priced, attach_cycles=attach)])
    before = [(await world.usage(canister))["cycles"] for canister in (a, priced)]
    await world.lose(priced, a)  # its first ACK, so that NEW comes again with cycles
    await a.open(priced.id, 1)
    await world.advance(1.1)
    await a.until(1, "acknowledged")
    await world.quiet()
    after = [(await world.usage(canister))["cycles"] for canister in (a, priced)]
    assert (before[0] - after[0], after[1] - before[1]) == (7_000_000, 7_000_000)


async def ask_for_cycles(world, canister, amount):
    """The owner's minimum for incoming calls, in the canister's own settings."""
    minimum = candid.Record({"minimum_incoming_canister_call_cycles": candid.Opt(candid.Nat)})
    update = candid.Record({"canister_id": candid.PrincipalType, "settings": minimum})
    settings = {"minimum_incoming_canister_call_cycles": amount}
    await world.agent.update(
        Principal.management(),
        "update_settings",
        candid.encode([update], [{"canister_id": canister.id, "settings": settings}]),
        effective_canister_id=canister.id,
    )


async def test_an_owners_minimum_at_the_receiver_is_met_by_attached_cycles(world):
    a, b = await world.deploy("player", {"attempts": 2}), await world.deploy("player")
    await ask_for_cycles(world, b, 1_000)
    await a.open(b.id, 1)
    for _ in range(3):
        await world.advance(1.1)
        await world.quiet()
    # Rejected each time, which to a one-way sender looks like a loss: the outcome is unknown.
    assert (await a.flow(1))["failure"] == Case("unknown")
    assert await b.flows() == []
    attach = {"new": 1_000, "ack": 0, "fin": 1_000}
    await a.configure(peers=[peer(b, attach_cycles=attach)])
    await a.open(b.id, 2)
    await a.until(2, "acknowledged")
    await b.until(2, "finished")


async def test_an_owners_minimum_at_the_sender_leaves_its_flows_open_until_it_is_met(world):
    a, b = await world.deploy("player"), await world.deploy("player")
    await ask_for_cycles(world, a, 1_000)
    await a.open(b.id, 1)
    await b.until(1, "acknowledging")
    await world.quiet()
    assert await a.state(1) == "sending"
    attach = {"new": 0, "ack": 1_000, "fin": 0}
    await b.configure(peers=[peer(a, attach_cycles=attach)])
    await world.advance(1.1)
    await a.until(1, "acknowledged")
    assert await b.call("handled", {"sender": a.id, "msg_id": 1}) == 1


# --- A peer that never replies ------------------------------------------------------------------

SPINNING = """(module
  (import "ic0" "call_new" (func $new (param i64 i64 i64 i64 i64 i64 i64 i64)))
  (import "ic0" "call_perform" (func $perform (result i32)))
  (import "ic0" "canister_self_copy" (func $self (param i64 i64 i64)))
  (import "ic0" "canister_self_size" (func $size (result i64)))
  (import "ic0" "msg_reply" (func $reply))
  (memory i64 1)
  (data (i64.const 0) "again")
  (table 1 funcref)
  (elem (i32.const 0) $on)
  (func $call
    (call $self (i64.const 64) (i64.const 0) (call $size))
    (call $new (i64.const 64) (call $size) (i64.const 0) (i64.const 5)
      (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0))
    (drop (call $perform)))
  (func $on (param i64) (call $call))
  (func (export "canister_update asyncFlow") (call $call))
  (func (export "canister_update again") (call $reply)))"""


async def test_a_receiver_that_never_replies_does_not_keep_the_sender_from_stopping_for_330_s(
    world, eventually
):
    """With the default settings: its call stays open for ever, but the sender's wait is bounded."""
    a = await world.deploy_with("player", None)
    spinning = await create_canister(world.agent)
    await install_code(world.agent, spinning, bytes(wasmtime.wat2wasm(SPINNING)))
    await a.open(spinning, 1)
    assert (await a.gauges())["in flight"] == 1
    admin = AdminClient(world.replica.url)
    await admin.advance(200 * SECOND)
    stopping = asyncio.create_task(world.manage("stop_canister", a))
    await asyncio.sleep(0.3)
    assert not stopping.done()
    await admin.advance(130 * SECOND)  # 330 in all
    stopping.cancel()  # its request is older than a request may be by now

    async def stopped():  # the replica is never quiet again, as the peer goes on for ever
        with pytest.raises(CallRejectedError) as refused:
            await a.flows()
        return "is stopped" in str(refused.value)

    await eventually(stopped)
    await world.upgrade(a, "player")
    assert await a.state(1) == "sending"
    await admin.advance(40 * SECOND)  # NEW is repeated, and the first one's slot is free again

    async def repeated():
        return (await a.flow(1))["attempts"] == 2

    await eventually(repeated)
    assert (await a.gauges())["in flight"] == 1


# --- An agent that stays away ---------------------------------------------------------------------


async def test_an_agent_that_was_away_for_hours_finds_all_that_still_counts(world, agent):
    a = await world.deploy("player", {"attempts": 3}, {"agents": [agent.principal]})
    for msg_id in (1, 2):
        await a.speak(agent, "NEW", msg_id=msg_id, payload=b"bytes 1500000")
    await a.open(agent.principal, 3)
    await a.configure({"outbox_bytes": 1})  # full
    await a.open(agent.principal, 4)
    assert await a.state(4) == "queued"
    for _ in range(12):
        await world.advance(6)  # 12 minutes in all: beyond every attempt and lifetime
    assert {await a.state(3), await a.state(4)} == {"failed"}
    assert (await a.flow(4))["failure"] == Case("unsent")
    first = await a.outbox(agent)
    second = await a.outbox(agent, after=first[-1]["seq"])
    # Two responses, each a page of its own; the NEW of the failed flow is gone.
    assert [e["message"].value["msg_id"] for e in first + second] == [1, 2]
    assert {len(e["message"].value["payload"]) for e in first + second} == {1_500_000}
    assert await a.outbox(agent, after=second[-1]["seq"]) == []
    for msg_id in (1, 2):
        assert await a.state(msg_id) == "abandoned"
        await a.speak(agent, "FIN", msg_id=msg_id)
        assert await a.state(msg_id) == "finished"
