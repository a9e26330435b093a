"""A canister as the subnet remembers it, all but the running module itself."""

import copy
import enum
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from bridge.principal import Principal
from bridge.replica.state.messages import Message, Origin, Request, Response
from bridge.replica.state.snapshot import Snapshot

DEFAULT_CYCLES: Final = 100_000_000_000_000
DEFAULT_FREEZING_THRESHOLD: Final = 2_592_000
DEFAULT_RESERVED_CYCLES_LIMIT: Final = 5_000_000_000_000
DEFAULT_LOG_LIMIT: Final = 4096
MAX_HISTORY: Final = 20


class Status(enum.IntEnum):
    """The numbers are those that ``ic0.canister_status`` returns."""

    RUNNING = 1
    STOPPING = 2
    STOPPED = 3


Visibility = Literal["controllers", "public"] | tuple[Principal, ...]
"""Who may read something besides the controllers: nobody, everybody, or these principals."""


@dataclass(slots=True)
class Settings:
    """A canister's settings (interface specification, ``canister_settings``).

    Attributes:
        wasm_memory_limit: Bytes; 0 for no limit of its own.
    """

    controllers: tuple[Principal, ...]
    compute_allocation: int = 0
    memory_allocation: int = 0
    freezing_threshold: int = DEFAULT_FREEZING_THRESHOLD
    reserved_cycles_limit: int = DEFAULT_RESERVED_CYCLES_LIMIT
    minimum_incoming_canister_call_cycles: int = 0
    log_visibility: Visibility = "controllers"
    log_memory_limit: int = DEFAULT_LOG_LIMIT
    snapshot_visibility: Visibility = "controllers"
    status_visibility: Visibility = "controllers"
    wasm_memory_limit: int = 0
    wasm_memory_threshold: int = 0
    environment_variables: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True, eq=False)
class CallContext:
    """One call in progress: from its start until it is answered and all its calls came back.

    Attributes:
        available: Cycles attached to the call and not yet accepted.
        outstanding: Calls made by it whose answers have not been processed.
        instructions: Used so far by all its executions.
    """

    context_id: int
    origin: Origin
    caller: Principal
    method: str
    deadline: int
    available: int
    created: int
    responded: bool = False
    outstanding: int = 0
    instructions: int = 0
    caller_info: bytes = b""
    caller_info_signer: bytes = b""


@dataclass(slots=True, eq=False)
class Callback:
    """What to run when an answer comes; the pairs are function index and environment.

    Attributes:
        answered: Whether the one answer is in the queue already.
    """

    context_id: int
    callee: Principal
    method: str
    reply: tuple[int, int]
    reject: tuple[int, int]
    cleanup: tuple[int, int] | None
    cycles: int
    deadline: int
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of the canister's history, as ``canister_info`` tells it.

    Attributes:
        origin: The user, or the canister and its version.
        details: The name of the change, and its data.
    """

    timestamp: int
    version: int
    user: Principal | None
    canister: tuple[Principal, int | None] | None
    details: tuple[str, Any]


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One entry of the canister's log."""

    index: int
    timestamp: int
    content: bytes


@dataclass(slots=True)
class QueryStatistics:
    """What queries have cost a canister in all."""

    calls: int = 0
    instructions: int = 0
    request_bytes: int = 0
    response_bytes: int = 0


@dataclass(slots=True, eq=False)
class Begun:
    """A message that is being executed, and what taking it up has changed already.

    Attributes:
        context_id: Of the call context that was made for it.
        callback: That a response has used up.
        global_timer: What the timer was when its task began.
    """

    message: Message
    context_id: int | None = None
    callback: Callback | None = None
    global_timer: int = 0


