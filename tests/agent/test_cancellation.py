"""Every await can be cancelled, and an agent is as good as new afterwards."""

import asyncio
import contextlib
from dataclasses import replace

import pytest
from aiohttp import web
from replica_lies import ran, refusing

from bridge.agent import Identity, Limits, Retries, Timeouts
from bridge.errors import BridgeError, RequestRefusedError, UsageError

SECOND = 1_000_000_000
REPLY = b"DIDL\0\0reply"

WAITING = replace(Timeouts(), first_poll=60 * SECOND, longest_poll=60 * SECOND)
LONG_PAUSES = Retries(attempts=9, first_delay=60 * SECOND, longest_delay=60 * SECOND)


async def half_an_answer(ask):
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(ask.http)
    await response.write(b"\xd9\xd9\xf7")
    await asyncio.sleep(3600)


def tasks() -> set[asyncio.Task]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def until(condition) -> None:
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110 - the condition is in a server's state
            await asyncio.sleep(0.001)


async def cancel_when(task: asyncio.Task, condition) -> None:
    await until(condition)
    for _ in range(20):
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(120):
            await task


async def assert_good_as_new(agent, replica, canister) -> None:
    replica.lies.clear()
    assert agent._exchange.transport._turn._value == 2
    agent._exchange.timeouts = replace(Timeouts(), first_poll=SECOND // 1000)
    assert await agent.update(canister, "greet") == REPLY
    assert await agent.query(canister, "peek") == REPLY


@pytest.fixture
async def patient(connect):
    async with connect(
        Identity.generate(), timeouts=WAITING, retries=LONG_PAUSES, limits=Limits(in_flight=2)
    ) as made:
        yield made


@pytest.mark.parametrize("kind", ["call", "query", "read_state"])
@pytest.mark.parametrize("where", ["silence", "half an answer", "the pause before a retry"])
async def test_a_request_is_cancelled(patient, replica, canister, silence, kind, where):
    lie = {"silence": silence, "half an answer": half_an_answer}.get(where, refusing(429))
    replica.lie(kind, lie)
    work = {
        "call": patient.update(canister, "greet"),
        "query": patient.query(canister, "peek"),
        "read_state": patient.module_hash(canister),
    }
    task = asyncio.create_task(work.pop(kind))
    for other in work.values():
        other.close()
    await cancel_when(task, lambda: replica.asked)
    await assert_good_as_new(patient, replica, canister)


async def test_a_call_is_cancelled_between_polls(patient, replica, canister):
    replica.lie("call", ran)
    task = asyncio.create_task(patient.update(canister, "greet"))
    await cancel_when(task, lambda: replica.runs)
    await assert_good_as_new(patient, replica, canister)


async def test_a_call_is_cancelled_during_a_poll(connect, replica, canister, silence):
    timeouts = replace(WAITING, first_poll=1)
    async with connect(Identity.generate(), timeouts=timeouts, limits=Limits(in_flight=2)) as agent:
        replica.lie("call", ran)
        replica.lie("read_state", silence)
        task = asyncio.create_task(agent.update(canister, "greet"))
        await cancel_when(task, lambda: ("read_state", "v3") in replica.asked)
        await assert_good_as_new(agent, replica, canister)


async def test_waiting_for_a_turn_is_cancelled(patient, replica, canister, silence):
    replica.lie("query", silence, silence)
    holders = [asyncio.create_task(patient.query(canister, "peek")) for _ in range(2)]
    waiter = asyncio.create_task(patient.query(canister, "peek"))
    await cancel_when(waiter, lambda: len(replica.asked) == 2)
    for holder in holders:
        await cancel_when(holder, lambda: True)
    await assert_good_as_new(patient, replica, canister)


async def test_one_asker_s_cancellation_leaves_the_others_their_node_keys(
    patient, replica, canister
):
    gate = asyncio.Event()

    async def slow(_):
        await gate.wait()

    replica.lie("read_state", slow)
    first, second = (asyncio.create_task(patient.query(canister, "peek")) for _ in range(2))
    await cancel_when(first, lambda: ("read_state", "v3") in replica.asked)
    gate.set()
    assert await second == REPLY
    assert replica.asked.count(("read_state", "v3")) == 1


async def test_connecting_is_cancelled(connect, canister):
    # A listening socket whose queue is full does not answer further attempts to connect.
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(8)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            async with connect(url=f"http://127.0.0.1:{address[1]}") as agent:
                task = asyncio.create_task(agent.query(canister, "peek"))
                await cancel_when(task, lambda: True)
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.parametrize("kind", ["call", "poll", "query", "refused", "of the root subnet"])
async def test_cancelled_after_any_number_of_steps(connect, replica, canister, kind):
    """Lets the event loop run 0, 1, 2, ... times before it cancels: no await is left out."""
    timeouts = replace(Timeouts(), first_poll=1, longest_poll=1000)
    before = tasks()
    async with connect(Identity.generate(), timeouts=timeouts, limits=Limits(in_flight=2)) as agent:
        for steps in range(0, 120, 3):
            agent._nodes._nodes.clear()
            agent._nodes._subnets.clear()
            if kind == "poll":
                replica.lie("call", ran)
            if kind == "refused":  # then the clock is measured, which changes nothing
                replica.lie("call", refusing(400), None)
            if kind == "of the root subnet":
                replica.subnet, agent._exchange._root_scope._shown = replica.root, None
            work = agent.query(canister, "peek") if kind == "query" else agent.update(canister, "x")
            task = asyncio.create_task(work)
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, RequestRefusedError):
                assert await task == REPLY
            replica.lies.clear()
            assert agent._exchange.transport._turn._value in (
                1,
                2,
            )  # node keys may still be on their way
        await assert_good_as_new(agent, replica, canister)
    await until(lambda: not [task for task in tasks() - before if "bridge/agent" in repr(task)])


