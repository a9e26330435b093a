"""The parts of a bridge that need no network: ids, results, waiters, the engine over a store."""

import asyncio
import random

import pytest

from bridge import candid
from bridge.errors import CandidError, LocalProtocolError
from bridge.flow import (
    Ack,
    Due,
    Failure,
    Fin,
    Policy,
    Received,
    Role,
    Send,
    SenderState,
    Tell,
    Telling,
    Transmit,
    payload_hash,
)
from bridge.flow.trace import FlowKey
from bridge.principal import Principal
from bridge.service import Outcome, ResultCodec
from bridge.service.engine import Engine
from bridge.service.ids import Mint
from bridge.service.performer import always
from bridge.service.waiters import Waiters
from bridge.store import MemoryStore

PEER = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")
STRANGER = Principal.from_text("ryjl3-tyaaa-aaaaa-aaaba-cai")
START = 1_800_000_000_000_000_000
SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


# --- Ids ----------------------------------------------------------------------------------------


def test_ids_are_ulids_of_the_clock_and_rise_within_a_millisecond() -> None:
    clock = Clock()
    mint = Mint(clock)
    ids = [mint.next() for _ in range(100)]
    assert ids == sorted(set(ids))
    assert {number >> 80 for number in ids} == {START // 1_000_000}


def test_ids_rise_even_if_the_clock_goes_back_or_the_process_restarts() -> None:
    clock = Clock()
    mint = Mint(clock)
    last = mint.next()
    clock.now -= 3600 * SECOND
    assert mint.next() > last
    assert Mint(clock, last=last).next() > last


def test_every_id_fits_128_bits() -> None:
    clock = Clock()
    clock.now = ((1 << 48) - 1) * 1_000_000
    assert Mint(clock).next() < 1 << 128


# --- Results ------------------------------------------------------------------------------------


def test_results_read_back_as_written() -> None:
    result = ResultCodec(candid.Nat)
    assert result.read(result.ok(7)) == candid.Case("ok", 7)
    assert result.read(result.err("why")) == candid.Case("err", "why")


@pytest.mark.parametrize("response", [None, b"", b"no candid", candid.encode([candid.Nat], [1])])
def test_what_is_no_result_is_refused(response: bytes | None) -> None:
    with pytest.raises(CandidError):
        ResultCodec(candid.Nat).read(response)


def test_a_result_codec_is_made_of_a_variant_of_ok_and_err_only() -> None:
    good = candid.Variant({"err": candid.Text, "ok": candid.Null})
    assert ResultCodec.of(good).read(ResultCodec.of(good).ok(None)) == candid.Case("ok")
    with pytest.raises(CandidError, match="not of the form"):
        ResultCodec.of(candid.Variant({"yes": candid.Null, "no": candid.Null}))


# --- Waiters ------------------------------------------------------------------------------------


def telling() -> Tell:
    return Tell(role=Role.SENDER, peer=PEER, msg_id=1, what=Telling.FAILED, failure=Failure.UNKNOWN)


async def test_an_outcome_goes_to_who_waits_for_it_and_to_nobody_else() -> None:
    left = []
    waiters = Waiters(left.append)
    outcome = Outcome(PEER, 1, failure=Failure.UNKNOWN)
    assert not waiters.give(outcome, telling())
    with waiters.waiting(1) as waiter, waiters.waiting(2) as other:
        assert waiters.give(outcome, telling())
        assert waiters.give(outcome, telling()), "a second one is the same"
        assert await waiter.take() == (outcome, telling())
        assert other.left is None
    assert not waiters.give(outcome, telling())
    assert left == []


async def test_a_waiter_that_leaves_without_its_outcome_gives_it_back() -> None:
    left = []
    waiters = Waiters(left.append)
    with waiters.waiting(1):
        waiters.give(Outcome(PEER, 1, failure=Failure.UNKNOWN), telling())
    with waiters.waiting(2):
        waiters.end()
    assert left == [telling()]


async def test_two_coroutines_cannot_wait_for_one_flow() -> None:
    waiters = Waiters(lambda _telling: None)
    with waiters.waiting(1), pytest.raises(LocalProtocolError, match="another coroutine"):
        waiters.waiting(1).__enter__()
    with waiters.waiting(1):
        pass


# --- The engine ---------------------------------------------------------------------------------


async def make_engine(clock: Clock, store: MemoryStore) -> Engine:
    engine = Engine(store, Policy(jitter_permille=0), clock=clock, draw=random.Random(1))
    await engine.recall()
    return engine


def send(payload: bytes = b"hello") -> Send:
    return Send(peer=PEER, msg_id=1, payload=payload)


async def test_one_flow_goes_its_way_and_each_step_is_stored_before_it_is_told() -> None:
    clock, key = Clock(), FlowKey(Role.SENDER, PEER, 1)
    async with MemoryStore() as store:
        engine = await make_engine(clock, store)
        await engine.apply(key, always(send()))
        [flow] = await engine.wait_until_due(10)
        assert flow.state is SenderState.QUEUED
        sent = await engine.apply(key, always(Due()))
        [transmit] = [e for e in sent.effects if isinstance(e, Transmit)]
        assert await engine.is_current(key, transmit)
        stored = await store.sender_flow(1)
        assert stored == sent.flow
        ack = Ack(1, b"world", payload_hash(b"hello"))
        done = await engine.apply(key, always(Received(message=ack, caller=PEER)))
        assert [e.message for e in done.effects if isinstance(e, Transmit)] == [
            Fin(1, payload_hash(b"world"))
        ]
        assert not await engine.is_current(key, transmit)
        stored = await store.sender_flow(1)
        assert stored is not None
        assert stored.state is SenderState.ANSWERED
        assert stored.response == b"world"


async def test_a_third_principal_changes_nothing() -> None:
    clock, key = Clock(), FlowKey(Role.SENDER, STRANGER, 1)
    async with MemoryStore() as store:
        engine = await make_engine(clock, store)
        await engine.apply(FlowKey(Role.SENDER, PEER, 1), always(send()))
        before = await store.sender_flow(1)
        ack = Ack(1, b"forged", payload_hash(b"hello"))
        decided = await engine.apply(key, always(Received(message=ack, caller=STRANGER)))
        assert await store.sender_flow(1) == before
        assert not [e for e in decided.effects if isinstance(e, Transmit)]
        assert engine.counters["spoofed"] == 1


async def test_steps_of_one_flow_never_overlap() -> None:
    clock, key = Clock(), FlowKey(Role.SENDER, PEER, 1)
    async with MemoryStore() as store:
        engine = await make_engine(clock, store)
        await asyncio.gather(*(engine.apply(key, always(send())) for _ in range(20)))
        record = await store.sender_flow(1)
        assert record is not None
        assert (await store.usage(Role.SENDER)).open == 1


async def test_a_used_id_with_another_payload_is_the_callers_error_and_changes_nothing() -> None:
    clock, key = Clock(), FlowKey(Role.SENDER, PEER, 1)
    async with MemoryStore() as store:
        engine = await make_engine(clock, store)
        await engine.apply(key, always(send()))
        before = await store.sender_flow(1)
        with pytest.raises(LocalProtocolError):
            await engine.apply(key, always(send(b"other")))
        assert await store.sender_flow(1) == before


async def test_waiting_ends_as_soon_as_an_earlier_flow_is_due() -> None:
    clock, key = Clock(), FlowKey(Role.SENDER, PEER, 1)
    async with MemoryStore() as store:
        engine = await make_engine(clock, store)
        waiting = asyncio.create_task(engine.wait_until_due(10))
        await asyncio.sleep(0)
        assert not waiting.done()
        await engine.apply(key, always(send()))
        assert [flow.msg_id for flow in await asyncio.wait_for(waiting, 120)] == [1]


async def test_observed_time_survives_a_restart_and_counts_a_standstill_as_one_gap() -> None:
    clock, policy = Clock(), Policy()
    async with MemoryStore() as store:
        engine = await make_engine(clock, store)
        await engine.apply(FlowKey(Role.SENDER, PEER, 1), always(send()))
        assert engine.observe() == 0
        clock.now += 3 * 24 * 3600 * SECOND
        again = await make_engine(clock, store)
        assert again.observe() == 3 * 24 * 3600 * SECOND - policy.time_gap


async def test_observed_time_that_passes_with_nothing_to_do_is_kept_too() -> None:
    clock, policy = Clock(), Policy()
    async with MemoryStore() as store:
        engine = await make_engine(clock, store)
        for _ in range(100):  # more than a day, looked at as often as it must be
            clock.now += policy.time_gap // 2
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await engine.wait_until_due(10)
        again = await make_engine(clock, store)
        assert again.observe() == 0
