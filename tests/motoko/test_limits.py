"""What bounds the work of a canister: sizes, calls in flight, ticks, pages."""

import asyncio

import pytest

from bridge.candid import Case
from bridge.network import AdminClient
from bridge.principal import Principal

SECOND = 1_000_000_000
LARGE = b"x" * 900_000


def peer(principal, **given):
    nothing = {"dialect": None, "null_ack": None, "ids": None, "batch": None, "attach_cycles": None}
    return nothing | {"peer": principal} | given


def nobody(number):
    """The principal of a canister that does not exist."""
    return Principal((10**6 + number).to_bytes(8, "big") + b"\x01\x01")


# --- Sizes ---------------------------------------------------------------------------------------


async def test_a_message_beyond_its_size_is_refused_whichever_it_is(world, agent):
    small = {"max_payload": 100, "max_response": 50}
    a = await world.deploy("player", small, {"agents": [agent.principal]})
    await a.open(agent.principal, 1)
    await a.speak(agent, "ACK", msg_id=1, payload=b"y" * 51)
    await a.speak(agent, "NEW", msg_id=2, payload=b"y" * 101)
    assert (await a.counters())["refused.too_large"] == 2
    assert await a.state(1) == "sending"
    assert await a.state(2) is None
    await a.speak(agent, "ACK", msg_id=1, payload=b"y" * 50)
    await a.speak(agent, "NEW", msg_id=2, payload=b"y" * 50)
    await a.until(1, "acknowledged")
    assert await a.state(2) == "acknowledging"


async def test_a_response_for_which_the_sender_has_no_room_waits_for_it(world):
    a = await world.deploy("player", {"bytes_per_peer": 20_000, "response_room": 8_192})
    b = await world.deploy("player")
    await a.open(b.id, 1, b"bytes 30000")
    await world.quiet()
    assert (await a.counters())["refused.quota_bytes"] == 1
    assert await a.state(1) == "sending"
    await a.configure({"bytes_per_peer": 50_000})
    await world.advance(1.1)  # the ACK comes again
    await a.until(1, "acknowledged")
    assert await b.call("handled", {"sender": a.id, "msg_id": 1}) == 1


# --- Quotas in all -------------------------------------------------------------------------------

UNANSWERED = 5 + 8_192  # a request of "later", with the room for its answer


@pytest.mark.parametrize(
    ("quota", "settings", "done"),
    [
        ("quota_open_flows", {"open_flows_per_peer": 2, "open_flows": 2}, False),
        ("quota_tombstones", {"tombstones_per_peer": 2, "tombstones": 2}, True),
        ("quota_bytes", {"bytes_per_peer": 2 * UNANSWERED, "bytes": 2 * UNANSWERED}, False),
    ],
)
async def test_what_two_listed_peers_take_up_together_is_bounded_too(
    world, agent, quota, settings, done
):
    async with world.another_agent() as other:
        lists = {"agents": [agent.principal, other.principal]}
        b = await world.deploy("player", settings, lists)
        for one in (agent, other):
            await b.speak(one, "NEW", msg_id=1, payload=b"x" if done else b"later")
            if done:
                await b.speak(one, "FIN", msg_id=1)
        await b.speak(agent, "NEW", msg_id=2, payload=b"later")
    assert await b.state(2) is None
    assert (await b.counters())[f"refused.{quota}"] == 1


async def test_strangers_share_half_of_the_bytes(world):
    b = await world.deploy("player", {"bytes_per_peer": 20_000, "bytes": 40_000})
    senders = [await world.deploy("player") for _ in range(2)]
    for msg_id, a in enumerate([*senders, senders[0]]):
        await a.open(b.id, msg_id, b"later")
        await world.quiet()
    assert await b.state(2) is None
    assert (await b.counters())["refused.quota_unlisted_bytes"] == 1


