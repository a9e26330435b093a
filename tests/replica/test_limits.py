"""What the HTTP server takes on, over bare sockets: sizes, floods, slow and half-closed clients."""

import asyncio
import contextlib
import io
import itertools
import re

import aiohttp
import pytest

from bridge import wire
from bridge.replica import Replica
from bridge.replica.http.load import MAX_BODY, MAX_INGRESS, HttpLimits
from bridge.replica.management.types import SIGNATURES
from bridge.replica.scheduler.machine import Limits


@pytest.fixture
def http_limits():
    return HttpLimits()


@pytest.fixture
async def replica(http_limits):
    limits = Limits(update=2_000_000_000, query=500_000_000)
    async with Replica(admin=True, seed="test", limits=limits, http_limits=http_limits) as running:
        yield running


@pytest.fixture
async def canister(client, universal_wasm):
    return await client.create(universal_wasm(True))


@contextlib.asynccontextmanager
async def connected(replica):
    """A bare connection to the replica."""
    port = int(replica.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def head(path, size, method="POST"):
    return (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/cbor\r\n"
        f"Content-Length: {size}\r\n\r\n"
    ).encode()


async def whole(reader):
    """All that comes until the server closes."""
    try:
        return await asyncio.wait_for(reader.read(), 120)
    except ConnectionError:
        return b""


async def alive(client, canister, program):
    status = await client.certified(canister, "update", program().reply(b"alive"))
    assert status(b"reply") == b"alive"


def _of_size(client, canister, size):
    """A signed call of exactly so many bytes."""
    fields = {"canister_id": canister.raw, "method_name": "update"}
    content = client.content("call", **fields, arg=b"\0" * (size - 1000))
    missing = size - len(client.signed(content))
    body = client.signed({**content, "arg": b"\0" * (size - 1000 + missing)})
    assert len(body) == size
    return body


@pytest.mark.covers("refusals: bodies that are too large")
async def test_a_call_may_have_two_mebibytes_and_no_more(client, canister, program):
    fitting = io.BytesIO(_of_size(client, canister, MAX_INGRESS))
    assert (await client.post(f"/api/v2/canister/{canister}/call", fitting))[0] == 202
    for version in (2, 3, 4):
        large = io.BytesIO(_of_size(client, canister, MAX_INGRESS + 1))
        status, text = await client.post(f"/api/v{version}/canister/{canister}/call", large)
        assert status == 413
        assert re.match(r"Request [0-9a-f]{64} is too large", text)
    await alive(client, canister, program)


async def test_a_query_may_be_as_large_as_a_body(client, canister, program):
    content = client.content(
        "query",
        canister_id=canister.raw,
        method_name="query",
        arg=bytes(program().reply(b"q")) + bytes(MAX_INGRESS),
    )
    body = io.BytesIO(client.signed(content))
    status, answer = await client.post(f"/api/v3/canister/{canister}/query", body)
    assert (status, answer["reply"]["arg"]) == (200, b"q")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.covers("refusals: bodies that are too large")
async def test_no_body_may_be_larger_than_that(client, canister, program, chunked):
    async def parts():
        for _ in range(5):
            yield bytes(1024 * 1024)

    body = parts() if chunked else io.BytesIO(bytes(MAX_BODY + 1))
    status, text = await client.post(f"/api/v3/canister/{canister}/query", body)
    assert status == 413
    assert "Traceback" not in text
    await alive(client, canister, program)


TOO_MUCH = {
    "paths": ([[b"time"]] * 1001, "1001 paths"),
    "labels": ([[b"x"] * 128], "128 labels"),
}


@pytest.mark.parametrize("name", TOO_MUCH)
async def test_paths_and_labels_are_limited(client, canister, name):
    paths, words = TOO_MUCH[name]
    status, text = await client.read_state(canister, paths)
    assert status == 400
    assert words in text
    status, _ = await client.read_state(canister, [[b"time"]] * 1000)
    assert status == 200


async def test_a_nonce_has_at_most_32_bytes(client, canister, program):
    fields = {"canister_id": canister.raw, "method_name": "update", "arg": b"\0"}
    for size, expected in ((32, 202), (33, 400)):
        content = client.content("call", **fields) | {"nonce": bytes(size)}
        body = client.signed(content)
        assert (await client.post(f"/api/v2/canister/{canister}/call", body))[0] == expected


@pytest.mark.covers("refusals: malformed, forged, misaddressed requests")
async def test_deep_and_wide_cbor_is_refused(client, canister):
    deep = b"\x81" * 100_000 + b"\0"
    wide = b"\xa1\x67content\xa1\x65paths" + b"\x9a\x00\x06\x1a\x80" + b"\x40" * 400_000
    for body in (deep, wide):
        status, text = await client.post(f"/api/v3/canister/{canister}/read_state", body)
        assert status == 400
        assert "CBOR" in text


@pytest.mark.parametrize("http_limits", [HttpLimits(queries=2)])
async def test_queries_beyond_the_queue_are_told_to_come_again(client, canister, program, hold):
    long = program().debug_print(hold.WORD).spin()
    asked = [asyncio.create_task(client.query(canister, "query", long)) for _ in range(6)]
    for first in itertools.islice(asyncio.as_completed(asked), 4):
        status, text, _ = await first
        assert (status, text) == (429, "The service is overloaded.\n")
    hold.let_go()
    answers = await asyncio.gather(*asked)
    assert sorted(status for status, _, _ in answers) == [200, 200, 429, 429, 429, 429]
    await alive(client, canister, program)


@pytest.mark.parametrize("http_limits", [HttpLimits(ingress=70)])
async def test_calls_beyond_a_canisters_queue_are_told_to_come_again(
    client, replica, canister, program, hold
):
    long = program().debug_print(hold.WORD).reply(b"")
    assert (await client.call(canister, "update", long, version=2))[0] == 202
    await hold.reached()
    path = f"{replica.url}/api/v4/canister/{canister}/call"
    fields = {"canister_id": canister.raw, "method_name": "update"}
    headers = {"Content-Type": "application/cbor"}

    async def call(session):
        body = client.signed(client.content("call", **fields, arg=bytes(program().reply(b""))))
        async with session.post(path, data=body, headers=headers) as response:
            return response.status, await response.read()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        called = [asyncio.create_task(call(session)) for _ in range(120)]
        for first in itertools.islice(asyncio.as_completed(called), 50):
            assert await first == (503, b"Service is overloaded, try again later.\n")
        hold.let_go()
        answers = await asyncio.gather(*called)
    assert [status for status, _ in answers].count(200) == 70
    await alive(client, canister, program)


@pytest.mark.parametrize("http_limits", [HttpLimits(ingress=70)])
async def test_management_calls_that_wait_for_a_busy_canister_are_limited_too(
    client, canister, program, hold
):
    long = program().debug_print(hold.WORD).reply(b"")
    assert (await client.call(canister, "update", long, version=2))[0] == 202
    await hold.reached()
    value = {"canister_id": canister, "sender_canister_version": None}
    fields = {
        "canister_id": b"",
        "method_name": "uninstall_code",
        "arg": SIGNATURES["uninstall_code"].argument.encode(value),
    }

    def uninstall():
        body = client.signed(client.content("call", **fields))
        return client.post(f"/api/v2/canister/{canister}/call", body)

    answers = await asyncio.gather(*(uninstall() for _ in range(120)))
    assert set(answers) == {(202, ""), (503, "Service is overloaded, try again later.\n")}
    assert answers.count((202, "")) >= 70
    hold.let_go()


async def answered(client, path, body, *, status):
    """Ask until the answer has this status, which other connections decide; its text."""
    for _ in range(3_000):
        found, text = await client.post(path, body)
        if found == status:
            return text
        await asyncio.sleep(0.01)
    raise AssertionError(f"the answer is {found}, not {status}")


@pytest.mark.parametrize("http_limits", [HttpLimits(requests=3, request_bytes=100_000)])
@pytest.mark.covers("floods, slow and half-closed connections")
async def test_requests_beyond_what_is_served_at_a_time_are_refused_at_once(
    client, replica, canister, program
):
    path = f"/api/v3/canister/{canister}/query"
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            _, writer = await stack.enter_async_context(connected(replica))
            writer.write(head(path, 500) + b"half")
        # The three are served as soon as their heads have been read.
        text = await answered(client, path, b"anything", status=429)
        assert text == "The service is overloaded.\n"
    await answered(client, path, bytes(99_999), status=400)
    status, text = await client.post(path, bytes(100_001))
    assert (status, text) == (429, "The service is overloaded.\n")
    await alive(client, canister, program)


@pytest.mark.parametrize("http_limits", [HttpLimits(connections=8)])
@pytest.mark.covers("floods, slow and half-closed connections")
async def test_connections_beyond_the_limit_are_told_so(replica):
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(8):
            await stack.enter_async_context(connected(replica))
        async with connected(replica) as (reader, _):
            answer = await whole(reader)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"too many connections" in answer
    async with aiohttp.ClientSession() as session:
        for _ in range(1_000):  # closed connections are found out in time
            async with session.get(replica.url + "/api/v2/status") as response:
                if response.status == 200:
                    return
            await asyncio.sleep(0.05)
    raise AssertionError("the closed connections are still counted")


QUICK = HttpLimits(head_seconds=1.0, body_seconds=1.0, answer_seconds=1.0)


@pytest.mark.parametrize("http_limits", [QUICK])
@pytest.mark.parametrize("sent", [b"", b"POST /api/v2/sta", b"GET /api/v2/status HTTP/1.1\r\nA: b"])
async def test_a_connection_without_a_request_is_closed(client, canister, program, replica, sent):
    async with connected(replica) as (reader, writer):
        writer.write(sent)
        assert await whole(reader) == b""
    await alive(client, canister, program)


@pytest.mark.parametrize("http_limits", [QUICK])
@pytest.mark.covers("floods, slow and half-closed connections")
async def test_a_head_that_drips_in_is_not_waited_for(client, canister, program, replica):
    async with connected(replica) as (reader, writer):
        writer.write(b"GET /api/v2/status HTTP/1.1\r\n")

        async def drip():
            for number in range(10_000):
                writer.write(b"X-%d: y\r\n" % number)
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert await whole(reader) == b""
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
    await alive(client, canister, program)


@pytest.mark.parametrize("http_limits", [QUICK])
@pytest.mark.covers("floods, slow and half-closed connections")
async def test_a_body_that_does_not_come_is_a_timeout(client, canister, program, replica):
    async def ask(path):
        async with connected(replica) as (reader, writer):
            writer.write(head(path, 1000) + b"half of it")
            return await whole(reader)

    paths = (
        f"/api/v4/canister/{canister}/call",
        f"/api/v3/canister/{canister}/query",
        f"/api/v3/canister/{canister}/read_state",
        f"/?canisterId={canister}",
        "/_admin/time",
    )
    for answer in await asyncio.gather(*map(ask, paths)):
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"has not arrived" in answer
    await alive(client, canister, program)


@pytest.mark.parametrize("http_limits", [QUICK])
async def test_a_client_that_takes_no_answer_is_left(client, canister, program, replica):
    made = program()
    for _ in range(10):
        made.msg_reply_data_append(0, 65536 * 4)
    content = client.content(
        "query", canister_id=canister.raw, method_name="query", arg=bytes(made.reply())
    )
    body = client.signed(content)
    async with connected(replica) as (_, writer):
        request = head(f"/api/v3/canister/{canister}/query", len(body)) + body
        for _ in range(20):
            writer.write(request)
        for _ in range(6_000):
            if writer.transport.is_closing():
                break
            with contextlib.suppress(ConnectionError):
                writer.write(b"\r\n")
            await asyncio.sleep(0.02)
        assert writer.transport.is_closing()
    await alive(client, canister, program)


@pytest.mark.covers("floods, slow and half-closed connections")
async def test_a_half_closed_client_gets_its_answer(client, canister, program, replica):
    content = client.content(
        "call", canister_id=canister.raw, method_name="update", arg=bytes(program().reply(b"yes"))
    )
    body = client.signed(content)
    for path, sent, expected in (
        (f"/api/v4/canister/{canister}/call", body, b"certificate"),
        ("/api/v2/status", b"", b"root_key"),
    ):
        async with connected(replica) as (reader, writer):
            writer.write(head(path, len(sent), "POST" if sent else "GET") + sent)
            writer.write_eof()
            answer = await whole(reader)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert expected in answer


async def test_a_client_that_closes_its_half_while_idle_is_left(replica):
    async with connected(replica) as (reader, writer):
        writer.write(b"GET /api/v2/status HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        await reader.readuntil(b"replica_health_status")
        await asyncio.sleep(0.05)
        writer.write_eof()
        await whole(reader)


async def test_a_client_that_closes_halfway_through_a_body_is_left(
    client, canister, program, replica
):
    async with connected(replica) as (reader, writer):
        writer.write(head(f"/api/v4/canister/{canister}/call", 1000) + b"half of it")
        await asyncio.sleep(0.05)
        writer.write_eof()
        assert await whole(reader) == b""
    await alive(client, canister, program)


CHUNKED = b"Host: x\r\nContent-Type: application/cbor\r\nTransfer-Encoding: chunked\r\n"
QUERY = b"POST /api/v3/canister/aaaaa-aa/query HTTP/1.1\r\n"
NO_HTTP = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/9.9\r\n\r\n",
    b"\0\0\0\0\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    b"POST /api/v2/status HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    QUERY + CHUNKED + b"Content-Length: 1\r\n\r\n0\r\n\r\n",
    QUERY + CHUNKED + b"\r\nzz\r\n",
]


@pytest.mark.parametrize("sent", NO_HTTP)
async def test_what_is_no_http_is_a_bad_request(client, canister, program, replica, sent):
    async with connected(replica) as (reader, writer):
        writer.write(sent)
        writer.write_eof()
        answer = await whole(reader)
    assert not answer or re.match(rb"HTTP/1\.[01] 4\d\d ", answer)
    assert not answer or b"not well-formed HTTP" in answer or b"body is malformed" in answer
    assert b"Traceback" not in answer
    await alive(client, canister, program)


@pytest.mark.parametrize("http_limits", [QUICK])
async def test_a_body_that_goes_wrong_halfway_is_refused(client, canister, program, replica):
    async with connected(replica) as (reader, writer):
        writer.write(QUERY + CHUNKED + b"\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"5\r\nhello\r\nzz\r\n")
        answer = await whole(reader)
    assert re.match(rb"HTTP/1\.[01] 4\d\d ", answer)
    await alive(client, canister, program)


async def test_unknown_expectations_are_ignored(replica):
    async with connected(replica) as (reader, writer):
        writer.write(b"GET /api/v2/status HTTP/1.1\r\nHost: x\r\nExpect: \xfe\r\n")
        writer.write(b"Connection: close\r\n\r\n")
        assert (await whole(reader)).startswith(b"HTTP/1.1 200 ")


async def test_a_replayed_request_is_not_executed_again(client, canister, program):
    counting = program().add_to_counter(1)
    content = client.content(
        "call", canister_id=canister.raw, method_name="update", arg=bytes(counting.reply(b""))
    )
    body = client.signed(content)
    answers = await asyncio.gather(
        *(client.post(f"/api/v{2 + n % 3}/canister/{canister}/call", body) for n in range(12))
    )
    assert {status for status, _ in answers} == {200, 202}
    _, answer, _ = await client.query(
        canister, "query", program().counter().append_number().reply()
    )
    assert answer["reply"]["arg"] == (1).to_bytes(8, "little")
    request_id = wire.request_id(content)
    _, certificate = await client.read_state(canister, [(b"request_status", request_id)])
    assert certificate.value((b"request_status", request_id, b"status")) == b"replied"
