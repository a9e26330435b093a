"""Snapshot and restore of the whole subnet: exact, repeatable, and nobody is left waiting."""

import asyncio
import gc
import itertools

import aiohttp
import pytest

from bridge import wire
from bridge.agent import Agent, Identity
from bridge.errors import CallOutcomeUnknownError, CallRejectedError, ReplicaError
from bridge.network.admin import AdminClient
from bridge.replica import Replica
from bridge.replica.http import api
from bridge.replica.scheduler import subnet_snapshot
from bridge.replica.scheduler.machine import Limits
from bridge.replica.state import codec
from bridge.replica.state.messages import Reply

SECOND = 1_000_000_000
PAGE = 65_536


def take(driver, before=None):
    with driver.machine.lock:
        return subnet_snapshot.take(driver.machine, before)


def restore(driver, snapshot):
    with driver.machine.lock:
        subnet_snapshot.restore(driver.machine, snapshot)


def state(driver):
    """All that there is: the certified root hash, and what no certificate tells."""
    machine = driver.machine
    certificate = machine.subnet.certify(machine.time)
    memories = {
        name: (
            driver.memory(name),
            sandbox.stable.size,
            sandbox.stable.parts(),
        )
        for name, sandbox in machine.sandboxes.items()
    }
    beside = [
        (canister.module, canister.metadata, dict(canister.chunks), list(canister.snapshots))
        for canister in machine.subnet.canisters.values()
    ]
    return (
        certificate.to_cbor(),
        [codec.dumps(canister) for canister in machine.subnet.canisters.values()],
        codec.dumps(list(machine.subnet.history.records.values())),
        memories,
        beside,
        machine.planned(),
        list(machine.log.entries),
        machine.faults.pending(),
        machine.subnet.random_blocks,
        frozenset(machine.subnet.deleted),
    )


@pytest.mark.covers("snapshot and restore of the subnet")
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.covers("snapshot and restore of the subnet")
def test_what_follows_a_restoration_is_what_followed_the_snapshot(
    virtual, universal_wasm, program, make_story, seed
):
    wasm = universal_wasm(seed % 2 == 0)
    make_story(virtual, wasm, program, seed).run(40)
    snapshot = take(virtual)
    first = next(virtual._requests)

    def follow(other_seed):
        # The ids of requests are part of the state: equal stories need equal ids.
        virtual._requests = itertools.count(first + other_seed * 10_000)
        make_story(virtual, wasm, program, other_seed).run(25)
        return state(virtual)

    told = follow(1000 + seed)
    follow(2000 + seed)
    restore(virtual, snapshot)
    assert follow(1000 + seed) == told
    restore(virtual, snapshot)
    follow(3000 + seed)
    restore(virtual, snapshot)
    assert follow(1000 + seed) == told


@pytest.mark.parametrize("seed", range(4))
def test_a_restored_state_is_the_state(virtual, universal_wasm, program, make_story, seed):
    wasm = universal_wasm(True)
    make_story(virtual, wasm, program, seed).run(40)
    snapshot = take(virtual)
    before = state(virtual)
    restore(virtual, snapshot)
    assert state(virtual) == before
    make_story(virtual, wasm, program, seed + 1).run(20)
    restore(virtual, snapshot)
    assert state(virtual) == before


def test_memories_that_did_not_change_are_shared(driver, universal_wasm, program):
    one, two = driver.create(universal_wasm(True)), driver.create(universal_wasm(True))
    first = take(driver)
    driver.update(one, program().set_counter(1).reply(b""))
    second = take(driver, first)
    assert second.memories[two].module is first.memories[two].module
    assert second.memories[one].module is not first.memories[one].module
    driver.query(two, program().set_counter(9).reply(b""))
    assert take(driver, second).memories[two].module is first.memories[two].module


def test_a_restored_memory_is_not_mistaken_for_a_later_one(driver, canister, program):
    kept = [take(driver)]
    for number in range(4):
        driver.update(canister, program().set_counter(number).store(40_000, number).reply(b""))
        kept.append(take(driver, kept[-1]))
    read = program().counter().append_number().push(0).load(40_000).append_number().reply()
    for at in (4, 1, 3, 3, 2):
        restore(driver, kept[at])
        expected = (at - 1).to_bytes(8, "little") * 2
        assert driver.query(canister, read) == Reply(expected)
        driver.reject(canister, program().set_counter(99).store(40_000, 99).trap("undone"))
        assert driver.update(canister, read) == expected


def test_a_canister_that_was_made_later_is_gone_and_its_id_is_free(driver, universal_wasm):
    snapshot = take(driver)
    made = driver.create(universal_wasm(True))
    restore(driver, snapshot)
    assert made not in driver.canisters
    assert driver.create(universal_wasm(False)) == made


