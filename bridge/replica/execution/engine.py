"""The one wasmtime engine of the process, and modules compiled once.

Instructions are counted as fuel, so that a limit falls at the same place in every run. Compiled
code is kept in memory, and in a directory that only this user can enter, because loading it is as
good as running it.
"""

import contextlib
import hashlib
import os
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

import wasmtime

if sys.platform != "win32":
    import resource

from bridge.replica.execution.binary import ModuleInfo, instrument
from bridge.replica.execution.failures import InvalidModuleError
from bridge.replica.execution.native import ffi

_REMEMBERED_MODULES: Final = 256
_CACHE_BYTES: Final = 2 * 1024**3
# Raised whenever the settings below or the instrumenting change what the compiled code is.
_FORMAT: Final = "4"
_VERSION: Final = version("wasmtime")
# The stack of one execution; threads that run canisters need THREAD_STACK.
_MAX_STACK: Final = 5 * 1024 * 1024
_REST_OF_STACK: Final = 2 * 1024 * 1024
THREAD_STACK: Final = 16 * 1024 * 1024
# The largest memory that the IC offers. So much address space is set apart for each one, so that
# it never moves when it grows, and whoever knows where it begins need not ask again.
MAX_MEMORY: Final = 6 * 1024**3

_lock = threading.Lock()
_starting = threading.Lock()
# A cached function may well be called twice by two threads that come at the same time.
_making = threading.Lock()
_memory: "OrderedDict[bytes, CompiledModule]" = OrderedDict()


@dataclass(frozen=True, slots=True)
class CompiledModule:
    """A module ready to be instantiated."""

    info: ModuleInfo
    module: wasmtime.Module


def engine() -> wasmtime.Engine:
    """The engine, with the Wasm features that the IC offers; one for all threads."""
    with _making:
        return _engine()


@cache
def _engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.consume_fuel = True
    # For the end of a replica only: what canisters do may not depend on time.
    config.epoch_interruption = True
    config.cranelift_nan_canonicalization = True
    # The engine wants its (unused) stacks for asynchronous calls to be no smaller.
    ffi.wasmtime_config_async_stack_size_set(config.ptr(), _MAX_STACK)
    config.max_wasm_stack = _MAX_STACK
    config.memory_may_move = False
    config.memory_reservation = MAX_MEMORY
    config.wasm_bulk_memory = True
    config.wasm_component_model = False
    config.wasm_exceptions = False
    config.wasm_function_references = False
    config.wasm_gc = False
    config.wasm_memory64 = True
    config.wasm_multi_memory = False
    config.wasm_multi_value = True
    config.wasm_reference_types = True
    config.wasm_relaxed_simd = True
    config.wasm_relaxed_simd_deterministic = True
    config.wasm_simd = True
    config.wasm_tail_call = True
    config.wasm_threads = False
    # Rollback reads the kernel's page map: a page that is not in use must be a page of zeros.
    ffi.wasmtime_config_memory_init_cow_set(config.ptr(), False)
    return wasmtime.Engine(config)


def _cache_folder() -> Path | None:
    """The directory of compiled code, or None where it cannot be made private."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "ic-bridge" / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        status = folder.stat()
    except (OSError, RuntimeError):
        return None
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        return None
    return folder


def _cache_file(wasm: bytes) -> Path | None:
    folder = _cache_folder()
    if folder is None:
        return None
    key = hashlib.sha256(wasm)
    key.update(f"|{_FORMAT}|{_VERSION}|{sys.platform}|{sys.byteorder}".encode())
    return folder / f"{key.hexdigest()}.cwasm"


def _write_atomically(file: Path, data: bytes) -> None:
    """Put the file there whole or not at all; a cache that cannot be written is no error."""
    try:
        handle, name = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        Path(name).replace(file)
        _make_room(file.parent)
    except OSError:
        return


def _make_room(folder: Path) -> None:
    """Remove what was not used for longest, if the cache is too large."""
    found = []
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            status = file.stat()
            found.append((status.st_mtime_ns, status.st_size, file))
    excess = sum(size for _, size, _ in found) - _CACHE_BYTES
    for _, size, file in sorted(found):
        if excess <= 0:
            return
        file.unlink(missing_ok=True)
        excess -= size


def _build(wasm: bytes) -> wasmtime.Module:
    file = _cache_file(wasm)
    if file is not None and file.is_file():
        try:
            content = file.read_bytes()
            os.utime(file)  # it is in use: others go first when there is no room
            return wasmtime.Module.deserialize(engine(), content)
        except (wasmtime.WasmtimeError, OSError):
            # Of another build of the engine, or cut short: compile again.
            file.unlink(missing_ok=True)
    try:
        module = wasmtime.Module(engine(), wasm)
    except wasmtime.WasmtimeError as error:
        raise InvalidModuleError(str(error)) from error
    if file is not None:
        _write_atomically(file, bytes(module.serialize()))
    return module


def _check_types(module: wasmtime.Module) -> None:
    """Entry points take and give nothing."""
    for export in module.exports:
        if not export.name.startswith("canister_"):
            continue
        kind = export.type
        if isinstance(kind, wasmtime.FuncType) and (kind.params or kind.results):
            raise InvalidModuleError(f"the function {export.name!r} must have the type () -> ()")


def runs_canisters_here() -> bool:
    """Whether this thread's stack is large enough to run canisters."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        return False
    size, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return size == resource.RLIM_INFINITY or size >= _MAX_STACK + _REST_OF_STACK


@contextlib.contextmanager
def large_stacks() -> Iterator[None]:
    """Let the threads that are started meanwhile have stacks large enough to run canisters."""
    # The size is the whole process's: two at a time would leave it changed.
    with _starting:
        before = threading.stack_size(THREAD_STACK)
        try:
            yield
        finally:
            threading.stack_size(before)


def forget_modules() -> None:
    """Drop the modules kept in memory; those on disk stay."""
    with _lock:
        _memory.clear()


def compile_module(module: bytes) -> CompiledModule:
    """Check, instrument and compile a module, or find it among those compiled before.

    Raises:
        InvalidModuleError: If it is no valid canister module.
    """
    digest = hashlib.sha256(module).digest()
    with _lock:
        found = _memory.get(digest)
        if found is not None:
            _memory.move_to_end(digest)
            return found
    info = instrument(module)
    built = _build(info.wasm)
    _check_types(built)
    compiled = CompiledModule(info, built)
    with _lock:
        _memory[digest] = compiled
        while len(_memory) > _REMEMBERED_MODULES:
            _memory.popitem(last=False)
    return compiled
