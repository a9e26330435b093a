"""A running module: instantiation, entry, the bridge from Wasm to the System API, and rollback.

Host functions never raise through the engine: a failure is kept with the run and the code is
stopped by a trap, so that several threads can run canisters at once. Uses the engine's C interface
directly, which takes a third of the time of its Python classes.
"""

import ctypes
import threading
from functools import cache
from typing import Any, Final

import wasmtime
from wasmtime import _ffi

from bridge.replica.execution.engine import CompiledModule, engine
from bridge.replica.execution.failures import (
    ContractViolationError,
    ExecutionError,
    FunctionNotFoundError,
    InstructionLimitError,
    InvalidModuleError,
    TrapError,
)
from bridge.replica.execution.rollback import CopyResidentPages
from bridge.replica.execution.run import Mode, Run
from bridge.replica.execution.stable import StableMemory
from bridge.replica.execution.system_api import (
    TABLE,
    Row,
    check_context,
    limit_text,
    signature,
)

# Its declarations of C types are no help to a type checker.
ffi: Any = _ffi

WASM_PAGE: Final = 65_536
_U64: Final = 2**64 - 1
_U32: Final = 2**32 - 1
_MAX_TABLE: Final = 1_000_000
_TYPES: Final = {"i": wasmtime.ValType.i32, "l": wasmtime.ValType.i64}

_Words = ctypes.POINTER(ctypes.c_uint64)
_Callback = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.POINTER(ffi.wasmtime_caller_t),
    ctypes.POINTER(ffi.wasmtime_val_raw_t),
    ctypes.c_size_t,
)
_NO_FINALIZER: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p)()

_TRAP_TEXTS: Final = {
    wasmtime.TrapCode.STACK_OVERFLOW: "stack overflow",
    wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS: "heap out of bounds",
    wasmtime.TrapCode.INTEGER_DIVISION_BY_ZERO: "integer division by 0",
    wasmtime.TrapCode.UNREACHABLE: "unreachable",
    wasmtime.TrapCode.TABLE_OUT_OF_BOUNDS: "table out of bounds",
}


SavedState = tuple[tuple[int, list[tuple[int, bytes]], list[bytes]], StableMemory]


class _Current(threading.local):
    """The run of this thread: one thread runs one canister at a time."""

    run: Run | None = None
    failure: BaseException | None = None

    def take_failure(self) -> BaseException | None:
        """What made a host function fail, if one did; the run is over."""
        failure, self.failure, self.run = self.failure, None, None
        return failure


_current: Final = _Current()


def _new_trap() -> int:
    trap = ffi.wasmtime_trap_new(ctypes.create_string_buffer(b"host"), 4)
    return ctypes.cast(trap, ctypes.c_void_p).value or 0


@cache
def _host_function(row: Row, memory64: bool) -> tuple[wasmtime.FuncType, Any]:
    """The engine's view of one row of the System API, for one pointer width."""
    params, result = signature(row, memory64=memory64)
    kind = wasmtime.FuncType([_TYPES[p]() for p in params], [_TYPES[r]() for r in result])
    masks = [_U32 if letter == "i" else _U64 for letter in params]
    places = range(0, 2 * len(params), 2)
    function = row.function
    contexts = row.contexts

    def callback(_env: int, _caller: Any, values: Any, _count: int) -> int:
        words = ctypes.cast(values, _Words)
        run = _current.run
        assert run is not None
        try:
            if not run.mode & contexts:
                check_context(run, row)
            arguments = [words[at] & mask for at, mask in zip(places, masks, strict=True)]
            value = function(run, *arguments)
        except BaseException as error:  # noqa: BLE001 - raised again where Wasm was entered
            _current.failure = error
            return _new_trap()
        if value is not None:
            words[0] = value
        return 0

    return kind, _Callback(callback)


