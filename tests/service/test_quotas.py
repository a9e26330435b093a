"""Quotas hold to the last flow, however many are opened at once."""

import asyncio
import dataclasses

import pytest

from bridge.errors import LocalProtocolError, NotSentError
from bridge.flow import Ack, New, Role, SenderState, payload_hash
from bridge.reference import SHORT_POLICY
from bridge.service import DEFERRED
from bridge.store import MemoryStore, SQLiteStore

TEN = dataclasses.replace(SHORT_POLICY, open_flows=20, open_flows_per_peer=10, echo_min=1)


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "flows.db")


async def later(_request):
    return DEFERRED


async def test_a_page_of_requests_over_the_quota_fills_it_and_no_more(
    peer, bridge_to, store, until
) -> None:
    for number in range(50):
        peer.put(New(number, b"x"))
    async with store, bridge_to(store, handler=later, policy=TEN) as bridge:
        bridge.watch(peer.canister_id)
        refused = "refused.quota_open_flows_per_peer"
        await until(lambda: bridge.counters.get(refused, 0) == 40)
        assert (await store.usage(Role.RECEIVER)).open == 10


async def test_flows_that_are_opened_at_once_fill_the_quota_and_no_more(
    peer, bridge_to, store
) -> None:
    peer.answers = False
    async with store, bridge_to(store, policy=TEN) as bridge:
        outcomes = await asyncio.gather(
            *(bridge.post(peer.canister_id, b"x") for _ in range(50)), return_exceptions=True
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, LocalProtocolError)]
        assert len(refused) == 40
        assert "open_flows_per_peer" in str(refused[0])
        assert (await store.usage(Role.SENDER)).open == 10


async def test_answers_that_are_given_at_once_fill_the_bytes_and_no_more(
    peer, bridge_to, store, until
) -> None:
    requests = []
    # No answer arrives, so that no FIN frees what one has taken while the others are decided.
    peer.refuse = lambda message: NotSentError("away") if isinstance(message, Ack) else None

    async def handler(request):
        requests.append(request)
        return DEFERRED

    room = TEN.response_room
    policy = dataclasses.replace(TEN, bytes_per_peer=10 * room + 5_000, bytes_stored=20 * room)
    for number in range(5):
        peer.put(New(number, b""))
    async with store, bridge_to(store, handler=handler, policy=policy) as bridge:
        bridge.watch(peer.canister_id)
        await until(lambda: len(requests) == 5)
        outcomes = await asyncio.gather(
            *(bridge.answer(r.peer, r.msg_id, bytes(4 * room)) for r in requests),
            return_exceptions=True,
        )
        fit = outcomes.count(None)
        # Five flows set five rooms aside; each large answer takes three more of the five left.
        assert fit == 1
        assert all(isinstance(o, LocalProtocolError) for o in outcomes if o is not None)


async def taken(store, msg_id):
    """Return once the outcome of a flow is known to be taken; its room is free then."""
    async with asyncio.timeout(120):
        while not (await store.sender_flow(msg_id)).told:  # noqa: ASYNC110 - it polls a store
            await asyncio.sleep(0.001)


async def test_a_late_response_waits_for_free_bytes(peer, bridge_to, store, until) -> None:
    peer.answers = False
    told = []

    async def on_outcome(outcome):
        told.append((outcome.msg_id, outcome.late, outcome.response))

    room = TEN.response_room
    policy = dataclasses.replace(TEN, bytes_per_peer=3 * room, bytes_stored=3 * room)
    ack = Ack(1, b"y" * (2 * room), payload_hash(b"x"))
    async with store, bridge_to(store, on_outcome=on_outcome, policy=policy) as bridge:
        await bridge.post(peer.canister_id, b"x", msg_id=1)
        await until(lambda: New(1, b"x") in peer.got)
        await bridge.cancel(1)
        await taken(store, 1)
        await bridge.post(peer.canister_id, b"x", msg_id=2)

        peer.put(ack)
        await until(lambda: bridge.counters.get("refused.quota_bytes"))
        assert (await store.sender_flow(1)).response_hash is None
        assert told == [(1, False, None)]

        await bridge.cancel(2)  # which frees the room that was set aside for its response
        await taken(store, 2)
        peer.put(ack)
        await until(lambda: (1, True, ack.payload) in told)
        assert (await store.sender_flow(1)).state is SenderState.FAILED
