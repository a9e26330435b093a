"""Canister snapshots: taking, loading, listing, deleting, reading and uploading them.

Rule implemented: interface specification, section Canister snapshots. A snapshot is a copy; loading
one makes a new instance with its memories and globals.
"""

import hashlib
import struct
from typing import Any, Final

from bridge.candid import Case
from bridge.replica.execution.engine import compile_module
from bridge.replica.execution.failures import ExecutionError, InvalidModuleError
from bridge.replica.execution.instance import WASM_PAGE
from bridge.replica.management.canister import MAX_CHUNK, MAX_CHUNKS
from bridge.replica.management.install import note_module
from bridge.replica.management.registry import (
    Answer,
    canister_of,
    not_controller,
    record_change,
    result,
    serves,
)
from bridge.replica.scheduler.machine import Machine
from bridge.replica.scheduler.rejects import failure_reject
from bridge.replica.scheduler.sandbox import MAX_STABLE_PAGES, attempt, new_instance
from bridge.replica.state.canister import Canister
from bridge.replica.state.messages import Reject, RejectCode, Request
from bridge.replica.state.snapshot import Snapshot
from bridge.replica.state.stable import StableMemory

_MAX_SNAPSHOTS: Final = 10
_MAX_MODULE: Final = 100 * 1024 * 1024
_MAX_PART: Final = 2_000_000

_FORMATS: Final = {
    0x7F: ("i32", "<i"),
    0x7E: ("i64", "<q"),
    0x7D: ("f32", "<f"),
    0x7C: ("f64", "<d"),
}
_VALUE_TYPES: Final = {name: code for code, (name, _) in _FORMATS.items()}


def _error(text: str, error_code: str = "IC0504") -> Reject:
    return Reject(RejectCode.CANISTER_ERROR, text, error_code)


def _missing(canister: Canister, snapshot_id: bytes) -> Reject:
    return Reject(
        RejectCode.DESTINATION_INVALID,
        f"Could not find the snapshot ID {snapshot_id.hex()} for canister {canister.canister_id}.",
        "IC0305",
    )


def _find(canister: Canister, snapshot_id: bytes) -> Snapshot | Reject:
    return canister.snapshots.get(snapshot_id) or _missing(canister, snapshot_id)


def _new_id(canister: Canister) -> bytes:
    canister.snapshots_made += 1
    return canister.snapshots_made.to_bytes(8, "big") + canister.canister_id.raw


def _room(canister: Canister, replaced: bytes | None) -> Reject | None:
    """Why the canister cannot have one more snapshot."""
    if replaced is not None:
        return None if replaced in canister.snapshots else _missing(canister, replaced)
    if len(canister.snapshots) >= _MAX_SNAPSHOTS:
        return _error(
            f"Canister {canister.canister_id} has {_MAX_SNAPSHOTS} snapshots, which is the limit: "
            "delete or replace one"
        )
    return None


def _add(canister: Canister, snapshot: Snapshot, replaced: bytes | None) -> None:
    if replaced is not None:
        del canister.snapshots[replaced]
    canister.snapshots[snapshot.snapshot_id] = snapshot


def _summary(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "id": snapshot.snapshot_id,
        "taken_at_timestamp": snapshot.taken_at,
        "total_size": snapshot.size,
    }


# --- taking and loading -------------------------------------------------------------------------


