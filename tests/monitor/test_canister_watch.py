"""Canisters are watched from Python: status, flows and their history, and what is wrong is told."""

import asyncio
import dataclasses

import pytest

from bridge import Agent
from bridge.candid import Case
from bridge.errors import (
    CallRejectedError,
    NotSentError,
    PrincipalError,
    UsageError,
    WatchContractError,
    WatchRefusedError,
)
from bridge.flow import ReceiverState, Role, SenderState
from bridge.monitor import (
    CanisterWatch,
    EventsMissed,
    FlowEvent,
    HistoryReset,
    Limits,
    PeerTraffic,
    Restarted,
    Status,
    Trust,
)
from bridge.principal import Principal

PEER = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")


async def watched(troubled, world):
    a, b = await troubled(world)
    return a, b, CanisterWatch(world.agent, a.id), CanisterWatch(world.agent, str(b.id))


async def test_what_needs_a_person_is_found_by_its_state(world, troubled):
    a, b, of_a, of_b = await watched(troubled, world)
    (dead,) = await of_a.flows(state="dead_letter")
    assert (dead.role, dead.peer, dead.msg_id) == (Role.SENDER, b.id, 1)
    assert dead.state is SenderState.DEAD_LETTER
    assert dead.opened <= dead.changed
    assert dead.response_hash is not None
    (stalled,) = await of_b.flows(state=ReceiverState.STALLED, peer=str(a.id))
    assert (stalled.role, stalled.peer, stalled.msg_id) == (Role.RECEIVER, a.id, 2)
    found = await of_a.flows(state=["dead_letter", "sending", "stalled"])
    assert {flow.msg_id for flow in found} == {1, 2}
    assert found.complete
    assert found.trust is Trust.ONE_NODE
    assert len(await of_a.flows(role="receiver", state="dead_letter")) == 0
    assert len(await of_a.flows(peer=a.id)) == 0
    assert str(dead).startswith(f"sender {b.id} 1: dead_letter since 20")


async def test_a_list_is_bounded_and_says_so(world, troubled):
    _, _, of_a, _ = await watched(troubled, world)
    assert len(await of_a.flows()) == 2
    some = await of_a.flows(limit=1)
    assert (len(some), some.complete) == (1, False)
    # By the canister's clock, which stands where the test put it.
    await world.advance(0.5)
    assert len(await of_a.flows(idle_for=1_000_000_000)) == 2
    assert len(await of_a.flows(idle_for=3_600_000_000_000)) == 0


async def test_a_status_tells_what_is_taken_of_the_quotas(world, troubled):
    _, b, of_a, of_b = await watched(troubled, world)
    status = await of_a.status()
    sending, receiving = status.side(Role.SENDER), status.side(Role.RECEIVER)
    assert (sending.open, sending.tombstones, sending.peers) == (2, 0, 1)
    assert (receiving.open, receiving.peers) == (0, 0)
    assert sending.bytes > len(b"trap-once")
    assert status.settings is not None
    assert status.settings.handler_attempts == 1
    assert status.settings.bytes_stored == 2**30
    assert (status.starts, status.version) == (1, "0.1.0")
    assert PeerTraffic in {type(row) for row in status.traffic}
    assert sum(row.sent for row in status.traffic if row.peer == b.id) >= 2
    assert (await of_b.status()).side(Role.RECEIVER).open == 1
    with pytest.raises(TypeError):
        status.counters["spoofed"] = 1  # it is read, not written
    with pytest.raises(dataclasses.FrozenInstanceError):
        status.version = "2"


async def test_answers_can_be_certified(world, troubled):
    a, _, _, _ = await watched(troubled, world)
    watch = CanisterWatch(world.agent, a.id, certified=True)
    assert (await watch.status()).trust is Trust.CERTIFIED
    found = await watch.flows(state="dead_letter")
    assert (found.trust, len(found)) == (Trust.CERTIFIED, 1)
    assert [seen.seq async for seen in watch.events(after=2)] == [3, 4, 5, 6]


async def test_an_agent_that_checks_nothing_is_not_trusted(one_world):
    url, key, who = one_world.replica.url, one_world.replica.root_key, one_world.agent.identity
    a = await one_world.deploy("both")
    async with Agent(url, who, key, dangerously_believe_unsigned_queries=True) as agent:
        assert (await CanisterWatch(agent, a.id).status()).trust is Trust.UNVERIFIED


async def test_the_history_is_told_in_order_and_goes_on_from_where_one_was(world, troubled):
    a, b, watch, _ = await watched(troubled, world)
    seen = [one async for one in watch.events()]
    assert [(one.before, one.after) for one in seen if one.msg_id == 1] == [
        (None, "queued"),
        ("queued", "sending"),
        ("sending", "answered"),
        ("answered", "dead_letter"),
    ]
    assert seen[-1] == await watch.latest_event()
    await a.act("drop", 1)
    later = [one async for one in watch.events(after=seen[-1])]
    assert [(one.peer, one.msg_id, one.after) for one in later] == [(b.id, 1, "acknowledged")]
    assert " sender " in str(later[0])
    assert "dead_letter -> acknowledged (operator: drop)" in str(later[0])


