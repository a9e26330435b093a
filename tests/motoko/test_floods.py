"""What one caller sends takes no more than its share, and holds up nobody else's flows."""

import wasmtime

from bridge import candid
from bridge.candid import Case
from bridge.dialects.unified import MESSAGE_TYPE
from bridge.network import AdminClient, create_canister, install_code
from bridge.principal import Principal

# A canister that repeats, within one message, a call of `asyncFlow_batch`. Its argument is the
# number of calls in one byte, the callee, whose principal has ten bytes, and the argument of the
# calls; each carries a hundred cycles.
STRANGER = """
(module
 (import "ic0" "msg_arg_data_size" (func $size (result i32)))
 (import "ic0" "msg_arg_data_copy" (func $copy (param i32 i32 i32)))
 (import "ic0" "call_new" (func $new (param i32 i32 i32 i32 i32 i32 i32 i32)))
 (import "ic0" "call_data_append" (func $append (param i32 i32)))
 (import "ic0" "call_cycles_add128" (func $cycles (param i64 i64)))
 (import "ic0" "call_perform" (func $perform (result i32)))
 (import "ic0" "msg_reply" (func $reply))
 (memory 4)
 (data (i32.const 0) "asyncFlow_batch")
 (func (export "canister_update flood") (local $left i32)
  (call $copy (i32.const 100) (i32.const 0) (call $size))
  (local.set $left (i32.load8_u (i32.const 100)))
  (loop $next
   (call $new (i32.const 101) (i32.const 10) (i32.const 0) (i32.const 15)
    (i32.const -1) (i32.const 0) (i32.const -1) (i32.const 0))
   (call $append (i32.const 111) (i32.sub (call $size) (i32.const 11)))
   (call $cycles (i64.const 0) (i64.const 100))
   (drop (call $perform))
   (local.set $left (i32.sub (local.get $left) (i32.const 1)))
   (br_if $next (local.get $left)))
  (call $reply)))
"""


async def stranger(world):
    """A canister on nobody's list."""
    canister = await create_canister(world.agent)
    await install_code(world.agent, canister, bytes(wasmtime.wat2wasm(STRANGER)))
    return canister


async def flood(world, canister, to, entries, times=1):
    """Have the stranger send one batch so many times."""
    arg = candid.encode([candid.Vec(MESSAGE_TYPE)], [entries])
    receiver = Principal.from_text(str(to.id)).raw
    await world.agent.update(canister, "flood", bytes([times]) + receiver + arg)


def news(count, payload=b"later", first=0):
    return [Case("NEW", {"msg_id": first + n, "payload": payload}) for n in range(count)]


async def serve(world, b, agent, payload, times, first=0):
    many = {"peer": agent.principal, "first": first, "payload": payload, "times": times}
    await b.call("serve", many)


async def test_a_strangers_batches_stall_no_running_handler_of_a_listed_peer(world):
    async with world.another_agent() as agent:
        b = await world.deploy("player", access={"agents": [agent.principal]})
        other = await stranger(world)
        await world.quiet()
        await AdminClient(world.replica.url).pause()
        await flood(world, other, b, news(100), times=20)
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
    other = await stranger(world)
    admin = AdminClient(world.replica.url)
    await world.quiet()
    await admin.pause()
    start = (await admin.messages(0))[-1].seq
    fins = [Case("FIN", {"msg_id": n, "hash": None}) for n in range(100)]
    await flood(world, other, b, [*fins[:50], *news(50)])
    await world.quiet()
    counters = await b.counters()
    assert (counters["unknown_fin"], counters["refused.access"]) == (50, 50)
    log = await admin.messages(start)
    assert [m for m in log if m.method == "asyncFlow_forward"] == []


async def test_entries_that_trap_leave_room_for_those_of_the_next_batches(world):
    b = await world.deploy("player")
    other = await stranger(world)
    await world.quiet()
    await AdminClient(world.replica.url).pause()
    for _ in range(2):
        await flood(world, other, b, news(100, b"trap"))
        await world.advance(0.3)  # longer than `send_retry`: a tick has seen that they began
    await flood(world, other, b, news(100))
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
    other = await stranger(world)
    await world.quiet()
    await AdminClient(world.replica.url).pause()
    before = await cycles(world, b)
    await flood(world, other, b, news(10))
    await world.quiet()
    assert len(await b.flows("receiver")) == 3
    assert (await b.counters())["refused.quota_open_flows_per_peer"] == 7
    assert await cycles(world, b) - before == 3 * 7


async def cycles(world, canister):
    arg = candid.encode(
        [candid.Record({"canister_id": candid.PrincipalType})], [{"canister_id": canister.id}]
    )
    reply = await world.agent.update(
        Principal.management(), "canister_status", arg, effective_canister_id=canister.id
    )
    (status,) = candid.decode([candid.Record({"cycles": candid.Nat})], reply)
    return status["cycles"]


async def test_a_peer_keeps_no_more_marks_of_payments_than_tombstones(world):
    """A mark is kept for what was paid and is not stored: here, as its handler traps."""
    settings = {"min_cycles": 7, "tombstones_per_peer": 5}
    b = await world.deploy("priced", settings, {"agents": [], "canisters": None})
    one, two = await stranger(world), await stranger(world)
    await world.quiet()
    await AdminClient(world.replica.url).pause()
    before = await cycles(world, b)
    await flood(world, one, b, news(8, b"trap"))
    await world.quiet()
    assert (await b.counters())["refused.quota_paid_marks"] == 3
    assert await cycles(world, b) - before == 5 * 7
    await flood(world, two, b, news(1, b"trap"))
    await world.quiet()
    assert await cycles(world, b) - before == 6 * 7
    await flood(world, one, b, news(5, b"x"))  # marks are redeemed, and free
    await world.quiet()
    assert len(await b.flows("receiver")) == 5
    assert await cycles(world, b) - before == 6 * 7


async def test_a_decision_sends_nothing_beyond_the_bound_of_what_is_in_flight(world):
    a = await world.deploy("player", {"in_flight": 1})
    other = await stranger(world)
    await world.quiet()
    await AdminClient(world.replica.url).pause()
    await a.open(other, 1)
    await flood(world, other, a, [Case("ACK", {"msg_id": 1, "payload": b"y", "hash": 7})])
    await world.quiet()
    assert await a.state(1) == "corrupt"
    await a.open(other, 2)  # takes the only place
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
