"""The System API (``ic0``) as one table: name, signature, allowed contexts, function.

The table is at once the code, the check of a module's imports, the check of contexts at run time,
and the coverage page of the documentation. Rule implemented: interface specification, section
Overview of imports; ``I`` is ``i32`` or ``i64`` by the memory's width. Fees of this replica are
zero, so the functions that tell a cost say zero.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from bridge.candid import Codec, Nat32, Nat64, Opt, Record, Reserved, Variant
from bridge.errors import CandidError
from bridge.principal import Principal
from bridge.replica.execution.failures import (
    ContractViolationError,
    ExplicitTrapError,
    InstructionLimitError,
    TrapError,
)
from bridge.replica.execution.run import (
    EVERYWHERE,
    MAX_CALL_PAYLOAD,
    MAX_CALL_TIMEOUT_SECONDS,
    MAX_QUERY_RESPONSE,
    MAX_RESPONSE,
    MODE_NAMES,
    REPLICATED,
    Mode,
    OutgoingCall,
    Run,
)

_U64: Final = 2**64 - 1
_U32: Final = 2**32 - 1
_MAX_CERTIFIED_DATA: Final = 32
_MAX_LOG_RECORD: Final = 32 * 1024
_MAX_METHOD_NAME: Final = 20_000
# What a call into the host counts besides one for each byte that it moves: without it, a loop
# around a host call would take much longer than its instructions say.
_HOST_CALL: Final = 500
MAX_VARIABLE_NAME: Final = 128
_MAX_COST_PARAMETERS: Final = 1024
_OUTCALL_COST: Final = Codec(
    [
        Record(
            {
                "request_bytes": Nat64,
                "http_roundtrip_time_ms": Nat64,
                "raw_response_bytes": Nat64,
                "transformed_response_bytes": Nat64,
                "transform_instructions": Nat64,
                "outcall_type": Opt(
                    Variant(
                        {
                            "fully_replicated": Reserved,
                            "non_replicated": Reserved,
                            "flexible": Opt(
                                Record(
                                    {
                                        "min_responses": Nat32,
                                        "max_responses": Nat32,
                                        "total_requests": Nat32,
                                    }
                                )
                            ),
                        }
                    )
                ),
            }
        )
    ]
)

Function = Callable[..., int | None]


@dataclass(frozen=True, slots=True)
class Row:
    """One function of the System API.

    Attributes:
        name: Its name within ``ic0``.
        params: Its parameters: ``I`` (pointer width), ``i`` (i32), ``l`` (i64).
        result: The same for its result, or empty.
        contexts: Where it may be called.
        function: Takes the ``Run`` and the parameters as unsigned numbers.
        only32: Whether it exists for 32-bit memories only.
    """

    name: str
    params: str
    result: str
    contexts: Mode
    function: Function
    only32: bool = False


TABLE: Final[dict[str, Row]] = {}


def _row(
    name: str, params: str, result: str, contexts: Mode, *, only32: bool = False
) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        TABLE[name] = Row(name, params, result, contexts, function, only32)
        return function

    return register


def check_context(run: Run, row: Row) -> None:
    """Refuse a function where the specification does not allow it.

    Raises:
        ContractViolationError: If it may not be called in this context.
    """
    if not run.mode & row.contexts:
        raise ContractViolationError(
            f'Canister violated contract: "ic0_{row.name}" cannot be executed in '
            f"{MODE_NAMES[run.mode]} mode"
        )


def _violation(text: str) -> ContractViolationError:
    return ContractViolationError(f"Canister violated contract: {text}")


def charge(run: Run, size: int) -> None:
    """Count a host call that moves ``size`` bytes as instructions.

    Raises:
        InstructionLimitError: If the message has used up what it may.
    """
    run.host_instructions += _HOST_CALL + size
    if run.host_instructions > run.instruction_limit:
        raise InstructionLimitError(limit_text(run.instruction_limit))


def limit_text(limit: int) -> str:
    """The text of an execution that used too many instructions."""
    return f"Canister exceeded the limit of {limit} instructions for single message execution."


# --- blobs: a size and a copy function each -----------------------------------------------------


def _blob(name: str, contexts: Mode, content: Callable[[Run], bytes]) -> None:
    def size(run: Run) -> int:
        return len(content(run))

    def copy(run: Run, dst: int, offset: int, length: int) -> None:
        _copy_out(run, name, content(run), dst, offset, length)

    _row(f"{name}_size", "", "I", contexts)(size)
    _row(f"{name}_copy", "III", "", contexts)(copy)


def _copy_out(run: Run, name: str, data: bytes, dst: int, offset: int, length: int) -> None:
    if offset + length > len(data):
        raise _violation(
            f"ic0.{name}_copy payload: src={offset} + length={length} exceeds the slice size="
            f"{len(data)}"
        )
    charge(run, length)
    run.instance.write(dst, data[offset : offset + length])


def _reject_message(run: Run) -> bytes:
    if not run.reject_code:
        raise _violation("there is no reject message: the call was replied to")
    return run.reject_message.encode()


_ARGUMENTS: Final = (
    Mode.I | Mode.U | Mode.RQ | Mode.NRQ | Mode.TQ | Mode.CQ | Mode.Ry | Mode.CRy | Mode.F
)
_CALLER_INFO: Final = (
    Mode.U | Mode.RQ | Mode.NRQ | Mode.CQ | Mode.Ry | Mode.Rt | Mode.CRy | Mode.CRt | Mode.C
    | Mode.CC | Mode.F
)  # fmt: skip
_RESPOND: Final = (
    Mode.U | Mode.RQ | Mode.NRQ | Mode.TQ | Mode.CQ | Mode.Ry | Mode.Rt | Mode.CRy | Mode.CRt
)
_CALL: Final = Mode.U | Mode.CQ | Mode.Ry | Mode.Rt | Mode.CRy | Mode.CRt | Mode.T
_CYCLES: Final = Mode.U | Mode.RQ | Mode.Rt | Mode.Ry
_REFUNDED: Final = Mode.Rt | Mode.Ry
_ADD_CYCLES: Final = Mode.U | Mode.Ry | Mode.Rt | Mode.T
_CHANGE: Final = Mode.I | Mode.G | Mode.U | Mode.Ry | Mode.Rt | Mode.T
_BURN: Final = Mode.I | Mode.G | Mode.U | Mode.RQ | Mode.Ry | Mode.Rt | Mode.C | Mode.T
_ALL: Final = EVERYWHERE | Mode.s

_blob("msg_arg_data", _ARGUMENTS, lambda run: run.arg)
_blob("msg_caller", EVERYWHERE, lambda run: run.caller)
_blob("msg_caller_info_data", _CALLER_INFO, lambda run: run.caller_info)
_blob("msg_caller_info_signer", _CALLER_INFO, lambda run: run.caller_info_signer)
_blob("msg_reject_msg", Mode.Rt | Mode.CRt, _reject_message)
_blob("canister_self", EVERYWHERE, lambda run: run.environment.canister_id)
_blob("subnet_self", EVERYWHERE, lambda run: run.environment.subnet_id)
_blob("msg_method_name", Mode.F, lambda run: run.method.encode())
_blob("root_key", _BURN, lambda run: run.environment.root_key)


@_row("msg_reject_code", "", "i", Mode.Ry | Mode.Rt | Mode.CRy | Mode.CRt | Mode.C)
def _msg_reject_code(run: Run) -> int:
    return run.reject_code


@_row(
    "msg_deadline",
    "",
    "l",
    Mode.U | Mode.RQ | Mode.NRQ | Mode.CQ | Mode.Ry | Mode.Rt | Mode.CRy | Mode.CRt,
)
def _msg_deadline(run: Run) -> int:
    return run.deadline


# --- responding ---------------------------------------------------------------------------------


def _must_respond(run: Run, name: str) -> None:
    if run.responded or not run.can_respond:
        raise _violation(f'"{name}" cannot be called: the call was already responded to')


@_row("msg_reply_data_append", "II", "", _RESPOND)
def _msg_reply_data_append(run: Run, src: int, size: int) -> None:
    _must_respond(run, "ic0_msg_reply_data_append")
    limit = MAX_RESPONSE if run.mode & REPLICATED else MAX_QUERY_RESPONSE
    if len(run.reply_data) + size > limit:
        raise _violation(
            f"ic0.msg_reply_data_append: application payload size "
            f"({len(run.reply_data) + size}) cannot be larger than {limit}"
        )
    charge(run, size)
    run.reply_data += run.instance.read(src, size)


@_row("msg_reply", "", "", _RESPOND)
def _msg_reply(run: Run) -> None:
    _must_respond(run, "ic0_msg_reply")
    run.reply = bytes(run.reply_data)


@_row("msg_reject", "II", "", _RESPOND)
def _msg_reject(run: Run, src: int, size: int) -> None:
    _must_respond(run, "ic0_msg_reject")
    if size > MAX_RESPONSE:
        raise _violation(
            f"ic0.msg_reject: application payload size ({size}) cannot be larger than "
            f"{MAX_RESPONSE}"
        )
    charge(run, size)
    run.reject = _text(run, src, size, "ic0.msg_reject")


def _text(run: Run, src: int, size: int, name: str) -> str:
    try:
        return run.instance.read(src, size).decode()
    except UnicodeDecodeError as error:
        raise _violation(f"{name}: invalid UTF-8 string provided") from error


# --- ingress inspection -------------------------------------------------------------------------


@_row("accept_message", "", "", Mode.F)
def _accept_message(run: Run) -> None:
    if run.ingress_accepted:
        raise _violation("ic0.accept_message: the function was already called")
    run.ingress_accepted = True


# --- calls --------------------------------------------------------------------------------------


def _building(run: Run, name: str) -> OutgoingCall:
    if run.building is None:
        raise _violation(f"ic0.{name} called when no call is under construction.")
    return run.building


@_row("call_new", "IIIIIIII", "", _CALL)
def _call_new(
    run: Run,
    callee_src: int,
    callee_size: int,
    name_src: int,
    name_size: int,
    reply_fun: int,
    reply_env: int,
    reject_fun: int,
    reject_env: int,
) -> None:
    run.drop_building()
    if name_size > _MAX_METHOD_NAME:
        raise _violation(f"ic0.call_new: a method name of {name_size} bytes is too long")
    charge(run, callee_size + name_size)
    callee = run.instance.read(callee_src, callee_size)
    if callee_size > 29:
        raise _violation("ic0.call_new: the callee is not a principal: it exceeds 29 bytes")
    method = _text(run, name_src, name_size, "ic0.call_new")
    run.building = OutgoingCall(callee, method, reply_fun, reply_env, reject_fun, reject_env)


@_row("call_on_cleanup", "II", "", _CALL)
def _call_on_cleanup(run: Run, fun: int, env: int) -> None:
    call = _building(run, "call_on_cleanup")
    if call.cleanup is not None:
        raise _violation("ic0.call_on_cleanup can be called at most once between `ic0.call_new` "
                         "and `ic0.call_perform`")  # fmt: skip
    call.cleanup = (fun, env)


@_row("call_data_append", "II", "", _CALL)
def _call_data_append(run: Run, src: int, size: int) -> None:
    call = _building(run, "call_data_append")
    if len(call.payload) + size > MAX_CALL_PAYLOAD:
        raise _violation(f"ic0.call_data_append: the payload would exceed {MAX_CALL_PAYLOAD} bytes")
    charge(run, size)
    call.payload += run.instance.read(src, size)


@_row("call_with_best_effort_response", "i", "", _CALL)
def _call_with_best_effort_response(run: Run, timeout_seconds: int) -> None:
    call = _building(run, "call_with_best_effort_response")
    if call.timeout_seconds is not None:
        raise _violation("ic0.call_with_best_effort_response can be called at most once "
                         "between `ic0.call_new` and `ic0.call_perform`")  # fmt: skip
    call.timeout_seconds = min(timeout_seconds, MAX_CALL_TIMEOUT_SECONDS)


def _add_cycles(run: Run, name: str, amount: int) -> None:
    call = _building(run, name)
    if amount > run.liquid:
        raise _violation(
            f"ic0.{name}: the canister {Principal(run.environment.canister_id)} is out of cycles: "
            f"it has {run.liquid} to spend and wants to send {amount}"
        )
    run.balance -= amount
    call.cycles += amount


@_row("call_cycles_add", "l", "", _ADD_CYCLES, only32=True)
def _call_cycles_add(run: Run, amount: int) -> None:
    _add_cycles(run, "call_cycles_add", amount)


@_row("call_cycles_add128", "ll", "", _ADD_CYCLES)
def _call_cycles_add128(run: Run, high: int, low: int) -> None:
    _add_cycles(run, "call_cycles_add128", high << 64 | low)


@_row("call_perform", "", "i", _CALL)
def _call_perform(run: Run) -> int:
    call = _building(run, "call_perform")
    charge(run, 0)
    if run.balance < run.environment.freezing_limit or not run.may_call(call.callee):
        run.drop_building()
        return 2
    run.building = None
    run.calls.append(call)
    return 0


# --- cycles -------------------------------------------------------------------------------------


def _put128(run: Run, dst: int, value: int) -> None:
    run.instance.write(dst, value.to_bytes(16, "little"))


def _fits64(value: int, name: str) -> int:
    if value > _U64:
        raise TrapError(f"Canister trapped: {name}: cycles amount exceeds 64-bit representation")
    return value


def _accept(run: Run, most: int) -> int:
    amount = min(most, run.available - run.accepted)
    if run.responded:
        amount = 0
    run.accepted += amount
    run.balance += amount
    return amount


def _available(run: Run) -> int:
    return 0 if run.responded else run.available - run.accepted


@_row("msg_cycles_available", "", "l", _CYCLES, only32=True)
def _msg_cycles_available(run: Run) -> int:
    return _fits64(_available(run), "ic0.msg_cycles_available")


@_row("msg_cycles_available128", "I", "", _CYCLES)
def _msg_cycles_available128(run: Run, dst: int) -> None:
    _put128(run, dst, _available(run))


@_row("msg_cycles_refunded", "", "l", _REFUNDED, only32=True)
def _msg_cycles_refunded(run: Run) -> int:
    return _fits64(run.refunded, "ic0.msg_cycles_refunded")


@_row("msg_cycles_refunded128", "I", "", _REFUNDED)
def _msg_cycles_refunded128(run: Run, dst: int) -> None:
    _put128(run, dst, run.refunded)


@_row("msg_cycles_accept", "l", "l", _CYCLES, only32=True)
def _msg_cycles_accept(run: Run, most: int) -> int:
    return _accept(run, most)


@_row("msg_cycles_accept128", "llI", "", _CYCLES)
def _msg_cycles_accept128(run: Run, high: int, low: int, dst: int) -> None:
    _put128(run, dst, _accept(run, high << 64 | low))


@_row("cycles_burn128", "llI", "", _BURN)
def _cycles_burn128(run: Run, high: int, low: int, dst: int) -> None:
    amount = min(high << 64 | low, run.liquid)
    run.balance -= amount
    run.burned += amount
    _put128(run, dst, amount)


@_row("canister_cycle_balance", "", "l", EVERYWHERE, only32=True)
def _canister_cycle_balance(run: Run) -> int:
    return _fits64(run.balance, "ic0.canister_cycle_balance")


@_row("canister_cycle_balance128", "I", "", EVERYWHERE)
def _canister_cycle_balance128(run: Run, dst: int) -> None:
    _put128(run, dst, run.balance)


@_row("canister_liquid_cycle_balance128", "I", "", EVERYWHERE)
def _canister_liquid_cycle_balance128(run: Run, dst: int) -> None:
    _put128(run, dst, run.liquid)


@_row("cost_call", "llI", "", _ALL)
def _cost_call(run: Run, _method_name_size: int, _payload_size: int, dst: int) -> None:
    _put128(run, dst, 0)


@_row("cost_create_canister", "I", "", _ALL)
def _cost_create_canister(run: Run, dst: int) -> None:
    _put128(run, dst, 0)


@_row("cost_http_request", "llI", "", _ALL)
def _cost_http_request(run: Run, _request_size: int, _max_res_bytes: int, dst: int) -> None:
    _put128(run, dst, 0)


@_row("cost_http_request_v2", "III", "", _ALL)
def _cost_http_request_v2(run: Run, src: int, size: int, dst: int) -> None:
    if size > _MAX_COST_PARAMETERS:
        raise _violation(f"ic0.cost_http_request_v2: {size} bytes of parameters are too many")
    charge(run, size)
    try:
        _OUTCALL_COST.decode(run.instance.read(src, size))
    except CandidError as error:
        raise _violation(f"ic0.cost_http_request_v2: {error.message}") from error
    _put128(run, dst, 0)


def _cost_of_key(curves: int) -> Function:
    def cost(run: Run, src: int, size: int, curve: int, dst: int) -> int:
        """There are no threshold keys on this replica: 2 says that the key's name is unknown."""
        charge(run, size)
        run.instance.read(src, size)
        run.instance.check(dst, 16)
        return 2 if curve < curves else 1

    return cost


