"""A running module: instantiation, entry, and rollback of all that it can change.

Uses the engine's C interface directly, which takes a third of the time of its Python classes.
"""

import ctypes
import functools
import itertools
import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import wasmtime

from bridge.replica.execution import pages
from bridge.replica.execution.engine import MAX_MEMORY, CompiledModule, engine
from bridge.replica.execution.failures import (
    ContractViolationError,
    EngineFailureError,
    ExecutionError,
    FunctionNotFoundError,
    InstructionLimitError,
    InvalidModuleError,
    TrapError,
)
from bridge.replica.execution.host import arrow, heed_interruptions, host_functions, running
from bridge.replica.execution.native import (
    Words,
    ffi,
    func_call,
    get_fuel,
    memory_data,
    memory_data_size,
    move,
    quick_func_call,
    set_fuel,
    view,
)
from bridge.replica.execution.rollback import Rollback, best_engine
from bridge.replica.execution.run import Run
from bridge.replica.execution.system_api import limit_text
from bridge.replica.state.stable import StableMemory

WASM_PAGE: Final = 65_536
_U64: Final = 2**64 - 1
_U32: Final = 2**32 - 1
_MAX_TABLE: Final = 1_000_000

_numbers: Final = itertools.count(1)
_log: Final = logging.getLogger(__name__)

_TRAP_TEXTS: Final = {
    wasmtime.TrapCode.STACK_OVERFLOW: "stack overflow",
    wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS: "heap out of bounds",
    wasmtime.TrapCode.INTEGER_DIVISION_BY_ZERO: "integer division by 0",
    wasmtime.TrapCode.UNREACHABLE: "unreachable",
    wasmtime.TrapCode.TABLE_OUT_OF_BOUNDS: "table out of bounds",
}

Contents = list[tuple[int, bytes]]
"""Parts of a memory that are not zero: offset and bytes."""

SavedState = tuple[int, Contents, bytes]
"""A memory's size and contents, and the globals."""

_Action = Callable[[], None]


class _Entry:
    """A function as the C interface takes it: an address, and what it points to."""

    __slots__ = ("address", "function")

    def __init__(self, function: Any) -> None:
        self.function = function
        self.address = ctypes.addressof(function)