@dataclass(slots=True, eq=False)
class Canister:
    """Everything about one canister but its memories.

    Attributes:
        created: When, in nanoseconds since 1970.
        installed: When code was last installed; 0 if never.
        memory_bytes: Of both memories, as last measured.
        burned: Cycles that it has burned by its own will.
        paid_for_memory: Cycles that its memory has cost.
        paid_for_compute: Cycles that its compute allocation has cost.
        charged: Until when they have been paid, in nanoseconds since 1970.
        module_hash: SHA-256 of the installed module, or ``None``.
        module: The module as it was installed.
        metadata: The module's custom sections: name to (public, content).
        global_timer: Nanoseconds since 1970; 0 when inactive.
        timer_planned: When the timer is next looked at; 0 if that is not planned.
        queue: Messages to process, first in first out; tasks go to the front.
        in_flight: Calls to each callee whose answers have not been processed.
        stop_requests: Calls that wait for the canister to stop.
        scheduled: Whether it stands in the scheduler's line.
        busy: Whether an execution of it is under way.
        begun: The message of that execution, if it has one.
        when_idle: What waits for that to end.
    """

    canister_id: Principal
    settings: Settings
    created: int
    cycles: int = 0
    status: Status = Status.RUNNING
    version: int = 0
    installed: int = 0
    memory_bytes: int = 0
    burned: int = 0
    paid_for_memory: int = 0
    paid_for_compute: int = 0
    charged: int = 0
    queries: QueryStatistics = field(default_factory=QueryStatistics)
    module_hash: bytes | None = None
    module: bytes = b""
    metadata: dict[str, tuple[bool, bytes]] = field(default_factory=dict)
    certified_data: bytes = b""
    global_timer: int = 0
    timer_planned: int = 0
    queue: deque[Message] = field(default_factory=deque)
    in_flight: Counter[Principal] = field(default_factory=Counter)
    contexts: dict[int, CallContext] = field(default_factory=dict)
    callbacks: dict[int, Callback] = field(default_factory=dict)
    stop_requests: list[Request] = field(default_factory=list)
    history: deque[Change] = field(default_factory=lambda: deque(maxlen=MAX_HISTORY))
    changes: int = 0
    log: deque[LogRecord] = field(default_factory=deque)
    log_next: int = 0
    log_bytes: int = 0
    chunks: dict[bytes, bytes] = field(default_factory=dict)
    snapshots: dict[bytes, Snapshot] = field(default_factory=dict)
    snapshots_made: int = 0
    low_memory_reported: bool = False
    scheduled: bool = False
    busy: bool = False
    begun: Begun | None = None
    when_idle: deque[Callable[[], None]] = field(default_factory=deque)

    def settled(self) -> "Canister":
        """The canister as it was before the execution under way, if there is one.

        What has come in meanwhile is part of it. The result is for reading only.
        """
        begun = self.begun
        if begun is None:
            return self
        before = copy.copy(self)
        message = begun.message
        before.queue = deque([message, *self.queue])
        if begun.context_id is not None:
            before.contexts = {
                key: context for key, context in self.contexts.items() if key != begun.context_id
            }
        if begun.global_timer:
            before.global_timer = begun.global_timer
        if isinstance(message, Response):
            before.cycles -= message.refund
            callback = begun.callback
            if callback is not None:
                before.callbacks = {**self.callbacks, message.callback_id: callback}
                before.in_flight = self.in_flight + Counter([callback.callee])
                context = copy.copy(self.contexts[callback.context_id])
                context.outstanding += 1
                before.contexts = {**self.contexts, callback.context_id: context}
        return before

    def is_controller(self, principal: Principal) -> bool:
        """Whether the principal controls this canister."""
        return principal in self.settings.controllers

    def may_see(self, principal: Principal, visibility: Visibility) -> bool:
        """Whether the principal may read something of this visibility."""
        return (
            visibility == "public"
            or self.is_controller(principal)
            or (isinstance(visibility, tuple) and principal in visibility)
        )

    def append_log(self, timestamp: int, content: bytes) -> None:
        """Add to the log, dropping the oldest records beyond its size."""
        self.log.append(LogRecord(self.log_next, timestamp, content))
        self.log_next += 1
        self.log_bytes += len(content)
        while self.log and self.log_bytes > self.settings.log_memory_limit:
            self.log_bytes -= len(self.log.popleft().content)

    def clear_log(self) -> None:
        """Empty the log; its numbers go on."""
        self.log.clear()
        self.log_bytes = 0

    def record_change(self, change: Change) -> None:
        """Add to the history."""
        self.history.append(change)
        self.changes += 1