for _name, _curves in (
    ("cost_sign_with_ecdsa", 2),
    ("cost_sign_with_schnorr", 2),
    ("cost_vetkd_derive_key", 1),
):
    _row(_name, "IIiI", "i", _ALL)(_cost_of_key(_curves))


# --- the canister about itself ------------------------------------------------------------------


@_row("subnet_self_node_count", "", "i", EVERYWHERE)
def _subnet_self_node_count(_run: Run) -> int:
    return 1


@_row("canister_status", "", "i", EVERYWHERE)
def _canister_status(run: Run) -> int:
    return run.environment.status


@_row("canister_version", "", "l", EVERYWHERE)
def _canister_version(run: Run) -> int:
    return run.environment.version


@_row("is_controller", "II", "i", _ALL)
def _is_controller(run: Run, src: int, size: int) -> int:
    if size > 29:
        raise _violation("ic0.is_controller: a principal has at most 29 bytes")
    return int(run.instance.read(src, size) in run.environment.controllers)


@_row("in_replicated_execution", "", "i", _ALL)
def _in_replicated_execution(run: Run) -> int:
    return int(bool(run.mode & REPLICATED))


@_row("env_var_count", "", "I", EVERYWHERE)
def _env_var_count(run: Run) -> int:
    return len(run.environment.variables)


