"""The management canister's door: which call is for which method, and who may make it.

A method that this replica lacks is rejected by name. The methods themselves register in
``registry``.
"""

from typing import Any, Final

from bridge.errors import CandidError
from bridge.principal import Principal
from bridge.replica.management.registry import METHODS, Answer, Method, not_controller
from bridge.replica.management.types import SIGNATURES, UNSUPPORTED
from bridge.replica.scheduler.machine import Machine
from bridge.replica.state.canister import Canister
from bridge.replica.state.messages import (
    FromUser,
    Payload,
    Reject,
    RejectCode,
    Reply,
    Request,
)

_QUERIES: Final = frozenset(
    {"canister_status", "canister_info", "canister_metrics", "fetch_canister_logs"}
)


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
    found = METHODS.get(method)
    if found is None or found.canister_field is None:
        return None
    value = SIGNATURES[method].decode(arg)
    named: Principal = value[found.canister_field]
    return named


def _check(machine: Machine, request: Request) -> tuple[Method, Any, Canister | None] | Reject:
    """Decode, and check that this caller may do this."""
    method = METHODS.get(request.method)
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
        return not_controller(canister, request)
    return method, value, canister


def ingress_filter(machine: Machine, request: Request) -> Reject | None:
    """Why a user's call to the management canister is not taken in; ``None`` if it is."""
    method = METHODS.get(request.method)
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
    machine.subnet.managing[request] = None
    checked = _check(machine, request)
    if isinstance(checked, Reject):
        answer: Answer = checked
    else:
        method, _, canister = checked
        if canister is not None and canister.busy and method.needs_idle:
            machine.when_idle(canister, lambda: handle(machine, request))
            return
        answer = _carry_out(machine, request, *checked)
    del machine.subnet.managing[request]
    if isinstance(answer, Reject):
        machine.respond(request.origin, answer, request.cycles)
    elif answer is not None:
        machine.reply(request, answer)


def carry_out(machine: Machine, request: Request) -> Answer:
    """Do at once what the system itself asks of the management canister; what it answers."""
    checked = _check(machine, request)
    return checked if isinstance(checked, Reject) else _carry_out(machine, request, *checked)


def _carry_out(
    machine: Machine, request: Request, method: Method, value: Any, canister: Canister | None
) -> Answer:
    if isinstance(request.origin, FromUser) and not method.from_users:
        answer: Answer = ingress_filter(machine, request)
    else:
        answer = method.run(machine, request, value)
    if canister is not None and canister.canister_id in machine.subnet.canisters:
        # It may have been started, or thawed by cycles or settings.
        machine.subnet.mark(canister.canister_id)
        machine.check_timer(canister)
    return answer


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
