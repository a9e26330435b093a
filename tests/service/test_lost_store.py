"""A bridge whose store is lost for good stops, says so once, and to whoever waits."""

import asyncio
import logging

import pytest

from bridge.errors import LocalProtocolError, StoreLostError
from bridge.flow import New, ReceiverState
from bridge.store import PostgresStore


@pytest.fixture
def make_store_to_lose(postgres):
    def make():
        return PostgresStore(postgres.conninfo, schema=postgres.schema, reconnect_within=0.1)

    return make


@pytest.fixture
async def away(postgres):
    """Takes the server away until the test's end."""
    gone = False

    async def take_away():
        nonlocal gone
        gone = True
        await asyncio.to_thread(postgres.server.stop)

    async def bring_back():
        nonlocal gone
        gone = False
        await asyncio.to_thread(postgres.server.start)

    take_away.back = bring_back
    yield take_away
    if gone:
        await bring_back()


async def test_a_bridge_serves_until_it_is_ended_elsewhere(
    make_store_to_lose, bridge_to, peer
) -> None:
    async with make_store_to_lose() as store:
        bridge = bridge_to(store)
        with pytest.raises(LocalProtocolError, match="not running"):
            await bridge.serve_forever()
        async with bridge:
            serving = asyncio.create_task(bridge.serve_forever())
            await bridge.send(peer.canister_id, b"hello")
            assert not serving.done()
        await serving


async def test_waiting_for_a_bridge_can_be_given_up_and_it_works_on(
    make_store_to_lose, bridge_to, peer
) -> None:
    async with make_store_to_lose() as store, bridge_to(store) as bridge:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await bridge.serve_forever()
        assert await bridge.send(peer.canister_id, b"hello") == b"hello"


async def test_who_waits_is_told_that_the_store_is_lost_and_the_flow_goes_on_later(
    make_store_to_lose, bridge_to, peer, until, away, caplog
) -> None:
    caplog.set_level(logging.INFO)
    peer.answers = False
    async with make_store_to_lose() as store:
        async with bridge_to(store) as bridge:
            serving = asyncio.create_task(bridge.serve_forever())
            sending = [
                asyncio.create_task(bridge.send(peer.canister_id, b"hello", msg_id=n))
                for n in range(30)
            ]
            await until(lambda: len(peer.got) >= 30)
            await away()
            async with asyncio.timeout(120):
                for outcome in await asyncio.gather(*sending, return_exceptions=True):
                    assert isinstance(outcome, StoreLostError)
                    assert "the flow goes on with the next bridge on this store" in str(outcome)
                with pytest.raises(StoreLostError, match="its server was not found again within"):
                    await serving
            for call in (
                bridge.send(peer.canister_id, b"more"),
                bridge.post(peer.canister_id, b"more"),
                bridge.response(1),
                bridge.serve_forever(),
            ):
                with pytest.raises(StoreLostError, match="is lost"):
                    await call
            with pytest.raises(StoreLostError):
                bridge.watch(peer.canister_id)
            seen = len(caplog.records)
            for _ in range(50):
                await asyncio.sleep(0.001)
            assert len(caplog.records) == seen, "it says no more"
        assert caplog.text.count("the bridge stops: the store") == 1
        assert len(caplog.records) < 10, caplog.text
    await away.back()
    peer.answers = True
    async with make_store_to_lose() as store, bridge_to(store) as bridge:
        assert await bridge.response(29) == b"hello"


async def test_a_handler_that_runs_when_the_store_is_lost_is_as_one_cut_off_by_a_crash(
    make_store_to_lose, bridge_to, peer, until, away
) -> None:
    began, cut_off = asyncio.Event(), asyncio.Event()

    async def handler(_request):
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cut_off.set()

    peer.put(New(7, b"x"))
    async with make_store_to_lose() as store, bridge_to(store, handler=handler) as bridge:
        bridge.watch(peer.canister_id)
        await began.wait()
        await away()
        with pytest.raises(StoreLostError):
            async with asyncio.timeout(120):
                await bridge.serve_forever()
    assert cut_off.is_set()
    await away.back()
    told = asyncio.Queue()
    async with (
        make_store_to_lose() as store,
        bridge_to(store, handler=handler, on_operator=told.put),
    ):
        async with asyncio.timeout(120):
            stalled = await told.get()
        assert stalled.msg_id == 7
        record = await store.receiver_flow(peer.canister_id, 7)
        assert record.state == ReceiverState.STALLED