def _imports(store: wasmtime.Store, compiled: CompiledModule) -> list[wasmtime.Func]:
    memory64 = compiled.info.memory64
    functions = []
    for wanted in compiled.module.imports:
        row = TABLE.get(wanted.name or "")
        if row is None or (row.only32 and memory64):
            raise InvalidModuleError(
                f"it imports ic0.{wanted.name}, which the System API does not have"
                + (" for 64-bit memories" if row else "")
            )
        kind, callback = _host_function(row, memory64)
        given = wanted.type
        assert isinstance(given, wasmtime.FuncType)
        if [str(p) for p in given.params] != [str(p) for p in kind.params] or [
            str(r) for r in given.results
        ] != [str(r) for r in kind.results]:
            raise InvalidModuleError(
                f"it imports ic0.{wanted.name} with the type "
                f"{_arrow(given)}, expected {_arrow(kind)}"
            )
        raw = ffi.wasmtime_func_t()
        ffi.wasmtime_func_new_unchecked(
            store._context(),  # noqa: SLF001
            kind.ptr(),
            callback,
            None,
            _NO_FINALIZER,
            ctypes.byref(raw),
        )
        functions.append(wasmtime.Func._from_raw(raw))  # noqa: SLF001
    return functions


def _arrow(kind: wasmtime.FuncType) -> str:
    params = ", ".join(str(p) for p in kind.params)
    results = ", ".join(str(r) for r in kind.results)
    return f"({params}) -> ({results})"


