"""The management canister's methods: who may call which, and what each does.

Rule implemented: interface specification, section The IC management canister. A method that this
replica lacks is rejected by name; fees are zero.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from bridge import wire
from bridge.candid import Case
from bridge.errors import CandidError
from bridge.principal import Principal
from bridge.replica.management.install import Installation, install
from bridge.replica.management.settings import (
    SettingsError,
    apply_settings,
    definite,
    initial_settings,
)
from bridge.replica.management.types import SIGNATURES, UNSUPPORTED
from bridge.replica.scheduler.machine import Machine
from bridge.replica.scheduler.sandbox import Sandbox
from bridge.replica.state.canister import DEFAULT_CYCLES, Canister, Change, Settings, Status
from bridge.replica.state.messages import (
    FromUser,
    Payload,
    Reject,
    RejectCode,
    Reply,
    Request,
)
from bridge.replica.state.subnet import is_hosted

MAX_CHUNK: Final = 1024 * 1024
MAX_CHUNKS: Final = 100
_MAX_PRINCIPALS: Final = 10

Answer = Reject | bytes | None
"""A reject, a reply's bytes, or nothing: the answer comes later."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method.

    Attributes:
        run: Does it; gets the machine, the request and the decoded argument.
        controllers_only: Whether only a controller of the canister named in the argument may call.
        from_users: Whether users may call it, and not only canisters.
        canister_field: The field of the argument that names the canister, if there is one.
        needs_idle: Whether it must wait until no execution of the canister is under way.
    """

    run: Callable[[Machine, Request, Any], Answer]
    controllers_only: bool
    from_users: bool
    canister_field: str | None
    needs_idle: bool


_METHODS: Final[dict[str, Method]] = {}


def _method(
    name: str,
    *,
    controllers_only: bool = True,
    from_users: bool = True,
    canister_field: str | None = "canister_id",
    needs_idle: bool = False,
) -> Callable[[Callable[[Machine, Request, Any], Answer]], Callable[..., Answer]]:
    def register(run: Callable[[Machine, Request, Any], Answer]) -> Callable[..., Answer]:
        _METHODS[name] = Method(run, controllers_only, from_users, canister_field, needs_idle)
        return run

    return register


# --- entry points -------------------------------------------------------------------------------


def _unknown(name: str) -> Reject:
    if name in UNSUPPORTED:
        return Reject(
            RejectCode.CANISTER_REJECT,
            f"The management canister's method '{name}' is not supported by this replica: use a "
            "full replica for it",
            "IC0407",
        )
    return Reject(
        RejectCode.CANISTER_REJECT, f"Management canister has no method '{name}'", "IC0407"
    )


def effective_canister_id(method: str, arg: bytes) -> Principal | None:
    """The canister that an argument names, by which a call is addressed; ``None`` for none.

    Raises:
        CandidError: If the argument is not of the method's type.
    """
    found = _METHODS.get(method)
    if found is None or found.canister_field is None:
        return None
    value = SIGNATURES[method].decode(arg)
    named: Principal = value[found.canister_field]
    return named


def _check(machine: Machine, request: Request) -> tuple[Method, Any, Canister | None] | Reject:
    """Decode, and check that this caller may do this."""
    method = _METHODS.get(request.method)
    if method is None:
        return _unknown(request.method)
    try:
        value = SIGNATURES[request.method].decode(request.arg)
    except CandidError as error:
        return Reject(
            RejectCode.CANISTER_REJECT, f"Error decoding candid: {error.message}", "IC0408"
        )
    if method.canister_field is None:
        return method, value, None
    name: Principal = value[method.canister_field]
    canister = machine.subnet.canisters.get(name)
    if canister is None:
        return Reject(RejectCode.DESTINATION_INVALID, f"Canister {name} not found", "IC0301")
    if method.controllers_only and not canister.is_controller(request.sender):
        return _not_controller(canister, request)
    return method, value, canister


def _not_controller(canister: Canister, request: Request) -> Reject:
    return Reject(
        RejectCode.CANISTER_ERROR,
        f"Only controllers of canister {canister.canister_id} can call ic00 method "
        f"{request.method}",
        "IC0512",
    )


def ingress_filter(machine: Machine, request: Request) -> Reject | None:
    """Why a user's call to the management canister is not taken in; ``None`` if it is."""
    method = _METHODS.get(request.method)
    if method is not None and not method.from_users:
        return Reject(
            RejectCode.CANISTER_REJECT,
            f"ic00 method {request.method} can not be called via ingress messages",
            "IC0406",
        )
    checked = _check(machine, request)
    return checked if isinstance(checked, Reject) else None


