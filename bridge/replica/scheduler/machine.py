"""The subnet at work: it takes one message, runs it, and applies its effects or drops them.

Rules implemented: interface specification, section Abstract behavior: call contexts, exactly one
response, callbacks and cleanup, traps. When the next message runs, and when the state is certified,
is ``rounds``' matter; the management canister is given to it as functions.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bridge.principal import Principal
from bridge.replica.execution.failures import ExecutionError
from bridge.replica.execution.instance import Instance
from bridge.replica.execution.run import Mode, Run
from bridge.replica.scheduler.clock import Clock
from bridge.replica.scheduler.lifecycle import Lifecycle
from bridge.replica.scheduler.rejects import (
    EXPIRED,
    no_method,
    silence,
    too_few_cycles,
)
from bridge.replica.scheduler.sandbox import (
    Sandbox,
    enter,
    enter_callback,
    keeps_memory,
    run_and_settle,
)
from bridge.replica.state.canister import Begun, CallContext, Canister
from bridge.replica.state.messages import (
    FROM_SYSTEM,
    FromCanister,
    FromSystem,
    Message,
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


@dataclass(frozen=True, slots=True)
class Limits:
    """Instructions that one message may use, by kind (IC documentation, resource limits)."""

    update: int = 40_000_000_000
    query: int = 5_000_000_000
    install: int = 300_000_000_000
    inspect: int = 200_000_000


_log: Final = logging.getLogger(__name__)
ManagementHandler = Callable[["Machine", Request], None]
ManagementQuery = Callable[["Machine", Request], Payload]


class Machine(Lifecycle):
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
        self._management = management

    def manage(self, request: Request) -> None:
        """Answer a call to the management canister."""
        self._management(self, request)

    # --- executing ------------------------------------------------------------------------------

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

    def _execute(self, canister: Canister, message: Message) -> None:
        if isinstance(message, Response):
            self._execute_response(canister, message)
        elif isinstance(message, Task):
            self._execute_task(canister, message)
        else:
            self._execute_request(canister, message)

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
                self.answer(context, Reply(run.reply))
            elif run.reject is not None:
                self.answer(context, Reject(RejectCode.CANISTER_REJECT, run.reject, "IC0406"))
        if context.outstanding:
            return
        if not context.responded:
            self.answer(context, silence(canister, failure))
        canister.contexts.pop(context.context_id, None)
