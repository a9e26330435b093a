"""The bridge from Wasm to the System API: one host function for each row and pointer width.

A host function never raises through the engine: the failure is kept with the run and the code is
stopped by a trap. A canister calls them a hundred times in a message: what they do counts.
"""

import ctypes
from collections.abc import Collection
from functools import cache
from typing import Any, Final

import wasmtime

from bridge.replica.execution.engine import CompiledModule, engine
from bridge.replica.execution.failures import InterruptedRunError, InvalidModuleError
from bridge.replica.execution.native import (
    NO_FINALIZER,
    as_callback,
    deadline,
    ffi,
    new_error,
    new_trap,
)
from bridge.replica.execution.run import Run
from bridge.replica.execution.system_api import TABLE, Row, check_context, signature

_U64: Final = 2**64 - 1
_U32: Final = 2**32 - 1
_TYPES: Final = {"i": wasmtime.ValType.i32, "l": wasmtime.ValType.i64}

# What runs at present, by the number of the instance.
running: Final[dict[int, Run]] = {}


def _at_deadline(_context: int, instance: int, epochs: Any, kind: Any) -> int:
    run = running.get(instance)
    if run is not None and run.interrupted:
        run.failure = InterruptedRunError()
        return new_error()
    epochs[0], kind[0] = 1, 0
    return 0


_deadline, _deadline_kept = deadline(_at_deadline)


def heed_interruptions(store: wasmtime.Store, number: int) -> None:
    """Let ``interrupt`` stop what runs in a store.

    Args:
        store: The store.
        number: Of its instance.
    """
    store.set_epoch_deadline(1)
    ffi.wasmtime_store_epoch_deadline_callback(store.ptr(), _deadline, number, NO_FINALIZER)


def interrupt(threads: Collection[int]) -> None:
    """Stop what canisters run on these threads at present, by an ``InterruptedRunError`` there.

    What begins right after is not stopped: ask again, until the threads have ended.
    """
    for run in tuple(running.values()):
        if run.thread in threads:
            run.interrupted = True
    # It is one engine's for all replicas of the process; the others go on at once.
    engine().increment_epoch()


@cache
def _host_function(row: Row, memory64: bool) -> tuple[wasmtime.FuncType, Any, Any]:
    """The engine's view of one row of the System API, for one pointer width."""
    params, result = signature(row, memory64=memory64)
    kind = wasmtime.FuncType([_TYPES[p]() for p in params], [_TYPES[r]() for r in result])
    # A value takes 16 bytes of the array, of which only those of its type mean something. Where
    # all are alike, the array is seen as one of that type, and nothing need be masked.
    halves = {*params, *result} == {"i"}
    alike = halves or "i" not in params
    second, third = (4, 8) if halves else (2, 4)
    places = [(second * at, _U32 if letter == "i" else _U64) for at, letter in enumerate(params)]
    # Most have so many parameters: for them there is a quicker way.
    count = len(params) if alike else -1
    function = row.function
    contexts = int(row.contexts)

    def callback(instance: int, _caller: int, words: Any, _length: int) -> int:
        run = running[instance]
        try:
            if not run.mode_bits & contexts:
                check_context(run, row)
            if count == 3:
                value = function(run, words[0], words[second], words[third])
            elif not count:
                value = function(run)
            elif count == 2:
                value = function(run, words[0], words[second])
            else:
                value = function(run, *[words[at] & mask for at, mask in places])
        except BaseException as error:  # noqa: BLE001 - raised again where Wasm was entered
            run.failure = error
            return new_trap()
        if value is not None:
            words[0] = value
        return 0

    return (kind, *as_callback(callback, halves=halves))


def host_functions(
    store: wasmtime.Store, compiled: CompiledModule, number: int
) -> list[wasmtime.Func]:
    """What a module imports.

    Args:
        store: Where they are to live.
        compiled: The module.
        number: Of the instance: the functions act for what ``running`` has under it.

    Raises:
        InvalidModuleError: If it imports what the System API does not have.
    """
    memory64 = compiled.info.memory64
    functions = []
    for wanted in compiled.module.imports:
        row = TABLE.get(wanted.name or "")
        if row is None or (row.only32 and memory64):
            raise InvalidModuleError(
                f"it imports ic0.{wanted.name}, which the System API does not have"
                + (" for 64-bit memories" if row else "")
            )
        kind, callback, _ = _host_function(row, memory64)
        given = wanted.type
        assert isinstance(given, wasmtime.FuncType)
        if arrow(given) != arrow(kind):
            raise InvalidModuleError(
                f"it imports ic0.{wanted.name} with the type {arrow(given)}, expected {arrow(kind)}"
            )
        raw = ffi.wasmtime_func_t()
        ffi.wasmtime_func_new_unchecked(
            store._context(),  # noqa: SLF001 - the C interface wants it
            kind.ptr(),
            callback,
            number,
            NO_FINALIZER,
            ctypes.byref(raw),
        )
        functions.append(wasmtime.Func._from_raw(raw))  # noqa: SLF001
    return functions


def arrow(kind: wasmtime.FuncType) -> str:
    """A function type in words."""
    params = ", ".join(str(p) for p in kind.params)
    results = ", ".join(str(r) for r in kind.results)
    return f"({params}) -> ({results})"