def handle(machine: Machine, request: Request) -> None:
    """Do what a call to the management canister asks, and answer it."""
    checked = _check(machine, request)
    if isinstance(checked, Reject):
        answer: Answer = checked
    else:
        method, value, canister = checked
        if canister is not None and canister.busy and method.needs_idle:
            machine.when_idle(canister, lambda: handle(machine, request))
            return
        if isinstance(request.origin, FromUser) and not method.from_users:
            answer = ingress_filter(machine, request)
        else:
            answer = method.run(machine, request, value)
    if isinstance(answer, Reject):
        machine.respond(request.origin, answer, request.cycles)
    elif answer is not None:
        machine.reply(request, answer)


def _result(request: Request, value: Any = None) -> bytes:
    return SIGNATURES[request.method].encode(value)


def _canister(machine: Machine, value: Any, field: str = "canister_id") -> Canister:
    return machine.subnet.canisters[value[field]]


def _record(
    machine: Machine, canister: Canister, request: Request, kind: str, data: Any = None
) -> None:
    from_user = isinstance(request.origin, FromUser)
    canister.record_change(
        Change(
            timestamp=machine.time,
            version=canister.version,
            user=request.sender if from_user else None,
            canister=None if from_user else (request.sender, request.sender_version),
            details=(kind, data),
        )
    )


# --- creating -----------------------------------------------------------------------------------


def _create(
    machine: Machine, request: Request, settings: Settings, cycles: int, name: Principal
) -> bytes:
    canister = Canister(name, settings, created=machine.time, cycles=cycles)
    machine.subnet.canisters[name] = canister
    machine.sandboxes[name] = Sandbox()
    machine.subnet.touch(name)
    variables = settings.environment_variables
    _record(
        machine,
        canister,
        request,
        "creation",
        {
            "controllers": list(settings.controllers),
            "environment_variables_hash": wire.hash_of_map(dict(variables)) if variables else None,
        },
    )
    return _result(request, {"canister_id": name})


@_method("create_canister", controllers_only=False, from_users=False, canister_field=None)
def _create_canister(machine: Machine, request: Request, value: Any) -> Answer:
    try:
        settings = initial_settings(value["settings"], request.sender)
    except SettingsError as error:
        return error.reject
    name = machine.subnet.new_canister_id()
    cycles, request.cycles = request.cycles, 0
    return _create(machine, request, settings, cycles, name)


@_method("provisional_create_canister_with_cycles", controllers_only=False, canister_field=None)
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


@_method("provisional_top_up_canister", controllers_only=False)
def _provisional_top_up(machine: Machine, request: Request, value: Any) -> Answer:
    _canister(machine, value).cycles += value["amount"]
    return _result(request)


@_method("deposit_cycles", controllers_only=False, from_users=False)
def _deposit_cycles(machine: Machine, request: Request, value: Any) -> Answer:
    _canister(machine, value).cycles += request.cycles
    request.cycles = 0
    return _result(request)


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
    _record(
        machine,
        canister,
        request,
        "code_deployment",
        {"mode": Case(wanted.kind), "module_hash": canister.module_hash},
    )
    return _result(request)


@_method("install_code", needs_idle=True)
def _install_code(machine: Machine, request: Request, value: Any) -> Answer:
    return _install(machine, _canister(machine, value), request, value, value["wasm_module"])


