"""The engine's C interface, as far as the hot path needs it.

The engine's Python classes convert and check every value at every call; these few bindings take
plain addresses. Functions that return at once keep Python's lock, because giving it up and taking
it again costs more than they do; entering Wasm gives it up.
"""

import ctypes
from importlib.metadata import version
from typing import Any, Final

from wasmtime import _ffi

from bridge.errors import ReplicaError

# The bindings below are those of this version; others may lay out values and names differently.
SUPPORTED: Final = "50"


def check_version(found: str) -> None:
    """Refuse an engine whose C interface is not the one that this module was written for.

    Raises:
        ReplicaError: If it is another one; it says which is needed.
    """
    if found.partition(".")[0] != SUPPORTED:
        raise ReplicaError(
            f"the embedded replica works with wasmtime {SUPPORTED}, and {found} is installed",
            hint="pip install 'ic-bridge[replica]'",
        )


check_version(version("wasmtime"))

# Its declarations of C types are no help to a type checker.
ffi: Final[Any] = _ffi

Words: Final[Any] = ctypes.POINTER(ctypes.c_uint64)
_HalfWords: Final[Any] = ctypes.POINTER(ctypes.c_uint32)


def _callback(values: Any) -> Any:
    # Integers where C has pointers: making an object of a pointer costs more.
    size = ctypes.c_size_t
    return ctypes.CFUNCTYPE(size, size, size, values, size)


_Callback: Final = _callback(Words)
_HalfCallback: Final = _callback(_HalfWords)
NO_FINALIZER: Final[Any] = ctypes.CFUNCTYPE(None, ctypes.c_void_p)()

_quick: Final = ctypes.PyDLL(str(ffi.filename))
_address = ctypes.c_void_p
_size = ctypes.c_size_t


def _bind(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    function = library[name]
    function.restype, function.argtypes = result, arguments
    return function


memory_data: Final = _bind(_quick, "wasmtime_memory_data", _size, _address, _address)
memory_data_size: Final = _bind(_quick, "wasmtime_memory_data_size", _size, _address, _address)
set_fuel: Final = _bind(_quick, "wasmtime_context_set_fuel", _size, _address, ctypes.c_uint64)
get_fuel: Final = _bind(_quick, "wasmtime_context_get_fuel", _size, _address, _address)
func_call: Final = _bind(
    ffi.dll, "wasmtime_func_call_unchecked", _size, _address, _address, _address, _size, _address
)
quick_func_call: Final = _bind(
    _quick, "wasmtime_func_call_unchecked", _size, _address, _address, _address, _size, _address
)
move: Final = _bind(_quick, "memmove", _address, _address, _address, _size)
compare: Final = _bind(_quick, "memcmp", ctypes.c_int, _address, _address, _size)


def new_trap() -> int:
    """A trap for a host function to return; which failure it stands for is kept elsewhere."""
    trap = ffi.wasmtime_trap_new(ctypes.create_string_buffer(b"host"), 4)
    return ctypes.cast(trap, ctypes.c_void_p).value or 0


_view: Final = ctypes.pythonapi.PyMemoryView_FromMemory
_view.restype, _view.argtypes = ctypes.py_object, (_address, ctypes.c_ssize_t, ctypes.c_int)
_WRITABLE: Final = 0x200


def view(address: int, size: int) -> memoryview:
    """Memory of the engine; touching it where, or when, there is none ends the process."""
    found: memoryview = _view(address, size, _WRITABLE)
    return found


_Deadline: Final[Any] = ctypes.CFUNCTYPE(_size, _size, _size, Words, ctypes.POINTER(ctypes.c_uint8))


def deadline(function: Any) -> tuple[Any, Any]:
    """A function for the engine to call at a deadline, and what must live as long as it does.

    Args:
        function: It is given the context, the number that it was made known with, and where to
            write how many epochs later it is to be called again, and 0 for going on. It returns 0,
            or an error to stop the code with.
    """
    kept = _Deadline(function)
    (_, kind, *_) = ffi.dll.wasmtime_store_epoch_deadline_callback.argtypes
    return ctypes.cast(kept, kind), kept


def new_error() -> int:
    """An error for a deadline's function to return; what it stands for is kept elsewhere."""
    error = ffi.wasmtime_error_new(ctypes.create_string_buffer(b"host"))
    return ctypes.cast(error, ctypes.c_void_p).value or 0


def as_callback(function: Any, *, halves: bool) -> tuple[Any, Any]:
    """A host function for the engine, and what must live as long as it does.

    Args:
        function: It is given the number that it was made known with, the caller, the array of
            values, of which each takes 16 bytes, and the length of that.
        halves: Whether it sees the values as an array of 32-bit numbers instead of 64-bit ones.
    """
    kept = (_HalfCallback if halves else _Callback)(function)
    return ctypes.cast(kept, ffi.wasmtime_func_unchecked_callback_t), kept
