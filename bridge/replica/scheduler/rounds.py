"""The thread that drives the machine: rounds, certificates, and whoever waits for them.

A round takes in what arrived, does what is due, runs messages until none is left or its time is up,
and signs the state once for all who wait. Other threads only append to its inbox, and so never wait
for a canister.
"""

import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, TypeVar

from bridge.errors import StateDirectoryError
from bridge.replica.execution.engine import large_stacks
from bridge.replica.execution.failures import InterruptedRunError
from bridge.replica.scheduler import subnet_snapshot
from bridge.replica.scheduler.courier import nothing
from bridge.replica.scheduler.machine import Machine
from bridge.replica.scheduler.queries import inspect
from bridge.replica.scheduler.rejects import TIMED_OUT
from bridge.replica.scheduler.subnet_snapshot import SubnetSnapshot
from bridge.replica.state.messages import Reject, RejectCode, Request
from bridge.replica.state.requests import Phase, RequestRecord
from bridge.wire import Certificate

_ROUND_SECONDS: Final = 0.05
# An execution that takes longer than this no longer holds up the others.
_SLOW_SECONDS: Final = 0.05
_QUIET_SECONDS: Final = 1.0
_MOST_THREADS: Final = 16
# While requests come together, a round waits this long for more: they share its certificate.
_GATHER_SECONDS: Final = 0.0005
# For so many rounds with one request only they are still expected to come together.
_GATHER_ROUNDS: Final = 8
_ROUND_MESSAGES: Final = 1000
_LONGEST_WAIT: Final = 3600.0
# A certificate this young is as good as a new one for who reads the state.
_FRESH: Final = 100_000_000

UNDONE: Final = Reject(
    RejectCode.SYS_TRANSIENT,
    "The subnet was restored to an earlier state, in which this request does not exist: what it "
    "did is undone. Send it again.",
)

_log: Final = logging.getLogger(__name__)

Action = Callable[[], None]
_T = TypeVar("_T")


def start_with_stack(thread: threading.Thread) -> None:
    """Start a thread whose stack is large enough to run canisters."""
    with large_stacks():
        thread.start()


Filter = Callable[[Machine, Request], Reject | None]


@dataclass(frozen=True, slots=True)
class Waiter:
    """Who waits for the answer of a request.

    Attributes:
        answered: Told the certificate of the answer.
        refused: Told why there will be none.
    """

    answered: Callable[[Certificate], None]
    refused: Callable[[Reject], None]


@dataclass(frozen=True, slots=True)
class Submission:
    """A call by a user, and who is told what becomes of it.

    Attributes:
        record: Its place in the history; the one that is there already stays.
        request: The call.
        accepted: Told, on a thread of the rounds, whether it is taken in, or why not; also, later,
            why there will be no answer.
        answered: Told the certificate of its answer, if anybody waits for it.
    """

    record: RequestRecord
    request: Request
    accepted: Callable[[Reject | None], None]
    answered: Callable[[Certificate], None] | None

    @property
    def waiter(self) -> Waiter | None:
        """Who waits for the answer."""
        return None if self.answered is None else Waiter(self.answered, self.accepted)


def _done(action: Callable[[], _T]) -> "Future[_T]":
    """What became of an action: its result, or why it failed."""
    future: Future[_T] = Future()
    try:
        future.set_result(action())
    except Exception as error:  # noqa: BLE001 - told to who asked for the action
        future.set_exception(error)
    return future