@serves("take_canister_snapshot", needs_idle=True)
def _take(machine: Machine, request: Request, value: Any) -> Answer:
    canister = canister_of(machine, value)
    replaced = value["replace_snapshot"]
    refusal = _room(canister, replaced)
    if refusal is not None:
        return refusal
    sandbox = machine.sandbox(canister)
    instance = sandbox.instance
    if instance is None:
        return _error(
            f"Canister {canister.canister_id} is empty: there is nothing to take a snapshot of",
            "IC0537",
        )
    with machine.occupied(canister):
        # Both together: a query may run, and write, as soon as the memories are let go.
        (size, contents, values), stable = machine.outside(
            sandbox, lambda: (instance.save(), sandbox.stable.copy())
        )
        snapshot = Snapshot(
            snapshot_id=b"",  # given once all is done, so that doing it again changes nothing
            source="taken_from_canister",
            taken_at=machine.time,
            version=canister.version,
            module=bytearray(canister.module),
            globals=[
                (value_type, values[16 * at : 16 * at + 16])
                for at, value_type in enumerate(instance.info.global_types)
            ],
            wasm=StableMemory.of(size // WASM_PAGE, contents),
            stable=stable,
            certified_data=canister.certified_data,
            global_timer=canister.global_timer,
            low_memory_reported=canister.low_memory_reported,
            chunks=dict(canister.chunks),
        )
    if value["uninstall_code"]:
        machine.uninstall(canister)
        record_change(machine, canister, request, "code_uninstall")
    snapshot.snapshot_id = _new_id(canister)
    _add(canister, snapshot, replaced)
    return result(request, _summary(snapshot))


def _source(
    machine: Machine, request: Request, canister: Canister, snapshot_id: bytes
) -> Snapshot | Reject:
    """The snapshot to load: of this canister, or of another one of the same controller."""
    found = canister.snapshots.get(snapshot_id)
    if found is not None:
        return found
    for other in machine.subnet.canisters.values():
        if snapshot_id in other.snapshots:
            if not other.is_controller(request.sender):
                return not_controller(other, request)
            return other.snapshots[snapshot_id]
    return _missing(canister, snapshot_id)


@serves("load_canister_snapshot", needs_idle=True)
def _load(machine: Machine, request: Request, value: Any) -> Answer:
    canister = canister_of(machine, value)
    found = _source(machine, request, canister, value["snapshot_id"])
    if isinstance(found, Reject):
        return found
    with machine.occupied(canister):
        failure = _restore(machine, canister, found)
    if failure is not None:
        return failure_reject(canister, failure)
    owner = found.snapshot_id[8:]
    record_change(
        machine,
        canister,
        request,
        "load_snapshot",
        {
            "from_canister_id": None
            if owner == canister.canister_id.raw
            else type(canister.canister_id)(owner),
            "canister_version": found.version,
            "snapshot_id": found.snapshot_id,
            "taken_at_timestamp": found.taken_at,
            "source": Case(found.source, None),
        },
    )
    return result(request)


def _restore(machine: Machine, canister: Canister, snapshot: Snapshot) -> ExecutionError | None:
    """Make the canister what the snapshot says; why it failed, or ``None``."""
    module = bytes(snapshot.module)
    sandbox = machine.sandbox(canister)

    def build() -> None:
        compiled = compile_module(module)
        if tuple(kind for kind, _ in snapshot.globals) != compiled.info.global_types:
            raise InvalidModuleError("its mutable globals are not those of the snapshot")
        stable = snapshot.stable.copy()
        stable.limit = MAX_STABLE_PAGES
        stable.keep()
        new = new_instance(compiled, stable)
        values = b"".join(data for _, data in snapshot.globals)
        new.load((snapshot.wasm.size * WASM_PAGE, snapshot.wasm.parts(), values))
        new.note_size()
        sandbox.instance, sandbox.stable = new, stable

    failure = machine.outside(sandbox, lambda: attempt(build))
    if failure is not None:
        return failure
    canister.certified_data = snapshot.certified_data
    canister.chunks = dict(snapshot.chunks)
    canister.version += 1
    if snapshot.low_memory_reported is not None:
        canister.low_memory_reported = snapshot.low_memory_reported
    if snapshot.global_timer is not None:
        machine.set_global_timer(canister, snapshot.global_timer)
    note_module(machine, canister, module, compile_module(module).info)
    machine.measure(canister)
    return None


# --- listing and deleting -----------------------------------------------------------------------


def _unseen(canister: Canister, request: Request) -> Reject | None:
    """Why the sender may not see the canister's snapshots."""
    if canister.may_see(request.sender, canister.settings.snapshot_visibility):
        return None
    return not_controller(canister, request)


@serves("list_canister_snapshots", controllers_only=False)
def _list(machine: Machine, request: Request, value: Any) -> Answer:
    canister = canister_of(machine, value)
    return _unseen(canister, request) or result(
        request, [_summary(snapshot) for snapshot in canister.snapshots.values()]
    )


@serves("delete_canister_snapshot")
def _delete(machine: Machine, request: Request, value: Any) -> Answer:
    canister = canister_of(machine, value)
    if canister.snapshots.pop(value["snapshot_id"], None) is None:
        return _missing(canister, value["snapshot_id"])
    return result(request)


# --- reading ------------------------------------------------------------------------------------


def _global_case(value_type: int, data: bytes) -> Case:
    if value_type not in _FORMATS:
        return Case("v128", int.from_bytes(data, "little"))
    name, code = _FORMATS[value_type]
    return Case(name, struct.unpack_from(code, data)[0])


def _global_raw(case: Case) -> tuple[int, bytes]:
    if case.label == "v128":
        return 0x7B, (case.value % 2**128).to_bytes(16, "little")
    value_type = _VALUE_TYPES[str(case.label)]
    return value_type, struct.pack(_FORMATS[value_type][1], case.value).ljust(16, b"\0")


def _readable(machine: Machine, request: Request, value: Any) -> Snapshot | Reject:
    """The snapshot that is asked for, if the caller may read it."""
    canister = canister_of(machine, value)
    return _unseen(canister, request) or _find(canister, value["snapshot_id"])


@serves("read_canister_snapshot_metadata", controllers_only=False)
def _read_metadata(machine: Machine, request: Request, value: Any) -> Answer:
    found = _readable(machine, request, value)
    if isinstance(found, Reject):
        return found
    timer, reported = found.global_timer, found.low_memory_reported
    return result(
        request,
        {
            "source": Case(found.source, None),
            "taken_at_timestamp": found.taken_at,
            "wasm_module_size": len(found.module),
            "globals": [_global_case(*each) for each in found.globals],
            "wasm_memory_size": found.wasm.size * WASM_PAGE,
            "stable_memory_size": found.stable.size * WASM_PAGE,
            "wasm_chunk_store": [{"hash": digest} for digest in found.chunks],
            "canister_version": found.version,
            "certified_data": found.certified_data,
            "global_timer": None
            if timer is None
            else Case("active", timer)
            if timer
            else Case("inactive"),
            "on_low_wasm_memory_hook_status": None
            if reported is None
            else Case("executed" if reported else "condition_not_satisfied"),
        },
    )


@serves("read_canister_snapshot_data", controllers_only=False)
def _read_data(machine: Machine, request: Request, value: Any) -> Answer:
    found = _readable(machine, request, value)
    if isinstance(found, Reject):
        return found
    kind: Case = value["kind"]
    if kind.label == "wasm_chunk":
        chunk = found.chunks.get(kind.value["hash"])
        if chunk is None:
            return _error(f"The snapshot has no chunk of hash {kind.value['hash'].hex()}")
        return result(request, {"chunk": chunk})
    offset, size = kind.value["offset"], kind.value["size"]
    if size > _MAX_PART:
        return _error(f"A part of {size} bytes is too large; {_MAX_PART} are allowed")
    if offset + size > _length(found, kind):
        return _beyond(kind, offset, size)
    if kind.label == "wasm_module":
        return result(request, {"chunk": bytes(found.module[offset : offset + size])})
    memory = found.wasm if kind.label == "wasm_memory" else found.stable
    return result(request, {"chunk": memory.read(offset, size)})


def _length(snapshot: Snapshot, kind: Case) -> int:
    """Bytes of one kind of a snapshot's data."""
    if kind.label == "wasm_module":
        return len(snapshot.module)
    memory = snapshot.wasm if kind.label == "wasm_memory" else snapshot.stable
    return memory.size * WASM_PAGE


def _beyond(kind: Case, offset: int, size: int) -> Reject:
    return _error(f"{size} bytes at offset {offset} reach beyond the end of the {kind.label}")


# --- uploading ----------------------------------------------------------------------------------


@serves("upload_canister_snapshot_metadata")
def _upload_metadata(machine: Machine, request: Request, value: Any) -> Answer:
    canister = canister_of(machine, value)
    replaced = value["replace_snapshot"]
    refusal = _room(canister, replaced)
    if refusal is not None:
        return refusal
    wasm, stable = value["wasm_memory_size"], value["stable_memory_size"]
    if value["wasm_module_size"] > _MAX_MODULE or wasm % WASM_PAGE or stable % WASM_PAGE:
        return _error(
            f"Invalid snapshot: a module has at most {_MAX_MODULE} bytes, and memories are "
            f"multiples of {WASM_PAGE}"
        )
    if max(wasm, stable) > MAX_STABLE_PAGES * WASM_PAGE or len(value["certified_data"]) > 32:
        return _error("Invalid snapshot: a memory or the certified data is too large")
    timer: Case | None = value["global_timer"]
    status: Case | None = value["on_low_wasm_memory_hook_status"]
    snapshot = Snapshot(
        snapshot_id=_new_id(canister),
        source="metadata_upload",
        taken_at=machine.time,
        version=canister.version,
        module=bytearray(value["wasm_module_size"]),
        globals=[_global_raw(case) for case in value["globals"]],
        wasm=StableMemory.of(wasm // WASM_PAGE, []),
        stable=StableMemory.of(stable // WASM_PAGE, []),
        certified_data=value["certified_data"],
        global_timer=None if timer is None else timer.value or 0,
        low_memory_reported=None if status is None else status.label == "executed",
    )
    _add(canister, snapshot, replaced)
    return result(request, {"snapshot_id": snapshot.snapshot_id})


@serves("upload_canister_snapshot_data")
def _upload_data(machine: Machine, request: Request, value: Any) -> Answer:
    canister = canister_of(machine, value)
    found = _find(canister, value["snapshot_id"])
    if isinstance(found, Reject):
        return found
    if found.source != "metadata_upload":
        return _error("Only a snapshot whose metadata was uploaded takes data")
    kind: Case = value["kind"]
    chunk: bytes = value["chunk"]
    found.mark = object()
    if kind.label == "wasm_chunk":
        if len(chunk) > MAX_CHUNK or len(found.chunks) >= MAX_CHUNKS:
            return _error(f"A chunk has at most {MAX_CHUNK} bytes, a store {MAX_CHUNKS} chunks")
        found.chunks[hashlib.sha256(chunk).digest()] = chunk
        return result(request)
    offset = kind.value["offset"]
    if offset + len(chunk) > _length(found, kind):
        return _beyond(kind, offset, len(chunk))
    if kind.label == "wasm_module":
        found.module[offset : offset + len(chunk)] = chunk
    else:
        memory = found.wasm if kind.label == "wasm_memory" else found.stable
        memory.write(offset, chunk)
    return result(request)
