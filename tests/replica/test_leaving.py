"""Leaving ``async with Replica()`` while canisters run: it ends, and takes nothing with it."""

import asyncio
import threading

import aiohttp
import pytest

from bridge.replica import Replica
from bridge.replica.execution import host
from bridge.replica.execution.run import Mode
from bridge.replica.scheduler.machine import Limits

# Some days of work.
ENDLESS = Limits(update=10**15, query=10**15)
PATIENCE = 120
KINDS = {"update": Mode.U, "query": Mode.NRQ, "composite": Mode.CQ}


async def running(mode, *, besides=()):
    """Wait until a canister runs so, on a thread of its own; those that do."""
    here = threading.get_ident()
    async with asyncio.timeout(PATIENCE):
        while True:
            runs = [each for each in host.running.values() if each not in besides]
            found = [each for each in runs if each.mode is mode and each.thread != here]
            if found:
                return found
            await asyncio.sleep(0.001)


async def ended(threads):
    """Whether all of the threads end."""
    for thread in threads:
        await asyncio.to_thread(thread.join, PATIENCE)
    return not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_execution_without_an_end_ends_with_the_replica(
    make_client, universal_wasm, program, kind
):
    before = set(threading.enumerate())
    async with (
        Replica(limits=ENDLESS) as replica,
        aiohttp.ClientSession() as session,
    ):
        client = make_client(replica, session)
        canister = await client.create(universal_wasm(True))
        ask = client.call if kind == "update" else client.query
        asked = asyncio.ensure_future(ask(canister, kind, program().spin()))
        await running(KINDS[kind])
        threads = set(threading.enumerate()) - before
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await asked
    assert any(thread.name.startswith("replica-query") for thread in threads)
    assert any(thread.name.startswith("replica-rounds") for thread in threads)
    ours = [thread for thread in threads if thread.name.startswith("replica-")]
    assert await ended(ours)


async def test_what_runs_in_another_replica_is_not_disturbed(
    make_client, universal_wasm, program, hold
):
    async with (
        Replica(limits=Limits(query=50_000_000)) as staying,
        aiohttp.ClientSession() as session,
    ):
        client = make_client(staying, session)
        canister = await client.create(universal_wasm(True))
        long = program().debug_print(hold.WORD).spin()
        asked = asyncio.ensure_future(client.query(canister, "query", long))
        await hold.reached()
        held = await running(Mode.NRQ)
        async with Replica(limits=ENDLESS) as leaving:
            other = make_client(leaving, session)
            spinning = await other.create(universal_wasm(True))
            endless = asyncio.ensure_future(other.query(spinning, "query", program().spin()))
            await running(Mode.NRQ, besides=held)
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await endless
        hold.let_go()
        _, body, _ = await asked
        assert body["error_code"] == "IC0522"  # it came to its limit, as if nothing had been
        _, body, _ = await client.query(canister, "query", program().reply(b"alive"))
        assert body["reply"]["arg"] == b"alive"


async def test_an_execution_that_is_broken_off_begins_again_at_the_next_start(
    tmp_path, make_client, universal_wasm, program
):
    place = tmp_path / "state"
    async with (
        Replica(state_dir=place, limits=ENDLESS) as replica,
        aiohttp.ClientSession() as session,
    ):
        client = make_client(replica, session)
        canister = await client.create(universal_wasm(True))
        changed = program().set_counter(7).spin()
        status, _, request_id = await client.call(canister, "update", changed, version=2)
        assert status == 202
        await running(Mode.U)
    async with (
        Replica(state_dir=place, limits=Limits(update=50_000_000)) as replica,
        aiohttp.ClientSession() as session,
    ):
        client = make_client(replica, session)
        client._nonce = iter(range(1000, 10**6))
        path = (b"request_status", request_id)
        async with asyncio.timeout(PATIENCE):
            told = None
            while told != b"rejected":
                _, certificate = await client.read_state(canister, [path])
                told = certificate.value((*path, b"status"))
                assert told in (b"received", b"processing", b"rejected")
        assert certificate.value((*path, b"error_code")) == b"IC0522"
        _, body, _ = await client.query(
            canister, "query", program().counter().append_number().reply()
        )
        assert body["reply"]["arg"] == bytes(8)
