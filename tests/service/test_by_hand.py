"""A bridge whose clock is moved by hand does nothing by itself, and all of it when stepped."""

import dataclasses

import pytest

from bridge.errors import LocalProtocolError
from bridge.flow import New, Policy
from bridge.service import Bridge
from bridge.store import MemoryStore

HOUR = 3_600_000_000_000


@pytest.fixture
async def by_hand(peer):
    """A bridge, the one cell that is its clock, and how it was told its outcomes."""
    now, told = [1_800_000_000 * 10**9], []

    async def on_outcome(outcome):
        told.append(outcome)

    async with (
        MemoryStore() as store,
        Bridge(
            peer,
            store,
            policy=dataclasses.replace(Policy(), jitter_permille=0),
            on_outcome=on_outcome,
            clock=lambda: now[0],
            by_hand=True,
        ) as bridge,
    ):
        yield bridge, now, told


async def test_a_step_carries_a_flow_as_far_as_it_goes_at_this_time(peer, by_hand):
    bridge, _, told = by_hand
    msg_id = await bridge.post(peer.canister_id, b"x", dialect="unified")
    assert not told
    moved, _ = await bridge.step()
    assert moved
    assert [(outcome.msg_id, outcome.response) for outcome in told] == [(msg_id, b"x")]
    assert (await bridge.step())[0] is False


async def test_a_retry_goes_out_when_the_clock_is_moved_and_no_sooner(peer, by_hand):
    bridge, now, _ = by_hand
    peer.answers = False
    msg_id = await bridge.post(peer.canister_id, b"x", dialect="unified")
    await bridge.step()
    _, due = await bridge.step()
    assert peer.kinds(msg_id) == [New]
    assert due - now[0] <= 330 * 10**9
    now[0] += 331 * 10**9
    await bridge.step()
    assert peer.kinds(msg_id) == [New, New]


async def test_hours_that_pass_at_once_end_a_flow_that_nobody_answers(peer, by_hand):
    bridge, now, told = by_hand
    peer.answers = False
    await bridge.post(peer.canister_id, b"x", dialect="unified")
    await bridge.step()
    now[0] += 10 * HOUR
    await bridge.step()
    assert [outcome.failure for outcome in told] == ["unknown"]


async def test_a_bridge_that_works_by_itself_cannot_be_stepped(bridge_to):
    async with MemoryStore() as store, bridge_to(store) as bridge:
        with pytest.raises(LocalProtocolError, match="by_hand"):
            await bridge.step()
