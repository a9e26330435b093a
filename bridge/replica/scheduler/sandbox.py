"""A canister's running module with its memories, and the lock under which it is entered."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from bridge.replica.execution.engine import MAX_MEMORY, CompiledModule
from bridge.replica.execution.failures import (
    EngineFailureError,
    ExecutionError,
    InterruptedRunError,
    MemoryLimitError,
)
from bridge.replica.execution.instance import Instance
from bridge.replica.execution.run import Mode, Run
from bridge.replica.state.stable import StableMemory

MAX_WASM32: Final = 4 * 1024**3
MAX_STABLE_PAGES: Final = 500 * 1024**3 // 65_536

_log: Final = logging.getLogger(__name__)


def new_instance(compiled: CompiledModule, stable: StableMemory) -> Instance:
    """An instance with the memory that the IC allows.

    Raises:
        InvalidModuleError: If the module cannot be instantiated.
    """
    limit = MAX_MEMORY if compiled.info.memory64 else MAX_WASM32
    return Instance(compiled, stable, limit)


class BusyError(ExecutionError):
    """Another execution of the canister holds its memories for too long."""

    error_code = "IC0207"
    reject_code = 2


@dataclass(slots=True)
class MemoryChanges:
    """What has changed in a canister's memories, by the offsets of whole pages.

    Attributes:
        wasm_replaced: Whether ``wasm`` is all of the main memory, and not only what changed.
        stable_replaced: Likewise for the stable memory.
        wasm_size: Bytes of the main memory.
        stable_size: Wasm pages of the stable memory.
        globals: The mutable globals.
    """

    wasm: dict[int, bytes]
    wasm_replaced: bool
    wasm_size: int
    stable: dict[int, bytes]
    stable_replaced: bool
    stable_size: int
    globals: bytes

    def add(self, later: "MemoryChanges") -> None:
        """Add what has changed after this."""
        if later.wasm_replaced:
            self.wasm, self.wasm_replaced = later.wasm, True
        else:
            self.wasm.update(later.wasm)
        if later.stable_replaced:
            self.stable, self.stable_replaced = later.stable, True
        else:
            self.stable.update(later.stable)
        self.wasm_size, self.stable_size = later.wasm_size, later.stable_size
        self.globals = later.globals


@dataclass(slots=True, eq=False)
class Sandbox:
    """What execution keeps for one canister.

    Attributes:
        lock: Held while the instance is entered; several threads run canisters.
        instance: ``None`` for a canister without a module.
        records: Whether changes of the memories are recorded, for someone who keeps them.
        unsaved: Changes of the memories that belong to what the canister's record tells, and that
            nobody has kept yet. Touched under the machine's lock only.
        waiting: How many updates wait for the lock or have it; quick queries let them go first.
            Changed under the machine's lock only.
    """

    stable: StableMemory = field(default_factory=lambda: StableMemory(MAX_STABLE_PAGES))
    instance: Instance | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: int = 0
    records: bool = False
    unsaved: MemoryChanges | None = None
    _seen_instance: Instance | None = None
    _seen_stable: StableMemory | None = None
    _seen_mark: object = None

    def capture(self) -> MemoryChanges | None:
        """What has changed since this was last asked, if anything; under this sandbox's lock."""
        instance, stable = self.instance, self.stable
        mark = None if instance is None else instance.mark
        wasm_replaced = instance is not self._seen_instance
        stable_replaced = stable is not self._seen_stable
        if not wasm_replaced and not stable_replaced and mark is self._seen_mark:
            return None
        if instance is not None and wasm_replaced and instance.damaged:
            return None  # it is not what is to be kept; next time, all of it still is a change
        self._seen_instance, self._seen_stable, self._seen_mark = instance, stable, mark
        if instance is None:
            wasm: dict[int, bytes] = {}
        else:
            wasm = instance.take_all() if wasm_replaced else instance.take_written()
        return MemoryChanges(
            wasm=wasm,
            wasm_replaced=wasm_replaced,
            wasm_size=0 if instance is None else instance.kept_size,
            stable=stable.take_all() if stable_replaced else stable.take_written(),
            stable_replaced=stable_replaced,
            stable_size=stable.size,
            globals=b"" if instance is None else instance.globals(),
        )

    def take_over(self, changes: MemoryChanges | None) -> None:
        """Make changes those of the canister's record, under the machine's lock."""
        if changes is not None:
            if self.unsaved is None:
                self.unsaved = changes
            else:
                self.unsaved.add(changes)

    def see_anew(self) -> None:
        """Forget what was captured: next time, all of the memories is a change."""
        self._seen_instance = self._seen_stable = self._seen_mark = None

    def see_as_kept(self) -> None:
        """Take the memories as they are for kept already, and record what changes from now on."""
        self.records = True
        self.stable.written = set()
        if self.instance is not None:
            self.instance.written = {}
        self._seen_instance, self._seen_stable = self.instance, self.stable
        self._seen_mark = None if self.instance is None else self.instance.mark

    @contextlib.contextmanager
    def entered(self, seconds: float) -> Iterator[None]:
        """Hold the lock.

        Raises:
            BusyError: If it cannot be had within ``seconds``.
        """
        if not self.lock.acquire(timeout=seconds):
            raise BusyError("Canister is busy with a long execution; try again later")
        try:
            yield
        finally:
            self.lock.release()

    @property
    def memory_size(self) -> int:
        """Bytes of both memories; what an execution under way adds is not counted yet."""
        wasm = self.instance.kept_size if self.instance is not None else 0
        return wasm + self.stable.kept_size * 65_536

    def empty(self) -> None:
        """Drop the module and both memories."""
        self.instance, self.stable = None, StableMemory(MAX_STABLE_PAGES)