def test_a_canister_that_was_deleted_is_there_again(driver, canister, program):
    driver.update(canister, program().set_counter(5).reply(b""))
    snapshot = take(driver)
    driver.manage("stop_canister", {"canister_id": canister})
    driver.manage("delete_canister", {"canister_id": canister})
    restore(driver, snapshot)
    assert driver.update(canister, program().counter().append_number().reply())[:1] == b"\x05"


@pytest.mark.covers("snapshot and restore of the subnet")
def test_an_open_call_is_answered_once_after_each_restoration(driver, canister, other, program):
    inner = program().reply(b"inner")
    calling = program().call(
        other.raw, "update", inner, reply=program().append_blob_of("msg_arg_data").reply()
    )
    record = driver.submit(canister, "update", calling.drop())
    with driver.machine.lock:
        driver.machine.begin_round()
        driver.machine.execute_next()
    assert driver.canisters[canister].contexts
    snapshot = take(driver)
    for _ in range(3):
        driver.settle()
        now = driver.machine.subnet.history.records[record.request_id]
        assert now.payload == Reply(b"inner")
        restore(driver, snapshot)
        assert driver.canisters[canister].contexts


def test_time_that_stands_still_stands_where_it_stood(virtual, universal_wasm):
    virtual.create(universal_wasm(True))
    snapshot = take(virtual)
    virtual.advance(1000 * SECOND)
    restore(virtual, snapshot)
    assert virtual.machine.clock.now() == virtual.START
    assert virtual.machine.clock.paused


def test_time_that_runs_is_no_longer_ahead(driver):
    snapshot = take(driver)
    driver.advance(3100 * SECOND)
    ahead = driver.machine.clock.now()
    restore(driver, snapshot)
    assert snapshot.taken_at < driver.machine.clock.now() < ahead
    assert not driver.machine.clock.paused


# --- over HTTP ----------------------------------------------------------------------------------


async def counter(client, canister, program):
    _, body, _ = await client.query(canister, "query", program().counter().append_number().reply())
    return int.from_bytes(body["reply"]["arg"], "little")


async def one_is_held(client):
    """Ask until a fault holds a message back; the replica itself does not tell."""
    for _ in range(10_000):
        if (await client.admin("GET", "/status"))[1]["held"]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("no message is held back")


@pytest.mark.covers("snapshot and restore of the subnet")
@pytest.mark.covers("snapshot and restore of the subnet")
async def test_over_http_a_snapshot_can_be_restored_many_times(
    client, replica, universal_wasm, program
):
    admin = AdminClient(replica.url)
    canister = await client.create(universal_wasm(True))
    await client.certified(canister, "update", program().set_counter(1).reply(b""))
    one = await admin.snapshot()
    await client.certified(canister, "update", program().set_counter(2).reply(b""))
    two = await admin.snapshot()
    assert one != two
    for name, expected in ((one, 1), (two, 2), (one, 1), (one, 1)):
        await admin.restore(name)
        assert await counter(client, canister, program) == expected
        status = await client.certified(canister, "update", program().set_counter(9).reply(b"ok"))
        assert status(b"reply") == b"ok"
    await admin.forget(two)
    with pytest.raises(ReplicaError, match="there is no snapshot"):
        await admin.restore(two)
    with pytest.raises(ReplicaError, match="there is no snapshot"):
        await admin.forget(two)


@pytest.mark.covers("snapshot and restore of the subnet")
async def test_who_waits_for_a_call_that_is_undone_is_told(
    client, replica, universal_wasm, program
):
    admin = AdminClient(replica.url)
    canister = await client.create(universal_wasm(True))
    other = await client.create(universal_wasm(True))
    name = await admin.snapshot()
    _, body = await client.admin(
        "POST", "/faults",
        json={"action": "delay", "nanoseconds": 100 * SECOND, "from": str(canister)},
    )  # fmt: skip
    assert "id" in body
    calling = program().call(
        other.raw, "update", program().reply(b""), reply=program().reply(b"late")
    )
    content = client.content(
        "call", canister_id=canister.raw, method_name="update", arg=bytes(calling.drop())
    )
    waiting = asyncio.create_task(client.call(canister, "update", content=content))
    await one_is_held(client)
    await admin.restore(name)
    status, body, request_id = await waiting
    assert (status, body["status"]) == (200, "non_replicated_rejection")
    assert (body["reject_code"], "restored" in body["reject_message"]) == (2, True)
    status, text = await client.read_state(canister, [(b"request_status", request_id)])
    assert (status, "restored to an earlier state" in text) == (400, True)
    # The very same request is a new one now.
    status, body, _ = await client.call(canister, "update", content=content)
    assert (status, body["status"]) == (200, "replied")
    status, certificate = await client.read_state(canister, [(b"request_status", request_id)])
    assert certificate.value((b"request_status", request_id, b"reply")) == b"late"


