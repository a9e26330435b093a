"""What happens to canisters apart from messages: they are occupied, stopped, charged and emptied.

Rules implemented: interface specification, sections Stopping and Uninstalling; the fees of memory
and compute. How messages are executed is the machine's matter, one class above.
"""

import contextlib
import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from bridge.replica.scheduler.clock import Clock
from bridge.replica.scheduler.courier import Courier, nothing
from bridge.replica.scheduler.fees import compute_fee, memory_fee
from bridge.replica.scheduler.sandbox import MemoryChanges, Sandbox
from bridge.replica.state.canister import CallContext, Canister, Status
from bridge.replica.state.events import ChargingDue, Event, StopDeadline
from bridge.replica.state.messages import (
    Origin,
    Payload,
    Reject,
    RejectCode,
    Request,
    Response,
)
from bridge.replica.state.subnet import Subnet

CHARGING_INTERVAL: Final = 3600 * 1_000_000_000
STOP_TIMEOUT: Final = 300 * 1_000_000_000
EMPTY_CANDID: Final = b"DIDL\x00\x00"

_T = TypeVar("_T")


class Lifecycle(Courier):
    """What happens to canisters apart from messages.

    Args:
        subnet: The state.
        clock: The time.

    Attributes:
        on_leaving: Called before the lock is given up for something long.
        on_returned: Called when it is had again.
    """

    def __init__(self, subnet: Subnet, clock: Clock) -> None:
        super().__init__(subnet, clock)
        self.on_leaving: Callable[[], None] = nothing
        self.on_returned: Callable[[], None] = nothing
        self._resumed: deque[Callable[[], None]] = deque()
        self._occupied = 0

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

    # --- being occupied ------------------------------------------------------------------------

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

    def measure(self, canister: Canister) -> None:
        """Note how large the canister's memories are now."""
        size = self.sandbox(canister).memory_size
        self.subnet.state_bytes += size - canister.memory_bytes
        canister.memory_bytes = size

    def answer(self, context: CallContext, payload: Payload) -> None:
        """Give a call its one response."""
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
                self.answer(
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
