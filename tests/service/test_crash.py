"""A bridge that is cut off at any moment, and the next one on its store: nothing is lost.

Cut off means: every task is cancelled at whatever it awaits, with no time to end.
"""

import asyncio
import dataclasses

import pytest

from bridge.errors import LocalProtocolError, NotSentError
from bridge.flow import (
    Ack,
    Decision,
    Fin,
    New,
    ReceiverState,
    SenderState,
    Telling,
    payload_hash,
)
from bridge.reference import SHORT_POLICY
from bridge.store import MemoryStore, PostgresStore, SQLiteStore

MS = 1_000_000
POLICY = dataclasses.replace(
    SHORT_POLICY,
    first_retry=20 * MS,
    call_timeout=5 * MS,
    call_margin=1 * MS,
    send_retry=5 * MS,
    echo_min=1,
    spread=1 * MS,
    attempts=100,
)
MOMENTS = range(0, 160, 4)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def make_store(request, tmp_path):
    """One store a call; on disk, cuts fall between the event loop and the store's thread too."""

    def make(number):
        if request.param == "memory":
            return MemoryStore()
        if request.param == "sqlite":
            return SQLiteStore(tmp_path / f"{number}.db")
        place = request.getfixturevalue("postgres")
        return PostgresStore(place.conninfo, schema=f"{place.schema}_{number}")

    # A server's schemas are dearer to make than files.
    make.moments = MOMENTS[::5] if request.param == "postgres" else MOMENTS

    return make


async def run_for(moment, store):
    """Until some moment, which with a disk is one of time, and so another at each run."""
    if not isinstance(store, MemoryStore):
        await asyncio.sleep(moment / 5_000)
        return
    for _ in range(moment):
        await asyncio.sleep(0)


async def test_a_sender_that_is_cut_off_at_any_moment_loses_no_response(
    make_peer, bridge_to, make_store, way
) -> None:
    ends = set()
    for moment in make_store.moments:
        peer, told = make_peer(), []
        options = {"agent": peer, "policy": POLICY, "close_within": 0, **way}

        async def on_outcome(outcome, told=told):
            told.append(outcome.response)

        async with make_store(moment) as store:
            async with bridge_to(store, on_outcome=on_outcome, **options) as bridge:
                sending = asyncio.create_task(bridge.send(peer.canister_id, b"hello", msg_id=1))
                await run_for(moment, store)
            (first,) = await asyncio.gather(sending, return_exceptions=True)
            async with bridge_to(store, on_outcome=on_outcome, **options) as bridge:
                async with asyncio.timeout(120):
                    try:
                        response = await bridge.send(peer.canister_id, b"hello", msg_id=1)
                    except LocalProtocolError:  # taken before
                        assert first == b"hello" or told == [b"hello"], moment
                        response = b"hello"
                assert response == b"hello"
                ends.add(type(first))
                while (  # noqa: ASYNC110 - it polls a store
                    await store.sender_flow(1)
                ).state != SenderState.ACKNOWLEDGED:
                    await asyncio.sleep(0.001)
            assert New(1, b"hello") in peer.got
    if isinstance(store, MemoryStore):
        assert len(ends) > 1, "some were cut off before the response, some after"


