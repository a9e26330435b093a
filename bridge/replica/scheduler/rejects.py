"""The rejects that the system itself gives, with the public replica's codes and texts."""

from typing import Final

from bridge.replica.execution.failures import ExecutionError
from bridge.replica.state.canister import Canister, Status
from bridge.replica.state.messages import FromCanister, Reject, RejectCode, Request

EXPIRED: Final = Reject(RejectCode.SYS_UNKNOWN, "Call deadline has expired.", "")
TIMED_OUT: Final = Reject(
    RejectCode.SYS_TRANSIENT, "Ingress message timed out waiting to start executing.", "IC0202"
)


def refusal(canister: Canister) -> Reject | None:
    """Why the canister takes no new call now; ``None`` if it takes them."""
    if canister.status is Status.STOPPED:
        return Reject(
            RejectCode.CANISTER_ERROR, f"Canister {canister.canister_id} is stopped", "IC0508"
        )
    if canister.status is Status.STOPPING:
        return Reject(
            RejectCode.CANISTER_ERROR, f"Canister {canister.canister_id} is stopping", "IC0509"
        )
    if canister.module_hash is None:
        return Reject(
            RejectCode.CANISTER_ERROR,
            f"Error from Canister {canister.canister_id}: Attempted to execute a message, but "
            "the canister contains no Wasm module",
            "IC0537",
        )
    return None


def frozen(canister: Canister) -> Reject:
    """The reject of a canister that has too few cycles to go on."""
    return Reject(
        RejectCode.SYS_TRANSIENT,
        f"Canister {canister.canister_id} is frozen: it has {canister.cycles} cycles, fewer than "
        "its freezing limit. Top it up, or lower its freezing_threshold",
        "IC0207",
    )


def no_method(canister: Canister, kind: str, method: str) -> Reject:
    """The reject of a method that is not there."""
    return Reject(
        RejectCode.CANISTER_ERROR,
        f"Error from Canister {canister.canister_id}: Canister has no {kind} method '{method}'.",
        "IC0536",
    )


def failure_reject(canister: Canister, failure: ExecutionError) -> Reject:
    """The reject that tells a caller of a failed execution."""
    return Reject(
        RejectCode(failure.reject_code),
        failure.text_for(canister.canister_id),
        failure.error_code,
    )


def too_few_cycles(canister: Canister, request: Request) -> Reject | None:
    """Why a call by another canister brings too few cycles to be taken."""
    least = canister.settings.minimum_incoming_canister_call_cycles
    if (
        request.cycles >= least
        or not isinstance(request.origin, FromCanister)
        or request.sender == canister.canister_id
    ):
        return None
    return Reject(
        RejectCode.CANISTER_ERROR,
        f"Canister {canister.canister_id} requires at least {least} transferred cycles for "
        f"incoming canister calls, but only {request.cycles} were attached",
        "IC0520",
    )


def silence(canister: Canister, failure: ExecutionError | None) -> Reject:
    """Why a call that can no longer be answered has no answer."""
    if failure is not None:
        return failure_reject(canister, failure)
    return Reject(
        RejectCode.CANISTER_ERROR,
        f"Error from Canister {canister.canister_id}: Canister did not reply to the call.",
        "IC0506",
    )