@_method("install_chunked_code", canister_field="target_canister", needs_idle=True)
def _install_chunked_code(machine: Machine, request: Request, value: Any) -> Answer:
    target = _canister(machine, value, "target_canister")
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
            return _not_controller(store, request)
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


@_method("uninstall_code", needs_idle=True)
def _uninstall_code(machine: Machine, request: Request, value: Any) -> Answer:
    canister = _canister(machine, value)
    _uninstall(machine, canister)
    _record(machine, canister, request, "code_uninstall")
    return _result(request)


def _uninstall(machine: Machine, canister: Canister) -> None:
    sandbox = machine.sandbox(canister)
    with machine.occupied(canister):
        machine.outside(sandbox, sandbox.empty)
    machine.measure(canister)
    canister.module_hash, canister.module_size, canister.metadata = None, 0, {}
    canister.certified_data, canister.global_timer = b"", 0
    canister.chunks.clear()
    canister.version += 1
    machine.drop_contexts(canister)
    machine.module_changed(canister)


# --- the chunk store ----------------------------------------------------------------------------


def _own_store(canister: Canister, request: Request) -> Reject | None:
    if canister.is_controller(request.sender) or canister.canister_id == request.sender:
        return None
    return _not_controller(canister, request)


@_method("upload_chunk", controllers_only=False)
def _upload_chunk(machine: Machine, request: Request, value: Any) -> Answer:
    canister = _canister(machine, value)
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
    return _result(request, {"hash": digest})


@_method("clear_chunk_store", controllers_only=False)
def _clear_chunk_store(machine: Machine, request: Request, value: Any) -> Answer:
    canister = _canister(machine, value)
    refusal = _own_store(canister, request)
    if refusal is not None:
        return refusal
    canister.chunks.clear()
    return _result(request)


@_method("stored_chunks", controllers_only=False)
def _stored_chunks(machine: Machine, request: Request, value: Any) -> Answer:
    canister = _canister(machine, value)
    refusal = _own_store(canister, request)
    if refusal is not None:
        return refusal
    return _result(request, [{"hash": digest} for digest in canister.chunks])


# --- running ------------------------------------------------------------------------------------


@_method("start_canister")
def _start_canister(machine: Machine, request: Request, value: Any) -> Answer:
    machine.start(_canister(machine, value))
    return _result(request)


@_method("stop_canister")
def _stop_canister(machine: Machine, request: Request, value: Any) -> Answer:
    machine.stop(_canister(machine, value), request.origin)
    return None


@_method("delete_canister", needs_idle=True)
def _delete_canister(machine: Machine, request: Request, value: Any) -> Answer:
    canister = _canister(machine, value)
    if canister.canister_id == request.sender:
        return Reject(RejectCode.CANISTER_ERROR, "A canister cannot delete itself.", "IC0512")
    if canister.status is not Status.STOPPED:
        return Reject(
            RejectCode.CANISTER_ERROR,
            f"Canister {canister.canister_id} must be stopped before it is deleted.",
            "IC0510",
        )
    _uninstall(machine, canister)
    machine.subnet.deleted.add(canister.canister_id)
    del machine.subnet.canisters[canister.canister_id]
    del machine.sandboxes[canister.canister_id]
    machine.subnet.touch(canister.canister_id)
    return _result(request)


@_method("update_settings")
def _update_settings(machine: Machine, request: Request, value: Any) -> Answer:
    canister = _canister(machine, value)
    before = canister.settings.controllers
    try:
        canister.settings = apply_settings(canister.settings, value["settings"])
    except SettingsError as error:
        return error.reject
    canister.version += 1
    machine.subnet.touch(canister.canister_id)
    if canister.settings.controllers != before:
        _record(
            machine,
            canister,
            request,
            "controllers_change",
            {"controllers": list(canister.settings.controllers)},
        )
    return _result(request)