@pytest.mark.parametrize("kind", ["call", "query", "read_state", "poll", "node keys", "turn"])
async def test_closing_ends_what_is_under_way_with_an_error_of_ours(
    connect, replica, canister, silence, kind
):
    timeouts = replace(Timeouts(), first_poll=1)
    quick = Retries(attempts=2, first_delay=1, longest_delay=1)
    agent = connect(
        Identity.generate(), timeouts=timeouts, retries=quick, limits=Limits(in_flight=1)
    )
    if kind == "poll":
        replica.lie("call", ran)
    silent = {"poll": "read_state", "node keys": "read_state", "turn": "query"}.get(kind, kind)
    replica.lie(silent, silence, forever=True)
    ask = {
        "call": lambda: agent.update(canister, "greet"),
        "poll": lambda: agent.update(canister, "greet"),
        "read_state": lambda: agent.module_hash(canister),
    }.get(kind, lambda: agent.query(canister, "peek"))
    asking = [asyncio.create_task(ask()) for _ in range(2 if kind == "turn" else 1)]
    await until(lambda: [name for name, _ in replica.asked if name == silent])
    await agent.close()
    async with asyncio.timeout(120):
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
    # Never a cancellation that nobody asked for: a group of tasks would swallow it.
    assert all(isinstance(outcome, BridgeError) for outcome in outcomes), outcomes


async def test_two_askers_for_node_keys_both_hear_that_the_agent_was_closed(
    connect, replica, canister, silence
):
    replica.lie("read_state", silence)
    agent = connect()
    asking = [asyncio.create_task(agent.query(canister, "peek")) for _ in range(2)]
    await until(lambda: replica.asked.count(("query", "v3")) == 2)
    await until(lambda: ("read_state", "v3") in replica.asked)
    for _ in range(20):
        await asyncio.sleep(0.001)
    await agent.close()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [UsageError] * 2
