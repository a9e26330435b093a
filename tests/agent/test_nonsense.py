"""What is not even an answer: it ends as an error, and neither hangs nor fills memory."""

import asyncio
import zlib

import pytest
from aiohttp import web
from replica_lies import answered, busy

from bridge import wire
from bridge.agent import Agent, Identity
from bridge.errors import (
    CallOutcomeUnknownError,
    CallRejectedError,
    TransportError,
)

SECOND = 1_000_000_000
REPLY = b"DIDL\0\0reply"


async def garbage(_):
    return b"\xff\xfe<html>not a replica</html>"


async def empty(_):
    return b""


async def a_list(_):
    return wire.encode([1, 2, 3])


async def cut_off(ask):
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(ask.http)
    await response.write(b"\xd9\xd9\xf7")
    ask.http.transport.close()
    return response


async def no_http(ask):
    ask.http.transport.write(b"\0\1\2 hello\r\n\r\n")
    ask.http.transport.close()


async def redirected(_):
    return web.Response(status=307, headers={"Location": "http://127.0.0.1:1/"})


async def too_large(ask):
    response = web.StreamResponse(headers={"Content-Length": str(1 << 40)})
    await response.prepare(ask.http)
    return response


async def endless(ask):
    response = web.StreamResponse()
    await response.prepare(ask.http)
    while True:
        await response.write(bytes(65_536))


NONSENSE = [garbage, empty, a_list, cut_off, no_http, redirected, too_large, endless]


async def test_packed_answers_are_not_unpacked(agent, replica, canister):
    """A few kilobytes could unpack to any size."""

    async def packed(ask):
        response = {"status": "replied", "reply": {"arg": REPLY}}
        signatures = [ask.replica.sign_query(response, ask.id)]
        body = zlib.compress(wire.encode({**response, "signatures": signatures}))
        assert "Accept-Encoding" not in ask.http.headers
        return web.Response(body=body, headers={"Content-Encoding": "deflate"})

    replica.lie("query", packed, forever=True)
    with pytest.raises(TransportError):
        await agent.query(canister, "peek")


@pytest.mark.parametrize("lie", NONSENSE, ids=lambda lie: lie.__name__)
async def test_nonsense_is_a_transport_error_of_a_query(connect, limits, replica, canister, lie):
    replica.lie("query", lie, forever=True)
    async with connect(limits=limits(response=1 << 20)) as agent:
        with pytest.raises(TransportError):
            await agent.query(canister, "peek")


@pytest.mark.parametrize("lie", NONSENSE, ids=lambda lie: lie.__name__)
async def test_nonsense_about_a_call_leaves_its_outcome_to_the_polls(
    connect, limits, replica, canister, lie
):
    async def taken(ask):
        ask.replica.take(ask.id, "greet")
        return await lie(ask)

    replica.lie("call", taken, forever=True)
    async with connect(Identity.generate(), limits=limits(response=1 << 20)) as agent:
        assert await agent.update(canister, "greet") == REPLY
        replica.lie("read_state", lie, forever=True)
        with pytest.raises(CallOutcomeUnknownError):
            await agent.update(canister, "greet", within=2 * SECOND)


async def test_a_half_closed_connection_ends_with_the_request(connect, replica, canister):
    from dataclasses import replace

    from bridge.agent import Timeouts

    async def half_closed(ask):
        transport = ask.http.transport
        transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n\xd9\xd9\xf7")
        transport.write_eof()  # nothing more will come, and the other direction stays open
        await asyncio.sleep(3600)

    for kind in ("query", "call"):
        replica.lie(kind, half_closed)
    timeouts = replace(Timeouts(), request=SECOND, first_poll=SECOND // 1000)
    async with connect(Identity.generate(), timeouts=timeouts) as agent:
        assert await agent.query(canister, "peek") == REPLY
        assert await agent.update(canister, "greet") == REPLY
    assert replica.asked.count(("query", "v3")) == 2


async def test_a_slow_drip_ends_with_the_request(connect, replica, canister):
    from dataclasses import replace

    from bridge.agent import Timeouts

    async def drip(ask):
        response = web.StreamResponse()
        await response.prepare(ask.http)
        while True:
            await response.write(b"\0")
            await asyncio.sleep(0.01)

    replica.lie("query", drip, forever=True)
    timeouts = replace(Timeouts(), request=SECOND // 10)
    async with connect(timeouts=timeouts) as agent:
        with pytest.raises(TransportError, match="did not answer within"):
            await agent.query(canister, "peek")


@pytest.mark.parametrize("body", [b"", b"\x01", wire.encode({"root_key": 7})])
async def test_a_replica_without_a_root_key_is_no_local_replica(replica, body):
    replica.status_body = body
    with pytest.raises(TransportError):
        await Agent.local(replica.url)


async def test_an_endless_storm_ends_at_the_deadline(connect, replica, canister):
    from bridge.agent import Retries

    stubborn = Retries(attempts=10**6, first_delay=SECOND // 1000, longest_delay=SECOND // 1000)
    async with connect(Identity.generate(), retries=stubborn) as agent:
        for kind in ("query", "read_state"):
            replica.lie(kind, busy(503), forever=True)
        for ask in (
            agent.query(canister, "peek", within=SECOND // 10),
            agent.read_state(canister, [(b"time",)], within=SECOND // 10),
            agent.read_subnet_state(replica.subnet_id, [(b"time",)], within=SECOND // 10),
        ):
            with pytest.raises(TransportError, match="had no answer within"):
                await ask


# --- What is shown ------------------------------------------------------------------------------

LOUD = "\x1b[31m\x07evil\u202e\r" + "x" * 1_000_000


@pytest.mark.parametrize("certified", [True, False])
async def test_a_reject_is_shown_short_and_harmless_and_kept_whole(
    agent, replica, canister, certified
):
    async def loud(ask):
        if not certified:
            body = {"status": "rejected", "reject_code": 5, "reject_message": LOUD}
            return wire.encode({**body, "error_code": LOUD})
        ask.replica.statuses[ask.id] = {
            b"status": b"rejected",
            b"reject_code": b"\5",
            b"reject_message": LOUD.encode(),
            b"error_code": LOUD.encode(),
        }
        return answered(ask.replica.certify([(b"request_status", ask.id)]))

    replica.lie("call", loud)
    with pytest.raises(CallRejectedError, match="evil") as caught:
        await agent.update(canister, "greet")
    error = caught.value
    assert (error.reject_message, error.error_code, error.certified) == (LOUD, LOUD, certified)
    assert len(str(error)) < 3_000
    assert str(error).isprintable()


@pytest.mark.parametrize(
    "code", [2**20_000, -1, 2**64, "4", None, True], ids=lambda code: type(code).__name__
)
async def test_a_node_s_reject_without_a_proper_code_is_no_reject(agent, replica, canister, code):
    async def odd(_):
        body = {"status": "rejected", "reject_message": "no", "reject_code": code}
        return wire.encode(body)

    replica.lie("call", odd)
    assert await agent.update(canister, "greet") == REPLY


async def test_what_http_says_is_shown_short_and_harmless(agent, replica, canister):
    async def loud(_):
        return web.Response(status=400, text=LOUD)

    async def long_header(ask):
        ask.http.transport.write(b"HTTP/1.1 200 OK\r\nX-Evil: \x1b[31m" + b"x" * 100_000)

    for lie in (loud, long_header):
        replica.lie("query", lie, forever=True)
        with pytest.raises(TransportError) as caught:
            await agent.query(canister, "peek")
        assert len(str(caught.value)) < 1_000
        assert str(caught.value).replace("\n", "").isprintable()
