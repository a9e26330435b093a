"""Calls that do not simply end with a reply: the agent tells what is proved, and no more."""

import pytest
from aiohttp import web
from replica_lies import accepted, answered, busy, ran, refusing

from bridge import wire
from bridge.agent import Identity
from bridge.errors import (
    CallNeverExecutedError,
    CallOutcomeUnknownError,
    CallRejectedError,
    RequestRefusedError,
)
from bridge.principal import Principal

SECOND = 1_000_000_000
REPLY = b"DIDL\0\0reply"


async def test_a_call_that_nobody_takes_is_proved_never_to_run(connect, replica, canister):
    async def after_its_expiry(ask):
        ask.replica.skew = 61 * SECOND

    async with connect(Identity.generate(), clock=lambda: replica.now) as agent:
        call = agent.sign_update(canister, "greet", ingress_expiry=replica.now + 60 * SECOND)
        replica.lie("call", accepted, forever=True)
        replica.lie("read_state", None, after_its_expiry)
        with pytest.raises(CallNeverExecutedError, match="never will") as caught:
            await agent.submit(call)
        assert "safe to call again" in caught.value.hint
    assert replica.runs == []


async def test_endless_202_and_endless_ignorance_end_as_unknown(connect, replica, canister):
    async with connect(Identity.generate()) as agent:
        replica.lie("call", accepted, forever=True)
        with pytest.raises(CallOutcomeUnknownError, match="is unknown: no outcome within"):
            await agent.update(canister, "greet", within=SECOND // 4)


async def test_a_call_that_ran_long_before_its_expiry_is_not_proved_absent_after_it(
    connect, replica, canister
):
    """The IC forgets a call five minutes after it ended, which may be right after its expiry."""
    async with connect(Identity.generate(), clock=lambda: replica.now) as agent:
        call = agent.sign_update(canister, "greet", ingress_expiry=replica.now + 60 * SECOND)
        assert await agent.submit(call) == REPLY
        replica.skew = 61 * SECOND
        replica.statuses.clear()  # forgotten
        with pytest.raises(CallOutcomeUnknownError, match="cannot tell any more"):
            await agent.wait(call)


async def test_a_call_once_seen_under_way_is_never_proved_not_to_have_run(
    connect, replica, canister
):
    async def taken(ask):
        ask.replica.statuses[ask.id] = {b"status": b"processing"}
        return web.Response(status=202)

    async def seen(ask):
        data = ask.replica.certify(ask.envelope.content["paths"])
        ask.replica.statuses.clear()
        return wire.encode({"certificate": data})

    replica.lie("call", taken, accepted, forever=True)
    replica.lie("read_state", seen)
    async with connect(Identity.generate()) as agent:
        call = agent.sign_update(canister, "greet", ingress_expiry=replica.now + SECOND // 4)
        with pytest.raises(CallOutcomeUnknownError, match="cannot tell any more"):
            await agent.submit(call)


async def test_a_gap_in_what_is_known_is_no_proof(connect, replica, canister):
    """Unknown before it could run and long after: in between it may have come and gone."""
    ages = iter([290, -290])

    async def at_its_time(ask):
        time_ns = ask.replica.now - next(ages, -290) * SECOND
        tree = ask.replica.tree(time_ns=time_ns)
        return answered(ask.replica.certify(ask.envelope.content["paths"], tree=tree))

    replica.lie("call", accepted, forever=True)
    replica.lie("read_state", at_its_time, forever=True)
    async with connect(Identity.generate()) as agent:
        call = agent.sign_update(canister, "greet", ingress_expiry=replica.now + 10 * SECOND)
        with pytest.raises(CallOutcomeUnknownError, match="cannot tell any more"):
            await agent.submit(call)


async def test_a_call_that_the_ic_has_forgotten_is_unknown(agent, replica, canister):
    async def done(ask):
        ask.replica.statuses[ask.id] = {b"status": b"done"}
        return web.Response(status=202)

    replica.lie("call", done)
    with pytest.raises(CallOutcomeUnknownError, match="no longer kept"):
        await agent.update(canister, "greet")


async def test_a_call_that_expired_long_ago_is_unknown(connect, replica, canister):
    async with connect(Identity.generate()) as agent:
        call = agent.sign_update(canister, "greet", ingress_expiry=replica.now - 400 * SECOND)
        with pytest.raises(CallOutcomeUnknownError, match="has expired, and the IC cannot tell"):
            await agent.wait(call)


async def test_a_call_that_any_subnet_may_have_taken_is_not_proved_absent_by_one(connect, replica):
    async with connect(Identity.generate()) as agent:
        call = agent.sign_update(
            Principal.management(),
            "provisional_create_canister_with_cycles",
            ingress_expiry=replica.now + SECOND // 4,
        )
        replica.lie("call", accepted, forever=True)
        with pytest.raises(CallOutcomeUnknownError, match="cannot tell any more"):
            await agent.submit(call)


async def test_a_node_s_own_reject_is_not_certified(agent, replica, canister):
    async def refuse(_):
        return wire.encode(
            {
                "status": "non_replicated_rejection",
                "reject_code": 3,
                "reject_message": "no such canister",
                "error_code": "IC0301",
            }
        )

    replica.lie("call", refuse)
    with pytest.raises(CallRejectedError, match="not certified") as caught:
        await agent.update(canister, "greet")
    assert (caught.value.code, caught.value.certified) == (3, False)


async def test_a_node_s_own_reject_of_a_call_that_the_subnet_has_taken_is_not_believed(
    agent, replica, canister
):
    async def lie(ask):
        ask.replica.take(ask.id, "greet")
        body = {"status": "non_replicated_rejection", "reject_code": 3, "reject_message": "no"}
        return wire.encode(body)

    replica.lie("call", lie)
    assert await agent.update(canister, "greet") == REPLY


@pytest.mark.parametrize("status", [400, 403, 413, 429])
async def test_a_node_that_refuses_a_call_which_the_subnet_has_taken_is_not_believed(
    agent, replica, canister, status
):
    async def lie(ask):
        ask.replica.take(ask.id, "greet")
        return web.Response(status=status, text="no")

    replica.lie("call", *[lie] * 4)
    assert await agent.update(canister, "greet") == REPLY
    assert replica.runs == ["greet"]


async def test_a_node_s_own_reject_of_what_may_have_arrived_before_is_not_believed(
    agent, replica, canister
):
    late = []

    async def drop(ask):
        late.append(ask.id)  # on its way to the subnet, though not there yet
        ask.http.transport.close()
        return web.Response()

    async def refuse(_):
        return wire.encode({"status": "rejected", "reject_code": 2, "reject_message": "busy"})

    async def arrives(ask):
        ask.replica.take(late[0], "greet")

    replica.lie("call", drop, refuse)
    replica.lie("read_state", None, arrives)
    assert await agent.update(canister, "greet") == REPLY
    assert replica.runs == ["greet"]


async def test_a_dropped_connection_after_the_call_was_taken_runs_it_once(agent, replica, canister):
    async def drop(ask):
        ask.replica.take(ask.id, "greet")
        ask.http.transport.close()

    replica.lie("call", drop, drop)
    assert await agent.update(canister, "greet") == REPLY
    assert replica.runs == ["greet"]
    assert len(set(replica.seen_ids)) == 1


async def test_a_refused_repetition_of_what_may_have_arrived_is_no_refusal(
    agent, replica, canister
):
    async def drop(ask):
        ask.replica.take(ask.id, "greet")
        ask.http.transport.close()

    replica.lie("call", drop, refusing(400, "duplicate"))
    assert await agent.update(canister, "greet") == REPLY


async def test_polling_stops_when_the_replica_only_fails(agent, replica, canister):
    for kind in ("call", "read_state"):
        replica.lie(kind, refusing(500, "out of order"), forever=True)
    with pytest.raises(CallOutcomeUnknownError, match="out of order"):
        await agent.update(canister, "greet")


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500])
async def test_one_node_that_refuses_to_tell_does_not_end_the_polls(
    agent, replica, canister, status
):
    replica.lie("call", ran)
    replica.lie("read_state", *[refusing(status, "not you")] * 2)
    assert await agent.update(canister, "greet") == REPLY


async def test_polling_stops_when_the_replica_refuses_to_tell(agent, replica, canister):
    replica.lie("call", accepted)
    replica.lie("read_state", refusing(403, "not you"), forever=True)
    with pytest.raises(CallOutcomeUnknownError, match="not you"):
        await agent.update(canister, "greet")


# --- Overload -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
async def test_a_passing_overload_is_waited_out(agent, replica, canister, status):
    for kind in ("call", "query", "read_state"):
        replica.lie(kind, busy(status), busy(status))
    assert await agent.update(canister, "greet") == REPLY
    assert await agent.query(canister, "peek") == REPLY
    assert replica.runs == ["greet"]


async def test_a_storm_of_429_ends_as_a_refusal(agent, replica, canister):
    for kind, ask in (("call", agent.update), ("query", agent.query)):
        replica.lie(kind, busy(429), forever=True)
        with pytest.raises(RequestRefusedError, match="too much") as caught:
            await ask(canister, "greet")
        assert caught.value.status == 429
        assert "overloaded" in caught.value.hint
        assert len([each for each, _ in replica.asked if each == kind]) == 4
    assert replica.runs == []