async def test_an_answer_that_exceeds_what_all_may_take_up_is_an_error(world, agent):
    large = b"y" * (8_192 + 14_000)
    async with world.another_agent() as other:
        lists = {"agents": [agent.principal, other.principal]}
        b = await world.deploy("player", {"bytes_per_peer": 30_000, "bytes": 30_000}, lists)
        for one in (agent, other):
            await b.speak(one, "NEW", msg_id=1, payload=b"later")
    answer = {"sender": agent.principal, "msg_id": 1, "response": large}
    assert "no room" in await b.act("answer", answer)
    await b.configure({"bytes": 31_000})
    assert await b.act("answer", answer) is None


async def test_an_answer_to_a_stranger_that_exceeds_the_strangers_half_is_an_error(world):
    a, b = await world.deploy("player"), await world.deploy("player")
    await b.configure({"bytes_per_peer": 30_000, "bytes": 40_000})
    await a.open(b.id, 1, b"later")
    await b.until(1, "processing")
    answer = {"sender": a.id, "msg_id": 1, "response": b"y" * (8_192 + 14_000)}
    assert "no room" in await b.act("answer", answer)
    await b.configure({"bytes": 50_000})
    assert await b.act("answer", answer) is None


# --- Calls in flight -----------------------------------------------------------------------------


async def test_an_answer_ends_the_call_that_it_answers_and_a_fin_counts_for_send_retry(world):
    a, b = await world.deploy("player"), await world.deploy("player")
    admin = AdminClient(world.replica.url)
    await admin.pause()
    await a.open(b.id, 1)
    await admin.advance(0, quiet=True)
    assert await b.state(1) == "finished"
    assert (await a.gauges())["in flight"] == 1  # the FIN alone
    assert (await b.gauges())["in flight"] == 0
    await admin.advance(3 * SECOND, quiet=True)  # send_retry is 2 s
    await a.configure()
    assert (await a.gauges())["in flight"] == 0


async def test_answers_to_unknown_acks_count_in_flight(world):
    a, b = await world.deploy("player"), await world.deploy("player")
    ids = await a.call("burst", {"to": b.id, "payload": b"later", "times": 5})
    await world.quiet()
    await world.replace(a, "player", "reinstall")  # it knows no flow any more
    await a.configure({"in_flight": 2, "unknown_fins_per_second": 100})
    admin = AdminClient(world.replica.url)
    await admin.pause()
    for msg_id in ids:
        await b.act("answer", {"sender": a.id, "msg_id": msg_id, "response": b"x"})
    await admin.advance(0, quiet=True)
    assert (await a.counters())["sent.FIN"] == 2


async def test_a_message_pays_for_no_more_than_some_of_the_calls_that_are_over(world, agent):
    spent = []
    admin = AdminClient(world.replica.url)
    await admin.pause()
    for peers in (1, 4):
        a = await world.deploy("player", {"in_flight": 500}, {"agents": [agent.principal]})
        for number in range(peers):
            many = {"to": nobody(number), "payload": b"x", "times": 240}
            await a.call("burst", many)
        await admin.advance(9_500_000_000, quiet=True)  # after the calls, before the first retry
        left = (await a.gauges())["in flight"]
        assert left == 240 * peers
        await a.speak(agent, "NEW", msg_id=1, payload=b"x")
        spent.append(dict((await a.call("asyncFlow_status"))["counters"])["instructions.receive"])
        assert (await a.gauges())["in flight"] == left - 200
    assert spent[1] < 1.5 * spent[0]


# --- Ticks and batches ---------------------------------------------------------------------------


async def test_a_tick_works_on_no_more_bytes_than_one_message_may_carry(world, agent):
    """Three retries of 0.9 MB are not of one tick, two are."""
    ticks = []
    for flows in (2, 3):
        a = await world.deploy("player", access={"agents": [agent.principal]})
        for msg_id in range(flows):
            await a.open(agent.principal, msg_id, LARGE)
        await world.quiet()
        admin = AdminClient(world.replica.url)
        start = (await admin.messages(0))[-1].seq
        await world.advance(1.2)
        await world.quiet()
        assert {flow["attempts"] for flow in await a.flows("sender")} == {2}
        log = await admin.messages(start)
        ticks.append(sum(m.kind == "timer" and m.receiver == a.id for m in log))
    assert ticks[1] > ticks[0]


