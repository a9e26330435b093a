"""From process start to the first certified update, in one process; and the same work's floor.

``first.py serve WASM`` starts a replica, installs the module, makes one update, and ends.
``first.py floor WASM`` only imports what that needs and compiles the module.
"""

import asyncio
import sys
from pathlib import Path


async def serve(wasm):
    import aiohttp
    from outside import Outside

    from bridge.candid import Case
    from bridge.replica import Replica

    async with Replica() as replica, aiohttp.ClientSession() as session:
        outside = Outside(session, replica.url, "")
        value = {"amount": None, "settings": None, "specified_id": None,
                 "sender_canister_version": None}  # fmt: skip
        made = await outside.manage(
            "provisional_create_canister_with_cycles", value, "bkyz2-fmaaa-aaaaa-qaaaq-cai"
        )
        value = {"mode": Case("install"), "canister_id": made["canister_id"], "wasm_module": wasm,
                 "arg": b"", "sender_canister_version": None}  # fmt: skip
        await outside.manage("install_code", value, made["canister_id"])


def floor(wasm):
    import outside  # noqa: F401 - for the time it takes

    import bridge.replica  # noqa: F401
    from bridge.replica.execution.engine import compile_module

    compile_module(wasm)


if __name__ == "__main__":
    module = Path(sys.argv[2]).read_bytes()
    if sys.argv[1] == "serve":
        asyncio.run(serve(module))
    else:
        floor(module)