async def test_what_a_short_history_lost_is_told(world):
    a, b = await world.deploy("player", {"events": 3}), await world.deploy("player")
    watch = CanisterWatch(world.agent, a.id)
    assert await watch.latest_event() is None
    await a.open(b.id, 1)
    await a.until(1, "acknowledged")
    first = [one async for one in watch.events()]
    assert first[0] == EventsMissed(1, 1)
    assert [one.seq for one in first[1:]] == [2, 3, 4]
    for msg_id in (2, 3):
        await a.open(b.id, msg_id)
        await a.until(msg_id, "acknowledged")
    later = [one async for one in watch.events(after=first[-1])]
    assert later[0] == EventsMissed(5, 9)
    assert [one.seq for one in later[1:]] == [10, 11, 12]
    assert (await watch.latest_event()).seq == 12


async def test_who_follows_hears_of_each_event_of_upgrades_and_of_another_history(world, follow):
    a, b = await world.deploy("player"), await world.deploy("player")
    watch = CanisterWatch(world.agent, a.id)
    followed = follow(watch)
    await a.open(b.id, 1)
    await followed.until(FlowEvent, 4)
    await world.upgrade(a, "player")
    assert (await followed.until(Restarted)).starts == 2
    await a.open(b.id, 2)
    await followed.until(FlowEvent, 8)
    assert [one.seq for one in followed.seen if isinstance(one, FlowEvent)] == [*range(1, 9)]
    await world.replace(a, "player", "reinstall")
    assert await followed.until(HistoryReset) == HistoryReset(8)
    assert (await followed.until(Restarted, 2)).starts == 1
    await a.open(b.id, 3)
    assert (await followed.until(FlowEvent, 12)).seq == 4


async def test_following_is_cancelled_like_anything_else(one_world, follow):
    a, b = await one_world.deploy("player"), await one_world.deploy("player")
    await a.open(b.id, 1)
    followed = follow(CanisterWatch(one_world.agent, a.id))
    await followed.until(FlowEvent)
    followed.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await followed.task


async def test_a_stranger_is_refused_and_a_monitor_is_not(world):
    a = await world.deploy("both")
    async with world.another_agent() as stranger:
        told = f"does not let {stranger.principal} watch it: .*listed monitor"
        for certified in (False, True):
            watch = CanisterWatch(stranger, a.id, certified=certified)
            with pytest.raises(WatchRefusedError, match=told):
                await watch.status()
            with pytest.raises(WatchRefusedError, match=told):
                await watch.flows()
            with pytest.raises(WatchRefusedError, match=told):
                _ = [one async for one in watch.events(follow=True)]
        await a.configure(access={"monitors": [stranger.principal]})
        assert len(await CanisterWatch(stranger, a.id).flows()) == 0


async def test_what_cannot_be_watched_is_told_as_such(one_world):
    echo = await one_world.deploy_with("foreign_maf_sender", None)
    with pytest.raises(CallRejectedError, match="no query method 'asyncFlow_status'"):
        await CanisterWatch(one_world.agent, echo.id).status()
    with pytest.raises(UsageError, match="no canister's id"):
        CanisterWatch(one_world.agent, Principal.anonymous())
    with pytest.raises(PrincipalError, match="checksum"):
        CanisterWatch(one_world.agent, "rrkah-fqaaa-aaaaa-aaaaq-cay")
    watch = CanisterWatch(one_world.agent, echo.id)
    with pytest.raises(UsageError, match="did you mean 'dead_letter'"):
        await watch.flows(state="dead_leter")
    with pytest.raises(UsageError, match="choose sender or receiver"):
        await watch.flows(role="both")


async def test_the_first_contact_is_not_waited_for(one_world):
    async with Agent("http://127.0.0.1:1", root_key=one_world.replica.root_key) as agent:
        watch = CanisterWatch(agent, "rrkah-fqaaa-aaaaa-aaaaq-cai")
        with pytest.raises(NotSentError, match="no connection"):
            _ = [one async for one in watch.events(follow=True)]


# --- Canisters that lie ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (b"DIDL\x00\x00", "does not keep the contract"),
        (b"nonsense", "does not keep the contract"),
        ({"state": Case("stalled")}, "a sender's flow with the state stalled"),
        ({"state": Case("queued")}, "flows that were not asked for"),
    ],
)
async def test_flows_that_do_not_keep_the_contract_are_no_answer(
    one_world, liar, told_flow, page, said
):
    answer = page if isinstance(page, bytes) else {"flows": [told_flow(**page)], "next": None}
    canister_id = await liar(one_world, flows=answer)
    with pytest.raises(WatchContractError, match=said):
        await CanisterWatch(one_world.agent, canister_id).flows(state="sending")


