"""The subnet at work: it takes one message, runs it, and applies its effects or drops them.

Rules implemented: interface specification, section Abstract behavior: call contexts, exactly one
response, callbacks and cleanup, traps, stopping. When the next message runs, and when the state is
certified, is ``rounds``' matter; the management canister is given to it as functions.
"""

import contextlib
import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from bridge.principal import Principal
from bridge.replica.execution.failures import ExecutionError
from bridge.replica.execution.instance import Instance
from bridge.replica.execution.run import Mode, Run
from bridge.replica.scheduler.clock import Clock
from bridge.replica.scheduler.courier import Courier, nothing
from bridge.replica.scheduler.fees import compute_fee, memory_fee
from bridge.replica.scheduler.rejects import (
    EXPIRED,
    no_method,
    silence,
    too_few_cycles,
)
from bridge.replica.scheduler.sandbox import (
    MemoryChanges,
    Sandbox,
    enter,
    enter_callback,
    keeps_memory,
    run_and_settle,
)
from bridge.replica.state.canister import Begun, CallContext, Canister, Status
from bridge.replica.state.events import ChargingDue, Event, StopDeadline
from bridge.replica.state.messages import (
    FROM_SYSTEM,
    FromCanister,
    FromSystem,
    Message,
    Origin,
    Payload,
    Reject,
    RejectCode,
    Reply,
    Request,
    Response,
    Task,
)
from bridge.replica.state.subnet import Subnet

MAX_IN_FLIGHT: Final = 500
MAX_CALLBACKS: Final = 1_000_000
REQUEST_LIFETIME: Final = 300 * 1_000_000_000
CHARGING_INTERVAL: Final = 3600 * 1_000_000_000
STOP_TIMEOUT: Final = 300 * 1_000_000_000
EMPTY_CANDID: Final = b"DIDL\x00\x00"


@dataclass(frozen=True, slots=True)
class Limits:
    """Instructions that one message may use, by kind (IC documentation, resource limits)."""

    update: int = 40_000_000_000
    query: int = 5_000_000_000
    install: int = 300_000_000_000
    inspect: int = 200_000_000


_log: Final = logging.getLogger(__name__)
_T = TypeVar("_T")
ManagementHandler = Callable[["Machine", Request], None]
ManagementQuery = Callable[["Machine", Request], Payload]


