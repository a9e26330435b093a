"""Leaving ``async with Replica()`` while canisters run: it ends, and takes nothing with it."""

import asyncio
import threading

import aiohttp
import pytest

from bridge.replica import Replica
from bridge.replica import replica as replica_module
from bridge.replica.execution import host
from bridge.replica.execution.run import Mode
from bridge.replica.scheduler.machine import Limits
from bridge.replica.storage.keeper import Keeper

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


class _StuckServer:
    """A stand-in for a server that does not come to its end before who leaves is cancelled."""

    def __init__(self):
        self.stopping = asyncio.Event()

    async def stop(self):
        self.stopping.set()
        await asyncio.Event().wait()


async def test_who_is_cancelled_while_leaving_leaves_the_directory_free(
    tmp_path, make_client, universal_wasm, program, monkeypatch
):
    place, stuck = tmp_path / "state", _StuckServer()
    replica = await Replica(state_dir=place).__aenter__()
    async with aiohttp.ClientSession() as session:
        client = make_client(replica, session)
        canister = await client.create(universal_wasm(True))
        await client.certified(canister, "update", program().set_counter(7).reply(b""))
    server, threads = replica._server, [*replica._query_threads, *replica._rounds.threads]
    monkeypatch.setattr(replica, "_server", stuck)
    leaving = asyncio.ensure_future(replica.__aexit__(None, None, None))
    await stuck.stopping.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await server.stop()
    assert await ended(threads)
    async with Replica(state_dir=place) as again, aiohttp.ClientSession() as session:
        client = make_client(again, session)
        client._nonce = iter(range(1000, 10**6))
        read = program().counter().append_number().reply()
        _, body, _ = await client.query(canister, "query", read)
        assert body["reply"]["arg"] == (7).to_bytes(8, "little")


async def test_a_cancellation_while_the_state_is_written_waits_for_that(tmp_path, monkeypatch):
    place = tmp_path / "state"
    replica = await Replica(state_dir=place).__aenter__()
    writing, written, go_on = threading.Event(), threading.Event(), threading.Event()
    close = Keeper.close

    def closing(keeper):
        writing.set()
        assert go_on.wait(PATIENCE)
        close(keeper)
        written.set()

    monkeypatch.setattr(Keeper, "close", closing)
    leaving = asyncio.ensure_future(replica.__aexit__(None, None, None))
    assert await asyncio.to_thread(writing.wait, PATIENCE)
    leaving.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert written.is_set()


async def test_a_defect_in_closing_leaves_no_threads_and_no_lock(tmp_path, monkeypatch):
    place = tmp_path / "state"
    ends = []
    with monkeypatch.context() as patched:
        close, end = Keeper.close, replica_module._end

        def closing(keeper):
            close(keeper)
            raise RuntimeError("a defect")

        def ending(threads, seconds):
            ends.append(threads)
            end(threads, seconds)

        patched.setattr(Keeper, "close", closing)
        patched.setattr(replica_module, "_end", ending)
        with pytest.raises(RuntimeError, match="a defect"):
            async with Replica(state_dir=place):
                pass
    assert len(ends) == 1
    async with Replica(state_dir=place):
        pass


def test_if_one_thread_cannot_be_had_the_others_end(monkeypatch):
    before = threading.stack_size()
    start, started = threading.Thread.start, []

    def starting(thread):
        if len(started) == 5:
            raise RuntimeError("can't start new thread: a stand-in for the system's refusal")
        started.append(thread)
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", starting)
        with pytest.raises(RuntimeError, match="can't start"):
            replica_module._executor()
    for thread in started:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert threading.stack_size() == before
