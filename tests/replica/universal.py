"""A canister whose argument is a small program of system calls, for 32-bit and 64-bit memories.

Its Wasm is generated from the replica's own table of the System API, so that a test can call any
function, in any context, with any arguments. ``Program`` writes the programs.
"""

import struct

import wasmtime

from bridge.replica.execution.system_api import TABLE, signature

# Opcodes of the programs; a system call is CALL and the function's number.
END, PUSH, BLOB, DROP, LOAD, STORE, CALL, ADD, GROW, UNREACHABLE = range(10)
COUNTER, SET_COUNTER, RECURSE, SPIN, MEMSIZE = range(10, 15)

NAMES = sorted(TABLE)
# Programs for entry points that get no argument are stored at these addresses, as pointers.
HOOKS = {
    "canister_pre_upgrade": 16,
    "canister_global_timer": 24,
    "canister_heartbeat": 32,
    "canister_inspect_message": 40,
    "canister_on_low_wasm_memory": 48,
}
SCRATCH = 1024


class Program:
    """Bytes of a program; each method adds to it and returns it."""

    def __init__(self):
        self.data = bytearray()

    def __getattr__(self, name):
        if name not in TABLE:
            raise AttributeError(name)

        def call(*arguments):
            for argument in arguments:
                if isinstance(argument, (bytes, str)):
                    self.blob(argument)
                else:
                    self.push(argument)
            self.data += bytes([CALL, NAMES.index(name)])
            return self

        return call

    def _op(self, code):
        self.data.append(code)
        return self

    def push(self, value):
        self.data += bytes([PUSH]) + struct.pack("<Q", value % 2**64)
        return self

    def blob(self, data):
        """Push the address and the size of these bytes."""
        if isinstance(data, str):
            data = data.encode()
        self.data += bytes([BLOB]) + struct.pack("<I", len(data)) + data
        return self

    def drop(self):
        return self._op(DROP)

    def add(self):
        return self._op(ADD)

    def load(self, address):
        return self.push(address)._op(LOAD)

    def store(self, address, value=None):
        """Store a number, or what is on the stack."""
        if value is not None:
            self.push(value)
        self.push(address)
        return self._op(STORE)

    def hook(self, name, program):
        """Make ``program`` what an entry point without an argument runs."""
        return self.blob(bytes(program)).drop().store(HOOKS[name])

    def grow(self, pages):
        return self.push(pages)._op(GROW)

    def memory_size(self):
        return self._op(MEMSIZE)

    def unreachable(self):
        return self._op(UNREACHABLE)

    def recurse(self):
        return self._op(RECURSE)

    def spin(self):
        return self._op(SPIN)

    def counter(self):
        return self._op(COUNTER)

    def set_counter(self, value):
        return self.push(value)._op(SET_COUNTER)

    def add_to_counter(self, number):
        return self.counter().push(number).add()._op(SET_COUNTER)

    def counter_to_stable(self):
        """Write the counter to the beginning of the stable memory, which must be there."""
        return self.counter().store(SCRATCH).stable64_write(0, SCRATCH, 8)

    def append_stable_number(self):
        """Append the first eight bytes of the stable memory to the reply."""
        return self.stable64_read(SCRATCH, 0, 8).msg_reply_data_append(SCRATCH, 8)

    def append_number(self):
        """Append the number on the stack to the reply, as eight bytes."""
        return self.store(SCRATCH).msg_reply_data_append(SCRATCH, 8)

    def reply(self, data=None):
        if data is not None:
            self.msg_reply_data_append(data)
        return self.msg_reply()

    def append_blob_of(self, name):
        """Append what ``<name>_size`` and ``<name>_copy`` give to the reply."""
        size = getattr(self, f"{name}_size")
        size()
        self.store(SCRATCH + 8)
        self.push(SCRATCH + 64).push(0).load(SCRATCH + 8)
        getattr(self, f"{name}_copy")()
        return self.push(SCRATCH + 64).load(SCRATCH + 8).msg_reply_data_append()

    def append_128(self, name):
        """Append the 16 bytes that a function writes to an address given as its last argument."""
        getattr(self, name)(SCRATCH)
        return self.msg_reply_data_append(SCRATCH, 16)

    def call(
        self,
        callee,
        method,
        arg=b"",
        *,
        reply=None,
        reject=None,
        cleanup=None,
        timeout=None,
        cycles=0,
        one_way=False,
    ):
        """Call a canister; callbacks are programs. Leaves call_perform's result on the stack."""
        self.blob(callee).blob(method)
        for program in (reply, reject):
            if one_way:
                self.push(2**32 - 1).push(0)
            else:
                self.push(0).blob(bytes(program or Program())).drop()
        self.call_new()
        if cleanup is not None:
            self.push(0).blob(bytes(cleanup)).drop()
            self.call_on_cleanup()
        if arg:
            self.call_data_append(bytes(arg))
        if timeout is not None:
            self.call_with_best_effort_response(timeout)
        if cycles:
            self.call_cycles_add128(0, cycles)
        return self.call_perform()

    def __bytes__(self):
        return bytes(self.data) + bytes([END])