class Instance:
    """One canister's module, with its memories, ready to be entered.

    Args:
        compiled: The module.
        stable: The canister's stable memory, which outlives instances.
        memory_limit: The largest Wasm memory, in bytes.

    Raises:
        InvalidModuleError: If its imports are not the System API's, or it does not fit the limits.
    """

    def __init__(self, compiled: CompiledModule, stable: StableMemory, memory_limit: int) -> None:
        self.compiled = compiled
        self.info = compiled.info
        self.stable = stable
        self._memory_limit = memory_limit
        self._rollback = CopyResidentPages()
        self._saved_globals: list[bytes] = []
        self._saved_size = 0
        self._buffer = (ffi.wasmtime_val_raw_t * 1)()
        self._instantiate()

    def _instantiate(self) -> None:
        self._store = wasmtime.Store(engine())
        self._store.set_limits(memory_size=self._memory_limit, table_elements=_MAX_TABLE)
        self._store.set_fuel(_U64)
        self._context = self._store._context()  # noqa: SLF001
        imports = _imports(self._store, self.compiled)
        try:
            instance = wasmtime.Instance(self._store, self.compiled.module, imports)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            raise InvalidModuleError(f"it cannot be instantiated: {error}") from error
        exports = instance.exports(self._store)
        self._functions: dict[str, Any] = {}
        for name in (*self.info.hooks, self.info.start_name):
            if name in exports:
                self._functions[name] = exports[name]._func  # type: ignore[union-attr]  # noqa: SLF001
        for name, kind in self.info.methods.items():
            export = f"canister_{kind} {name}"
            self._functions[export] = exports[export]._func  # type: ignore[union-attr]  # noqa: SLF001
        self._globals = [
            exports[self.info.global_name(number)]._global  # type: ignore[union-attr]  # noqa: SLF001
            for number in range(self.info.mutable_globals)
        ]
        self._memory: Any = (
            exports[self.info.memory_name]._memory  # type: ignore[union-attr]  # noqa: SLF001
            if self.info.has_memory
            else None
        )
        self._table = (
            exports[self.info.table_name]._table  # type: ignore[union-attr]  # noqa: SLF001
            if self.info.has_table
            else None
        )
        self._callbacks: dict[int, Any] = {}

    # --- memory ---------------------------------------------------------------------------------

    @property
    def memory_size(self) -> int:
        """Bytes of the Wasm memory."""
        if self._memory is None:
            return 0
        return int(ffi.wasmtime_memory_data_size(self._context, ctypes.byref(self._memory)))

    @property
    def _address(self) -> int:
        data = ffi.wasmtime_memory_data(self._context, ctypes.byref(self._memory))
        return ctypes.cast(data, ctypes.c_void_p).value or 0

    def check(self, at: int, size: int) -> None:
        """Refuse a range that is not inside the memory.

        Raises:
            TrapError: If it is not.
        """
        if at + size > self.memory_size:
            raise TrapError("Canister trapped: heap out of bounds")

    def read(self, at: int, size: int) -> bytes:
        """Bytes of the memory.

        Raises:
            TrapError: If the range is not inside the memory.
        """
        self.check(at, size)
        return ctypes.string_at(self._address + at, size) if size else b""

    def write(self, at: int, data: bytes) -> None:
        """Write into the memory.

        Raises:
            TrapError: If the range is not inside the memory.
        """
        self.check(at, len(data))
        if data:
            ctypes.memmove(self._address + at, data, len(data))

    # --- rollback -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Remember the whole state."""
        if self._memory is not None:
            self._saved_size = self.memory_size
            self._rollback.begin(self._address, self._saved_size)
        self._saved_globals = self._read_globals()
        self.stable.begin()

    def keep(self) -> None:
        """Let what happened since ``begin`` stand."""
        self._rollback.keep()
        self.stable.keep()
        if self.info.changes_tables:
            self._renew(self._snapshot())

    def undo(self) -> None:
        """Go back to the state at ``begin``."""
        self.stable.undo()
        size = self.memory_size
        if size != self._saved_size or self.info.changes_tables:
            # A memory never shrinks: only a new instance has the old size again.
            contents = self._rollback.contents() if self._memory is not None else []
            self._renew((self._saved_size, contents, self._saved_globals))
            self._rollback.keep()
            return
        if self._memory is not None:
            self._rollback.undo(self._address, size)
        self._write_globals(self._saved_globals)

    def _snapshot(self) -> tuple[int, list[tuple[int, bytes]], list[bytes]]:
        contents: list[tuple[int, bytes]] = []
        size = self.memory_size
        if self._memory is not None:
            copy = CopyResidentPages()
            copy.begin(self._address, size)
            contents = copy.contents()
        return size, contents, self._read_globals()

    def save(self) -> SavedState:
        """The state as a value, for a failure inside an execution; stable memory included."""
        return self._snapshot(), self.stable.copy()

    def load(self, saved: SavedState) -> None:
        """Go back to a saved state."""
        (size, contents, values), stable = saved
        if self.memory_size != size or self.info.changes_tables:
            self._renew((size, contents, values))
        else:
            self.load_memory(size, contents)
            self._write_globals(values)
        self.stable.take_from(stable)

    def _renew(self, state: tuple[int, list[tuple[int, bytes]], list[bytes]]) -> None:
        """Replace the engine's instance by a new one with the given memory and globals."""
        size, contents, values = state
        self._instantiate()
        self.load_memory(size, contents)
        self._write_globals(values)

    def load_memory(self, size: int, contents: list[tuple[int, bytes]]) -> None:
        """Make the memory ``size`` bytes, zero except for ``contents``.

        Raises:
            InvalidModuleError: If the memory cannot be that large.
        """
        if self._memory is None:
            if size:
                raise InvalidModuleError("it has no memory to keep the old contents in")
            return
        own = self.memory_size
        if size > own:
            before = ctypes.c_uint64()
            error = ffi.wasmtime_memory_grow(
                self._context,
                ctypes.byref(self._memory),
                (size - own) // WASM_PAGE,
                ctypes.byref(before),
            )
            if error:
                ffi.wasmtime_error_delete(error)
                raise InvalidModuleError(f"its memory cannot hold the {size} bytes to keep")
        address = self._address
        # What data segments wrote is not part of the kept memory.
        for start, length in CopyResidentPages._runs_of(address, self.memory_size):  # noqa: SLF001
            ctypes.memset(address + start, 0, length)
        for at, data in contents:
            ctypes.memmove(address + at, data, len(data))

    def take_memory(self) -> tuple[int, list[tuple[int, bytes]]]:
        """The memory's size and contents, as ``load_memory`` takes them."""
        size, contents, _ = self._snapshot()
        return size, contents

    def _read_globals(self) -> list[bytes]:
        values = []
        value = ffi.wasmtime_val_t()
        for item in self._globals:
            ffi.wasmtime_global_get(self._context, ctypes.byref(item), ctypes.byref(value))
            values.append(bytes(value))
        return values

    def _write_globals(self, values: list[bytes]) -> None:
        for item, data in zip(self._globals, values, strict=True):
            value = ffi.wasmtime_val_t.from_buffer_copy(data)
            error = ffi.wasmtime_global_set(self._context, ctypes.byref(item), ctypes.byref(value))
            assert not error

    # --- entering -------------------------------------------------------------------------------

    def has(self, export: str) -> bool:
        """Whether the module exports this entry point."""
        return export in self._functions

    def instructions_used(self) -> int:
        """Instructions of the run in progress so far, host calls included."""
        run = _current.run
        assert run is not None
        return run.instruction_limit - self._fuel() + run.host_instructions

    def _fuel(self) -> int:
        fuel = ctypes.c_uint64()
        ffi.wasmtime_context_get_fuel(self._context, ctypes.byref(fuel))
        return fuel.value

    def enter(self, run: Run, export: str) -> None:
        """Run an entry point; effects are in ``run``. Rollback is the caller's.

        Raises:
            ExecutionError: If the code trapped, in whatever way.
        """
        self._enter(run, self._functions[export], None)

    def enter_callback(self, run: Run, index: int, env: int) -> None:
        """Run a function of the table, as a callback with its ``env``.

        Raises:
            ExecutionError: If there is no such function or the code trapped.
        """
        self._enter(run, self._callback(run, index), env)

    def _callback(self, run: Run, index: int) -> Any:
        found = self._callbacks.get(index)
        if found is not None:
            return found
        value = ffi.wasmtime_val_t()
        if (
            self._table is None
            or index > _U32
            or not ffi.wasmtime_table_get(
                self._context, ctypes.byref(self._table), index, ctypes.byref(value)
            )
            or value.kind != ffi.WASMTIME_FUNCREF.value
            or not value.of.funcref.store_id
        ):
            raise FunctionNotFoundError(
                f"Canister requested to invoke a non-existent Wasm function {index} from table 0"
            )
        function = ffi.wasmtime_func_t()
        ctypes.memmove(
            ctypes.byref(function), ctypes.byref(value.of.funcref), ctypes.sizeof(function)
        )
        kind = wasmtime.Func._from_raw(function).type(self._store)  # noqa: SLF001
        width = "i64" if self.info.memory64 else "i32"
        if [str(p) for p in kind.params] != [width] or kind.results:
            raise ContractViolationError(
                f"Canister violated contract: function {index} of table 0 has the type "
                f"{_arrow(kind)} and cannot be a callback, which takes one {width}"
            )
        del run
        self._callbacks[index] = function
        return function

    def start(self, run: Run) -> None:
        """Run the former start function, if there is one.

        Raises:
            ExecutionError: If it trapped.
        """
        if self.info.has_start:
            assert run.mode is Mode.s
            self.enter(run, self.info.start_name)

    def _enter(self, run: Run, function: Any, argument: int | None) -> None:
        run.instance = self
        trap = ctypes.POINTER(ffi.wasm_trap_t)()
        buffer = self._buffer
        if argument is not None:
            ctypes.cast(buffer, _Words)[0] = argument
        ffi.wasmtime_context_set_fuel(self._context, run.instruction_limit)
        _current.run, _current.failure = run, None
        try:
            error = ffi.wasmtime_func_call_unchecked(
                self._context, ctypes.byref(function), buffer, 1, ctypes.byref(trap)
            )
            run.instructions = self.instructions_used()
        finally:
            failure = _current.take_failure()
        if failure is not None:
            if trap:
                ffi.wasm_trap_delete(trap)
            raise failure
        if error:
            raise TrapError(
                f"Canister trapped: {wasmtime.WasmtimeError._from_ptr(error)}"  # noqa: SLF001
            )
        if trap:
            raise _failure_of(wasmtime.Trap._from_ptr(trap), run)  # noqa: SLF001
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


def engine_name() -> str:
    """Which rollback engine runs here."""
    return CopyResidentPages.name