def _variable_name(run: Run, index: int) -> bytes:
    variables = run.environment.variables
    if index >= len(variables):
        raise _violation(
            f"ic0.env_var_name: index {index} is out of bounds, there are {len(variables)} "
            "environment variables"
        )
    return variables[index][0].encode()


def _sought_name(run: Run, src: int, size: int, function: str) -> str:
    if size > MAX_VARIABLE_NAME:
        raise _violation(
            f"ic0.{function}: a name of {size} bytes is longer than {MAX_VARIABLE_NAME}"
        )
    return _text(run, src, size, f"ic0.{function}")


def _variable_value(run: Run, src: int, size: int) -> bytes:
    wanted = _sought_name(run, src, size, "env_var_value")
    for name, value in run.environment.variables:
        if name == wanted:
            return value.encode()
    raise _violation(f"ic0.env_var_value: there is no environment variable {wanted!r}")


@_row("env_var_name_size", "I", "I", EVERYWHERE)
def _env_var_name_size(run: Run, index: int) -> int:
    return len(_variable_name(run, index))


@_row("env_var_name_copy", "IIII", "", EVERYWHERE)
def _env_var_name_copy(run: Run, index: int, dst: int, offset: int, size: int) -> None:
    _copy_out(run, "env_var_name", _variable_name(run, index), dst, offset, size)