def attempt(action: Callable[[], None]) -> ExecutionError | None:
    """Run an action; what made it fail, or ``None``."""
    try:
        action()
    except ExecutionError as error:
        return error
    except Exception:  # noqa: BLE001 - a defect of ours must not end the subnet
        _log.exception("the replica failed while it ran a canister")
        return EngineFailureError("Canister encountered a Wasm engine error")
    return None


def run_and_settle(
    instance: Instance, action: Callable[[], None], *, keep: bool
) -> ExecutionError | None:
    """Run an action in an instance; keep its changes if it succeeded and ``keep`` says so.

    Returns:
        What made it fail, or ``None``.
    """
    failure = attempt(instance.begin)
    if failure is not None:
        return failure  # nothing has happened that could be undone
    try:
        failure = attempt(action)
    except InterruptedRunError:
        raise
    except BaseException:
        # Such as Ctrl-C, which strikes the thread that serves everybody.
        instance.undo()
        raise
    if failure is None and keep:
        instance.keep()
    else:
        instance.undo()
    return failure


def enter(
    instance: Instance, run: Run, export: str, *, memory_limit: int = 0
) -> Callable[[], None]:
    """The action that enters an exported function, and fails if the memory then is too large."""

    def action() -> None:
        instance.enter(run, export)
        check_memory(instance, memory_limit)

    return action


def check_memory(instance: Instance, limit: int) -> None:
    """Refuse a Wasm memory beyond the limit of the settings, where there is one.

    Raises:
        MemoryLimitError: If it is larger.
    """
    if limit and instance.memory_size > limit:
        raise MemoryLimitError(
            f"Canister exceeded its current Wasm memory limit of {limit} bytes: it uses "
            f"{instance.memory_size} bytes. Raise wasm_memory_limit in its settings, or move data "
            "to its stable memory"
        )


def enter_callback(instance: Instance, run: Run, function: tuple[int, int]) -> Callable[[], None]:
    """The action that enters a callback."""
    return lambda: instance.enter_callback(run, *function)


_READ_ONLY: Final = Mode.RQ | Mode.NRQ | Mode.CQ | Mode.TQ | Mode.F


def keeps_memory(mode: Mode) -> bool:
    """Whether an execution in this mode changes memories for good."""
    return not mode & _READ_ONLY
