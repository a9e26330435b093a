"""The canister that is called: it answers at once, so that the agents are what is measured."""

import asyncio
import json
import sys

import wasmtime

from bridge.agent import Agent, Identity
from bridge.network import create_canister, install_code

SOURCE = r"""
(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "DIDL\00\00")
  (func (export "canister_update greet") (call $append (i32.const 0) (i32.const 6)) (call $reply))
  (func (export "canister_query peek") (call $append (i32.const 0) (i32.const 6)) (call $reply)))
"""


async def install(url: str) -> str:
    async with await Agent.local(url, Identity.generate()) as agent:
        canister_id = await create_canister(agent)
        await install_code(agent, canister_id, bytes(wasmtime.wat2wasm(SOURCE)))
        return str(canister_id)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(install(sys.argv[1]))))
