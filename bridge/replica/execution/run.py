"""One execution of one entry point: what it is given, and what it did so far.

``Run`` is the record that the System API's functions read and write. Its effects are applied by the
scheduler only after the code returned; a trap throws the record away. Knows neither queues nor
HTTP.
"""

import enum
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from bridge.replica.state.stable import StableMemory

MAX_RESPONSE: Final = 2 * 1024 * 1024
MAX_QUERY_RESPONSE: Final = 3 * 1024 * 1024
MAX_CALL_PAYLOAD: Final = 10 * 1024 * 1024
MAX_CALL_TIMEOUT_SECONDS: Final = 300
MAX_LOG: Final = 2 * 1024 * 1024


class Mode(enum.IntFlag):
    """Where code runs from, by the letters of the interface specification."""

    I = enum.auto()  # noqa: E741 - the specification's letter
    G = enum.auto()
    U = enum.auto()
    RQ = enum.auto()
    NRQ = enum.auto()
    TQ = enum.auto()
    CQ = enum.auto()
    Ry = enum.auto()
    Rt = enum.auto()
    CRy = enum.auto()
    CRt = enum.auto()
    C = enum.auto()
    CC = enum.auto()
    F = enum.auto()
    T = enum.auto()
    s = enum.auto()


MODE_NAMES: Final = {
    Mode.I: "init",
    Mode.G: "pre upgrade",
    Mode.U: "update",
    Mode.RQ: "replicated query",
    Mode.NRQ: "non replicated query",
    Mode.TQ: "transform",
    Mode.CQ: "composite query",
    Mode.Ry: "reply callback",
    Mode.Rt: "reject callback",
    Mode.CRy: "composite reply callback",
    Mode.CRt: "composite reject callback",
    Mode.C: "cleanup",
    Mode.CC: "composite cleanup",
    Mode.F: "inspect message",
    Mode.T: "system task",
    Mode.s: "start",
}
EVERYWHERE: Final = ~Mode.s & Mode(2 * Mode.s.value - 1)
REPLICATED: Final = (
    Mode.I | Mode.G | Mode.U | Mode.RQ | Mode.Ry | Mode.Rt | Mode.C | Mode.T | Mode.s
)


@dataclass(frozen=True, slots=True)
class Environment:
    """What a canister can ask of itself and its subnet, fixed during one message.

    Attributes:
        time: Nanoseconds since 1970.
        status: 1 running, 2 stopping, 3 stopped.
        balance: Cycles at the start.
        global_timer: Nanoseconds since 1970, 0 if inactive.
        freezing_limit: Cycles that may not be spent; the canister would be frozen.
        data_certificate: For queries, what makes the certificate of the certified data.
    """

    canister_id: bytes
    subnet_id: bytes
    root_key: bytes
    controllers: frozenset[bytes]
    time: int
    status: int
    version: int
    balance: int
    global_timer: int
    variables: Sequence[tuple[str, str]] = ()
    data_certificate: Callable[[], bytes] | None = None
    freezing_limit: int = 0


@dataclass(slots=True)
class OutgoingCall:
    """A call under construction, and then one to be sent."""

    callee: bytes
    method: str
    reply_fun: int
    reply_env: int
    reject_fun: int
    reject_env: int
    cleanup: tuple[int, int] | None = None
    payload: bytearray = field(default_factory=bytearray)
    cycles: int = 0
    timeout_seconds: int | None = None


def _always(_callee: bytes, /) -> bool:
    return True


class Guest(Protocol):
    """The running module, as the System API's functions see it.

    Attributes:
        view: The Wasm memory, and beyond it the addresses that it may grow into. Only a range that
            ``check`` lets pass may be touched.
        checked: Up to here every range passes.
    """

    stable: StableMemory
    view: memoryview
    checked: int

    @property
    def memory_size(self) -> int:
        """Bytes of the Wasm memory."""

    def check(self, at: int, size: int) -> None:
        """Trap unless the range is inside the memory."""

    def read(self, at: int, size: int) -> bytes:
        """Bytes of the memory; traps unless they are inside."""

    def write(self, at: int, data: bytes) -> None:
        """Write into the memory; traps unless that is inside."""

    def instructions_used(self, run: "Run") -> int:
        """Instructions of the run in progress so far, host calls included."""


@dataclass(slots=True, eq=False)
class Run:
    """One message execution.

    Attributes:
        can_respond: Whether the call context still owes its one response.
        available: Cycles of the call not yet accepted nor refunded.
        refunded: Cycles that came back with the response.
        may_call: Whether the queue to a callee has room, and the subnet takes another call.
        instruction_limit: Instructions that this message may use.
        instructions_before: What earlier messages of the same call context used.
        failure: What made a host function fail, if one did.
        thread: Where it runs, as ``threading.get_ident`` says it.
        interrupted: Whether it is to end as soon as it can, because the replica does.
    """

    mode: Mode
    environment: Environment
    instruction_limit: int
    caller: bytes = b""
    arg: bytes = b""
    method: str = ""
    reject_code: int = 0
    reject_message: str = ""
    deadline: int = 0
    can_respond: bool = False
    available: int = 0
    refunded: int = 0
    instructions_before: int = 0
    caller_info: bytes = b""
    caller_info_signer: bytes = b""
    may_call: Callable[[bytes], bool] = _always

    # --- what it did ---
    instance: "Guest" = field(init=False)
    mode_bits: int = field(init=False)
    balance: int = field(init=False)
    reply_data: bytearray = field(default_factory=bytearray)
    reply: bytes | None = None
    reject: str | None = None
    accepted: int = 0
    burned: int = 0
    calls: list[OutgoingCall] = field(default_factory=list)
    building: OutgoingCall | None = None
    certified_data: bytes | None = None
    global_timer: int | None = None
    log: deque[bytes] = field(default_factory=deque)
    log_bytes: int = 0
    log_dropped: int = 0
    sent_bytes: int = 0
    ingress_accepted: bool = False
    data_certificate: bytes | None = None
    host_instructions: int = 0
    instructions: int = 0
    failure: BaseException | None = None
    thread: int = 0
    interrupted: bool = False

    def __post_init__(self) -> None:
        self.balance = self.environment.balance
        self.mode_bits = int(self.mode)

    @property
    def responded(self) -> bool:
        """Whether this execution gave the response."""
        return self.reply is not None or self.reject is not None

    @property
    def liquid(self) -> int:
        """Cycles that may be spent."""
        return max(0, self.balance - self.environment.freezing_limit)

    def print(self, content: bytes) -> None:
        """Add to what the canister's log gets; what it could not hold anyhow is dropped."""
        self.log.append(content)
        self.log_bytes += len(content)
        while self.log_bytes > MAX_LOG and len(self.log) > 1:
            self.log_bytes -= len(self.log.popleft())
            self.log_dropped += 1

    def drop_building(self) -> None:
        """Discard the call under construction and take its cycles back."""
        if self.building is not None:
            self.balance += self.building.cycles
            self.building = None
