"""Measures another Python agent, ic-py or icp-py-core, in its own environment."""

import asyncio
import json
import sys
import time


def load(name, url):
    if name == "ic-py":
        from ic.agent import Agent
        from ic.client import Client
        from ic.identity import Identity

        return Agent(Identity(), Client(url=url)), {}
    from icp_agent import Agent, Client
    from icp_identity import Identity

    agent = Agent(Identity(), Client(url=url))
    return agent, {"verify_certificate": False}


async def sequence(count, call):
    await call()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        await call()
        times.append(time.perf_counter() - start)
    return sorted(times)[count // 2]


async def main():
    work = json.load(sys.stdin)
    agent, unverified = load(sys.argv[1], work["url"])
    canister_id, arg = work["canister_id"], b"DIDL\0\0"
    queries = await sequence(
        work["queries"], lambda: agent.query_raw_async(canister_id, "peek", arg)
    )
    updates = await sequence(
        work["updates"], lambda: agent.update_raw_async(canister_id, "greet", arg, **unverified)
    )
    print("\n" + json.dumps({"query": queries, "call": updates}))


if __name__ == "__main__":
    asyncio.run(main())
