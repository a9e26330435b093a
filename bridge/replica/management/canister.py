"""What the management canister's methods do to canisters, all but snapshots.

Rule implemented: interface specification, section The IC management canister. Its
methods cost nothing.
"""

import hashlib
from typing import Any, Final

from bridge import wire
from bridge.candid import Case
from bridge.principal import Principal
from bridge.replica.management.install import Installation, install
from bridge.replica.management.registry import (
    Answer,
    canister_of,
    not_controller,
    record_change,
    result,
    serves,
)
from bridge.replica.management.settings import (
    SettingsError,
    apply_settings,
    definite,
    initial_settings,
)
from bridge.replica.scheduler.fees import idle_cycles_per_day, memory_use
from bridge.replica.scheduler.machine import Machine
from bridge.replica.state.canister import DEFAULT_CYCLES, Canister, Change, Settings, Status
from bridge.replica.state.messages import Reject, RejectCode, Request
from bridge.replica.state.subnet import is_hosted

MAX_CHUNK: Final = 1024 * 1024
MAX_CHUNKS: Final = 100

# --- creating -----------------------------------------------------------------------------------


def _create(
    machine: Machine, request: Request, settings: Settings, cycles: int, name: Principal
) -> bytes:
    canister = Canister(name, settings, created=machine.time, cycles=cycles, charged=machine.time)
    machine.subnet.canisters[name] = canister
    machine.sandboxes[name] = machine.new_sandbox()
    machine.subnet.touch(name)
    variables = settings.environment_variables
    record_change(
        machine,
        canister,
        request,
        "creation",
        {
            "controllers": list(settings.controllers),
            "environment_variables_hash": wire.hash_of_map(dict(variables)) if variables else None,
        },
    )
    return result(request, {"canister_id": name})


@serves("create_canister", controllers_only=False, from_users=False, canister_field=None)
def _create_canister(machine: Machine, request: Request, value: Any) -> Answer:
    try:
        settings = initial_settings(value["settings"], request.sender)
    except SettingsError as error:
        return error.reject
    name = machine.subnet.new_canister_id()
    cycles, request.cycles = request.cycles, 0
    return _create(machine, request, settings, cycles, name)


@serves("provisional_create_canister_with_cycles", controllers_only=False, canister_field=None)
def _provisional_create(machine: Machine, request: Request, value: Any) -> Answer:
    try:
        settings = initial_settings(value["settings"], request.sender)
    except SettingsError as error:
        return error.reject
    wanted = value["specified_id"]
    if wanted is None:
        wanted = machine.subnet.new_canister_id()
    elif not is_hosted(wanted):
        return Reject(
            RejectCode.CANISTER_REJECT,
            f"The specified_id {wanted} is invalid: it is not within the canister ranges of this "
            "subnet",
            "IC0405",
        )
    elif wanted in machine.subnet.canisters or wanted in machine.subnet.deleted:
        return Reject(
            RejectCode.SYS_TRANSIENT,
            f"The specified_id {wanted} is invalid: a canister of this id exists or has existed",
            "IC0205",
        )
    amount = value["amount"]
    return _create(machine, request, settings, DEFAULT_CYCLES if amount is None else amount, wanted)


@serves("provisional_top_up_canister", controllers_only=False)
def _provisional_top_up(machine: Machine, request: Request, value: Any) -> Answer:
    canister_of(machine, value).cycles += value["amount"]
    return result(request)


@serves("deposit_cycles", controllers_only=False, from_users=False)
def _deposit_cycles(machine: Machine, request: Request, value: Any) -> Answer:
    canister_of(machine, value).cycles += request.cycles
    request.cycles = 0
    return result(request)


# --- code ---------------------------------------------------------------------------------------


def _installation(value: Any, module: bytes) -> Installation:
    mode: Case = value["mode"]
    options = mode.value if mode.label == "upgrade" and mode.value is not None else {}
    persistence = options.get("wasm_memory_persistence")
    return Installation(
        kind=mode.label,  # type: ignore[arg-type]
        module=module,
        arg=value["arg"],
        skip_pre_upgrade=bool(options.get("skip_pre_upgrade")),
        keep_memory=None if persistence is None else persistence.label == "keep",
    )


def _install(machine: Machine, canister: Canister, request: Request, value: Any,
             module: bytes) -> Answer:  # fmt: skip
    wanted = _installation(value, module)
    with machine.occupied(canister):
        failure = install(machine, canister, request, wanted)
    if failure is not None:
        return failure
    record_change(
        machine,
        canister,
        request,
        "code_deployment",
        {"mode": Case(wanted.kind), "module_hash": canister.module_hash},
    )
    return result(request)


@serves("install_code", needs_idle=True)
def _install_code(machine: Machine, request: Request, value: Any) -> Answer:
    return _install(machine, canister_of(machine, value), request, value, value["wasm_module"])


