"""Measures the replica's inside in this process: messages, rollback, state, installation.

Prints one JSON object of seconds. The raw figure beside a message is the same Wasm called through
the engine's own Python classes, with host functions that do the same.
"""

import ctypes
import json
import os
import statistics
import tempfile
import time

import wasmtime

from bridge.principal import Principal
from bridge.replica import management
from bridge.replica.execution import engine, pages
from bridge.replica.execution.engine import compile_module
from bridge.replica.execution.rollback import CopyUsedPages, TrackWrittenPages
from bridge.replica.management.types import SIGNATURES
from bridge.replica.scheduler import subnet_snapshot
from bridge.replica.scheduler.clock import Clock
from bridge.replica.scheduler.machine import Limits, Machine
from bridge.replica.state.messages import FromUser, Reply, Request
from bridge.replica.state.requests import RequestRecord
from bridge.replica.state.subnet import Subnet

MINUTE = 60 * 1_000_000_000
USER = Principal.self_authenticating(b"bench")
MANAGEMENT = Principal.management()

# "echo" replies with its argument, "receive" counts, and "send" makes as many one-way calls of
# "receive" as its argument says, to the principal that follows.
CANISTER = r"""(module
  (import "ic0" "msg_arg_data_size" (func $arg_size (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $arg_copy (param i32 i32 i32)))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "call_new" (func $call_new (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "ic0" "call_data_append" (func $data (param i32 i32)))
  (import "ic0" "call_perform" (func $perform (result i32)))
  (memory 4)
  (data (i32.const 0) "receive")
  (global $count (mut i32) (i32.const 0))
  (func (export "canister_update echo")
    (call $arg_copy (i32.const 1024) (i32.const 0) (call $arg_size))
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (call $append (i32.const 1024) (call $arg_size))
    (call $reply))
  (func (export "canister_update receive")
    (call $arg_copy (i32.const 1024) (i32.const 0) (call $arg_size))
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (call $reply))
  (func (export "canister_update send") (local $left i32)
    (call $arg_copy (i32.const 2048) (i32.const 0) (call $arg_size))
    (local.set $left (i32.load (i32.const 2048)))
    (loop $again
      (call $call_new (i32.const 2052) (i32.const 10) (i32.const 0) (i32.const 7)
        (i32.const -1) (i32.const 0) (i32.const -1) (i32.const 0))
      (call $data (i32.const 1024) (i32.const 100))
      (drop (call $perform))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again (local.get $left)))
    (call $reply)))"""


class Inside:
    """A machine that runs when it is told."""

    def __init__(self):
        self.machine = Machine(
            Subnet(seed=b"bench"), Clock(), management.handle, management.query, Limits()
        )
        self.number = 0

    def settle(self):
        machine = self.machine
        with machine.lock:
            machine.begin_round()
            while machine.has_work():
                machine.execute_next()
            machine.answered.clear()

    def call(self, receiver, method, arg):
        self.number += 1
        request_id = self.number.to_bytes(32, "big")
        machine = self.machine
        record = RequestRecord(
            request_id, machine.time + 4 * MINUTE, USER.raw, receiver.raw, receiver.raw
        )
        with machine.lock:
            machine.submit(record, Request(FromUser(request_id), USER, receiver, method, arg))
        self.settle()
        assert isinstance(record.payload, Reply), record.payload
        return record.payload.data

    def manage(self, method, value):
        signature = SIGNATURES[method]
        reply = self.call(MANAGEMENT, method, signature.argument.encode(value))
        return signature.result.decode(reply)[0] if signature.result else None

    def create(self, wasm=None, arg=b""):
        from bridge.candid import Case

        value = {"amount": None, "settings": None, "specified_id": None,
                 "sender_canister_version": None}  # fmt: skip
        made = self.manage("provisional_create_canister_with_cycles", value)["canister_id"]
        if wasm is not None:
            value = {"mode": Case("install"), "canister_id": made, "wasm_module": wasm,
                     "arg": arg, "sender_canister_version": None}  # fmt: skip
            self.manage("install_code", value)
        return made

    def certify(self):
        with self.machine.lock:
            self.machine.subnet.certify(self.machine.clock.now())


def timed(action, times=200, repeats=7):
    """Median over repeats of the mean time, in seconds."""
    action()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(times):
            action()
        found.append((time.perf_counter() - start) / times)
    return statistics.median(found)


class Raw:
    """The same module through the engine's own classes."""

    def __init__(self, shared, wasm):
        self.store = wasmtime.Store(shared)
        self.store.set_fuel(2**62)
        module = wasmtime.Module(shared, wasm)
        self.arg, self.out, self.memory = b"", b"", None
        imports = [self._host(item) for item in module.imports]
        self.exports = wasmtime.Instance(self.store, module, imports).exports(self.store)
        self.memory = self.exports["memory"]

    def _host(self, item):
        functions = {
            "msg_arg_data_size": lambda: len(self.arg),
            "msg_arg_data_copy": self._arg_copy,
            "msg_reply_data_append": self._append,
            "call_perform": lambda: 0,
        }
        function = functions.get(item.name, lambda *_: None)
        return wasmtime.Func(self.store, item.type, function)

    def _arg_copy(self, dst, offset, size):
        self.memory.write(self.store, self.arg[offset : offset + size], dst)

    def _append(self, src, size):
        self.out = bytes(self.memory.read(self.store, src, src + size))

    def call(self, name, arg):
        self.arg = arg
        self.exports[f"canister_update {name}"](self.store)