@_row("env_var_name_exists", "II", "i", EVERYWHERE)
def _env_var_name_exists(run: Run, src: int, size: int) -> int:
    wanted = _sought_name(run, src, size, "env_var_name_exists")
    return int(any(name == wanted for name, _ in run.environment.variables))


@_row("env_var_value_size", "II", "I", EVERYWHERE)
def _env_var_value_size(run: Run, src: int, size: int) -> int:
    return len(_variable_value(run, src, size))


@_row("env_var_value_copy", "IIIII", "", EVERYWHERE)
def _env_var_value_copy(
    run: Run, src: int, name_size: int, dst: int, offset: int, size: int
) -> None:
    _copy_out(run, "env_var_value", _variable_value(run, src, name_size), dst, offset, size)


# --- stable memory ------------------------------------------------------------------------------


def _stable_bounds() -> TrapError:
    return TrapError("Canister trapped: stable memory out of bounds")


def _small(run: Run) -> None:
    if run.instance.stable.size > 65_536:
        raise TrapError(
            "Canister trapped: 32 bit stable memory api used on a memory larger than 4GB"
        )


@_row("stable64_size", "", "l", _ALL)
def _stable64_size(run: Run) -> int:
    return run.instance.stable.size


@_row("stable64_grow", "l", "l", _ALL)
def _stable64_grow(run: Run, pages: int) -> int:
    return run.instance.stable.grow(pages) & _U64