@_method("canister_status", controllers_only=False)
def _canister_status(machine: Machine, request: Request, value: Any) -> Answer:
    canister = _canister(machine, value)
    own = canister.canister_id == request.sender
    if not own and not canister.may_see(request.sender, canister.settings.status_visibility):
        return _not_controller(canister, request)
    sandbox = machine.sandbox(canister)
    wasm = sandbox.instance.kept_size if sandbox.instance is not None else 0
    stable = sandbox.stable.kept_size * 65_536
    chunks = sum(map(len, canister.chunks.values()))
    sections = sum(len(data) for _, data in canister.metadata.values())
    logs = canister.settings.log_memory_limit
    total = wasm + stable + chunks + canister.module_size + sections + logs
    queries = canister.queries
    return _result(
        request,
        {
            "status": Case(canister.status.name.lower()),
            "ready_for_migration": canister.status is Status.STOPPED,
            "version": canister.version,
            "settings": definite(canister.settings),
            "module_hash": canister.module_hash,
            "memory_size": total,
            "memory_metrics": {
                "wasm_memory_size": wasm,
                "stable_memory_size": stable,
                "global_memory_size": 0,
                "wasm_binary_size": canister.module_size,
                "custom_sections_size": sections,
                "canister_history_size": 0,
                "wasm_chunk_store_size": chunks,
                "snapshots_size": 0,
                "log_memory_store_size": logs,
            },
            "cycles": canister.cycles,
            "reserved_cycles": 0,
            "idle_cycles_burned_per_day": 0,
            "query_stats": {
                "num_calls_total": queries.calls,
                "num_instructions_total": queries.instructions,
                "request_payload_bytes_total": queries.request_bytes,
                "response_payload_bytes_total": queries.response_bytes,
            },
        },
    )


@_method("canister_info", controllers_only=False, from_users=False)
def _canister_info(machine: Machine, request: Request, value: Any) -> Answer:
    canister = _canister(machine, value)
    wanted = value["num_requested_changes"] or 0
    recent = list(canister.history)[-wanted:] if wanted else []
    return _result(
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


@_method("canister_metadata", controllers_only=False, from_users=False)
def _canister_metadata(machine: Machine, request: Request, value: Any) -> Answer:
    canister = _canister(machine, value)
    found = canister.metadata.get(value["name"])
    if found is None or not (found[0] or canister.is_controller(request.sender)):
        return Reject(
            RejectCode.DESTINATION_INVALID,
            f"The canister {canister.canister_id} has no metadata section with the name "
            f"{value['name']}.",
            "IC0406",
        )
    return _result(request, {"value": found[1]})


@_method("raw_rand", controllers_only=False, from_users=False, canister_field=None)
def _raw_rand(machine: Machine, request: Request, _value: Any) -> Answer:
    return _result(request, machine.subnet.random())


@_method("canister_metrics")
def _canister_metrics(machine: Machine, request: Request, value: Any) -> Answer:
    consumed = dict.fromkeys(
        (
            "memory", "compute_allocation", "ingress_induction", "instructions",
            "request_and_response_transmission", "uninstall", "canister_creation",
            "http_outcalls",
        ),
        0,
    )  # fmt: skip
    consumed["burned_cycles"] = _canister(machine, value).burned
    return _result(request, {"cycles_consumed": consumed})


@_method("fetch_canister_logs", controllers_only=False, from_users=False)
def _fetch_canister_logs(machine: Machine, request: Request, value: Any) -> Answer:
    canister = _canister(machine, value)
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
    return _result(request, {"canister_log_records": records})


_QUERIES: Final = frozenset(
    {"canister_status", "canister_info", "canister_metrics", "fetch_canister_logs"}
)


def query(machine: Machine, request: Request) -> Payload:
    """Answer a query to the management canister, under the machine's lock."""
    if request.method not in _QUERIES:
        return Reject(
            RejectCode.CANISTER_ERROR,
            f"Management canister has no query method '{request.method}'",
            "IC0536",
        )
    checked = _check(machine, request)
    if isinstance(checked, Reject):
        return checked
    method, value, _ = checked
    answer = method.run(machine, request, value)
    assert answer is not None
    return answer if isinstance(answer, Reject) else Reply(answer)