async def test_a_receiver_that_is_cut_off_at_any_moment_runs_no_handler_twice_unasked(
    make_peer, bridge_to, make_store, way
) -> None:
    stalled = 0
    for moment in make_store.moments:
        peer, runs, told = make_peer(), [], asyncio.Queue()
        options = {"agent": peer, "policy": POLICY, "close_within": 0, **way}

        async def handler(request, runs=runs):
            runs.append(request.redelivered)
            await asyncio.sleep(0)
            return b"done"

        peer.put(New(7, b"x"))
        async with make_store(moment) as store:
            async with bridge_to(store, handler=handler, **options) as bridge:
                bridge.watch(peer.canister_id)
                await run_for(moment, store)
            async with bridge_to(store, handler=handler, on_operator=told.put, **options) as bridge:
                bridge.watch(peer.canister_id)
                async with asyncio.timeout(120):
                    while True:
                        record = await store.receiver_flow(peer.canister_id, 7)
                        if record is not None and record.state == ReceiverState.FINISHED:
                            break
                        if not told.empty():
                            telling = told.get_nowait()
                            assert telling.what == Telling.STALLED
                            stalled += 1
                            await bridge.answer(telling.peer, 7, b"done")
                        await asyncio.sleep(0.001)
            assert runs in ([], [False]), moment
            answers = [message for message in peer.got if isinstance(message, Ack)]
            assert set(answers) == {Ack(7, b"done", payload_hash(b"x"))}, moment
    if isinstance(store, MemoryStore):
        assert 0 < stalled < len(MOMENTS)


async def test_a_question_that_is_cut_off_is_asked_by_the_next_bridge(
    make_peer, bridge_to, make_store, way
) -> None:
    peer, asked = make_peer(), []
    options = {"agent": peer, "policy": POLICY, "close_within": 0, **way}
    # It has the response, and each of its FINs arrives damaged.
    peer.refuse = lambda message: NotSentError("away") if isinstance(message, Ack) else None

    async def handler(_request):
        return b"done"

    async def never_decides(question):
        asked.append((question.kind, question.their_hash, question.tries))
        await asyncio.Event().wait()

    async def accepts(question):
        asked.append((question.kind, question.their_hash, question.tries))
        return Decision.ACCEPT

    async def reaches(store, reached):
        async with asyncio.timeout(120):
            while not reached(  # noqa: ASYNC110 - it polls a store
                await store.receiver_flow(peer.canister_id, 7)
            ):
                await asyncio.sleep(0.001)

    peer.put(New(7, b"x"))
    async with make_store(0) as store:
        async with bridge_to(store, handler=handler, on_corrupt=never_decides, **options) as bridge:
            bridge.watch(peer.canister_id)
            await reaches(store, lambda flow: flow is not None and flow.response == b"done")
            peer.put(Fin(7, 99))
            async with asyncio.timeout(120):
                while not asked:  # noqa: ASYNC110 - it watches an application
                    await asyncio.sleep(0.001)
        assert asked == [("FIN", 99, 1)]
        async with bridge_to(store, handler=handler, on_corrupt=accepts, **options):
            await reaches(store, lambda flow: flow.state is ReceiverState.FINISHED)
    assert asked == [("FIN", 99, 1), ("FIN", 99, 2)]


async def test_a_question_whose_handler_fails_because_its_bridge_ends_is_asked_by_the_next(
    make_peer, bridge_to, make_store
) -> None:
    peer, asked, ending = make_peer(), [], asyncio.Event()
    options = {"agent": peer, "policy": POLICY}
    peer.refuse = lambda message: NotSentError("away") if isinstance(message, Ack) else None

    async def handler(_request):
        return b"done"

    async def loses_its_database(question):
        asked.append(question.tries)
        await ending.wait()
        raise ConnectionError("the pool is closed")

    async def accepts(question):
        asked.append(question.tries)
        return Decision.ACCEPT

    peer.put(New(7, b"x"))
    async with make_store(0) as store:
        bridge = bridge_to(store, handler=handler, on_corrupt=loses_its_database, **options)
        async with bridge:
            bridge.watch(peer.canister_id)
            async with asyncio.timeout(120):
                while not asked:
                    if (await store.receiver_flow(peer.canister_id, 7)) is not None:
                        peer.put(Fin(7, 99))
                    await asyncio.sleep(0.01)
            asyncio.get_running_loop().call_soon(ending.set)
        async with bridge_to(store, handler=handler, on_corrupt=accepts, **options):
            async with asyncio.timeout(120):
                while len(asked) == 1:  # noqa: ASYNC110 - it watches an application
                    await asyncio.sleep(0.001)
    assert asked == [1, 2]
