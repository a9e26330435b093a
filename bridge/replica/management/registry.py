"""What the management canister's methods are made of: the table of them, and what they share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from bridge.replica.management.types import SIGNATURES
from bridge.replica.scheduler.machine import Machine
from bridge.replica.state.canister import Canister, Change
from bridge.replica.state.messages import FromUser, Reject, RejectCode, Request

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


METHODS: Final[dict[str, Method]] = {}


def serves(
    name: str,
    *,
    controllers_only: bool = True,
    from_users: bool = True,
    canister_field: str | None = "canister_id",
    needs_idle: bool = False,
) -> Callable[[Callable[[Machine, Request, Any], Answer]], Callable[..., Answer]]:
    """Enter a function into the table, as a decorator; the arguments are those of ``Method``."""

    def register(run: Callable[[Machine, Request, Any], Answer]) -> Callable[..., Answer]:
        METHODS[name] = Method(run, controllers_only, from_users, canister_field, needs_idle)
        return run

    return register


def not_controller(canister: Canister, request: Request) -> Reject:
    """The reject of who may not do this to the canister."""
    return Reject(
        RejectCode.CANISTER_ERROR,
        f"Only controllers of canister {canister.canister_id} can call ic00 method "
        f"{request.method}",
        "IC0512",
    )


def result(request: Request, value: Any = None) -> bytes:
    """A reply with the result of the method that was called."""
    return SIGNATURES[request.method].encode(value)


def canister_of(machine: Machine, value: Any, field: str = "canister_id") -> Canister:
    """The canister that an argument names; that it exists has been checked."""
    return machine.subnet.canisters[value[field]]


def record_change(
    machine: Machine, canister: Canister, request: Request, kind: str, data: Any = None
) -> None:
    """Enter a change into the canister's history."""
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
