"""The subnet at work: queues, call contexts, responses, timers. One thread at a time is inside.

``Machine`` holds the rules by which messages move (interface specification, section Abstract
behavior): it takes one message, runs it, and applies its effects or drops them. When the next one
runs, and when the state is certified, is ``rounds``' matter; the management canister is given to
it as a function.
"""

import contextlib
import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from bridge.principal import Principal
from bridge.replica.execution.failures import ExecutionError
from bridge.replica.execution.instance import Instance
from bridge.replica.execution.run import Environment, Mode, OutgoingCall, Run
from bridge.replica.scheduler.clock import Clock
from bridge.replica.scheduler.faults import Faults, MessageLog
from bridge.replica.scheduler.sandbox import (
    Sandbox,
    enter,
    enter_callback,
    keeps_memory,
    run_and_settle,
)
from bridge.replica.state.canister import Callback, CallContext, Canister, Status
from bridge.replica.state.messages import (
    FROM_SYSTEM,
    FromCanister,
    FromSystem,
    FromUser,
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
from bridge.replica.state.requests import Phase, RequestRecord
from bridge.replica.state.subnet import Subnet

MAX_IN_FLIGHT: Final = 500
STOP_TIMEOUT: Final = 300 * 1_000_000_000
HEARTBEAT_INTERVAL: Final = 1_000_000_000
SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Instructions that one message may use, by kind (IC documentation, resource limits)."""

    update: int = 40_000_000_000
    query: int = 5_000_000_000
    install: int = 300_000_000_000
    inspect: int = 200_000_000


_T = TypeVar("_T")
ManagementHandler = Callable[["Machine", Request], None]
ManagementQuery = Callable[["Machine", Request], Payload]


class Machine:
    """The rules by which a subnet's messages move.

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
        self.subnet = subnet
        self.clock = clock
        self.limits = limits
        self.log = MessageLog()
        self.faults = Faults()
        self.sandboxes: dict[Principal, Sandbox] = {}
        self.lock = threading.Lock()
        self.answered: list[RequestRecord] = []
        self.time = clock.now()
        self.on_leaving: Callable[[], None] = _nothing
        self.on_returned: Callable[[], None] = _nothing
        self._management = management
        self.management_query = management_query
        self._line: deque[Canister] = deque()
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._tie = itertools.count()
        self._heartbeats: set[Principal] = set()
        self._next_heartbeat = 0

    # --- lookups --------------------------------------------------------------------------------

    def sandbox(self, canister: Canister) -> Sandbox:
        """The canister's sandbox."""
        return self.sandboxes[canister.canister_id]

    def environment(
        self, canister: Canister, *, data_certificate: Callable[[], bytes] | None = None
    ) -> Environment:
        """What the canister can ask of itself now."""
        keys = self.subnet.keys
        return Environment(
            canister_id=canister.canister_id.raw,
            subnet_id=keys.subnet_id.raw,
            root_key=keys.root.public_key_der,
            controllers=frozenset(p.raw for p in canister.settings.controllers),
            time=self.time,
            status=int(canister.status),
            version=canister.version,
            balance=canister.cycles,
            global_timer=canister.global_timer,
            variables=canister.settings.environment_variables,
            data_certificate=data_certificate,
        )

    def data_certificate(self, canister: Canister) -> bytes:
        """The certificate of the canister's certified data as it is now."""
        subnet = self.subnet
        certificate = subnet.certificate
        if certificate is None or subnet.is_touched(canister.canister_id):
            certificate = subnet.certify(self.clock.now())
        path = (b"canister", canister.canister_id.raw, b"certified_data")
        return certificate.pruned([path]).to_cbor()

    # --- time -----------------------------------------------------------------------------------

    def at(self, time: int, action: Callable[[], None]) -> None:
        """Do something when the subnet's time has reached ``time``."""
        heapq.heappush(self._due, (time, next(self._tie), action))

    def next_due(self) -> int | None:
        """When there is something to do next; ``None`` if nothing is planned."""
        times = [self._due[0][0]] if self._due else []
        if self._heartbeats:
            times.append(self._next_heartbeat)
        expiry = self.subnet.history.next_expiry()
        if expiry is not None:
            times.append(expiry)
        return min(times, default=None)

    def begin_round(self) -> bool:
        """Take the time and do what is due; whether anything was."""
        self.time = self.clock.now()
        worked = False
        while self._due and self._due[0][0] <= self.time:
            heapq.heappop(self._due)[2]()
            worked = True
        for record, gone in self.subnet.history.expire(self.time):
            self.subnet.touch_request(record, gone=gone)
        if self._heartbeats and self._next_heartbeat <= self.time:
            self._next_heartbeat = self.time + HEARTBEAT_INTERVAL
            for canister_id in tuple(self._heartbeats):
                self._start_task(canister_id, Task.HEARTBEAT)
            worked = True
        return worked

    def _start_task(self, canister_id: Principal, task: Task) -> None:
        canister = self.subnet.canisters.get(canister_id)
        if canister is not None and task not in canister.queue:
            canister.queue.appendleft(task)
            self.schedule(canister)

    def set_global_timer(self, canister: Canister, time: int) -> None:
        """Arm the canister's timer, or disarm it with 0."""
        canister.global_timer = time
        if time:
            self.at(time, lambda: self._timer_due(canister))

    def _timer_due(self, canister: Canister) -> None:
        if canister.global_timer and canister.global_timer <= self.time:
            canister.global_timer = 0
            self._start_task(canister.canister_id, Task.GLOBAL_TIMER)

    def module_changed(self, canister: Canister) -> None:
        """Note a canister's new module, or that it has none."""
        instance = self.sandbox(canister).instance
        if instance is not None and instance.has(Task.HEARTBEAT.value):
            self._heartbeats.add(canister.canister_id)
        else:
            self._heartbeats.discard(canister.canister_id)
        self.subnet.touch(canister.canister_id)

    # --- sending --------------------------------------------------------------------------------

    def schedule(self, canister: Canister) -> None:
        """Put the canister in the line if it has work."""
        if canister.queue and not canister.scheduled and not canister.busy:
            canister.scheduled = True
            self._line.append(canister)

    def submit(self, record: RequestRecord, request: Request) -> None:
        """Take in an ingress message that has passed all checks."""
        self.subnet.history.add(record)
        self.subnet.touch_request(record)
        if self.faults.strikes(request.sender, request.receiver, request.method, request.arg):
            # As if no node had ever put it into a block: unknown, and so never executed.
            del self.subnet.history.records[record.request_id]
            self.subnet.touch_request(record, gone=True)
            self._log_request(request, "lost", "lost before it was executed")
            return
        self._route(request)

    def _route(self, request: Request) -> None:
        if not request.receiver.raw or request.receiver == self.subnet.keys.subnet_id:
            self._mark_processing(request.origin)
            self._management(self, request)
            return
        canister = self.subnet.canisters.get(request.receiver)
        if canister is None:
            self.reject(
                request,
                RejectCode.DESTINATION_INVALID,
                f"Canister {request.receiver} not found",
                "IC0301",
            )
            return
        canister.queue.append(request)
        self.schedule(canister)

    def _mark_processing(self, origin: Origin) -> None:
        if isinstance(origin, FromUser):
            record = self.subnet.history.records.get(origin.request_id)
            if record is not None and record.phase is Phase.RECEIVED:
                record.phase = Phase.PROCESSING
                self.subnet.touch_request(record)

    def _transmit(self, canister: Canister, context: CallContext, call: OutgoingCall) -> None:
        """Turn a finished call of an execution into a request on its way."""
        callee = Principal(call.callee)
        callback_id = self.subnet.next_callback
        self.subnet.next_callback += 1
        deadline = 0
        if call.timeout_seconds is not None:
            deadline = self.time + call.timeout_seconds * SECOND
            self.at(deadline, lambda: self._deadline_passed(canister, callback_id))
        canister.callbacks[callback_id] = Callback(
            context_id=context.context_id,
            callee=callee,
            method=call.method,
            reply=(call.reply_fun, call.reply_env),
            reject=(call.reject_fun, call.reject_env),
            cleanup=call.cleanup,
            cycles=call.cycles,
            deadline=deadline,
        )
        context.outstanding += 1
        canister.in_flight[callee] += 1
        request = Request(
            origin=FromCanister(canister.canister_id, callback_id),
            sender=canister.canister_id,
            receiver=callee,
            method=call.method,
            arg=bytes(call.payload),
            cycles=call.cycles,
            deadline=deadline,
            sender_version=canister.version,
        )
        if self.faults.strikes(request.sender, callee, request.method, request.arg):
            self._log_request(request, "lost", "lost between the canisters")
            if deadline:
                self.reject(request, RejectCode.SYS_UNKNOWN, "Message was shed")
            else:
                self.reject(request, RejectCode.SYS_TRANSIENT, "Message expired in its queue")
            return
        self._route(request)

    def _deadline_passed(self, canister: Canister, callback_id: int) -> None:
        callback = canister.callbacks.get(callback_id)
        if callback is None or callback.answered:
            return
        self._deliver(
            Response(
                canister.canister_id,
                callback_id,
                _EXPIRED,
                0,
            )
        )

    # --- answering ------------------------------------------------------------------------------

    def reply(self, request: Request, data: bytes, *, refund: int | None = None) -> None:
        """Answer a request that no canister's code answered."""
        self.respond(request.origin, Reply(data), request.cycles if refund is None else refund)

    def reject(
        self, request: Request, code: RejectCode, message: str, error_code: str = ""
    ) -> None:
        """Reject a request that no canister's code answered; all its cycles go back."""
        self.respond(request.origin, Reject(code, message, error_code), request.cycles)

    def respond(self, origin: Origin, payload: Payload, refund: int) -> None:
        """Send an answer to where the call came from."""
        if isinstance(origin, FromUser):
            record = self.subnet.history.records.get(origin.request_id)
            if record is not None and record.phase in (Phase.RECEIVED, Phase.PROCESSING):
                self.subnet.history.answered(record, payload, self.time)
                self.subnet.touch_request(record)
                self.answered.append(record)
        elif isinstance(origin, FromCanister):
            self._deliver(Response(origin.canister_id, origin.callback_id, payload, refund))

    def _deliver(self, response: Response) -> None:
        canister = self.subnet.canisters.get(response.receiver)
        if canister is None:
            return
        callback = canister.callbacks.get(response.callback_id)
        if callback is None or callback.answered:
            # The caller has its answer already (a deadline passed), or was uninstalled.
            canister.cycles += response.refund
            return
        callback.answered = True
        canister.queue.append(response)
        self.schedule(canister)

    # --- executing ------------------------------------------------------------------------------

    def has_work(self) -> bool:
        """Whether any canister stands in the line."""
        return bool(self._line)

    def execute_next(self) -> None:
        """Take one message of the first canister in the line, and run it."""
        self.subnet.transactions += 1
        canister = self._line.popleft()
        canister.scheduled = False
        if not canister.queue or canister.busy:
            return
        message = canister.queue.popleft()
        with self.occupied(canister):
            self._execute(canister, message)

    @contextlib.contextmanager
    def occupied(self, canister: Canister) -> Iterator[None]:
        """While this lasts, nothing else of the canister runs; what waits for that runs after."""
        assert not canister.busy
        canister.busy = True
        try:
            yield
        finally:
            canister.busy = False
            while canister.when_idle and not canister.busy:
                canister.when_idle.popleft()()
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
        self.lock.release()
        try:
            with sandbox.lock:
                return action()
        finally:
            self.lock.acquire()
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

    def refusal(self, canister: Canister) -> Reject | None:
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

    def _expired(self, request: Request) -> bool:
        """Whether an ingress message has waited beyond its expiry: then it must not start."""
        if not isinstance(request.origin, FromUser):
            return False
        record = self.subnet.history.records.get(request.origin.request_id)
        return record is not None and record.expiry < self.time

    def _execute_request(self, canister: Canister, request: Request) -> None:
        if self._expired(request):
            text = "Ingress message timed out waiting to start executing."
            self._log_request(request, "rejected", text)
            self.reject(request, RejectCode.SYS_TRANSIENT, text, "IC0202")
            return
        if request.deadline and request.deadline < self.time:
            # The caller has been told already that nothing more is known of this call.
            self._log_request(request, "lost", "its deadline passed in the queue")
            self.respond(request.origin, _EXPIRED, request.cycles)
            return
        self._mark_processing(request.origin)
        refusal = self.refusal(canister) or _too_few_cycles(canister, request)
        instance = self.sandbox(canister).instance
        if refusal is None and instance is not None:
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
            self._log_request(request, "rejected", refusal.message)
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
        self.subnet.next_context += 1
        canister.contexts[context.context_id] = context
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
        self._log_request(
            request,
            "trapped" if failure else "executed",
            failure.text_for(canister.canister_id) if failure else "",
        )
        self._settle(canister, context, run, failure)

    def _new_run(self, canister: Canister, context: CallContext, mode: Mode, limit: int) -> Run:
        pending: dict[bytes, int] = {}

        def may_call(callee: bytes) -> bool:
            count = pending.get(callee, 0) + canister.in_flight[Principal(callee)]
            if count >= MAX_IN_FLIGHT:
                return False
            pending[callee] = pending.get(callee, 0) + 1
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
        instance = self.sandbox(canister).instance
        if canister.status is not Status.RUNNING or instance is None:
            return
        if not instance.has(task.value):
            return
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
        self.subnet.next_context += 1
        canister.contexts[context.context_id] = context
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
        for content in run.log:
            canister.append_log(self.time, content)
        if failure is not None:
            canister.append_log(self.time, f"[TRAP]: {failure.message}".encode())

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
            self._start_task(canister.canister_id, Task.ON_LOW_WASM_MEMORY)
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
                self._transmit(canister, context, call)
            if run.reply is not None:
                self._answer(context, Reply(run.reply))
            elif run.reject is not None:
                self._answer(context, Reject(RejectCode.CANISTER_REJECT, run.reject, "IC0406"))
        if context.outstanding:
            return
        if not context.responded:
            self._answer(context, _silence(canister, failure))
        canister.contexts.pop(context.context_id, None)

    def _answer(self, context: CallContext, payload: Payload) -> None:
        context.responded = True
        refund, context.available = context.available, 0
        self.respond(context.origin, payload, refund)

    # --- stopping -------------------------------------------------------------------------------

    def stop(self, canister: Canister, origin: Origin) -> None:
        """Stop a canister, and answer once it has stopped."""
        if canister.status is Status.STOPPED:
            self.respond(origin, Reply(EMPTY_CANDID), 0)
            return
        canister.status = Status.STOPPING
        canister.version += 1
        entry = (origin, self.time)
        canister.stop_requests.append(entry)
        self.at(self.time + STOP_TIMEOUT, lambda: self._stop_timed_out(canister, entry))
        self.check_stopped(canister)

    def _stop_timed_out(self, canister: Canister, entry: tuple[Origin, int]) -> None:
        if entry in canister.stop_requests:
            canister.stop_requests.remove(entry)
            self.respond(
                entry[0],
                Reject(RejectCode.SYS_TRANSIENT, "Stop canister request timed out", "IC0206"),
                0,
            )

    def check_stopped(self, canister: Canister) -> None:
        """Finish stopping if no call is open any more."""
        if canister.status is not Status.STOPPING or canister.contexts or canister.busy:
            return
        canister.status = Status.STOPPED
        canister.version += 1
        waiting, canister.stop_requests = canister.stop_requests, []
        for origin, _ in waiting:
            self.respond(origin, Reply(EMPTY_CANDID), 0)

    def start(self, canister: Canister) -> None:
        """Let a canister run again; who waits for it to stop is told."""
        canister.status = Status.RUNNING
        canister.version += 1
        waiting, canister.stop_requests = canister.stop_requests, []
        for origin, _ in waiting:
            self.respond(
                origin,
                Reject(
                    RejectCode.CANISTER_ERROR,
                    f"Canister {canister.canister_id}'s stop request was cancelled",
                    "IC0511",
                ),
                0,
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

    def _log_request(self, request: Request, outcome: str, text: str) -> None:
        self.log.add(
            self.time,
            request.sender,
            request.receiver,
            request.method,
            request.arg,
            "ingress" if isinstance(request.origin, FromUser) else "request",
            outcome,
            text,
        )


EMPTY_CANDID: Final = b"DIDL\x00\x00"


_EXPIRED: Final = Reject(RejectCode.SYS_UNKNOWN, "Call deadline has expired.", "")


def _nothing() -> None:
    """What happens around long work if nobody asked for more."""


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


def _too_few_cycles(canister: Canister, request: Request) -> Reject | None:
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


def _silence(canister: Canister, failure: ExecutionError | None) -> Reject:
    """Why a call that can no longer be answered has no answer."""
    if failure is not None:
        return failure_reject(canister, failure)
    return Reject(
        RejectCode.CANISTER_ERROR,
        f"Error from Canister {canister.canister_id}: Canister did not reply to the call.",
        "IC0506",
    )
