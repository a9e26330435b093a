"""The table of the System API itself, and what all its functions are made of.

A row is a name, a signature, contexts and a function. Rule implemented: interface specification,
section Overview of imports; ``I`` is ``i32`` or ``i64`` by the memory's width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bridge.replica.execution.failures import ContractViolationError, InstructionLimitError
from bridge.replica.execution.run import EVERYWHERE, MODE_NAMES, Mode, Run

U64: Final = 2**64 - 1
U32: Final = 2**32 - 1
# What a call into the host counts besides one for each byte that it moves: without it, a loop
# around a host call would take much longer than its instructions say.
HOST_CALL: Final = 500

Function = Callable[..., int | None]


@dataclass(frozen=True, slots=True)
class Row:
    """One function of the System API.

    Attributes:
        name: Its name within ``ic0``.
        params: Its parameters: ``I`` (pointer width), ``i`` (i32), ``l`` (i64).
        result: The same for its result, or empty.
        contexts: Where it may be called.
        function: Takes the ``Run`` and the parameters as unsigned numbers.
        only32: Whether it exists for 32-bit memories only.
    """

    name: str
    params: str
    result: str
    contexts: Mode
    function: Function
    only32: bool = False


TABLE: Final[dict[str, Row]] = {}


def row(
    name: str, params: str, result: str, contexts: Mode, *, only32: bool = False
) -> Callable[[Function], Function]:
    """Enter a function into the table, as a decorator; the arguments are those of ``Row``."""

    def register(function: Function) -> Function:
        TABLE[name] = Row(name, params, result, contexts, function, only32)
        return function

    return register


def check_context(run: Run, row: Row) -> None:
    """Refuse a function where the specification does not allow it.

    Raises:
        ContractViolationError: If it may not be called in this context.
    """
    if not run.mode & row.contexts:
        raise ContractViolationError(
            f'Canister violated contract: "ic0_{row.name}" cannot be executed in '
            f"{MODE_NAMES[run.mode]} mode"
        )


def violation(text: str) -> ContractViolationError:
    """The failure of code that breaks a rule of the System API."""
    return ContractViolationError(f"Canister violated contract: {text}")


def charge(run: Run, size: int) -> None:
    """Count a host call that moves ``size`` bytes as instructions.

    Raises:
        InstructionLimitError: If the message has used up what it may.
    """
    run.host_instructions += HOST_CALL + size
    if run.host_instructions > run.instruction_limit:
        raise over_limit(run)


def over_limit(run: Run) -> InstructionLimitError:
    """The failure of a message that has used up what it may."""
    return InstructionLimitError(limit_text(run.instruction_limit))


def limit_text(limit: int) -> str:
    """The text of an execution that used too many instructions."""
    return f"Canister exceeded the limit of {limit} instructions for single message execution."


def signature(row: Row, *, memory64: bool) -> tuple[str, str]:
    """A row's parameters and result with ``I`` replaced by the pointer width's letter."""
    width = "l" if memory64 else "i"
    return row.params.replace("I", width), row.result.replace("I", width)


def text_of(run: Run, src: int, size: int, name: str) -> str:
    """Text in the canister's memory; ``name`` is the function that it was given to.

    Raises:
        TrapError: If it is not inside the memory.
        ContractViolationError: If it is not UTF-8.
    """
    try:
        return run.instance.read(src, size).decode()
    except UnicodeDecodeError as error:
        raise violation(f"{name}: invalid UTF-8 string provided") from error


# --- blobs: a size and a copy function each ---


def blob(name: str, contexts: Mode, content: Callable[[Run], bytes]) -> None:
    """Enter the two functions that tell a blob's size and copy it into the memory."""

    def size(run: Run) -> int:
        return len(content(run))

    def copy(run: Run, dst: int, offset: int, length: int) -> None:
        copy_out(run, name, content(run), dst, offset, length)

    row(f"{name}_size", "", "I", contexts)(size)
    row(f"{name}_copy", "III", "", contexts)(copy)


def copy_out(run: Run, name: str, data: bytes, dst: int, offset: int, length: int) -> None:
    """Copy a part of a blob into the canister's memory.

    Raises:
        ContractViolationError: If the blob has no such part.
        TrapError: If the place is not inside the memory.
    """
    if offset + length > len(data):
        raise violation(
            f"ic0.{name}_copy payload: src={offset} + length={length} exceeds the slice size="
            f"{len(data)}"
        )
    charge(run, length)
    run.instance.write(dst, data[offset : offset + length])


# --- contexts, as the specification groups them ---

ARGUMENTS: Final = (
    Mode.I | Mode.U | Mode.RQ | Mode.NRQ | Mode.TQ | Mode.CQ | Mode.Ry | Mode.CRy | Mode.F
)
CALLER_INFO: Final = (
    Mode.U | Mode.RQ | Mode.NRQ | Mode.CQ | Mode.Ry | Mode.Rt | Mode.CRy | Mode.CRt | Mode.C
    | Mode.CC | Mode.F
)  # fmt: skip
RESPOND: Final = (
    Mode.U | Mode.RQ | Mode.NRQ | Mode.TQ | Mode.CQ | Mode.Ry | Mode.Rt | Mode.CRy | Mode.CRt
)
CALL: Final = Mode.U | Mode.CQ | Mode.Ry | Mode.Rt | Mode.CRy | Mode.CRt | Mode.T
CYCLES: Final = Mode.U | Mode.RQ | Mode.Rt | Mode.Ry
REFUNDED: Final = Mode.Rt | Mode.Ry
ADD_CYCLES: Final = Mode.U | Mode.Ry | Mode.Rt | Mode.T
CHANGE: Final = Mode.I | Mode.G | Mode.U | Mode.Ry | Mode.Rt | Mode.T
BURN: Final = Mode.I | Mode.G | Mode.U | Mode.RQ | Mode.Ry | Mode.Rt | Mode.C | Mode.T
ANYWHERE: Final = EVERYWHERE | Mode.s
