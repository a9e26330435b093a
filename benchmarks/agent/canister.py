"""The canister that is called: it answers at once, so that the agents are what is measured."""

import asyncio
import json
import sys

import wasmtime

from bridge import candid
from bridge.agent import Agent, Identity
from bridge.principal import Principal

SOURCE = r"""
(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "DIDL\00\00")
  (func (export "canister_update greet") (call $append (i32.const 0) (i32.const 6)) (call $reply))
  (func (export "canister_query peek") (call $append (i32.const 0) (i32.const 6)) (call $reply)))
"""
CREATED = candid.Codec([candid.Record({"canister_id": candid.PrincipalType})])
INSTALL = candid.Codec(
    [
        candid.Record(
            {
                "mode": candid.Variant({"install": candid.Null}),
                "canister_id": candid.PrincipalType,
                "wasm_module": candid.Blob,
                "arg": candid.Blob,
            }
        )
    ]
)


async def install(url: str) -> str:
    async with await Agent.local(url, Identity.generate()) as agent:
        reply = await agent.update(
            Principal.management(),
            "provisional_create_canister_with_cycles",
            candid.Codec([candid.Record({})]).encode({}),
        )
        canister_id = CREATED.decode(reply)[0]["canister_id"]
        wasm = wasmtime.wat2wasm(SOURCE)
        arg = {
            "mode": candid.Case("install"),
            "canister_id": canister_id,
            "wasm_module": bytes(wasm),
            "arg": b"",
        }
        await agent.update(Principal.management(), "install_code", INSTALL.encode(arg))
        return str(canister_id)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(install(sys.argv[1]))))