@serves("install_chunked_code", canister_field="target_canister", needs_idle=True)
def _install_chunked_code(machine: Machine, request: Request, value: Any) -> Answer:
    target = canister_of(machine, value, "target_canister")
    store = target
    if value["store_canister"] is not None:
        found = machine.subnet.canisters.get(value["store_canister"])
        if found is None:
            return Reject(
                RejectCode.DESTINATION_INVALID,
                f"Canister {value['store_canister']} not found",
                "IC0301",
            )
        store = found
        if not store.is_controller(request.sender) and store.canister_id != request.sender:
            return not_controller(store, request)
    parts = []
    for entry in value["chunk_hashes_list"]:
        chunk = store.chunks.get(entry["hash"])
        if chunk is None:
            return Reject(
                RejectCode.CANISTER_ERROR,
                f"Error from Wasm chunk store: Chunk with hash {entry['hash'].hex()} was not found",
                "IC0513",
            )
        parts.append(chunk)
    module = b"".join(parts)
    if hashlib.sha256(module).digest() != value["wasm_module_hash"]:
        return Reject(
            RejectCode.CANISTER_ERROR,
            "Error from Wasm chunk store: the chunks do not have the expected hash "
            f"{value['wasm_module_hash'].hex()}",
            "IC0505",
        )
    return _install(machine, target, request, value, module)


@serves("uninstall_code", needs_idle=True)
def _uninstall_code(machine: Machine, request: Request, value: Any) -> Answer:
    canister = canister_of(machine, value)
    machine.uninstall(canister)
    record_change(machine, canister, request, "code_uninstall")
    return result(request)


# --- the chunk store ----------------------------------------------------------------------------


def _own_store(canister: Canister, request: Request) -> Reject | None:
    if canister.is_controller(request.sender) or canister.canister_id == request.sender:
        return None
    return not_controller(canister, request)


@serves("upload_chunk", controllers_only=False)
def _upload_chunk(machine: Machine, request: Request, value: Any) -> Answer:
    canister = canister_of(machine, value)
    refusal = _own_store(canister, request)
    if refusal is not None:
        return refusal
    chunk = value["chunk"]
    digest = hashlib.sha256(chunk).digest()
    if len(chunk) > MAX_CHUNK:
        return Reject(
            RejectCode.CANISTER_ERROR,
            f"Error from Wasm chunk store: the chunk has {len(chunk)} bytes, the limit is "
            f"{MAX_CHUNK}",
            "IC0402",
        )
    if digest not in canister.chunks and len(canister.chunks) >= MAX_CHUNKS:
        return Reject(
            RejectCode.CANISTER_ERROR,
            f"Error from Wasm chunk store: it holds {MAX_CHUNKS} chunks, which is its limit",
            "IC0402",
        )
    canister.chunks[digest] = chunk
    return result(request, {"hash": digest})


@serves("clear_chunk_store", controllers_only=False)
def _clear_chunk_store(machine: Machine, request: Request, value: Any) -> Answer:
    canister = canister_of(machine, value)
    refusal = _own_store(canister, request)
    if refusal is not None:
        return refusal
    canister.chunks.clear()
    return result(request)


@serves("stored_chunks", controllers_only=False)
def _stored_chunks(machine: Machine, request: Request, value: Any) -> Answer:
    canister = canister_of(machine, value)
    refusal = _own_store(canister, request)
    if refusal is not None:
        return refusal
    return result(request, [{"hash": digest} for digest in canister.chunks])


# --- running ------------------------------------------------------------------------------------


@serves("start_canister")
def _start_canister(machine: Machine, request: Request, value: Any) -> Answer:
    machine.start(canister_of(machine, value))
    return result(request)


@serves("stop_canister")
def _stop_canister(machine: Machine, request: Request, value: Any) -> Answer:
    machine.stop(canister_of(machine, value), request)
    return None


@serves("delete_canister", needs_idle=True)
def _delete_canister(machine: Machine, request: Request, value: Any) -> Answer:
    canister = canister_of(machine, value)
    if canister.canister_id == request.sender:
        return Reject(RejectCode.CANISTER_ERROR, "A canister cannot delete itself.", "IC0512")
    if canister.status is not Status.STOPPED:
        return Reject(
            RejectCode.CANISTER_ERROR,
            f"Canister {canister.canister_id} must be stopped before it is deleted.",
            "IC0510",
        )
    machine.uninstall(canister)
    machine.subnet.deleted.add(canister.canister_id)
    del machine.subnet.canisters[canister.canister_id]
    del machine.sandboxes[canister.canister_id]
    machine.subnet.touch(canister.canister_id)
    return result(request)


