"""Messages between users, canisters and the system, and where an answer has to go."""

import enum
from dataclasses import dataclass
from typing import TypeAlias

from bridge.principal import Principal


class RejectCode(enum.IntEnum):
    """Interface specification, section Reject codes."""

    SYS_FATAL = 1
    SYS_TRANSIENT = 2
    DESTINATION_INVALID = 3
    CANISTER_REJECT = 4
    CANISTER_ERROR = 5
    SYS_UNKNOWN = 6


@dataclass(frozen=True, slots=True)
class Reply:
    """A call's success."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Reject:
    """A call's failure.

    Attributes:
        code: The reject code.
        message: The text that the caller sees.
        error_code: The replica's own code, such as ``IC0301``; empty where there is none.
    """

    code: RejectCode
    message: str
    error_code: str = ""


Payload: TypeAlias = Reply | Reject


@dataclass(frozen=True, slots=True)
class FromUser:
    """An ingress message: its answer goes into the state tree."""

    request_id: bytes


@dataclass(frozen=True, slots=True)
class FromCanister:
    """A call by a canister: its answer goes to a callback."""

    canister_id: Principal
    callback_id: int


@dataclass(frozen=True, slots=True)
class FromSystem:
    """A timer or heartbeat: there is nobody to answer."""


Origin: TypeAlias = FromUser | FromCanister | FromSystem
FROM_SYSTEM = FromSystem()


@dataclass(slots=True, eq=False)
class Request:
    """A call on its way to a canister, or to the management canister.

    Attributes:
        cycles: Attached cycles.
        deadline: For bounded-wait calls, nanoseconds since 1970; otherwise 0.
        sender_version: The calling canister's version; ``None`` for users.
        sent: When a canister sent it, in nanoseconds since 1970.
    """

    origin: Origin
    sender: Principal
    receiver: Principal
    method: str
    arg: bytes
    cycles: int = 0
    deadline: int = 0
    sender_version: int | None = None
    sent: int = 0
    caller_info: bytes = b""
    caller_info_signer: bytes = b""


@dataclass(slots=True, eq=False)
class Response:
    """An answer on its way to a canister's callback."""

    receiver: Principal
    callback_id: int
    payload: Payload
    refund: int


class Task(enum.Enum):
    """What the system itself starts in a canister; the value is the entry point."""

    HEARTBEAT = "canister_heartbeat"
    GLOBAL_TIMER = "canister_global_timer"
    ON_LOW_WASM_MEMORY = "canister_on_low_wasm_memory"


Message: TypeAlias = Request | Response | Task
