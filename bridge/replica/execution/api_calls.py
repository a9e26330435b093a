"""The System API of messages: arguments, caller, answers, inspection and outgoing calls."""

from typing import Final

from bridge.principal import Principal
from bridge.replica.execution.run import (
    EVERYWHERE,
    MAX_CALL_PAYLOAD,
    MAX_CALL_TIMEOUT_SECONDS,
    MAX_QUERY_RESPONSE,
    MAX_RESPONSE,
    REPLICATED,
    Mode,
    OutgoingCall,
    Run,
)
from bridge.replica.execution.table import (
    ADD_CYCLES,
    ARGUMENTS,
    CALL,
    CALLER_INFO,
    RESPOND,
    blob,
    charge,
    row,
    text_of,
    violation,
)

_MAX_METHOD_NAME: Final = 20_000
_MAX_PRINCIPAL: Final = 29
# A message that sends more than this many bytes finds no room for more calls.
_MAX_SENT: Final = 1024**3


def _reject_message(run: Run) -> bytes:
    if not run.reject_code:
        raise violation("there is no reject message: the call was replied to")
    return run.reject_message.encode()


blob("msg_arg_data", ARGUMENTS, lambda run: run.arg)
blob("msg_caller", EVERYWHERE, lambda run: run.caller)
blob("msg_caller_info_data", CALLER_INFO, lambda run: run.caller_info)
blob("msg_caller_info_signer", CALLER_INFO, lambda run: run.caller_info_signer)
blob("msg_reject_msg", Mode.Rt | Mode.CRt, _reject_message)
blob("msg_method_name", Mode.F, lambda run: run.method.encode())


@row("msg_reject_code", "", "i", Mode.Ry | Mode.Rt | Mode.CRy | Mode.CRt | Mode.C)
def _msg_reject_code(run: Run) -> int:
    return run.reject_code


@row(
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
        raise violation(f'"{name}" cannot be called: the call was already responded to')


@row("msg_reply_data_append", "II", "", RESPOND)
def _msg_reply_data_append(run: Run, src: int, size: int) -> None:
    _must_respond(run, "ic0_msg_reply_data_append")
    limit = MAX_RESPONSE if run.mode & REPLICATED else MAX_QUERY_RESPONSE
    if len(run.reply_data) + size > limit:
        raise violation(
            f"ic0.msg_reply_data_append: application payload size "
            f"({len(run.reply_data) + size}) cannot be larger than {limit}"
        )
    charge(run, size)
    run.reply_data += run.instance.read(src, size)


@row("msg_reply", "", "", RESPOND)
def _msg_reply(run: Run) -> None:
    _must_respond(run, "ic0_msg_reply")
    run.reply = bytes(run.reply_data)


@row("msg_reject", "II", "", RESPOND)
def _msg_reject(run: Run, src: int, size: int) -> None:
    _must_respond(run, "ic0_msg_reject")
    if size > MAX_RESPONSE:
        raise violation(
            f"ic0.msg_reject: application payload size ({size}) cannot be larger than "
            f"{MAX_RESPONSE}"
        )
    charge(run, size)
    run.reject = text_of(run, src, size, "ic0.msg_reject")


# --- ingress inspection -------------------------------------------------------------------------


@row("accept_message", "", "", Mode.F)
def _accept_message(run: Run) -> None:
    if run.ingress_accepted:
        raise violation("ic0.accept_message: the function was already called")
    run.ingress_accepted = True


# --- calls --------------------------------------------------------------------------------------


def _building(run: Run, name: str) -> OutgoingCall:
    if run.building is None:
        raise violation(f"ic0.{name} called when no call is under construction.")
    return run.building


@row("call_new", "IIIIIIII", "", CALL)
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
        raise violation(f"ic0.call_new: a method name of {name_size} bytes is too long")
    charge(run, callee_size + name_size)
    if callee_size > _MAX_PRINCIPAL:
        raise violation("ic0.call_new: the callee is not a principal: it exceeds 29 bytes")
    callee = run.instance.read(callee_src, callee_size)
    method = text_of(run, name_src, name_size, "ic0.call_new")
    run.building = OutgoingCall(callee, method, reply_fun, reply_env, reject_fun, reject_env)


@row("call_on_cleanup", "II", "", CALL)
def _call_on_cleanup(run: Run, fun: int, env: int) -> None:
    call = _building(run, "call_on_cleanup")
    if call.cleanup is not None:
        raise violation("ic0.call_on_cleanup can be called at most once between `ic0.call_new` "
                         "and `ic0.call_perform`")  # fmt: skip
    call.cleanup = (fun, env)


@row("call_data_append", "II", "", CALL)
def _call_data_append(run: Run, src: int, size: int) -> None:
    call = _building(run, "call_data_append")
    if len(call.payload) + size > MAX_CALL_PAYLOAD:
        raise violation(f"ic0.call_data_append: the payload would exceed {MAX_CALL_PAYLOAD} bytes")
    charge(run, size)
    call.payload += run.instance.read(src, size)


@row("call_with_best_effort_response", "i", "", CALL)
def _call_with_best_effort_response(run: Run, timeout_seconds: int) -> None:
    call = _building(run, "call_with_best_effort_response")
    if call.timeout_seconds is not None:
        raise violation("ic0.call_with_best_effort_response can be called at most once "
                         "between `ic0.call_new` and `ic0.call_perform`")  # fmt: skip
    call.timeout_seconds = min(timeout_seconds, MAX_CALL_TIMEOUT_SECONDS)


def _add_cycles(run: Run, name: str, amount: int) -> None:
    call = _building(run, name)
    if amount > run.liquid:
        raise violation(
            f"ic0.{name}: the canister {Principal(run.environment.canister_id)} is out of cycles: "
            f"it has {run.liquid} to spend and wants to send {amount}"
        )
    run.balance -= amount
    call.cycles += amount


@row("call_cycles_add", "l", "", ADD_CYCLES, only32=True)
def _call_cycles_add(run: Run, amount: int) -> None:
    _add_cycles(run, "call_cycles_add", amount)


@row("call_cycles_add128", "ll", "", ADD_CYCLES)
def _call_cycles_add128(run: Run, high: int, low: int) -> None:
    _add_cycles(run, "call_cycles_add128", high << 64 | low)


@row("call_perform", "", "i", CALL)
def _call_perform(run: Run) -> int:
    call = _building(run, "call_perform")
    charge(run, 0)
    run.sent_bytes += len(call.payload)
    if (
        run.sent_bytes > _MAX_SENT
        or run.balance < run.environment.freezing_limit
        or not run.may_call(call.callee)
    ):
        run.drop_building()
        return 2
    run.building = None
    run.calls.append(call)
    return 0