@pytest.mark.parametrize(
    ("patience", "told"),
    [(120.0, CallRejectedError), (0.05, CallOutcomeUnknownError)],
    ids=["that waits for its answer", "that polls its status"],
)
async def test_an_agent_with_a_call_that_is_undone_is_told(
    client, replica, universal_wasm, program, monkeypatch, patience, told
):
    admin = AdminClient(replica.url)
    canister = await client.create(universal_wasm(True))
    name = await admin.snapshot()
    monkeypatch.setattr(api, "SYNC_CALL_SECONDS", patience)
    await admin.fault("delay", nanoseconds=100 * SECOND, sender=canister)
    calling = program().call(canister.raw, "update", program().reply(b"")).drop()
    identity = Identity.from_seed(bytes(32))
    async with Agent(replica.url, identity=identity, root_key=replica.root_key) as agent:
        waiting = asyncio.create_task(agent.update(canister, "update", bytes(calling)))
        await one_is_held(client)
        await asyncio.sleep(2 * patience if patience < 1 else 0)
        await admin.restore(name)
        with pytest.raises(told, match="restored to an earlier state"):
            await waiting


async def test_who_waits_for_a_call_that_was_open_at_the_snapshot_waits_on(
    client, replica, universal_wasm, program
):
    admin = AdminClient(replica.url)
    canister = await client.create(universal_wasm(True))
    other = await client.create(universal_wasm(True))
    await client.admin(
        "POST", "/faults",
        json={"action": "delay", "nanoseconds": 100 * SECOND, "from": str(canister)},
    )  # fmt: skip
    calling = program().call(
        other.raw, "update", program().reply(b""), reply=program().reply(b"late")
    )
    waiting = asyncio.create_task(client.call(canister, "update", calling.drop()))
    await one_is_held(client)
    name = await admin.snapshot()
    await client.certified(other, "update", program().set_counter(3).reply(b""))
    await admin.restore(name)
    assert await counter(client, other, program) == 0
    await client.admin("POST", "/time", json={"advance": 101 * SECOND})
    status, body, request_id = await waiting
    assert (status, body["status"]) == (200, "replied")
    certificate = wire.Certificate.from_cbor(body["certificate"])
    assert certificate.value((b"request_status", request_id, b"reply")) == b"late"


async def test_an_execution_under_way_is_waited_for(make_client, universal_wasm, program):
    # Enough instructions for another thread to go on with the rounds meanwhile.
    async with (
        Replica(admin=True, limits=Limits(update=200_000_000)) as replica,
        aiohttp.ClientSession() as session,
    ):
        client, admin = make_client(replica, session), AdminClient(replica.url)
        canister = await client.create(universal_wasm(True))
        name = await admin.snapshot()
        spinning = [
            asyncio.create_task(client.call(canister, "update", program().spin())) for _ in range(3)
        ]
        await asyncio.sleep(0.05)
        taken = await admin.snapshot()
        await admin.restore(name)
        answers = await asyncio.gather(*spinning)
        assert all(status == 200 for status, _, _ in answers)
        # Each has trapped before the restoration, or is undone by it.
        assert {body["status"] for _, body, _ in answers} <= {"replied", "non_replicated_rejection"}
        await admin.restore(taken)
        await admin.restore(name)
        assert await counter(client, canister, program) == 0


async def test_queries_go_on_during_snapshots_and_restorations(
    client, replica, universal_wasm, program
):
    admin = AdminClient(replica.url)
    canister = await client.create(universal_wasm(True))
    await client.certified(canister, "update", program().set_counter(4).reply(b""))
    done = False

    async def ask():
        while not done:
            assert await counter(client, canister, program) == 4

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    for _ in range(20):
        name = await admin.snapshot()
        await client.certified(canister, "update", program().set_counter(4).reply(b""))
        await admin.restore(name)
        await admin.forget(name)
    done = True
    await asyncio.gather(*asking)


async def test_what_is_asked_wrongly_is_refused(client):
    status, text = await client.admin("POST", "/restore", json={"id": 5})
    assert (status, "there is no snapshot '5'" in text) == (400, True)
    status, text = await client.admin("POST", "/restore", json={"name": "x"})
    assert (status, "unknown fields" in text) == (400, True)
    status, text = await client.admin("DELETE", "/snapshot/none")
    assert (status, "there is no snapshot 'none'" in text) == (400, True)


def living_snapshots():
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is subnet_snapshot.SubnetSnapshot]


async def test_a_snapshot_that_is_dropped_takes_no_memory(client, replica, universal_wasm):
    before = living_snapshots()  # of other tests
    admin = AdminClient(replica.url)
    await client.create(universal_wasm(True))
    names = [await admin.snapshot() for _ in range(2)]
    assert len(living_snapshots()) == len(before) + 2
    for name in names:
        await admin.forget(name)
    assert (await client.admin("GET", "/status"))[1]["snapshots"] == []
    await client.create(universal_wasm(True))
    assert len(living_snapshots()) == len(before)