@serves("update_settings")
def _update_settings(machine: Machine, request: Request, value: Any) -> Answer:
    canister = canister_of(machine, value)
    before = canister.settings.controllers
    try:
        canister.settings = apply_settings(canister.settings, value["settings"])
    except SettingsError as error:
        return error.reject
    canister.version += 1
    machine.subnet.touch(canister.canister_id)
    if canister.settings.controllers != before:
        record_change(
            machine,
            canister,
            request,
            "controllers_change",
            {"controllers": list(canister.settings.controllers)},
        )
    return result(request)


@serves("canister_status", controllers_only=False)
def _canister_status(machine: Machine, request: Request, value: Any) -> Answer:
    canister = canister_of(machine, value)
    own = canister.canister_id == request.sender
    if not own and not canister.may_see(request.sender, canister.settings.status_visibility):
        return not_controller(canister, request)
    sandbox = machine.sandbox(canister)
    memory = memory_use(canister, sandbox)
    queries = canister.queries
    return result(
        request,
        {
            "status": Case(canister.status.name.lower()),
            "ready_for_migration": canister.status is Status.STOPPED,
            "version": canister.version,
            "settings": definite(canister.settings),
            "module_hash": canister.module_hash,
            "memory_size": sum(memory.values()),
            "memory_metrics": memory,
            "cycles": canister.cycles,
            "reserved_cycles": 0,
            "idle_cycles_burned_per_day": idle_cycles_per_day(canister, sandbox)
            if machine.fees
            else 0,
            "query_stats": {
                "num_calls_total": queries.calls,
                "num_instructions_total": queries.instructions,
                "request_payload_bytes_total": queries.request_bytes,
                "response_payload_bytes_total": queries.response_bytes,
            },
        },
    )


@serves("canister_info", controllers_only=False, from_users=False)
def _canister_info(machine: Machine, request: Request, value: Any) -> Answer:
    canister = canister_of(machine, value)
    wanted = value["num_requested_changes"] or 0
    recent = list(canister.history)[-wanted:] if wanted else []
    return result(
        request,
        {
            "total_num_changes": canister.changes,
            "recent_changes": [_change(change) for change in recent],
            "module_hash": canister.module_hash,
            "controllers": list(canister.settings.controllers),
        },
    )


def _change(change: Change) -> dict[str, Any]:
    if change.user is not None:
        origin = Case("from_user", {"user_id": change.user})
    else:
        assert change.canister is not None
        name, version = change.canister
        origin = Case("from_canister", {"canister_id": name, "canister_version": version})
    return {
        "timestamp_nanos": change.timestamp,
        "canister_version": change.version,
        "origin": origin,
        "details": Case(*change.details),
    }


@serves("canister_metadata", controllers_only=False, from_users=False)
def _canister_metadata(machine: Machine, request: Request, value: Any) -> Answer:
    canister = canister_of(machine, value)
    found = canister.metadata.get(value["name"])
    if found is None or not (found[0] or canister.is_controller(request.sender)):
        return Reject(
            RejectCode.DESTINATION_INVALID,
            f"The canister {canister.canister_id} has no metadata section with the name "
            f"{value['name']}.",
            "IC0406",
        )
    return result(request, {"value": found[1]})


@serves("raw_rand", controllers_only=False, from_users=False, canister_field=None)
def _raw_rand(machine: Machine, request: Request, _value: Any) -> Answer:
    return result(request, machine.subnet.random())


@serves("canister_metrics")
def _canister_metrics(machine: Machine, request: Request, value: Any) -> Answer:
    consumed = dict.fromkeys(
        (
            "memory", "compute_allocation", "ingress_induction", "instructions",
            "request_and_response_transmission", "uninstall", "canister_creation",
            "http_outcalls",
        ),
        0,
    )  # fmt: skip
    canister = canister_of(machine, value)
    consumed["memory"] = canister.paid_for_memory
    consumed["compute_allocation"] = canister.paid_for_compute
    consumed["burned_cycles"] = canister.burned
    return result(request, {"cycles_consumed": consumed})


@serves("fetch_canister_logs", controllers_only=False, from_users=False)
def _fetch_canister_logs(machine: Machine, request: Request, value: Any) -> Answer:
    canister = canister_of(machine, value)
    if not canister.may_see(request.sender, canister.settings.log_visibility):
        return Reject(
            RejectCode.CANISTER_REJECT,
            f"Caller {request.sender} is not allowed to access canister logs",
            "IC0406",
        )
    records = [
        {"idx": r.index, "timestamp_nanos": r.timestamp, "content": r.content} for r in canister.log
    ]
    chosen: Case | None = value["filter"]
    if chosen is not None:
        key = "idx" if chosen.label == "by_idx" else "timestamp_nanos"
        start, end = chosen.value["start"], chosen.value["end"]
        records = [record for record in records if start <= record[key] < end]
    return result(request, {"canister_log_records": records})