@_row("stable64_write", "lll", "", _ALL)
def _stable64_write(run: Run, offset: int, src: int, size: int) -> None:
    charge(run, size)
    data = run.instance.read(src, size)
    try:
        run.instance.stable.write(offset, data)
    except IndexError as error:
        raise _stable_bounds() from error


@_row("stable64_read", "lll", "", _ALL)
def _stable64_read(run: Run, dst: int, offset: int, size: int) -> None:
    charge(run, size)
    run.instance.check(dst, size)
    try:
        data = run.instance.stable.read(offset, size)
    except IndexError as error:
        raise _stable_bounds() from error
    run.instance.write(dst, data)


@_row("stable_size", "", "i", _ALL, only32=True)
def _stable_size(run: Run) -> int:
    _small(run)
    return run.instance.stable.size


@_row("stable_grow", "i", "i", _ALL, only32=True)
def _stable_grow(run: Run, pages: int) -> int:
    _small(run)
    if run.instance.stable.size + pages > 65_536:
        return _U32
    return run.instance.stable.grow(pages) & _U32


@_row("stable_write", "iii", "", _ALL, only32=True)
def _stable_write(run: Run, offset: int, src: int, size: int) -> None:
    _small(run)
    _stable64_write(run, offset, src, size)


@_row("stable_read", "iii", "", _ALL, only32=True)
def _stable_read(run: Run, dst: int, offset: int, size: int) -> None:
    _small(run)
    _stable64_read(run, dst, offset, size)