async def test_tombstones_age_in_time_though_nothing_else_happens(world, agent):
    """The canister looks at the clock twice within each `time_gap`, so that no step is cut."""
    brief = dict.fromkeys(("lifetime", "linger", "retention", "answer_within"), 20 * SECOND)
    brief |= {"slack": SECOND, "skew": SECOND, "horizon": 60 * SECOND, "time_gap": 20 * SECOND}
    b = await world.deploy("player", brief, {"agents": [agent.principal]})
    await AdminClient(world.replica.url).pause()
    await b.speak(agent, "NEW", msg_id=1, payload=b"x")
    await b.speak(agent, "FIN", msg_id=1)
    for _ in range(7):
        assert await b.state(1) == "finished"
        await world.advance(0.99)
    await world.quiet()
    assert await b.state(1) is None
    assert (await b.gauges())["time lag"] == 0


async def test_an_entry_of_a_batch_that_is_refused_goes_no_further(world, agent):
    b = await world.deploy("player")
    await AdminClient(world.replica.url).pause()
    entries = [Case("NEW", {"msg_id": n, "payload": b"x"}) for n in range(3)]
    await b.call("asyncFlow_batch", entries, agent=agent)
    await world.quiet()
    assert (await b.counters())["refused.caller"] == 3


async def test_of_a_batch_only_what_one_message_may_carry_is_served(world, agent):
    b = await world.deploy("player", access={"agents": [agent.principal]})
    await AdminClient(world.replica.url).pause()  # no entry may be too late
    entries = [
        Case("NEW", {"msg_id": n, "payload": payload}) for n, payload in enumerate((LARGE, LARGE))
    ]
    last = Case("NEW", {"msg_id": 9, "payload": b"x" * 100_000})
    await b.call("asyncFlow_batch", [*entries, last], agent=agent)
    await world.quiet()
    assert [flow["msg_id"] for flow in await b.flows("receiver")] == [0, 1]
    assert (await b.counters())["batch_cut"] == 1


async def test_a_repeat_in_a_batch_costs_nothing_more(world, agent):
    """Not even where what was paid came alone, so that nothing but the flow itself tells of it."""
    b = await world.deploy("priced", access={"agents": [agent.principal]})
    await b.speak(agent, "NEW", msg_id=1, payload=b"later")
    assert await b.configure({"min_cycles": 10_000}) is None
    await AdminClient(world.replica.url).pause()
    again = [Case("NEW", {"msg_id": msg_id, "payload": b"later"}) for msg_id in (1, 2)]
    await b.call("asyncFlow_batch", again, agent=agent)  # without cycles, as ingress always is
    await world.quiet()
    counters = await b.counters()
    assert (counters["repeated"], counters["refused.cycles"]) == (1, 1)
    assert [flow["msg_id"] for flow in await b.flows("receiver")] == [1]


async def test_a_flow_whose_tick_does_not_end_holds_the_others_up_only_once(world, agent):
    """After a tick that did not end flows are tried one by one, each time another one first."""
    a = await world.deploy("player", access={"agents": [agent.principal]})
    await world.quiet()
    await AdminClient(world.replica.url).pause()
    for msg_id in range(3):
        await a.open(agent.principal, msg_id)
        await world.advance(0.01)
    await a.call("asyncFlow_outbox_trim", 2**64 - 1, agent=agent)
    # Of the messages to itself that a timer makes, two begin the tick; the third is its commit.
    lost = {"action": "lose", "from": str(a.id), "to": str(a.id), "nth": 3}
    for retries in (1, 0.3):
        await world.admin("POST", "faults", lost)
        await world.advance(retries)
        await world.quiet()
    assert await a.outbox(agent) == []
    await world.advance(0.3)
    await world.quiet()
    assert [entry["message"].value["msg_id"] for entry in await a.outbox(agent)] == [1, 2, 0]


