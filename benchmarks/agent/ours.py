"""Measures bridge.agent: reads what to call from standard input, prints the times in seconds."""

import asyncio
import gc
import json
import sys
import time

import aiohttp

from bridge import wire
from bridge.agent import Agent, Identity
from bridge.principal import Principal
from bridge.wire import bls

HEADERS = {"Content-Type": "application/cbor"}


async def sequence(count, call):
    """Median and quartiles of one call's time, and processor time for each."""
    for _ in range(10):
        await call()
    gc.collect()
    gc.disable()
    times = []
    processor = time.process_time()
    for _ in range(count):
        start = time.perf_counter()
        await call()
        times.append(time.perf_counter() - start)
    processor = (time.process_time() - processor) / count
    gc.enable()
    times.sort()
    return {
        "median": times[count // 2],
        "low": times[count // 4],
        "high": times[3 * count // 4],
        "cpu": processor,
    }


def presigned(agent, kind, canister_id, count):
    bodies = []
    for number in range(count):
        nonce = number.to_bytes(8, "big")
        if kind == "call":
            bodies.append(agent.sign_update(canister_id, "greet", nonce=nonce).envelope.to_cbor())
        else:
            request = wire.QueryRequest(
                agent.principal,
                agent.clock.expiry(240_000_000_000),
                canister_id,
                "peek",
                b"DIDL\0\0",
                nonce,
            )
            bodies.append(agent.identity.sign_request(request.content()).to_cbor())
    return bodies


async def posts(session, url, bodies):
    """Post the bodies, one for each call."""
    remaining = iter(bodies)
    sizes = []

    async def call():
        async with session.post(url, data=next(remaining), headers=HEADERS) as response:
            sizes.append(len(await response.read()))

    found = await sequence(len(bodies) - 10, call)
    return found, max(sizes)


async def kind_of(agent, session, work, kind, count):
    canister_id = Principal.from_text(work["canister_id"])
    version, method = ("v4", "greet") if kind == "call" else ("v3", "peek")
    url = f"{work['url']}/api/{version}/canister/{canister_id}/{kind}"
    ask = agent.update if kind == "call" else agent.query
    bodies = presigned(agent, kind, canister_id, count + 10)
    ours = await sequence(count, lambda: ask(canister_id, method))
    raw, size = await posts(session, url, bodies)
    bare, _ = await posts(session, f"{work['bare']}/{size}", bodies)
    return {"ours": ours, "raw": raw, "bare": bare, "request": len(bodies[0]), "response": size}


async def in_flight(agent, canister_id, count, at_once):
    """Calls per second with so many at once."""
    left = count

    async def worker():
        nonlocal left
        while left > 0:
            left -= 1
            await agent.update(canister_id, "greet")

    start = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return count / (time.perf_counter() - start)


def bls_verification():
    key = bls.SecretKey.generate(b"bench")
    times = []
    for number in range(200):
        message = number.to_bytes(45, "big")  # a repeated message would be remembered
        signature = key.sign(message)
        start = time.perf_counter()
        bls.verify(key.public_key, message, signature)
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


async def main():
    work = json.load(sys.stdin)
    found = {"bls": bls_verification()}
    canister_id = work["canister_id"]
    async with (
        await Agent.local(work["url"], Identity.generate()) as agent,
        aiohttp.ClientSession() as session,
    ):
        found["query"] = await kind_of(agent, session, work, "query", work["queries"])
        found["call"] = await kind_of(agent, session, work, "call", work["updates"])
        # In turns and for about as long, so that a quiet moment of the machine falls on both alike.
        ones, manies = [], []
        for _ in range(5):
            ones.append(await in_flight(agent, canister_id, work["updates"], 1))
            manies.append(await in_flight(agent, canister_id, 4 * work["updates"], 64))
        found |= {"one": max(ones), "many": max(manies)}
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