class Instance:
    """One canister's module, with its memories, ready to be entered.

    Only one thread at a time may use it; ``kept_size`` alone may be read by all.

    Args:
        compiled: The module.
        stable: The canister's stable memory, which outlives instances.
        memory_limit: The largest Wasm memory, in bytes.
        rollback: How its memory is remembered; by default the best that this machine offers.

    Attributes:
        view: The memory, and beyond it what it may grow into: only what ``check`` lets pass may be
            touched.
        checked: The size that the memory was last seen to have.
        mark: Another object after each change that was kept: while it is the same, memory and
            globals are the same.
        written: Pages written and kept since they were last taken, by their offsets; ``None`` while
            nobody wants to know.

    Raises:
        InvalidModuleError: If its imports are not the System API's, or it does not fit the limits.
    """

    def __init__(
        self,
        compiled: CompiledModule,
        stable: StableMemory,
        memory_limit: int,
        rollback: Rollback | None = None,
    ) -> None:
        self.compiled = compiled
        self.info = compiled.info
        self.stable = stable
        self.memory_limit = memory_limit
        self._rollback = rollback or best_engine()()
        self._number = next(_numbers)
        self.kept_size = 0
        self.mark = object()
        self.written: dict[int, bytes] | None = None
        self._saved_globals = b""
        self._saved_size = 0
        self._saved = False
        # Whether what was saved is not what the rollback watches any more.
        self._replaced = False
        # What has failed, and has to be done before anything else: until then, this is not in the
        # state that it should be in.
        self._owed: _Action | None = None
        # Arguments and results of a call; also the two out-parameters of one.
        self._values = (ffi.wasmtime_val_raw_t * max(1, len(compiled.info.global_types)))()
        self._words = ctypes.cast(self._values, Words)
        self._values_address = ctypes.addressof(self._values)
        self._globals_size = len(compiled.info.global_types) * 16
        self._trap = ctypes.c_size_t()
        self._trap_address = ctypes.addressof(self._trap)
        self._fuel = ctypes.c_uint64()
        self._fuel_address = ctypes.addressof(self._fuel)
        self._instantiate()

    def _instantiate(self) -> None:
        self._memory: Any = None
        self._memory_address = self._data = 0
        # The memory of before goes with its store. One that is not there takes zero bytes, as the
        # others do, and so must be one that can be written.
        self.view = memoryview(bytearray())
        # A Wasm memory never shrinks: the engine is asked only beyond what it was seen to have.
        self.checked = 0
        self._store = wasmtime.Store(engine())
        self._store.set_limits(memory_size=self.memory_limit, table_elements=_MAX_TABLE)
        self._store.set_fuel(_U64)
        heed_interruptions(self._store, self._number)
        context = self._store._context()  # noqa: SLF001 - the C interface wants it
        self._context_pointer = context
        self._context = ctypes.cast(context, ctypes.c_void_p).value
        imports = host_functions(self._store, self.compiled, self._number)
        try:
            instance = wasmtime.Instance(self._store, self.compiled.module, imports)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            raise InvalidModuleError(f"it cannot be instantiated: {error}") from error
        exports: Any = instance.exports(self._store)
        info = self.info
        wanted = [*info.hooks, *(f"canister_{kind} {name}" for name, kind in info.methods.items())]
        if info.has_start:
            wanted.append(info.start_name)
        self._functions = {name: _Entry(exports[name]._func) for name in wanted}  # noqa: SLF001
        self._save: _Entry | None = None
        self._load: _Entry | None = None
        if info.global_types:
            self._save = _Entry(exports[info.save_name]._func)  # noqa: SLF001
            self._load = _Entry(exports[info.load_name]._func)  # noqa: SLF001
        if info.has_memory:
            self._memory = exports[info.memory_name]._memory  # noqa: SLF001
            self._memory_address = ctypes.addressof(self._memory)
            # It never moves, so that this is asked once only.
            self._data = int(memory_data(self._context, self._memory_address))
            self.view = view(self._data, MAX_MEMORY)
        self._table: Any = exports[info.table_name]._table if info.has_table else None  # noqa: SLF001
        self._callbacks: dict[int, _Entry] = {}

    # --- memory ---------------------------------------------------------------------------------

    @property
    def memory_size(self) -> int:
        """Bytes of the Wasm memory."""
        if not self._memory_address:
            return 0
        return int(memory_data_size(self._context, self._memory_address))

    def check(self, at: int, size: int) -> None:
        """Refuse a range that is not inside the memory.

        Raises:
            TrapError: If it is not.
        """
        if at + size > self.checked:
            self.checked = self.memory_size
            if at + size > self.checked:
                raise TrapError("Canister trapped: heap out of bounds")

    def read(self, at: int, size: int) -> bytes:
        """Bytes of the memory.

        Raises:
            TrapError: If the range is not inside the memory.
        """
        if at + size > self.checked:
            self.check(at, size)
        return self.view[at : at + size].tobytes()

    def write(self, at: int, data: bytes) -> None:
        """Write into the memory.

        Raises:
            TrapError: If the range is not inside the memory.
        """
        end = at + len(data)
        if end > self.checked:
            self.check(at, len(data))
        self.view[at:end] = data

    # --- rollback -------------------------------------------------------------------------------

    @property
    def damaged(self) -> bool:
        """Whether going back to a state has failed, so that this is in none; see ``begin``."""
        return self._owed is not None

    def _mend(self) -> None:
        """Do what is owed, if anything.

        Raises:
            EngineFailureError: If it fails once more, as when there is too little memory.
        """
        if self._owed is None:
            return
        try:
            self._owed()
        except Exception as error:
            raise EngineFailureError(
                "Canister encountered a Wasm engine error: its memory cannot be restored at present"
            ) from error

    def begin(self) -> None:
        """Remember the whole state; free of cost if nothing was kept since the last time.

        If going back to a state has failed before, that is tried again first.

        Raises:
            EngineFailureError: If it fails again; nothing has begun then.
        """
        self._mend()
        if not self._saved:
            if self._memory_address:
                self._saved_size = self.memory_size
                self._rollback.begin(self._data, self._saved_size)
            self._saved_globals = self._read_globals()
            self._saved = True
        self.stable.begin()

    def keep(self) -> None:
        """Let what happened since ``begin`` stand."""
        self._saved = False
        self.mark = object()
        self.stable.keep()
        self.note_size()
        if self._memory_address:
            written = self.written
            try:
                runs = self._rollback.keep(self._data, self.kept_size, report=written is not None)
            except Exception:  # noqa: BLE001 - it stands; only what has changed is not known
                _log.exception("what a message wrote cannot be told: all counts as written")
                self._rollback.forget()
                runs = pages.in_use(self._data, self.kept_size)
            if written is not None:
                self._record(runs, written)
        if self.info.changes_tables:
            saved = self.save()
            self._saved_globals = saved[2]
            try:
                self._renew(saved)
            except Exception:  # noqa: BLE001 - what is kept is known, and owed
                _log.exception("an instance cannot be renewed; it will be tried again")

    def _record(self, runs: pages.Runs, written: dict[int, bytes]) -> None:
        """Add the contents of whole pages to what has been written."""
        data = self._data
        for start, length in runs:
            for at in range(start, start + length, pages.PAGE):
                written[at] = ctypes.string_at(data + at, pages.PAGE)

    def take_written(self) -> dict[int, bytes]:
        """The pages that were written and kept since the last time, by their offsets."""
        written, self.written = self.written, {}
        return written or {}

    def take_all(self) -> dict[int, bytes]:
        """All pages in use, by their offsets; from now on, what is written is recorded."""
        self.written = {}
        contents: dict[int, bytes] = {}
        if self._memory_address:
            self._record(pages.in_use(self._data, self.memory_size), contents)
        return contents

    def globals(self) -> bytes:
        """The values of the mutable globals, between two messages."""
        if not self._saved and self._owed is None:
            self._saved_globals = self._read_globals()
        return self._saved_globals

    def note_size(self) -> None:
        """Make the memory's size of now the one that other threads may read."""
        self.kept_size = self.memory_size

    def undo(self) -> None:
        """Go back to the state at ``begin``.

        Should that fail, this is ``damaged``, and the next ``begin`` tries it again: what was
        remembered stays remembered.
        """
        self.stable.undo()
        size = self.memory_size
        try:
            if (
                size != self._saved_size
                or self.info.changes_tables
                or self._replaced
                or self._owed is not None
            ):
                self._restore()
            else:
                if self._memory_address:
                    self._rollback.undo(self._data, size)
                self._write_globals(self._saved_globals)
        except BaseException as error:
            self._owed = self._restore
            if not isinstance(error, Exception):
                raise
            _log.exception("what a message did cannot be undone; it will be tried again")

    def _restore(self) -> None:
        """Go back to the state at ``begin`` in a new instance of the engine.

        A memory never shrinks: only a new instance has the old size again.
        """
        self._owed = self._restore
        self._replaced = False
        self._instantiate()
        self._make_empty(self._saved_size)
        if self._memory_address:
            self._rollback.restore(self._data, self._saved_size)
        self._write_globals(self._saved_globals)
        self._owed = None

    def save(self) -> SavedState:
        """The state of the module as a value; stable memory is not part of it.

        Raises:
            EngineFailureError: If it is damaged, and cannot be mended now.
        """
        self._mend()
        contents: Contents = []
        size = self.memory_size
        if self._memory_address:
            data = self._data
            contents = [
                (start, ctypes.string_at(data + start, length))
                for start, length in pages.in_use(data, size)
            ]
        return size, contents, self._read_globals()

    def load(self, saved: SavedState) -> None:
        """Go back to a saved state."""
        size, contents, values = saved
        if self.memory_size != size or self.info.changes_tables or self._owed is not None:
            self._renew(saved)
        else:
            self.load_memory(size, contents)
            self._write_globals(values)

    def reset(self, saved: SavedState, mark: object) -> None:
        """Make a saved state the one that is kept, outside of any message.

        Args:
            saved: What ``save`` gave.
            mark: What ``mark`` was then.
        """
        size, contents, values = saved
        self._saved = False
        if self.memory_size != size or self.info.changes_tables or self._owed is not None:
            self._renew(saved)
        else:
            self._overwrite(size, contents)
            self._write_globals(values)
            if self._memory_address:
                self._rollback.keep(self._data, size)
        self.note_size()
        self.mark = mark

    def _overwrite(self, size: int, contents: Contents) -> None:
        """Put contents into a memory of the right size, writing only where it differs."""
        if not self._memory_address:
            return
        data = self._data
        wanted = [(at, len(part)) for at, part in contents]
        if pages.in_use(data, size) != wanted:
            self.load_memory(size, contents)
            return
        for at, part in contents:
            if ctypes.string_at(data + at, len(part)) != part:
                move(data + at, part, len(part))

    def _renew(self, saved: SavedState) -> None:
        """Replace the engine's instance by a new one with the given memory and globals."""
        size, contents, values = saved
        self._owed = functools.partial(self._renew, saved)
        self._replaced = self._saved
        self._rollback.forget()
        self._instantiate()
        self.load_memory(size, contents)
        self._write_globals(values)
        self._owed = None

    def load_memory(self, size: int, contents: Contents) -> None:
        """Make the memory ``size`` bytes, zero except for ``contents``.

        Raises:
            InvalidModuleError: If the memory cannot be that large.
        """
        self._make_empty(size)
        data = self._data if contents else 0
        for at, part in contents:
            move(data + at, part, len(part))

    def _make_empty(self, size: int) -> None:
        """Make the memory of a new instance ``size`` bytes of zeros."""
        if not self._memory_address:
            if size:
                raise InvalidModuleError("it has no memory to keep the old contents in")
            return
        own = self.memory_size
        if size > own:
            before = ctypes.c_uint64()
            error = ffi.wasmtime_memory_grow(
                self._context_pointer,
                ctypes.byref(self._memory),
                (size - own) // WASM_PAGE,
                ctypes.byref(before),
            )
            if error:
                ffi.wasmtime_error_delete(error)
                raise InvalidModuleError(f"its memory cannot hold the {size} bytes to keep")
        data = self._data
        # What data segments wrote is not part of the kept memory.
        for start, length in pages.in_use(data, self.memory_size):
            ctypes.memset(data + start, 0, length)

    def _read_globals(self) -> bytes:
        if self._save is None:
            return b""
        self._call_quickly(self._save)
        return ctypes.string_at(self._values_address, self._globals_size)

    def _write_globals(self, values: bytes) -> None:
        if self._load is not None:
            move(self._values_address, values, self._globals_size)
            self._call_quickly(self._load)

    def _call_quickly(self, entry: _Entry) -> None:
        """Call one of the functions that instrumenting added; they cannot fail."""
        set_fuel(self._context, _U64)
        self._trap.value = 0
        error = quick_func_call(
            self._context,
            entry.address,
            self._values_address,
            len(self._values),
            self._trap_address,
        )
        assert not error
        assert not self._trap.value

    # --- entering -------------------------------------------------------------------------------

    def has(self, export: str) -> bool:
        """Whether the module exports this entry point."""
        return export in self._functions

    def instructions_used(self, run: Run) -> int:
        """Instructions of the run in progress so far, host calls included."""
        get_fuel(self._context, self._fuel_address)
        return run.instruction_limit - self._fuel.value + run.host_instructions

    def enter(self, run: Run, export: str) -> None:
        """Run an entry point; effects are in ``run``. Rollback is the caller's.

        Raises:
            ExecutionError: If the code trapped, in whatever way.
            EngineFailureError: If it is damaged: there is nothing to enter.
            InterruptedRunError: If the replica ends.
        """
        self._mend()
        self._enter(run, self._functions[export])

    def enter_callback(self, run: Run, index: int, env: int) -> None:
        """Run a function of the table, as a callback with its ``env``.

        Raises:
            ExecutionError: If there is no such function or the code trapped.
            EngineFailureError: If it is damaged: there is nothing to enter.
        """
        self._mend()
        entry = self._callbacks.get(index) or self._callback(index)
        self._words[0] = env
        self._enter(run, entry)

    def _callback(self, index: int) -> _Entry:
        value = ffi.wasmtime_val_t()
        if (
            self._table is None
            or index > _U32
            or not ffi.wasmtime_table_get(
                self._context_pointer, ctypes.byref(self._table), index, ctypes.byref(value)
            )
            or value.kind != ffi.WASMTIME_FUNCREF.value
            or not value.of.funcref.store_id
        ):
            raise FunctionNotFoundError(
                f"Canister requested to invoke a non-existent Wasm function {index} from table 0"
            )
        function = ffi.wasmtime_func_t.from_buffer_copy(value.of.funcref)
        kind = wasmtime.Func._from_raw(function).type(self._store)  # noqa: SLF001
        width = "i64" if self.info.memory64 else "i32"
        if arrow(kind) != f"({width}) -> ()":
            raise ContractViolationError(
                f"Canister violated contract: function {index} of table 0 has the type "
                f"{arrow(kind)} and cannot be a callback, which takes one {width}"
            )
        entry = self._callbacks[index] = _Entry(function)
        return entry

    def _enter(self, run: Run, entry: _Entry) -> None:
        run.instance = self
        self._trap.value = 0
        set_fuel(self._context, run.instruction_limit)
        run.thread = threading.get_ident()
        running[self._number] = run
        try:
            error = func_call(
                self._context, entry.address, self._values_address, 1, self._trap_address
            )
            run.instructions = self.instructions_used(run)
        finally:
            del running[self._number]
        trap = self._trap.value
        failure, run.failure = run.failure, None
        if failure is not None:
            if trap:
                ffi.wasm_trap_delete(ctypes.cast(trap, ctypes.POINTER(ffi.wasm_trap_t)))
            if error:
                ffi.wasmtime_error_delete(ctypes.cast(error, ctypes.POINTER(ffi.wasmtime_error_t)))
            raise failure
        if error:
            pointer = ctypes.cast(error, ctypes.POINTER(ffi.wasmtime_error_t))
            raise TrapError(
                f"Canister trapped: {wasmtime.WasmtimeError._from_ptr(pointer)}"  # noqa: SLF001
            )
        if trap:
            pointer = ctypes.cast(trap, ctypes.POINTER(ffi.wasm_trap_t))
            raise _failure_of(wasmtime.Trap._from_ptr(pointer), run)  # noqa: SLF001
        if run.building is not None:
            run.drop_building()

    def __repr__(self) -> str:
        return f"<Instance of module {self.info.module_hash.hex()[:8]}>"


def _failure_of(trap: wasmtime.Trap, run: Run) -> ExecutionError:
    code = trap.trap_code
    if code is wasmtime.TrapCode.OUT_OF_FUEL:
        return InstructionLimitError(limit_text(run.instruction_limit))
    text = _TRAP_TEXTS.get(code) if code is not None else None
    if text is None:
        text = code.name.lower().replace("_", " ") if code is not None else "unknown"
    return TrapError(f"Canister trapped: {text}")