class Rounds:
    """Runs a machine on a thread of its own.

    Args:
        machine: What to run.
        management_filter: Says why a call by a user to the management canister is not taken in.

    Attributes:
        rounds: How many there were.
        failure: Why there will be no more: the state cannot be kept.
        on_failure: Called when that happens.
    """

    def __init__(self, machine: Machine, management_filter: Filter) -> None:
        self.machine = machine
        self._filter = management_filter
        self._inbox: deque[Action] = deque()
        self._still: deque[Action] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._certificate_waiters: list[Callable[[Certificate], None]] = []
        self._quiet_waiters: list[Callable[[], None]] = []
        self._saved_waiters: list[Action] = []
        self._threads: set[threading.Thread] = set()
        self._driver: threading.Thread | None = None
        self._left_at: float | None = None
        self._active_at = 0.0
        self._gathers = 0
        self._active = threading.Event()
        self._newest: SubnetSnapshot | None = None
        self.rounds = 0
        self.failure: StateDirectoryError | None = None
        self.on_failure: Action = nothing
        machine.on_leaving = self._leaving
        machine.on_returned = self._returned

    # --- from other threads ---------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._drive()
        threading.Thread(target=self._watch, name="replica-watch", daemon=True).start()

    def stop(self) -> None:
        """Tell the thread to end; ``join`` waits for it."""
        self._stopping = True
        self._wake.set()
        self._active.set()

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The threads that have not ended."""
        return tuple(self._threads)

    def join(self, timeout: float) -> None:
        """Wait for the end of the threads, at most so many seconds."""
        end = time.monotonic() + timeout
        for thread in tuple(self._threads):
            thread.join(max(0.0, end - time.monotonic()))

    def do(self, action: Action) -> None:
        """Do something in the next round, under the machine's lock."""
        self._inbox.append(action)
        self._wake.set()

    def when_saved(self, ready: Action) -> None:
        """Ask to be told when what has been done so far is kept, if it is kept at all."""
        self.do(lambda: self._saved_waiters.append(ready))

    def when_still(self, action: Action) -> None:
        """Do something between two rounds, under the machine's lock, while nothing is executed.

        Executions under way are waited for; no other ones begin until it is done.
        """
        self._still.append(action)
        self._wake.set()

    # --- threads --------------------------------------------------------------------------------

    def _drive(self) -> None:
        """Let a new thread drive the rounds; the one that did so far leaves when it can."""
        thread = threading.Thread(target=self._run, name="replica-rounds", daemon=True)
        self._driver = thread
        self._left_at = None
        self._threads.add(thread)
        start_with_stack(thread)

    def _leaving(self) -> None:
        if threading.current_thread() is self._driver:
            self._left_at = time.monotonic()

    def _returned(self) -> None:
        if threading.current_thread() is self._driver:
            self._left_at = None
        else:
            # The driver of now must see to what this thread has come back with.
            self._wake.set()

    def _drives(self) -> bool:
        return threading.current_thread() is self._driver

    def _watch(self) -> None:
        """Replace the driver when one execution keeps it too long; sleep while all is quiet."""
        while not self._stopping:
            self._active.wait()
            time.sleep(_SLOW_SECONDS)
            left = self._left_at
            if left is None:
                if time.monotonic() - self._active_at > _QUIET_SECONDS:
                    self._active.clear()
                continue
            if self.machine.clock.paused:
                # Which messages overtake a slow one would depend on the machine's speed.
                continue
            if time.monotonic() - left < _SLOW_SECONDS or len(self._threads) >= _MOST_THREADS:
                continue
            with self.machine.lock:
                if self._left_at == left:
                    self._drive()

    def submit(self, submission: Submission) -> None:
        """Take in a call by a user."""
        self.do(lambda: self._submit(submission))

    def quiet(self, ready: Callable[[], None]) -> None:
        """Ask to be told when nothing is left to do at the subnet's present time."""
        self.do(lambda: self._quiet_waiters.append(ready))

    def certificate(self, ready: Callable[[Certificate], None]) -> None:
        """Ask for a certificate of the state as it is from now on."""
        self.do(lambda: self._certificate_waiters.append(ready))

    def snapshot(self, ready: Callable[["Future[SubnetSnapshot]"], None]) -> None:
        """Remember the whole subnet; told on the rounds' thread."""

        def take() -> SubnetSnapshot:
            self._newest = subnet_snapshot.take(self.machine, self._newest)
            return self._newest

        self.when_still(lambda: ready(_done(take)))

    def restore(self, snapshot: SubnetSnapshot, ready: Callable[["Future[None]"], None]) -> None:
        """Make the subnet what it was; told on the rounds' thread when that is kept, or why not.

        Who waits for the answer of a request that was open at the snapshot waits on. Who waits for
        another one is told that it is no more.
        """

        def restore() -> None:
            before = self.machine.subnet.history.records
            subnet_snapshot.restore(self.machine, snapshot)
            self._newest = snapshot
            self._settle_waiters(before)

        def tell() -> None:
            outcome = _done(restore)
            self._saved_waiters.append(lambda: ready(outcome))

        self.when_still(tell)

    def forget(self, snapshot: SubnetSnapshot) -> None:
        """Hold on to a snapshot no longer; the next one is then not made in the light of it."""

        def forget() -> None:
            if self._newest is snapshot:
                self._newest = None

        self.do(forget)

    # --- on the thread --------------------------------------------------------------------------

    def _submit(self, submission: Submission) -> None:
        machine = self.machine
        request = submission.request
        known = machine.subnet.history.records.get(submission.record.request_id)
        canister = machine.subnet.canisters.get(request.receiver)
        if known is None and canister is not None and canister.busy:
            # Its memories are in use; whether it takes the message in is asked afterwards.
            machine.when_idle(canister, lambda: self._submit(submission))
            return
        if known is None:
            refusal = self._refusal(request)
            if refusal is not None:
                submission.accepted(refusal)
                return
            if self._driver is not None and not self._drives():
                # It was asked for long. What now drives the rounds takes the request in.
                self.do(lambda: self._take_in(submission))
                return
        self._take_in(submission)

    def _take_in(self, submission: Submission) -> None:
        """Take in a request that has passed all checks, unless it is there already."""
        machine = self.machine
        record = submission.record
        known = machine.subnet.history.records.get(record.request_id)
        if known is None and record.expiry < machine.time:
            # It may have been executed, and forgotten since.
            submission.accepted(TIMED_OUT)
            return
        submission.accepted(None)
        waiter = submission.waiter
        if waiter is not None:
            if known is not None and known.phase in (Phase.ANSWERED, Phase.DONE):
                self._certificate_waiters.append(waiter.answered)
            else:
                (known or record).waiters.append(waiter)
        if known is None:
            machine.submit(record, submission.request)

    def _settle_waiters(self, before: dict[bytes, RequestRecord]) -> None:
        """Let all who waited for requests before a restoration wait on, or tell them."""
        subnet = self.machine.subnet
        records = subnet.history.records
        subnet.undo_requests(name for name in before if name not in records)
        for name, old in before.items():
            record = records.get(name)
            for waiter in old.waiters:
                if record is None:
                    self._saved_waiters.append(functools.partial(waiter.refused, UNDONE))
                elif record.phase in (Phase.ANSWERED, Phase.DONE):
                    self._certificate_waiters.append(waiter.answered)
                else:
                    record.waiters.append(waiter)

    def _refusal(self, request: Request) -> Reject | None:
        if not request.receiver.raw:
            return self._filter(self.machine, request)
        return inspect(self.machine, request)

    def _run(self) -> None:
        with self.machine.lock:
            try:
                while not self._stopping and self._drives():
                    self._go_on()
            except InterruptedRunError:
                pass  # by who stopped the rounds; nothing that happens from then on is kept
            finally:
                self._threads.discard(threading.current_thread())
                self._wake.set()

    def _go_on(self) -> None:
        """A round, and then, if there was nothing to do in it, a rest until there is."""
        machine = self.machine
        self._wake.clear()
        self._active_at = time.monotonic()
        if not self._active.is_set():
            self._active.set()
        if self._gathers:
            self._gather()
        if self._round() or self._inbox:
            return
        self._tell_quiet()
        due = machine.next_due()
        seconds = _LONGEST_WAIT
        if due is not None and not machine.clock.paused:
            seconds = max(0.0, min(seconds, (due - machine.clock.now()) / 1e9))
        machine.lock.release()
        try:
            self._wake.wait(seconds)
        finally:
            machine.lock.acquire()

    def _round(self) -> bool:
        """One round; whether anything happened."""
        machine = self.machine
        self.rounds += 1
        worked = self._guarded(machine.begin_round)
        for _ in range(len(self._inbox)):
            self._guarded(self._inbox.popleft())
            worked = True
            if not self._drives():
                return True
        end = time.monotonic() + _ROUND_SECONDS
        for _ in range(_ROUND_MESSAGES):
            if not (machine.resumes if self._still else machine.has_work()):
                break
            self._guarded(machine.execute_next)
            worked = True
            if not self._drives():
                return True
            if time.monotonic() > end:
                break
        try:
            self._publish()
        except StateDirectoryError as error:
            if not self._stopping:
                self._fail(error)
            # Else the end is under way: what was not kept at it is told to nobody.
            return False
        except Exception:  # noqa: BLE001 - as in _guarded
            _log.exception("a round could not be certified")
        while self._still and machine.is_still:
            self._guarded(self._still.popleft())
            worked = True
        return worked

    def _fail(self, error: StateDirectoryError) -> None:
        """End, because what happens cannot be kept.

        Nobody is told anything of a call under way: after a new start it may be executed, or not.
        """
        self.failure = error
        self.stop()
        self.on_failure()

    def _gather(self) -> None:
        machine = self.machine
        machine.lock.release()
        try:
            time.sleep(_GATHER_SECONDS)
        finally:
            machine.lock.acquire()

    def _tell_quiet(self) -> None:
        """Nothing is left to do: tell who waits for that, unless an execution is under way."""
        if len(self._threads) == 1 and self._quiet_waiters:
            waiting, self._quiet_waiters = self._quiet_waiters, []
            for tell in waiting:
                self._guarded(tell)

    def _guarded(self, action: Callable[[], object]) -> bool:
        """Do one thing; a defect of ours must not end the subnet."""
        try:
            return bool(action())
        except Exception:  # noqa: BLE001 - see above; it is logged
            _log.exception("a round failed in part")
            return True

    def _publish(self) -> None:
        """Keep what has happened, sign the state if anybody waits for that, and tell them all.

        Raises:
            StateDirectoryError: If it cannot be kept; nobody is told then.
        """
        machine = self.machine
        subnet = machine.subnet
        waiting = self._waiting()
        certificate = subnet.certificate
        fresh = machine.time - subnet.certified_time < _FRESH
        if waiting and (certificate is None or not fresh or subnet.is_changed()):
            certificate = machine.certify(machine.time)
        else:
            machine.save()
        while self._saved_waiters:
            self._guarded(self._saved_waiters.pop())
        for tell in waiting:
            self._guarded(lambda tell=tell, certificate=certificate: tell(certificate))  # type: ignore[misc]

    def _waiting(self) -> list[Callable[[Certificate], None]]:
        """Who waits for a certificate, and shall get it now."""
        waiting: list[Callable[[Certificate], None]] = []
        for record in self.machine.answered:
            waiting += (waiter.answered for waiter in record.waiters)
            record.waiters = []
        self.machine.answered.clear()
        waiting += self._certificate_waiters
        self._certificate_waiters = []
        if len(waiting) > 1:
            self._gathers = _GATHER_ROUNDS
        elif waiting and self._gathers:
            self._gathers -= 1
        return waiting
