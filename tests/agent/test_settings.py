"""The agent's limits, waits and retries: what is refused, and what holds."""

import pytest
from aiohttp import web

from bridge.agent import Identity, Limits, Retries
from bridge.agent.transport import is_loopback

SECOND = 1_000_000_000


def test_pauses_grow_to_their_limit_and_are_spread_by_chance():
    retries = Retries(first_delay=SECOND, longest_delay=8 * SECOND)
    for attempt, longest in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (500, 8)):
        pauses = {retries.delay(attempt) for _ in range(50)}
        assert all(longest / 2 <= pause <= longest for pause in pauses)
        assert len(pauses) > 10


def test_what_a_replica_asks_for_is_waited_up_to_the_limit():
    retries = Retries(first_delay=SECOND, longest_delay=8 * SECOND)
    assert retries.delay(1, 5 * SECOND) == 5
    assert retries.delay(1, 500 * SECOND) == 8
    assert retries.delay(4, 0) >= 4


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "7"}, 7 * SECOND),
        ({}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "9" * 400}, None),
        (
            {
                "Date": "Wed, 21 Oct 2026 07:28:00 GMT",
                "Retry-After": "Wed, 21 Oct 2026 07:28:09 GMT",
            },
            9 * SECOND,
        ),
        (
            {
                "Date": "Wed, 21 Oct 2026 07:28:09 GMT",
                "Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            0,
        ),
    ],
)
async def test_retry_after_is_read_in_both_of_its_forms(
    agent, replica, canister, headers, expected
):
    async def answer(_):
        return web.Response(status=429, headers=headers)

    replica.lie("call", answer)
    found = await agent._exchange.send_call(agent.sign_update(canister, "greet"))
    assert (found.status, found.retry_after) == (429, expected)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("kind", ["call", "query", "read_state"])
async def test_what_a_replica_asks_for_is_waited(
    connect, replica, canister, monkeypatch, kind, status
):
    pauses = []
    delay = Retries.delay

    def noted(self, attempt, asked=None):
        pauses.append(asked)
        return delay(self, attempt) if asked is None else 0

    async def answer(_):
        return web.Response(status=status, headers={"Retry-After": "7"})

    monkeypatch.setattr(Retries, "delay", noted)
    replica.lie(kind, answer)
    async with connect(Identity.generate()) as agent:
        await {
            "call": lambda: agent.update(canister, "greet"),
            "query": lambda: agent.query(canister, "peek"),
            "read_state": lambda: agent.module_hash(canister),
        }[kind]()
    assert pauses == [7 * SECOND]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:4943", True),
        ("http://127.8.9.1", True),
        ("http://localhost:8000/base", True),
        ("http://canister.localhost:8000", True),
        ("http://[::1]:4943", True),
        ("http://0.0.0.0", False),
        ("http://localhost.example.org", False),
        ("http://127.0.0.1@example.org", False),
        ("http://[::ffff:8.8.8.8]", False),
        ("https://icp-api.io", False),
    ],
)
def test_loopback_is_told_from_everything_else(url, expected):
    assert is_loopback(url) is expected


async def test_no_more_requests_are_under_way_than_the_limit(connect, replica, canister):
    import asyncio

    under_way = most = 0

    async def slow(ask):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.005)
        under_way -= 1

    replica.lie("call", slow, forever=True)
    async with connect(Identity.generate(), limits=Limits(in_flight=3)) as agent:
        await asyncio.gather(*(agent.update(canister, "greet") for _ in range(20)))
    assert most == 3
    assert len(replica.runs) == 20


async def test_one_connection_serves_one_call_after_another(agent, replica, canister):
    peers = set()

    async def note(ask):
        peers.add(ask.http.transport.get_extra_info("peername"))

    replica.lie("call", note, forever=True)
    replica.lie("query", note, forever=True)
    for _ in range(5):
        await agent.update(canister, "greet")
        await agent.query(canister, "peek")
    assert len(peers) == 1
