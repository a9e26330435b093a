"""Clocks that differ: measured, corrected where that is safe, no excuse for old answers."""

import time

import pytest
from replica_lies import refusing

from bridge import wire
from bridge.agent import Identity
from bridge.errors import CertificateError, RequestRefusedError

SECOND = 1_000_000_000
REPLY = b"DIDL\0\0reply"


def off_by(seconds: int):
    return lambda: time.time_ns() + seconds * SECOND


async def old(ask):
    """A true state of fifteen minutes ago."""
    paths = ask.envelope.content["paths"]
    data = ask.replica.certify(paths, time_ns=ask.replica.now - 900 * SECOND)
    return wire.encode({"certificate": data})


@pytest.mark.parametrize("seconds", [-40, 0, 40])
async def test_a_small_difference_disturbs_nothing(connect, replica, canister, seconds):
    async with connect(Identity.generate(), clock=off_by(seconds)) as agent:
        assert await agent.update(canister, "greet") == REPLY
        assert await agent.query(canister, "peek") == REPLY
    assert replica.asked.count(("call", "v4")) == 1


async def test_a_clock_that_is_behind_is_corrected_by_proof(connect, replica, canister):
    async with connect(Identity.generate(), clock=off_by(-1200)) as agent:
        assert await agent.update(canister, "greet") == REPLY
        assert await agent.query(canister, "peek") == REPLY
        assert abs(agent.clock.expiry(0) - time.time_ns()) < 300 * SECOND
        assert await agent.update(canister, "greet") == REPLY
    assert replica.runs == ["greet", "greet"]


async def test_a_clock_that_is_ahead_is_corrected_by_an_answer_to_an_own_request(
    connect, replica, canister
):
    async with connect(Identity.generate(), clock=off_by(1200)) as agent:
        with pytest.raises(RequestRefusedError, match="ahead") as caught:
            await agent.update(canister, "greet")
        # Sending anew by itself could run the call twice, if the refusal was a lie.
        assert "clock is" in caught.value.hint
        assert "ahead of the IC's" in caught.value.hint
        assert replica.runs == []
        assert await agent.update(canister, "greet") == REPLY
        assert await agent.query(canister, "peek") == REPLY


async def test_before_that_proof_an_old_certificate_stays_an_old_certificate(
    connect, replica, canister
):
    async with connect(Identity.generate(), clock=off_by(1200)) as agent:
        with pytest.raises(CertificateError, match=r"1\d\d\d s old") as caught:
            await agent.module_hash(canister)
        assert "clock is ahead" in caught.value.hint
        with pytest.raises(CertificateError):
            await agent.query(canister, "peek")


async def test_a_refusal_and_a_replayed_certificate_do_not_make_old_answers_fresh(
    connect, replica, canister
):
    """A lying node cannot talk an agent with a right clock into believing the past."""
    async with connect(Identity.generate()) as agent:
        replica.lie("call", refusing(400, "expired"))
        replica.lie("read_state", old, forever=True)
        with pytest.raises(RequestRefusedError):
            await agent.update(canister, "greet")
        with pytest.raises(CertificateError, match="s old"):
            await agent.module_hash(canister)


async def test_the_answer_to_an_old_call_proves_nothing_of_the_clock(connect, replica, canister):
    """Such an answer may be as old as its call: a node could have kept it to pass for fresh."""
    async with connect(Identity.generate()) as agent:
        call = agent.sign_update(canister, "greet")
        assert await agent.submit(call) == REPLY
        replica.lie("call", refusing(400, "expired"))
        replica.lie("read_state", old, forever=True)
        with pytest.raises(RequestRefusedError):
            await agent.update(canister, "greet")
        assert agent.clock.expiry(0) < time.time_ns() - 800 * SECOND  # it is only not believed
        with pytest.raises(CertificateError, match="s old"):
            await agent.wait(call)
        with pytest.raises(CertificateError, match="s old"):
            await agent.module_hash(canister)
