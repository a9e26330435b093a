"""The System API of the canister itself: identity, settings, stable memory, data, time, log."""

from typing import Final

from bridge.replica.execution.failures import ExplicitTrapError, TrapError
from bridge.replica.execution.run import EVERYWHERE, REPLICATED, Mode, Run
from bridge.replica.execution.table import (
    ANYWHERE,
    BURN,
    CHANGE,
    HOST_CALL,
    U32,
    U64,
    blob,
    charge,
    copy_out,
    over_limit,
    row,
    text_of,
    violation,
)

_MAX_CERTIFIED_DATA: Final = 32
# A message holds what it overwrites, so that it can be undone.
_MAX_TOUCHED: Final = 2 * 1024**3
_MAX_LOG_RECORD: Final = 32 * 1024
_MAX_VARIABLE_NAME: Final = 128

blob("canister_self", EVERYWHERE, lambda run: run.environment.canister_id)
blob("subnet_self", EVERYWHERE, lambda run: run.environment.subnet_id)
blob("root_key", BURN, lambda run: run.environment.root_key)


@row("subnet_self_node_count", "", "i", EVERYWHERE)
def _subnet_self_node_count(_run: Run) -> int:
    return 1


@row("canister_status", "", "i", EVERYWHERE)
def _canister_status(run: Run) -> int:
    return run.environment.status


@row("canister_version", "", "l", EVERYWHERE)
def _canister_version(run: Run) -> int:
    return run.environment.version


@row("is_controller", "II", "i", ANYWHERE)
def _is_controller(run: Run, src: int, size: int) -> int:
    if size > 29:
        raise violation("ic0.is_controller: a principal has at most 29 bytes")
    return int(run.instance.read(src, size) in run.environment.controllers)


@row("in_replicated_execution", "", "i", ANYWHERE)
def _in_replicated_execution(run: Run) -> int:
    return int(bool(run.mode & REPLICATED))


@row("env_var_count", "", "I", EVERYWHERE)
def _env_var_count(run: Run) -> int:
    return len(run.environment.variables)


def _variable_name(run: Run, index: int) -> bytes:
    variables = run.environment.variables
    if index >= len(variables):
        raise violation(
            f"ic0.env_var_name: index {index} is out of bounds, there are {len(variables)} "
            "environment variables"
        )
    return variables[index][0].encode()


def _sought_name(run: Run, src: int, size: int, function: str) -> str:
    if size > _MAX_VARIABLE_NAME:
        raise violation(
            f"ic0.{function}: a name of {size} bytes is longer than {_MAX_VARIABLE_NAME}"
        )
    return text_of(run, src, size, f"ic0.{function}")


def _variable_value(run: Run, src: int, size: int) -> bytes:
    wanted = _sought_name(run, src, size, "env_var_value")
    for name, value in run.environment.variables:
        if name == wanted:
            return value.encode()
    raise violation(f"ic0.env_var_value: there is no environment variable {wanted!r}")


@row("env_var_name_size", "I", "I", EVERYWHERE)
def _env_var_name_size(run: Run, index: int) -> int:
    return len(_variable_name(run, index))


@row("env_var_name_copy", "IIII", "", EVERYWHERE)
def _env_var_name_copy(run: Run, index: int, dst: int, offset: int, size: int) -> None:
    copy_out(run, "env_var_name", _variable_name(run, index), dst, offset, size)


@row("env_var_name_exists", "II", "i", EVERYWHERE)
def _env_var_name_exists(run: Run, src: int, size: int) -> int:
    wanted = _sought_name(run, src, size, "env_var_name_exists")
    return int(any(name == wanted for name, _ in run.environment.variables))


@row("env_var_value_size", "II", "I", EVERYWHERE)
def _env_var_value_size(run: Run, src: int, size: int) -> int:
    return len(_variable_value(run, src, size))


@row("env_var_value_copy", "IIIII", "", EVERYWHERE)
def _env_var_value_copy(
    run: Run, src: int, name_size: int, dst: int, offset: int, size: int
) -> None:
    copy_out(run, "env_var_value", _variable_value(run, src, name_size), dst, offset, size)


# --- stable memory ------------------------------------------------------------------------------


def _stable_bounds() -> TrapError:
    return TrapError("Canister trapped: stable memory out of bounds")


def _too_much_touched() -> TrapError:
    return TrapError(
        f"Canister trapped: one message may write pages of {_MAX_TOUCHED} bytes of stable memory"
    )


def _small(run: Run) -> None:
    if run.instance.stable.size > 65_536:
        raise TrapError(
            "Canister trapped: 32 bit stable memory api used on a memory larger than 4GB"
        )


@row("stable64_size", "", "l", ANYWHERE)
def _stable64_size(run: Run) -> int:
    return run.instance.stable.size


