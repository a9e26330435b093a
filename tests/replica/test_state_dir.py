"""``Replica(state_dir=...)`` in a program: found again, closed, and ended when it cannot write."""

import asyncio

import aiohttp
import pytest

from bridge.errors import StateDirectoryError
from bridge.network.admin import AdminClient
from bridge.replica import Replica

READY = 300


async def test_a_program_finds_its_subnet_again(tmp_path, make_client, universal_wasm, program):
    code = program().add_to_counter(1).counter().append_number().reply()
    canister, keys, request_id = None, set(), None
    for turn in range(3):
        async with (
            Replica(state_dir=tmp_path / "state", admin=True) as replica,
            aiohttp.ClientSession() as session,
        ):
            client = make_client(replica, session)
            client._nonce = iter(range(turn * 1000 + 1, 10**6))
            keys.add(replica.root_key)
            if canister is None:
                canister = await client.create(universal_wasm(True))
            else:
                # The answer of the turn before is still there.
                path = (b"request_status", request_id, b"reply")
                _, certificate = await client.read_state(canister, [path])
                assert certificate.value(path) == turn.to_bytes(8, "little")
            status, body, request_id = await client.call(canister, "update", code)
            assert (status, body["status"]) == (200, "replied")
    assert len(keys) == 1


async def test_a_restored_snapshot_is_what_the_next_start_finds(
    tmp_path, make_client, universal_wasm, program
):
    code = program().add_to_counter(1).counter().append_number().reply()
    async with (
        Replica(state_dir=tmp_path / "state", admin=True) as replica,
        aiohttp.ClientSession() as session,
    ):
        client, admin = make_client(replica, session), AdminClient(replica.url)
        canister = await client.create(universal_wasm(True))
        await client.certified(canister, "update", code)
        name = await admin.snapshot()
        for _ in range(3):
            await client.certified(canister, "update", code)
        await client.create(universal_wasm(False))
        await admin.restore(name)
    async with (
        Replica(state_dir=tmp_path / "state", admin=True) as replica,
        aiohttp.ClientSession() as session,
    ):
        client = make_client(replica, session)
        client._nonce = iter(range(1000, 10**6))
        assert (await client.admin("GET", "/status"))[1]["canisters"] == 1
        status = await client.certified(canister, "update", code)
        assert status(b"reply") == (2).to_bytes(8, "little")


async def test_a_restoration_is_kept_before_it_is_told(
    tmp_path, make_client, universal_wasm, program
):
    async with (
        Replica(state_dir=tmp_path / "state", admin=True) as replica,
        aiohttp.ClientSession() as session,
    ):
        client, admin = make_client(replica, session), AdminClient(replica.url)
        canister = await client.create(universal_wasm(True))
        name = await admin.snapshot()
        await client.certified(canister, "update", program().set_counter(1).reply(b""))
        unsaved = replica._machine.subnet.unsaved
        found = []
        restored = replica._rounds.restore

        def restore(snapshot, ready):
            def told(outcome):
                found.append((set(unsaved.canisters), dict(unsaved.requests)))
                ready(outcome)

            restored(snapshot, told)

        replica._rounds.restore = restore
        await admin.restore(name)
        assert found == [(set(), {})]


async def test_another_seed_is_refused_and_the_directory_is_free_again(tmp_path):
    async with Replica(state_dir=tmp_path / "state", seed="one"):
        pass
    with pytest.raises(StateDirectoryError, match="another seed"):
        async with Replica(state_dir=tmp_path / "state", seed="two"):
            pass
    async with Replica(state_dir=tmp_path / "state", seed="one"):
        pass
    async with Replica(state_dir=tmp_path / "state"):
        with pytest.raises(StateDirectoryError, match="in use by another replica"):
            async with Replica(state_dir=tmp_path / "state"):
                pass


async def test_a_time_before_the_last_is_refused(tmp_path):
    async with Replica(state_dir=tmp_path / "state", time=2_000_000_000_000_000_000):
        pass
    with pytest.raises(StateDirectoryError, match="time never goes back"):
        async with Replica(state_dir=tmp_path / "state", time=1_900_000_000_000_000_000):
            pass
    async with Replica(state_dir=tmp_path / "state", time=2_100_000_000_000_000_000):
        pass


async def fill_the_disk(replica, client, universal_wasm, program):
    """Make the replica write more than there is room for."""
    canister = await client.create(universal_wasm(True))
    url = replica.url
    connection = replica._storage._database._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    big = program().push(64).stable64_grow().drop()
    for page in range(64):
        big.stable64_write(page * 65_536, 0, 65_536)
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await client.call(canister, "update", big.reply(b""))
    await asyncio.wait_for(replica.failed.wait(), READY)
    with pytest.raises(StateDirectoryError, match="cannot be written"):
        _ = replica.url
    for _ in range(20 * READY):
        if not await listens(client.session, url):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it still serves")


async def listens(session, url):
    try:
        async with session.get(url + "/api/v2/status"):
            return True
    except (aiohttp.ClientError, ConnectionError):
        return False


async def test_a_program_whose_replica_cannot_write_any_more_is_told(
    tmp_path, make_client, universal_wasm, program
):
    replica = Replica(state_dir=tmp_path / "state")
    told = None
    try:
        async with replica, aiohttp.ClientSession() as session:
            await fill_the_disk(replica, make_client(replica, session), universal_wasm, program)
    except StateDirectoryError as error:
        told = str(error)
    assert told is not None
    assert "cannot be written" in told
    async with Replica(state_dir=tmp_path / "state"):
        pass