async def test_pages_without_an_end_come_to_an_end(one_world, liar, told_flow):
    page = {"flows": [told_flow()], "next": b"again"}
    watch = CanisterWatch(one_world.agent, await liar(one_world, flows=page))
    with pytest.raises(WatchContractError, match="not asked for"):
        await watch.flows()
    page = {"flows": [told_flow(msg_id=n) for n in range(1_001)], "next": None}
    watch = CanisterWatch(one_world.agent, await liar(one_world, flows=page))
    with pytest.raises(WatchContractError, match="not asked for"):
        await watch.flows()


async def test_a_text_that_would_drive_a_terminal_is_printed_harmless(one_world, liar, told_event):
    evil = "\x1b]0;owned\x07\x1b[31m\u202e\n" + "x" * 10_000
    watch = CanisterWatch(one_world.agent, await liar(one_world, events=[told_event(why=evil)]))
    first = await anext(watch.events())
    assert first.why == evil
    assert str(first).isprintable()
    assert len(str(first)) < 500
    assert r"\x1b]0;owned\x07" in str(first)


@pytest.mark.parametrize(
    ("what", "change", "said"),
    [
        ("flow", {"msg_id": 2**20_000}, "msg_id of 20001 bits"),
        ("flow", {"msg_id": 2**128}, "msg_id of 129 bits"),
        ("event", {"msg_id": 2**20_000}, "msg_id of 20001 bits"),
        ("event", {"seq": 0}, "event 0"),
        ("event", {"to": Case("stalled")}, "a sender's flow with the state stalled"),
    ],
)
async def test_numbers_that_no_flow_has_are_no_answer(
    one_world, liar, told_flow, told_event, what, change, said
):
    answer = (
        {"flows": {"flows": [told_flow(**change)], "next": None}}
        if what == "flow"
        else {"events": [told_event(**change)]}
    )
    watch = CanisterWatch(one_world.agent, await liar(one_world, **answer))
    with pytest.raises(WatchContractError, match=said):
        _ = await watch.flows() if what == "flow" else [one async for one in watch.events()]


async def test_what_a_canister_does_not_tell_of_its_settings_is_not_made_up(
    one_world, liar, told_status
):
    some = told_status(settings={"open_flows": 7, "handler_attempts": 3})
    status = await CanisterWatch(one_world.agent, await liar(one_world, status=some)).status()
    assert status.settings is None
    assert status.limits == Limits(open=7, tombstones=None, bytes=None)


class Restless(CanisterWatch):
    """A canister that has one more event at each look, of a history of its own if told so."""

    def __init__(self, agent, *, resets):
        super().__init__(agent, PEER)
        self.resets = resets
        self.asked = 0
        self.certified_calls = 0

    async def _events(self, after, limit, certified):
        self.asked += 1
        self.certified_calls += certified
        time = self.asked if self.resets else 1
        return [an_event(seq, time) for seq in range(after + 1, after + 3)]

    async def status(self):
        return Status(source=self.name, trust=self.trust, time=1, usage=())


def an_event(seq, time):
    return FlowEvent(
        seq=seq, time=time, role=Role.SENDER, peer=PEER, msg_id=1, before=None, after=None, why=""
    )


@pytest.mark.parametrize("resets", [False, True])
async def test_a_history_without_an_end_is_not_read_for_ever(resets):
    async with Agent("http://127.0.0.1:1") as agent:
        watch = Restless(agent, resets=resets)
        with pytest.raises(WatchContractError, match="no end, or is another one"):
            _ = [one async for one in watch.events()]
        assert watch.certified_calls <= 2


async def test_another_history_at_each_look_is_looked_at_no_more_often_than_asked():
    async with Agent("http://127.0.0.1:1") as agent:
        watch = Restless(agent, resets=True)
        reset = asyncio.Event()

        async def run():
            async for one in watch.events(follow=True, poll_every=3_600):
                if isinstance(one, HistoryReset):
                    reset.set()

        task = asyncio.create_task(run())
        async with asyncio.timeout(300):
            await reset.wait()
        for _ in range(1_000):  # it would have asked again in each of these
            await asyncio.sleep(0)
        assert watch.certified_calls == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_was_seen_is_told_before_what_failed_after_it():
    class Refusing(Restless):
        async def status(self):
            raise WatchRefusedError("not any more")

    async with Agent("http://127.0.0.1:1") as agent:
        told = Refusing(agent, resets=False).events(follow=True)
        assert [(await anext(told)).seq, (await anext(told)).seq] == [1, 2]
        with pytest.raises(WatchRefusedError, match="not any more"):
            await anext(told)