def raw_calls(arg):
    """Seconds of a raw call of "echo", and of "receive"."""
    wasm = wasmtime.wat2wasm(CANISTER.replace("(memory 4)", '(memory (export "memory") 4)'))
    config = wasmtime.Config()
    config.consume_fuel = True
    raw = Raw(wasmtime.Engine(config), wasm)
    return {
        "echo": timed(lambda: raw.call("echo", arg)),
        "receive": timed(lambda: raw.call("receive", arg)),
    }


def execution():
    inside = Inside()
    canister = inside.create(bytes(wasmtime.wat2wasm(CANISTER)))
    other = inside.create(bytes(wasmtime.wat2wasm(CANISTER)))
    arg = bytes(100)
    sends = 100
    send = sends.to_bytes(4, "little") + other.raw
    one = timed(lambda: inside.call(canister, "echo", arg))
    many = timed(lambda: inside.call(canister, "send", send), times=3)
    return {"message": one, "one_way": many / sends, "raw": raw_calls(arg)}


def rollback():
    """Seconds of a message's rollback, for a memory of which 100 pages are in use or all are.

    ``undone``: 100 pages are written and put back; ``kept``: they are written and stay.
    """
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    found = {}
    for kind in (CopyUsedPages, TrackWrittenPages):
        if kind is TrackWrittenPages and not pages.can_watch():
            continue
        for mib in (1, 64, 512):
            size = mib << 20
            address = libc.mmap(None, size, 3, 0x22, -1, 0)
            chosen = [address + n * (size // 100 // 4096 * 4096) for n in range(100)]
            for page in chosen:
                ctypes.memset(page, 1, 8)
            engine_used = kind()

            def message(end, engine_used=engine_used, chosen=chosen, address=address, size=size):
                engine_used.begin(address, size)
                for page in chosen:
                    ctypes.memset(page, 2, 8)
                end(engine_used)(address, size)

            found[f"{kind.name}, {mib}"] = {
                "undone": timed(lambda m=message: m(lambda used: used.undo), times=5),
                "kept": timed(lambda m=message: m(lambda used: used.keep), times=5),
            }
            libc.munmap(address, size)
    return found


def copying():
    """Seconds to copy a whole memory, by its size in MiB."""
    found = {}
    for mib in (1, 64, 512):
        one, other = (ctypes.create_string_buffer(mib << 20) for _ in range(2))
        found[str(mib)] = timed(
            lambda one=one, other=other: ctypes.memmove(one, other, len(other)), times=1, repeats=3
        )
    return found


def side_by_side(actions, times=30, repeats=25):
    """Processor seconds of each action, in turns: the median over repeats of the mean."""
    found = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            start = time.thread_time()
            for _ in range(times):
                action()
            found[name].append((time.thread_time() - start) / times)
    return {name: statistics.median(each) for name, each in found.items()}


def large_state():
    """Processor seconds of one call with its certificate: in an empty subnet, and in full ones."""
    wasm = bytes(wasmtime.wat2wasm(CANISTER))

    def certified(inside, canister):
        def both():
            inside.call(canister, "echo", b"x")
            inside.certify()

        both()
        return both

    empty = Inside()
    crowded = Inside()
    in_a_crowd = crowded.create(wasm)
    for _ in range(10_000):
        crowded.create()
    busy = Inside()
    among_requests = busy.create(wasm)
    history = busy.machine.subnet.history
    for number in range(100_000):
        record = RequestRecord(
            number.to_bytes(16, "big") * 2, busy.machine.time + MINUTE, b"", b"", b""
        )
        history.add(record)
        history.answered(record, Reply(b"remembered"), busy.machine.time)
        busy.machine.subnet.touch_request(record)
    return side_by_side(
        {
            "empty": certified(empty, empty.create(wasm)),
            "canisters": certified(crowded, in_a_crowd),
            "requests": certified(busy, among_requests),
        }
    )


def subnet(wasm):
    """Seconds to remember and to restore a subnet, each of whose canisters has had a message."""
    inside = Inside()
    canisters = [inside.create(wasm, b"DIDL\0\0") for _ in range(12)]
    machine = inside.machine
    with machine.lock:
        snapshot = subnet_snapshot.take(machine)
    found = {"snapshot": [], "restore": []}
    for _ in range(50):
        for canister in canisters:
            instance = machine.sandboxes[canister].instance
            instance.begin()
            at = instance.memory_size // 2
            instance.write(at, bytes(8))
            instance.keep()
        with machine.lock:
            start = time.perf_counter()
            subnet_snapshot.take(machine, snapshot)
            taken = time.perf_counter()
            subnet_snapshot.restore(machine, snapshot)
            found["restore"].append(time.perf_counter() - taken)
            found["snapshot"].append(taken - start)
    return {what: statistics.median(times) for what, times in found.items()}


def installation(wasm):
    """Seconds to compile a module, and to load it as one seen by an earlier process."""
    with tempfile.TemporaryDirectory() as place:
        os.environ["XDG_CACHE_HOME"] = place
        engine.forget_modules()
        start = time.perf_counter()
        compile_module(wasm)
        first = time.perf_counter() - start

        def again():
            engine.forget_modules()
            compile_module(wasm)

        return {"first": first, "again": timed(again, times=5)}


def main():
    from bridge.contracts import motoko_canister

    print(
        json.dumps(
            {
                "execution": execution(),
                "rollback": rollback(),
                "copying": copying(),
                "large_state": large_state(),
                "subnet": subnet(motoko_canister("echo")),
                "installation": installation(motoko_canister("receiver")),
            }
        )
    )


if __name__ == "__main__":
    main()
