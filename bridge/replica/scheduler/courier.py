"""How messages travel: time, queues, ingress and answers, between users, canisters and the system.

Rules implemented: interface specification, section Abstract behavior. What happens when a message
arrives is the machine's matter, one class above.
"""

import heapq
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from bridge.principal import Principal
from bridge.replica.execution.run import Environment, OutgoingCall
from bridge.replica.scheduler.clock import Clock
from bridge.replica.scheduler.faults import Action, Faults, Kind, Passing, Strike
from bridge.replica.scheduler.fees import freezing_limit
from bridge.replica.scheduler.held import AT_ONCE, QUIET, HeldMessages
from bridge.replica.scheduler.message_log import MessageLog
from bridge.replica.scheduler.plan import Plan
from bridge.replica.scheduler.rejects import EXPIRED, TIMED_OUT, frozen, refusal
from bridge.replica.scheduler.sandbox import Sandbox
from bridge.replica.state.canister import Callback, CallContext, Canister
from bridge.replica.state.events import CallDeadline, Event, TimerDue
from bridge.replica.state.messages import (
    FromCanister,
    FromUser,
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
from bridge.replica.state.subnet import Ranges, Subnet
from bridge.wire import Certificate

HEARTBEAT_INTERVAL: Final = 1_000_000_000
SECOND: Final = 1_000_000_000


def nothing() -> None:
    """What is done around a step if nobody asked for more."""


class Courier:
    """How messages travel.

    Args:
        subnet: The state.
        clock: The time.

    Attributes:
        lock: Held by whoever is inside.
        time: The subnet's time in this round, in nanoseconds since 1970.
        held: Messages that a fault holds back.
        answered: Requests answered since the state was last certified.
        fees: Whether memory and compute allocation cost cycles, so that a canister can be frozen.
        save: Keeps on disk what has changed, before anything is certified of it.
        records: Whether the changes of memories are recorded for that.
    """

    def __init__(self, subnet: Subnet, clock: Clock) -> None:
        self.subnet = subnet
        self.clock = clock
        self.log = MessageLog()
        self.faults = Faults()
        self.held = HeldMessages()
        self.sandboxes: dict[Principal, Sandbox] = {}
        self.lock = threading.Lock()
        self.answered: list[RequestRecord] = []
        self.time = clock.now()
        self._line: deque[Canister] = deque()
        self._due: list[tuple[int, int, Event]] = []
        self._ties = 0
        # In the order of installation: what happens may not depend on how a set is ordered.
        self._heartbeats: dict[Principal, None] = {}
        self._next_heartbeat = 0
        self.fees = False
        self._charging = False
        self.records = False
        self.save: Callable[[], None] = nothing

    def manage(self, request: Request) -> None:
        """Answer a call to the management canister; the class above knows how."""
        raise NotImplementedError

    # --- lookups --------------------------------------------------------------------------------

    def new_sandbox(self) -> Sandbox:
        """A sandbox for a new canister."""
        return Sandbox(records=self.records)

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
            freezing_limit=self.freezing_limit(canister),
        )

    def freezing_limit(self, canister: Canister) -> int:
        """Cycles below which the canister is frozen; 0 while there are no fees."""
        return freezing_limit(canister, self.sandbox(canister)) if self.fees else 0

    def is_frozen(self, canister: Canister) -> bool:
        """Whether the canister has too few cycles to take calls and tasks."""
        return self.fees and canister.cycles < self.freezing_limit(canister)

    def refusal(self, canister: Canister) -> Reject | None:
        """Why the canister takes no new call now; ``None`` if it takes them."""
        return refusal(canister) or (frozen(canister) if self.is_frozen(canister) else None)

    def certify(self, time: int) -> Certificate:
        """Keep what has changed, and sign it; also that the certificate was given is kept.

        Args:
            time: Nanoseconds since 1970.

        Raises:
            StateDirectoryError: If it cannot be kept; nothing is signed then.
        """
        self.subnet.certified_time = max(time, self.subnet.certified_time)
        self.save()
        return self.subnet.certify(self.subnet.certified_time)

    def data_certificate(self, canister: Canister, ranges: Ranges) -> bytes:
        """The certificate of the canister's certified data as it is now."""
        subnet = self.subnet
        certificate = subnet.certificate
        if certificate is None or subnet.is_touched(canister.canister_id):
            certificate = self.certify(self.clock.now())
        path = (b"canister", canister.canister_id.raw, b"certified_data")
        return subnet.shown(certificate, [path], ranges).to_cbor()

    # --- time -----------------------------------------------------------------------------------

    def at(self, time: int, event: Event) -> None:
        """Let something happen when the subnet's time has reached ``time``."""
        self._ties += 1
        heapq.heappush(self._due, (time, self._ties, event))

    def planned(self) -> Plan:
        """What is to happen, and when."""
        return Plan(
            clock=self.clock.position(),
            due=tuple(self._due),
            ties=self._ties,
            line=tuple(canister.canister_id for canister in self._line),
            heartbeats=tuple(self._heartbeats),
            next_heartbeat=self._next_heartbeat,
            time=self.time,
            fees=self.fees,
            charging=self._charging,
        )

    def plan_again(self, plan: Plan) -> None:
        """Plan what was planned; the canisters are those of that time already."""
        self.clock.set_position(plan.clock)
        self._due = list(plan.due)
        self._ties = plan.ties
        self._heartbeats = dict.fromkeys(plan.heartbeats)
        self._next_heartbeat = plan.next_heartbeat
        self.time = plan.time
        self.fees, self._charging = plan.fees, plan.charging
        self.answered.clear()
        self._line = deque(self.subnet.canisters[name] for name in plan.line)
        for canister in self._line:
            canister.scheduled = True

    def go_on(self, held: Iterable[Request | Response]) -> None:
        """Plan anew, from the canisters' records alone, what has to happen in a subnet read back.

        Args:
            held: Messages that were on their way; they go on.
        """
        self._next_heartbeat = self.time + HEARTBEAT_INTERVAL
        for canister in self.subnet.canisters.values():
            for callback_id, callback in canister.callbacks.items():
                if callback.deadline and not callback.answered:
                    self.at(callback.deadline, CallDeadline(canister.canister_id, callback_id))
            canister.timer_planned = 0
            self.set_global_timer(canister, canister.global_timer)
            self.module_changed(canister)
            self.schedule(canister)
        for message in held:
            self._go_on(message)

    def happen(self, event: Event) -> None:
        """Do what was planned for this time; the class above knows of more."""
        canister = (
            self.subnet.canisters.get(event.canister_id)
            if isinstance(event, CallDeadline | TimerDue)
            else None
        )
        if canister is None:
            return
        if isinstance(event, CallDeadline):
            self._deadline_passed(canister, event.callback_id)
        elif isinstance(event, TimerDue):
            self._timer_due(canister, event.planned)

    def next_due(self) -> int | None:
        """When there is something to do next; ``None`` if nothing is planned."""
        times = [self._due[0][0]] if self._due else []
        if self._heartbeats:
            times.append(self._next_heartbeat)
        held = self.held.next_due()
        if held is not None:
            times.append(held)
        expiry = self.subnet.history.next_expiry()
        if expiry is not None:
            times.append(expiry)
        return min(times, default=None)

    def begin_round(self) -> bool:
        """Take the time and do what is due; whether anything was."""
        self.time = self.clock.now()
        worked = False
        while self._due and self._due[0][0] <= self.time:
            self.happen(heapq.heappop(self._due)[2])
            worked = True
        for message in self.held.due(self.time):
            self._go_on(message)
            worked = True
        for record, gone in self.subnet.history.expire(self.time):
            self.subnet.touch_request(record, gone=gone)
        if self._heartbeats and self._next_heartbeat <= self.time:
            self._next_heartbeat = self.time + HEARTBEAT_INTERVAL
            for canister_id in tuple(self._heartbeats):
                self.start_task(canister_id, Task.HEARTBEAT)
            worked = True
        return worked

    def start_task(self, canister_id: Principal, task: Task) -> None:
        """Let the system start something in a canister, before what it has queued."""
        canister = self.subnet.canisters.get(canister_id)
        if canister is not None and task not in canister.queue:
            canister.queue.appendleft(task)
            self.schedule(canister)

    def set_global_timer(self, canister: Canister, time: int) -> None:
        """Arm the canister's timer, or disarm it with 0."""
        canister.global_timer = time
        if time and not 0 < canister.timer_planned <= time:
            self._plan_timer(canister, time)

    def _plan_timer(self, canister: Canister, time: int) -> None:
        canister.timer_planned = time
        self.at(time, TimerDue(canister.canister_id, time))

    def _timer_due(self, canister: Canister, planned: int) -> None:
        if planned == canister.timer_planned:
            canister.timer_planned = 0
            self.subnet.mark(canister.canister_id)
            if canister.global_timer > self.time:
                self._plan_timer(canister, canister.global_timer)
        self.check_timer(canister)

    def check_timer(self, canister: Canister) -> None:
        """Start the canister's timer task if its time has come.

        The timer stays armed until the task begins, so that a canister that is stopped or frozen
        when its time comes gets its task as soon as it runs again.
        """
        if 0 < canister.global_timer <= self.time:
            self.start_task(canister.canister_id, Task.GLOBAL_TIMER)

    def module_changed(self, canister: Canister) -> None:
        """Note a canister's new module, or that it has none."""
        instance = self.sandbox(canister).instance
        if instance is not None and instance.has(Task.HEARTBEAT.value):
            self._heartbeats[canister.canister_id] = None
        else:
            self._heartbeats.pop(canister.canister_id, None)
        self.subnet.touch(canister.canister_id)

    # --- sending --------------------------------------------------------------------------------

    def schedule(self, canister: Canister) -> None:
        """Put the canister in the line if it has work."""
        self.subnet.mark(canister.canister_id)
        if canister.queue and not canister.scheduled and not canister.busy:
            canister.scheduled = True
            self._line.append(canister)

    def submit(self, record: RequestRecord, request: Request) -> None:
        """Take in an ingress message that has passed all checks."""
        self.subnet.history.add(record)
        self.subnet.undone.pop(record.request_id, None)
        self.subnet.touch_request(record)
        strike = None if self.faults.idle else self._strike(Kind.INGRESS, request)
        if strike is not None and strike.action is Action.LOSE:
            # As if no node had ever put it into a block: unknown, and so never executed.
            del self.subnet.history.records[record.request_id]
            self.subnet.touch_request(record, gone=True)
            self.log_request(request, "lost", "lost before it was executed")
            return
        self._send(request, strike)

    # --- faults ---------------------------------------------------------------------------------

    def _strike(self, kind: Kind, request: Request) -> Strike | None:
        return self.faults.strike(
            Passing(
                kind, request.sender, request.receiver, request.method, request.arg,
                bool(request.deadline),
            )
        )  # fmt: skip

    def _send(self, request: Request, strike: Strike | None) -> None:
        """Let a request go on its way, or do to it what a fault does."""
        # The requests of one canister to another never overtake each other; those of users do.
        lane = (
            (request.sender, request.receiver) if isinstance(request.origin, FromCanister) else None
        )
        if strike is None:
            if lane is not None and self.held.blocks(lane):
                self.held.hold(request, AT_ONCE, lane)
            else:
                self._route(request)
        elif strike.action is Action.LOSE:
            self.log_request(request, "lost", "lost between the canisters")
            if request.deadline:
                self.reject(request, RejectCode.SYS_UNKNOWN, "Message was shed")
            else:
                self.reject(request, RejectCode.SYS_TRANSIENT, "Message expired in its queue")
        elif strike.action is Action.REJECT:
            self.log_request(request, "rejected", strike.text)
            self.reject(request, strike.code, strike.text)
        else:
            until, outcome = self._until(strike)
            self.held.hold(request, until, lane)
            self.log.add(
                self.time, request.sender, request.receiver, request.method, request.arg,
                "held", outcome,
            )  # fmt: skip

    def _until(self, strike: Strike) -> tuple[int, str]:
        if strike.action is Action.DELAY:
            return self.time + strike.nanoseconds, "delayed"
        return QUIET, "reordered"

    def _send_back(self, response: Response) -> None:
        """Let an answer go on its way to a canister, or do to it what a fault does."""
        canister = self.subnet.canisters.get(response.receiver)
        callback = None if canister is None else canister.callbacks.get(response.callback_id)
        if self.faults.idle or callback is None or callback.answered:
            self._deliver(response)
            return
        payload = response.payload
        content = payload.data if isinstance(payload, Reply) else payload.message.encode()
        strike = self.faults.strike(
            Passing(
                Kind.RESPONSE, callback.callee, response.receiver, callback.method, content,
                bool(callback.deadline),
            )
        )  # fmt: skip
        if strike is None:
            self._deliver(response)
            return
        if strike.action is Action.LOSE:
            kind, outcome = "reply" if isinstance(payload, Reply) else "reject", "lost"
            lost = Reject(RejectCode.SYS_UNKNOWN, "Message was shed")
            self._deliver(Response(response.receiver, response.callback_id, lost, response.refund))
        else:
            kind = "held"
            until, outcome = self._until(strike)
            self.held.hold(response, until)
        self.log.add(
            self.time, callback.callee, response.receiver, callback.method, content, kind, outcome
        )

    def _go_on(self, message: Request | Response) -> None:
        """Let a message that was held back go on its way."""
        if isinstance(message, Response):
            self._deliver(message)
        else:
            self._route(message)

    def has_work(self) -> bool:
        """Whether any canister stands in the line; if none does, let overtaken messages follow."""
        if not self._line and self.held:
            for message in self.held.at_quiet(self.time):
                self._go_on(message)
        return bool(self._line)

    # --- sending --------------------------------------------------------------------------------

    def reject_expired(self, request: Request) -> bool:
        """Reject a user's call that has waited beyond its expiry: then it must not start.

        Returns:
            Whether it was one.
        """
        if not isinstance(request.origin, FromUser):
            return False
        record = self.subnet.history.records.get(request.origin.request_id)
        if record is None or record.expiry >= self.time:
            return False
        self.log_request(request, "rejected", TIMED_OUT.message)
        self.respond(request.origin, TIMED_OUT, request.cycles)
        return True

    def _route(self, request: Request) -> None:
        if not request.receiver.raw or request.receiver == self.subnet.keys.subnet_id:
            if self.reject_expired(request):
                return
            self.mark_processing(request.origin)
            self.manage(request)
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

    def mark_processing(self, origin: Origin) -> None:
        """Note that a user's call has begun to be processed."""
        if isinstance(origin, FromUser):
            record = self.subnet.history.records.get(origin.request_id)
            if record is not None and record.phase is Phase.RECEIVED:
                record.phase = Phase.PROCESSING
                self.subnet.touch_request(record)

    def transmit(self, canister: Canister, context: CallContext, call: OutgoingCall) -> None:
        """Turn a finished call of an execution into a request on its way."""
        callee = Principal(call.callee)
        callback_id = self.subnet.next_callback
        self.subnet.next_callback += 1
        deadline = 0
        if call.timeout_seconds is not None:
            deadline = self.time + call.timeout_seconds * SECOND
            self.at(deadline, CallDeadline(canister.canister_id, callback_id))
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
            sent=self.time,
        )
        self._send(request, None if self.faults.idle else self._strike(Kind.REQUEST, request))

    def _deadline_passed(self, canister: Canister, callback_id: int) -> None:
        callback = canister.callbacks.get(callback_id)
        if callback is None or callback.answered:
            return
        self._deliver(
            Response(
                canister.canister_id,
                callback_id,
                EXPIRED,
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
            self._send_back(Response(origin.canister_id, origin.callback_id, payload, refund))

    def _deliver(self, response: Response) -> None:
        canister = self.subnet.canisters.get(response.receiver)
        if canister is None:
            return
        callback = canister.callbacks.get(response.callback_id)
        if callback is None or callback.answered:
            # The caller has its answer already (a deadline passed), or was uninstalled.
            canister.cycles += response.refund
            self.subnet.mark(canister.canister_id)
            return
        callback.answered = True
        canister.queue.append(response)
        self.schedule(canister)

    def log_request(self, request: Request, outcome: str, text: str) -> None:
        """Write a request and what became of it into the message log."""
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