async def test_flows_of_a_batch_that_is_not_answered_are_retried_alone(world):
    a, b = await world.deploy("player"), await world.deploy("player")
    await a.configure({"in_flight": 1}, peers=[peer(b.id, batch=True)])
    ids = await a.call("burst", {"to": b.id, "payload": b"x", "times": 10})
    await world.quiet()
    fault = {"action": "lose", "from": str(a.id), "to": str(b.id), "method": "asyncFlow_batch"}
    await world.admin("POST", "faults", fault)
    await a.configure({"in_flight": 400})
    await world.advance(0.3)
    await world.quiet()
    assert (await a.counters())["sent.batch"] == 1
    assert len(await a.flows("sender", "sending")) == 9
    await world.advance(1.1)
    for msg_id in ids:
        await a.until(msg_id, "acknowledged")
    assert (await a.counters())["sent.batch"] == 1


async def test_a_telling_that_never_begins_is_given_up_and_comes_again(world, agent):
    a = await world.deploy("player", access={"agents": [agent.principal]})
    await a.open(agent.principal, 1)
    await world.quiet()
    # As if the canister had been stopped before it came to its own message.
    lost = {"action": "lose", "from": str(a.id), "to": str(a.id), "kinds": ["request"], "nth": 1}
    await world.admin("POST", "faults", lost)
    await a.speak(agent, "ACK", msg_id=1, payload=b"response")
    await world.quiet()
    assert (await a.heard(), await a.state(1)) == ([], "answered")
    await world.advance(0.3)
    await world.quiet()
    assert (await a.counters())["never_begun"] == 1
    await world.advance(1.1)
    await a.until(1, "acknowledged")
    assert await a.heard() == [("answered", 2)]


# --- Peers and pages -----------------------------------------------------------------------------


async def test_an_agent_off_the_list_ends_its_flows_though_nothing_waits_for_it(world, agent):
    """Its messages pass the inspection of ingress, too."""
    a = await world.deploy("both", access={"agents": [agent.principal]})
    msg_id = await a.send(agent.principal)
    await a.call("asyncFlow_outbox_trim", 2**64 - 1, agent=agent)
    await a.configure(access={"agents": []})
    assert await a.outbox(agent) == []
    await a.speak(agent, "ACK", msg_id=msg_id, payload=b"answer")
    await a.until(msg_id, "acknowledged")


async def test_the_table_of_peers_is_bounded_with_one_row_for_all_others(world):
    a = await world.deploy("player")
    await asyncio.gather(*(a.open(nobody(number), number) for number in range(260)))
    rows = (await a.call("asyncFlow_status"))["peers"]
    assert len(rows) == 257
    assert rows[-1] == {"peer": None, "sent": 4, "received": 0, "refused": 0}


async def test_what_is_configured_for_a_peer_is_taken_back_by_nothing(world):
    a, b = await world.deploy("player"), await world.deploy("player")
    await a.configure({"in_flight": 1}, peers=[peer(b.id, batch=True, dialect=Case("maf"))])
    await a.configure(peers=[peer(b.id)])
    ids = await a.call("burst", {"to": b.id, "payload": b"x", "times": 4})
    await a.configure({"in_flight": 400})
    await world.advance(0.3)
    for msg_id in ids:
        await a.until(msg_id, "acknowledged")
    assert "sent.batch" not in await a.counters()


async def test_a_page_of_flows_is_bounded_and_of_one_role_where_that_is_asked(world, agent):
    a = await world.deploy("player", access={"agents": [agent.principal]})
    await a.open(agent.principal, 1)
    for first in range(0, 1_050, 150):
        many = {"peer": agent.principal, "first": first, "payload": b"x", "times": 150}
        await a.call("serve", many)
    asked = {"role": None, "state": None, "cursor": None, "limit": 2**32 - 1}
    page = await a.call("asyncFlow_flows", asked)
    assert len(page["flows"]) == 1_000
    rest = await a.call("asyncFlow_flows", asked | {"cursor": page["next"]})
    assert len(rest["flows"]) == 51
    assert rest["next"] is None
    senders = await a.call("asyncFlow_flows", asked | {"role": Case("sender")})
    assert [flow["role"].label for flow in senders["flows"]] == ["sender"]
