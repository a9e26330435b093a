"""The first flow: a canister that echoes, on a replica of its own, and one request to it."""

import asyncio

from bridge import Bridge, Identity, Network, SQLiteStore
from bridge.contracts import motoko_canister
from bridge.reference import install_argument


async def main() -> None:
    """Deploy the echo canister, send it one request and print the response."""
    async with Network.embedded() as network, network.agent(Identity.generate()) as agent:
        async with SQLiteStore("flows.db") as store, Bridge(agent, store) as bridge:
            wasm, argument = motoko_canister("echo"), install_argument({}, agents=[agent.principal])
            canister_id = await network.deploy(agent, wasm, argument)
            print(await bridge.send(canister_id, b"hello"))


asyncio.run(main())