_TYPES = {"i": "i32", "l": "i64"}


def _call_arm(number, row, memory64):
    """Code that pops a function's arguments, calls it, and pushes its result."""
    params, result = signature(row, memory64=memory64)
    lines = []
    for place, letter in reversed(list(enumerate(params))):
        pop = "(call $pop)" if letter == "l" else "(i32.wrap_i64 (call $pop))"
        lines.append(f"(local.set $a{'' if letter == 'l' else 'w'}{place} {pop})")
    arguments = " ".join(
        f"(local.get $a{'' if letter == 'l' else 'w'}{place})"
        for place, letter in enumerate(params)
    )
    call = f"(call ${row.name} {arguments})"
    if result == "i":
        call = f"(call $push (i64.extend_i32_u {call}))"
    elif result == "l":
        call = f"(call $push {call})"
    lines.append(call)
    return f"(if (i32.eq (local.get $n) (i32.const {number})) (then {' '.join(lines)} (return)))"


def universal_wat(*, memory64=True, custom=""):
    """The text of the canister."""
    rows = [(n, TABLE[n]) for n in NAMES if not (memory64 and TABLE[n].only32)]
    imports = []
    for name, row in rows:
        params, result = signature(row, memory64=memory64)
        typed = f"(param {' '.join(_TYPES[p] for p in params)})" if params else ""
        typed += f" (result {_TYPES[result]})" if result else ""
        imports.append(f'(import "ic0" "{name}" (func ${name} {typed}))')
    arms = "\n".join(_call_arm(NAMES.index(name), row, memory64) for name, row in rows)
    pointer = "i64" if memory64 else "i32"
    address = (lambda code: code) if memory64 else (lambda code: f"(i32.wrap_i64 {code})")
    wide = (lambda code: code) if memory64 else (lambda code: f"(i64.extend_i32_u {code})")
    locals_ = " ".join(f"(local $a{i} i64) (local $aw{i} i32)" for i in range(8))
    hooks = "\n".join(
        f'(func (export "{name}") (call $maybe (i64.load {address(f"(i64.const {at})")})))'
        for name, at in HOOKS.items()
        if name != "canister_inspect_message"
    )
    inspect = address(f"(i64.const {HOOKS['canister_inspect_message']})")
    hooks += f"""
(func (export "canister_inspect_message")
  (if (i64.eqz (i64.load {inspect}))
    (then (call $accept_message))
    (else (call $run (i64.load {inspect})))))"""
    copy_args = f"""
      (local.set $size {wide("(call $msg_arg_data_size)")})
      (local.set $at (call $alloc (i64.add (local.get $size) (i64.const 1))))
      (call $msg_arg_data_copy {address("(local.get $at)")} ({pointer}.const 0)
        {address("(local.get $size)")})
      (call $run (local.get $at))"""
    entries = "\n".join(
        f'(func (export "{name}") (local $size i64) (local $at i64) {copy_args})'
        for name in (
            "canister_init",
            "canister_post_upgrade",
            "canister_update update",
            "canister_query query",
            "canister_composite_query composite",
        )
    )
    return f"""(module
{chr(10).join(imports)}
(memory (export "memory") {"i64 " if memory64 else ""}4)
(table 4 funcref)
(elem (i32.const 0) $callback $no_callback)
(global $sp (mut i64) (i64.const 65536))
(global $hp (mut i64) (i64.const 131072))
(global $ip (mut i64) (i64.const 0))
(global $counter (mut i64) (i64.const 0))
(func $push (param $v i64)
  (i64.store {address("(global.get $sp)")} (local.get $v))
  (global.set $sp (i64.add (global.get $sp) (i64.const 8))))
(func $pop (result i64)
  (global.set $sp (i64.sub (global.get $sp) (i64.const 8)))
  (i64.load {address("(global.get $sp)")}))
(func $alloc (param $n i64) (result i64) (local $at i64) (local $short i64)
  (local.set $at (global.get $hp))
  (global.set $hp (i64.and (i64.add (i64.add (global.get $hp) (local.get $n)) (i64.const 15))
    (i64.const -16)))
  (local.set $short (i64.sub (global.get $hp)
    (i64.mul {wide("(memory.size)")} (i64.const 65536))))
  (if (i64.gt_s (local.get $short) (i64.const 0)) (then
    (drop (memory.grow {
        address("(i64.add (i64.div_u (local.get $short) (i64.const 65536)) (i64.const 1))")
    }))))
  (local.get $at))
(func $byte (result i32)
  (i32.load8_u {address("(global.get $ip)")})
  (global.set $ip (i64.add (global.get $ip) (i64.const 1))))
(func $deep (param $n i64) (result i64)
  (i64.add (i64.const 1) (call $deep (i64.add (local.get $n) (i64.const 1)))))
(func $system (param $n i32) {locals_}
{arms}
  (unreachable))
(func $maybe (param $at i64) (if (i64.ne (local.get $at) (i64.const 0)) (then
  (call $run (local.get $at)))))
(func $run (param $at i64) (local $op i32) (local $x i64)
  (global.set $ip (local.get $at))
  (global.set $sp (i64.const 65536))
  (loop $next
    (local.set $op (call $byte))
    (if (i32.eq (local.get $op) (i32.const {END})) (then (return)))
    (if (i32.eq (local.get $op) (i32.const {PUSH})) (then
      (call $push (i64.load {address("(global.get $ip)")}))
      (global.set $ip (i64.add (global.get $ip) (i64.const 8))) (br $next)))
    (if (i32.eq (local.get $op) (i32.const {BLOB})) (then
      (local.set $x (i64.load32_u {address("(global.get $ip)")}))
      (call $push (i64.add (global.get $ip) (i64.const 4)))
      (call $push (local.get $x))
      (global.set $ip (i64.add (i64.add (global.get $ip) (i64.const 4)) (local.get $x)))
      (br $next)))
    (if (i32.eq (local.get $op) (i32.const {DROP})) (then (drop (call $pop)) (br $next)))
    (if (i32.eq (local.get $op) (i32.const {LOAD})) (then
      (call $push (i64.load {address("(call $pop)")})) (br $next)))
    (if (i32.eq (local.get $op) (i32.const {STORE})) (then
      (local.set $x (call $pop))
      (i64.store {address("(local.get $x)")} (call $pop)) (br $next)))
    (if (i32.eq (local.get $op) (i32.const {CALL})) (then (call $system (call $byte)) (br $next)))
    (if (i32.eq (local.get $op) (i32.const {ADD})) (then
      (call $push (i64.add (call $pop) (call $pop))) (br $next)))
    (if (i32.eq (local.get $op) (i32.const {GROW})) (then
      (call $push {wide(f"(memory.grow {address('(call $pop)')})")}) (br $next)))
    (if (i32.eq (local.get $op) (i32.const {MEMSIZE})) (then
      (call $push {wide("(memory.size)")}) (br $next)))
    (if (i32.eq (local.get $op) (i32.const {COUNTER})) (then
      (call $push (global.get $counter)) (br $next)))
    (if (i32.eq (local.get $op) (i32.const {SET_COUNTER})) (then
      (global.set $counter (call $pop)) (br $next)))
    (if (i32.eq (local.get $op) (i32.const {RECURSE})) (then
      (drop (call $deep (i64.const 0))) (br $next)))
    (if (i32.eq (local.get $op) (i32.const {SPIN})) (then (loop $for_ever (br $for_ever))))
    (unreachable)))
(func $callback (param $env {pointer}) (call $run {wide("(local.get $env)")}))
(func $no_callback)
{entries}
{hooks}
{custom})"""


def universal(*, memory64=True, custom=""):
    """The canister's Wasm."""
    return bytes(wasmtime.wat2wasm(universal_wat(memory64=memory64, custom=custom)))