class Machine(Courier):
    """Runs messages and applies their effects.

    Args:
        subnet: The state.
        clock: The time.
        management: Answers the calls to the management canister.
        management_query: Answers the queries to it.
        limits: Of executions.
    """

    def __init__(
        self,
        subnet: Subnet,
        clock: Clock,
        management: ManagementHandler,
        management_query: ManagementQuery,
        limits: Limits,
    ) -> None:
        super().__init__(subnet, clock)
        self.limits = limits
        self.management_query = management_query
        self.on_leaving: Callable[[], None] = nothing
        self.on_returned: Callable[[], None] = nothing
        self._management = management
        self._resumed: deque[Callable[[], None]] = deque()
        self._occupied = 0

    def manage(self, request: Request) -> None:
        """Answer a call to the management canister."""
        self._management(self, request)

    def go_on(self, held: Iterable[Request | Response]) -> None:
        """Plan anew what has to happen in a subnet that was read back; calls under way begin again.

        Args:
            held: Messages that were on their way; they go on.
        """
        for canister in self.subnet.canisters.values():
            for request in canister.stop_requests:
                self.at(
                    self.time + STOP_TIMEOUT, StopDeadline(canister.canister_id, request.origin)
                )
        super().go_on(held)
        for request in tuple(self.subnet.managing):
            self.manage(request)
        if self.fees and not self._charging:
            self._charging = True
            self._plan_charging()

    def happen(self, event: Event) -> None:
        """Do what was planned for this time."""
        if isinstance(event, StopDeadline):
            canister = self.subnet.canisters.get(event.canister_id)
            if canister is not None:
                self._stop_timed_out(canister, event.origin)
        elif isinstance(event, ChargingDue):
            self._charge_all()
        else:
            super().happen(event)

    # --- executing ------------------------------------------------------------------------------

    def has_work(self) -> bool:
        """Whether there is anything to do at this time."""
        return bool(self._resumed) or super().has_work()

    @property
    def resumes(self) -> bool:
        """Whether something that waited for a canister can go on."""
        return bool(self._resumed)

    @property
    def is_still(self) -> bool:
        """Whether no execution is under way, and nothing waits for the end of one."""
        return not self._occupied and not self._resumed

    def execute_next(self) -> None:
        """Go on with what waited, or take one message of the first canister in the line."""
        if self._resumed:
            self._resumed.popleft()()
            return
        self.subnet.transactions += 1
        canister = self._line.popleft()
        canister.scheduled = False
        if not canister.queue or canister.busy:
            return
        message = canister.queue.popleft()
        with self.occupied(canister):
            canister.begun = Begun(message)
            try:
                self._execute(canister, message)
            finally:
                canister.begun = None

    @contextlib.contextmanager
    def occupied(self, canister: Canister) -> Iterator[None]:
        """While this lasts, nothing else of the canister runs; what waits for that runs after."""
        assert not canister.busy
        canister.busy = True
        self._occupied += 1
        try:
            yield
        finally:
            canister.busy = False
            self._occupied -= 1
            self.subnet.mark(canister.canister_id)
            if canister.when_idle:
                # Not at once: what is being done here must be wholly done before anything else is.
                self._resumed += canister.when_idle
                canister.when_idle.clear()
            self.schedule(canister)
            self.check_stopped(canister)

    def when_idle(self, canister: Canister, action: Callable[[], None]) -> None:
        """Do something to the canister as soon as no execution of it is under way."""
        if canister.busy:
            canister.when_idle.append(action)
        else:
            action()

    def _execute(self, canister: Canister, message: Message) -> None:
        if isinstance(message, Response):
            self._execute_response(canister, message)
        elif isinstance(message, Task):
            self._execute_task(canister, message)
        else:
            self._execute_request(canister, message)

    def outside(self, sandbox: Sandbox, action: Callable[[], _T]) -> _T:
        """Do something long with a canister's memories; others may enter the machine meanwhile."""
        self.on_leaving()
        sandbox.waiting += 1
        changes: MemoryChanges | None = None
        self.lock.release()
        try:
            with sandbox.lock:
                try:
                    return action()
                finally:
                    changes = sandbox.capture() if sandbox.records else None
        finally:
            self.lock.acquire()
            sandbox.take_over(changes)
            sandbox.waiting -= 1
            self.on_returned()

    def run_wasm(
        self, sandbox: Sandbox, action: Callable[[Instance], Callable[[], None]], *, keep: bool
    ) -> ExecutionError | None:
        """Run code of a canister, and keep or undo what it did to its memories."""

        def run() -> ExecutionError | None:
            assert sandbox.instance is not None
            return run_and_settle(sandbox.instance, action(sandbox.instance), keep=keep)

        return self.outside(sandbox, run)

    def _outdated(self, request: Request) -> bool:
        """Whether an unbounded-wait call has waited in its queue for longer than it may."""
        return (
            isinstance(request.origin, FromCanister)
            and not request.deadline
            and request.sent + REQUEST_LIFETIME < self.time
        )

    def _execute_request(self, canister: Canister, request: Request) -> None:
        if self.reject_expired(request):
            return
        if request.deadline and request.deadline < self.time:
            # The caller has been told already that nothing more is known of this call.
            self.log_request(request, "lost", "its deadline passed in the queue")
            self.respond(request.origin, EXPIRED, request.cycles)
            return
        if self._outdated(request):
            self.log_request(request, "lost", "expired in its queue")
            self.reject(request, RejectCode.SYS_TRANSIENT, "Message expired in its queue")
            return
        self.mark_processing(request.origin)
        refusal = self.refusal(canister) or too_few_cycles(canister, request)
        instance = None if refusal else self.sandbox(canister).instance
        if instance is not None:
            kind = instance.info.methods.get(request.method)
            if kind is None:
                refusal = no_method(canister, "update", request.method)
            elif kind == "composite_query":
                refusal = Reject(
                    RejectCode.CANISTER_ERROR,
                    f"Error from Canister {canister.canister_id}: Composite query method "
                    f"'{request.method}' cannot be called in replicated mode",
                    "IC0527",
                )
        if refusal is not None:
            self.log_request(request, "rejected", refusal.message)
            self.respond(request.origin, refusal, request.cycles)
            return
        assert instance is not None
        mode = Mode.U if kind == "update" else Mode.RQ
        context = CallContext(
            context_id=self.subnet.next_context,
            origin=request.origin,
            caller=request.sender,
            method=request.method,
            deadline=request.deadline if kind == "update" else 0,
            available=request.cycles,
            created=self.time,
            caller_info=request.caller_info,
            caller_info_signer=request.caller_info_signer,
        )
        self._open(canister, context)
        run = self._new_run(canister, context, mode, self.limits.update)
        run.arg = request.arg
        run.method = request.method
        export = f"canister_{kind} {request.method}"
        limit = canister.settings.wasm_memory_limit
        failure = self.run_wasm(
            self.sandbox(canister),
            lambda instance: enter(instance, run, export, memory_limit=limit),
            keep=keeps_memory(mode),
        )
        # Logged before what it sent is, so that the log tells causes before effects.
        self.log_request(
            request,
            "trapped" if failure else "executed",
            failure.text_for(canister.canister_id) if failure else "",
        )
        self._settle(canister, context, run, failure)

    def _open(self, canister: Canister, context: CallContext) -> None:
        """Note the call context of an execution that begins."""
        self.subnet.next_context += 1
        canister.contexts[context.context_id] = context
        if canister.begun is not None:
            canister.begun.context_id = context.context_id

    def _new_run(self, canister: Canister, context: CallContext, mode: Mode, limit: int) -> Run:
        pending: dict[bytes, int] = {}
        open_calls = [len(canister.callbacks)]

        def may_call(callee: bytes) -> bool:
            count = pending.get(callee, 0) + canister.in_flight[Principal(callee)]
            if count >= MAX_IN_FLIGHT or open_calls[0] >= MAX_CALLBACKS:
                return False
            pending[callee] = pending.get(callee, 0) + 1
            open_calls[0] += 1
            return True

        return Run(
            mode=mode,
            environment=self.environment(canister),
            instruction_limit=limit,
            caller=context.caller.raw,
            deadline=context.deadline,
            can_respond=not context.responded and not isinstance(context.origin, FromSystem),
            available=context.available,
            instructions_before=context.instructions,
            caller_info=context.caller_info,
            caller_info_signer=context.caller_info_signer,
            may_call=may_call,
        )

    def _execute_task(self, canister: Canister, task: Task) -> None:
        if self.refusal(canister) is not None:
            return
        instance = self.sandbox(canister).instance
        if instance is None or not instance.has(task.value):
            return
        if task is Task.GLOBAL_TIMER:
            if not 0 < canister.global_timer <= self.time:
                return  # set anew or disarmed since
            if canister.begun is not None:
                canister.begun.global_timer = canister.global_timer
            canister.global_timer = 0
        context = CallContext(
            context_id=self.subnet.next_context,
            origin=FROM_SYSTEM,
            caller=Principal.management(),
            method=task.value,
            deadline=0,
            available=0,
            created=self.time,
            responded=True,
        )
        self._open(canister, context)
        run = self._new_run(canister, context, Mode.T, self.limits.update)
        failure = self.run_wasm(
            self.sandbox(canister), lambda instance: enter(instance, run, task.value), keep=True
        )
        self._settle(canister, context, run, failure)
        self.log.add(
            self.time,
            None,
            canister.canister_id,
            task.value,
            b"",
            "timer",
            "trapped" if failure else "executed",
            failure.text_for(canister.canister_id) if failure else "",
        )

    def _execute_response(self, canister: Canister, response: Response) -> None:
        callback = canister.callbacks.pop(response.callback_id, None)
        canister.cycles += response.refund
        if callback is None:
            return
        if canister.begun is not None:
            canister.begun.callback = callback
        self.check_timer(canister)
        canister.in_flight[callback.callee] -= 1
        if not canister.in_flight[callback.callee]:
            del canister.in_flight[callback.callee]
        context = canister.contexts[callback.context_id]
        context.outstanding -= 1
        payload = response.payload
        mode = Mode.Ry if isinstance(payload, Reply) else Mode.Rt
        run = self._new_run(canister, context, mode, self.limits.update)
        run.refunded = response.refund
        if isinstance(payload, Reply):
            run.arg = payload.data
            function = callback.reply
        else:
            run.reject_code = int(payload.code)
            run.reject_message = payload.message
            function = callback.reject
        sandbox = self.sandbox(canister)
        failure = self.run_wasm(
            sandbox, lambda instance: enter_callback(instance, run, function), keep=True
        )
        if failure is not None and callback.cleanup is not None:
            self._clean_up(canister, context, callback.cleanup, run.reject_code)
        self._settle(canister, context, run, failure)
        self.log.add(
            self.time,
            callback.callee,
            canister.canister_id,
            callback.method,
            payload.data if isinstance(payload, Reply) else payload.message.encode(),
            "reply" if isinstance(payload, Reply) else "reject",
            "trapped" if failure else "executed",
            failure.text_for(canister.canister_id) if failure else "",
        )

    def _clean_up(
        self, canister: Canister, context: CallContext, cleanup: tuple[int, int], code: int
    ) -> None:
        run = self._new_run(canister, context, Mode.C, self.limits.update)
        run.can_respond = False
        run.reject_code = code
        failure = self.run_wasm(
            self.sandbox(canister),
            lambda instance: enter_callback(instance, run, cleanup),
            keep=True,
        )
        self._write_log(canister, run, failure)
        if failure is None:
            self._apply_own(canister, run)

    # --- effects --------------------------------------------------------------------------------

    def _write_log(self, canister: Canister, run: Run, failure: ExecutionError | None) -> None:
        canister.log_next += run.log_dropped
        contents = list(run.log)
        if failure is not None:
            contents.append(f"[TRAP]: {failure.message}".encode())
        for content in contents:
            canister.append_log(self.time, content)
            if _log.isEnabledFor(logging.INFO):
                _log.info("[%s] %s", canister.canister_id, content.decode(errors="replace"))

    def _apply_own(self, canister: Canister, run: Run) -> None:
        """What an execution did to its own canister, besides its memories."""
        canister.cycles += run.balance - run.environment.balance
        canister.version += 1
        canister.burned += run.burned
        self.subnet.burned += run.burned
        self.measure(canister)
        if run.certified_data is not None:
            canister.certified_data = run.certified_data
            self.subnet.touch(canister.canister_id)
        if run.global_timer is not None:
            self.set_global_timer(canister, run.global_timer)
        self._check_low_memory(canister)

    def measure(self, canister: Canister) -> None:
        """Note how large the canister's memories are now."""
        size = self.sandbox(canister).memory_size
        self.subnet.state_bytes += size - canister.memory_bytes
        canister.memory_bytes = size

    def _check_low_memory(self, canister: Canister) -> None:
        settings = canister.settings
        instance = self.sandbox(canister).instance
        if not settings.wasm_memory_threshold or instance is None:
            return
        limit = settings.wasm_memory_limit or instance.memory_limit
        left = limit - instance.kept_size
        low = left < settings.wasm_memory_threshold
        if low and not canister.low_memory_reported:
            self.start_task(canister.canister_id, Task.ON_LOW_WASM_MEMORY)
        canister.low_memory_reported = low

    def apply_hook(
        self, canister: Canister, run: Run, failure: ExecutionError | None, *, keep: bool
    ) -> None:
        """Write an installation hook's log, and apply its effects if the whole succeeded."""
        self._write_log(canister, run, failure)
        if keep:
            self._apply_own(canister, run)

    def _settle(
        self,
        canister: Canister,
        context: CallContext,
        run: Run,
        failure: ExecutionError | None,
    ) -> None:
        """Apply or drop an execution's effects, and answer its call if that is due."""
        context.instructions += run.instructions
        self._write_log(canister, run, failure)
        if failure is None:
            self._apply_own(canister, run)
            context.available -= run.accepted
            for call in run.calls:
                self.transmit(canister, context, call)
            if run.reply is not None:
                self._answer(context, Reply(run.reply))
            elif run.reject is not None:
                self._answer(context, Reject(RejectCode.CANISTER_REJECT, run.reject, "IC0406"))
        if context.outstanding:
            return
        if not context.responded:
            self._answer(context, silence(canister, failure))
        canister.contexts.pop(context.context_id, None)

    def _answer(self, context: CallContext, payload: Payload) -> None:
        context.responded = True
        refund, context.available = context.available, 0
        self.respond(context.origin, payload, refund)

    # --- stopping -------------------------------------------------------------------------------

    def stop(self, canister: Canister, request: Request) -> None:
        """Stop a canister, and answer once it has stopped."""
        canister.version += 1
        if canister.status is Status.STOPPED:
            self.reply(request, EMPTY_CANDID)
            return
        canister.status = Status.STOPPING
        canister.stop_requests.append(request)
        self.at(self.time + STOP_TIMEOUT, StopDeadline(canister.canister_id, request.origin))
        self.check_stopped(canister)

    def _stop_timed_out(self, canister: Canister, origin: Origin) -> None:
        for request in tuple(canister.stop_requests):
            if request.origin == origin:
                canister.stop_requests.remove(request)
                self.subnet.mark(canister.canister_id)
                self.reject(
                    request, RejectCode.SYS_TRANSIENT, "Stop canister request timed out", "IC0206"
                )

    def check_stopped(self, canister: Canister) -> None:
        """Finish stopping if no call is open any more."""
        if canister.status is not Status.STOPPING or canister.contexts or canister.busy:
            return
        canister.status = Status.STOPPED
        canister.version += 1
        self.subnet.mark(canister.canister_id)
        waiting, canister.stop_requests = canister.stop_requests, []
        for request in waiting:
            self.reply(request, EMPTY_CANDID)

    def start(self, canister: Canister) -> None:
        """Let a canister run again; who waits for it to stop is told."""
        canister.status = Status.RUNNING
        canister.version += 1
        waiting, canister.stop_requests = canister.stop_requests, []
        for request in waiting:
            self.reject(
                request,
                RejectCode.CANISTER_ERROR,
                f"Canister {canister.canister_id}'s stop request was cancelled",
                "IC0511",
            )
        self.schedule(canister)

    def drop_contexts(self, canister: Canister) -> None:
        """Reject all open calls, as uninstalling does."""
        contexts, canister.contexts = canister.contexts, {}
        canister.callbacks.clear()
        canister.in_flight.clear()
        for context in contexts.values():
            if not context.responded:
                self._answer(
                    context,
                    Reject(RejectCode.CANISTER_REJECT, "Canister has been uninstalled.", ""),
                )
        self.check_stopped(canister)

    # --- fees -----------------------------------------------------------------------------------

    def charge_fees(self, on: bool) -> None:
        """Let memory and compute allocation cost cycles from now on, or nothing any more."""
        self.fees = on
        for canister in self.subnet.canisters.values():
            # Nothing is owed for the time before; and thawed canisters are due again.
            canister.charged = self.time
            self.subnet.mark(canister.canister_id)
            self.check_timer(canister)
        if on and not self._charging:
            self._charging = True
            self._plan_charging()

    def _plan_charging(self) -> None:
        self.at(self.time + CHARGING_INTERVAL, ChargingDue())

    def _charge_all(self) -> None:
        self._charging = self.fees
        if not self.fees:
            return
        for canister in tuple(self.subnet.canisters.values()):
            self._charge(canister)
        self._plan_charging()

    def _charge(self, canister: Canister) -> None:
        """Take what the canister's being there has cost; without cycles, it loses its code."""
        if canister.busy:
            self.when_idle(canister, lambda: self._charge(canister))
            return
        if self.subnet.canisters.get(canister.canister_id) is not canister:
            return
        elapsed, canister.charged = self.time - canister.charged, self.time
        self.subnet.mark(canister.canister_id)
        memory = min(memory_fee(canister, self.sandbox(canister), elapsed), canister.cycles)
        compute = min(compute_fee(canister, elapsed), canister.cycles - memory)
        canister.cycles -= memory + compute
        canister.paid_for_memory += memory
        canister.paid_for_compute += compute
        if not canister.cycles and canister.module_hash is not None:
            canister.settings = dataclasses.replace(
                canister.settings, compute_allocation=0, memory_allocation=0
            )
            self.uninstall(canister)

    def uninstall(self, canister: Canister) -> None:
        """Make a canister empty, and reject the calls that it has not answered."""
        sandbox = self.sandbox(canister)
        with self.occupied(canister):
            self.outside(sandbox, sandbox.empty)
            self.measure(canister)
            canister.module_hash, canister.module, canister.metadata = None, b"", {}
            canister.certified_data, canister.global_timer = b"", 0
            canister.chunks.clear()
            canister.clear_log()
            canister.version += 1
            self.drop_contexts(canister)
            self.module_changed(canister)