@row("stable64_grow", "l", "l", ANYWHERE)
def _stable64_grow(run: Run, pages: int) -> int:
    return run.instance.stable.grow(pages) & U64


@row("stable64_write", "lll", "", ANYWHERE)
def _stable64_write(run: Run, offset: int, src: int, size: int) -> None:
    charge(run, size)
    instance = run.instance
    stable = instance.stable
    if size > _MAX_TOUCHED:
        raise _too_much_touched()
    if src + size > instance.checked:
        instance.check(src, size)
    before = stable.touched
    try:
        stable.write_from(instance.view, src, offset, size)
    except IndexError as error:
        raise _stable_bounds() from error
    # A byte here and there makes whole pages: they count, and they are limited.
    touched = stable.touched
    charge(run, touched - before - size if touched - before > size else 0)
    if touched > _MAX_TOUCHED:
        raise _too_much_touched()


@row("stable64_read", "lll", "", ANYWHERE)
def _stable64_read(run: Run, dst: int, offset: int, size: int) -> None:
    # Some canisters call nothing so often as this: here, and below, calls of our own are saved.
    used = run.host_instructions = run.host_instructions + HOST_CALL + size
    if used > run.instruction_limit:
        raise over_limit(run)
    instance = run.instance
    if dst + size > instance.checked:
        instance.check(dst, size)
    try:
        instance.stable.read_into(instance.view, dst, offset, size)
    except IndexError as error:
        raise _stable_bounds() from error


@row("stable_size", "", "i", ANYWHERE, only32=True)
def _stable_size(run: Run) -> int:
    _small(run)
    return run.instance.stable.size


@row("stable_grow", "i", "i", ANYWHERE, only32=True)
def _stable_grow(run: Run, pages: int) -> int:
    _small(run)
    if run.instance.stable.size + pages > 65_536:
        return U32
    return run.instance.stable.grow(pages) & U32


@row("stable_write", "iii", "", ANYWHERE, only32=True)
def _stable_write(run: Run, offset: int, src: int, size: int) -> None:
    _small(run)
    _stable64_write(run, offset, src, size)


@row("stable_read", "iii", "", ANYWHERE, only32=True)
def _stable_read(run: Run, dst: int, offset: int, size: int) -> None:
    _small(run)
    _stable64_read(run, dst, offset, size)


# --- certified data -----------------------------------------------------------------------------


@row("certified_data_set", "II", "", CHANGE)
def _certified_data_set(run: Run, src: int, size: int) -> None:
    if size > _MAX_CERTIFIED_DATA:
        raise violation(
            f"ic0.certified_data_set: the data has {size} bytes, the limit is {_MAX_CERTIFIED_DATA}"
        )
    run.certified_data = run.instance.read(src, size)


def _certificate(run: Run) -> bytes:
    source = run.environment.data_certificate
    if source is None:
        raise violation("ic0.data_certificate_size: no data certificate is available")
    if run.data_certificate is None:
        run.data_certificate = source()
    return run.data_certificate


@row("data_certificate_present", "", "i", EVERYWHERE)
def _data_certificate_present(run: Run) -> int:
    available = run.environment.data_certificate is not None
    return int(available and bool(run.mode & (Mode.NRQ | Mode.CQ)))


blob("data_certificate", Mode.NRQ | Mode.CQ, _certificate)


# --- time, timers, counters, messages -----------------------------------------------------------


@row("time", "", "l", EVERYWHERE)
def _time(run: Run) -> int:
    return run.environment.time


@row("global_timer_set", "l", "l", CHANGE | Mode.C)
def _global_timer_set(run: Run, timestamp: int) -> int:
    before = run.environment.global_timer if run.global_timer is None else run.global_timer
    run.global_timer = timestamp
    return before


@row("performance_counter", "i", "l", ANYWHERE)
def _performance_counter(run: Run, counter: int) -> int:
    used = run.instance.instructions_used(run)
    if counter == 0:
        return used
    if counter == 1:
        return run.instructions_before + used
    raise violation(f"ic0.performance_counter: the counter type {counter} is unknown")


@row("debug_print", "II", "", ANYWHERE)
def _debug_print(run: Run, src: int, size: int) -> None:
    """Never traps for its arguments: out of bounds, a text of the system stands in the log."""
    kept = min(size, _MAX_LOG_RECORD)
    charge(run, kept)
    if src + size > run.instance.memory_size:
        run.print(b"(debug_print: the message is out of the memory's bounds)")
    else:
        run.print(run.instance.read(src, kept))


@row("trap", "II", "", ANYWHERE)
def _trap(run: Run, src: int, size: int) -> None:
    text = run.instance.read(src, min(size, _MAX_LOG_RECORD)).decode(errors="ignore")
    raise ExplicitTrapError(f"Canister called `ic0.trap` with message: '{text}'")