# --- certified data -----------------------------------------------------------------------------


@_row("certified_data_set", "II", "", _CHANGE)
def _certified_data_set(run: Run, src: int, size: int) -> None:
    if size > _MAX_CERTIFIED_DATA:
        raise _violation(
            f"ic0.certified_data_set: the data has {size} bytes, the limit is {_MAX_CERTIFIED_DATA}"
        )
    run.certified_data = run.instance.read(src, size)


def _certificate(run: Run) -> bytes:
    source = run.environment.data_certificate
    if source is None:
        raise _violation("ic0.data_certificate_size: no data certificate is available")
    if run.data_certificate is None:
        run.data_certificate = source()
    return run.data_certificate


@_row("data_certificate_present", "", "i", EVERYWHERE)
def _data_certificate_present(run: Run) -> int:
    available = run.environment.data_certificate is not None
    return int(available and bool(run.mode & (Mode.NRQ | Mode.CQ)))


_blob("data_certificate", Mode.NRQ | Mode.CQ, _certificate)


# --- time, timers, counters, messages -----------------------------------------------------------


@_row("time", "", "l", EVERYWHERE)
def _time(run: Run) -> int:
    return run.environment.time


@_row("global_timer_set", "l", "l", _CHANGE | Mode.C)
def _global_timer_set(run: Run, timestamp: int) -> int:
    before = run.environment.global_timer if run.global_timer is None else run.global_timer
    run.global_timer = timestamp
    return before


@_row("performance_counter", "i", "l", _ALL)
def _performance_counter(run: Run, counter: int) -> int:
    used = run.instance.instructions_used(run)
    if counter == 0:
        return used
    if counter == 1:
        return run.instructions_before + used
    raise _violation(f"ic0.performance_counter: the counter type {counter} is unknown")


@_row("debug_print", "II", "", _ALL)
def _debug_print(run: Run, src: int, size: int) -> None:
    """Never traps for its arguments: out of bounds, a text of the system stands in the log."""
    kept = min(size, _MAX_LOG_RECORD)
    charge(run, kept)
    if src + size > run.instance.memory_size:
        run.log.append(b"(debug_print: the message is out of the memory's bounds)")
    else:
        run.log.append(run.instance.read(src, kept))


@_row("trap", "II", "", _ALL)
def _trap(run: Run, src: int, size: int) -> None:
    text = run.instance.read(src, min(size, _MAX_LOG_RECORD)).decode(errors="ignore")
    raise ExplicitTrapError(f"Canister called `ic0.trap` with message: '{text}'")


def signature(row: Row, *, memory64: bool) -> tuple[str, str]:
    """A row's parameters and result with ``I`` replaced by the pointer width's letter."""
    width = "l" if memory64 else "i"
    return row.params.replace("I", width), row.result.replace("I", width)


def coverage() -> list[dict[str, Any]]:
    """The table as plain data, for the documentation."""
    return [
        {
            "name": row.name,
            "params": row.params,
            "result": row.result,
            "contexts": [mode.name for mode in Mode if mode & row.contexts],
            "only32": row.only32,
        }
        for row in TABLE.values()
    ]
