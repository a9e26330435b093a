"""A canister without the library, which sends batches: what a stranger can do to a peer.

It knows the method and the messages, and keeps no flow.
"""

from dataclasses import dataclass

import wasmtime

from bridge import candid
from bridge.agent import Agent
from bridge.candid import Case
from bridge.dialects.unified import MESSAGE_TYPE
from bridge.network import create_canister, install_code
from bridge.principal import Principal

# The argument of `send`: ten bytes of a canister's id, how many calls of `asyncFlow_batch` it makes
# there within one message, with how many cycles each, and their argument.
MODULE = """(module
  (import "ic0" "msg_arg_data_size" (func $size (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $copy (param i32 i32 i32)))
  (import "ic0" "call_new" (func $new (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "ic0" "call_data_append" (func $append (param i32 i32)))
  (import "ic0" "call_cycles_add128" (func $pay (param i64 i64)))
  (import "ic0" "call_perform" (func $perform (result i32)))
  (import "ic0" "msg_reply" (func $reply))
  (memory 4)
  (data (i32.const 0) "asyncFlow_batch")
  (func (export "canister_update send") (local $left i32)
    (call $copy (i32.const 100) (i32.const 0) (call $size))
    (local.set $left (i32.load8_u (i32.const 110)))
    (loop $again
      (call $new (i32.const 100) (i32.const 10) (i32.const 0) (i32.const 15)
        (i32.const -1) (i32.const 0) (i32.const -1) (i32.const 0))
      (call $append (i32.const 112) (i32.sub (call $size) (i32.const 12)))
      (call $pay (i64.const 0) (i64.load8_u (i32.const 111)))
      (drop (call $perform))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again (local.get $left)))
    (call $reply)))"""


@dataclass
class BatchCanister:
    """One such canister; it stands on nobody's list."""

    agent: Agent
    id: Principal

    @classmethod
    async def deploy(cls, world):
        canister = cls(world.agent, await create_canister(world.agent))
        await install_code(world.agent, canister.id, bytes(wasmtime.wat2wasm(MODULE)))
        return canister

    async def send(self, to, entries, *, times=1, cycles=0):
        """Send one batch so many times within one message, each with up to 255 cycles."""
        batch = candid.encode([candid.Vec(MESSAGE_TYPE)], [entries])
        await self.agent.update(self.id, "send", to.id.raw + bytes([times, cycles]) + batch)


def news(ids, payload=b"later"):
    """A NEW for each id."""
    return [Case("NEW", {"msg_id": msg_id, "payload": payload}) for msg_id in ids]
