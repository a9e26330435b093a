"""What a canister's memory and compute allocation cost, and when it is frozen for want of cycles.

Rule implemented: interface specification, section Abstract behavior: the idle resource consumption
and the freezing limit. The prices are those of a subnet of 13 nodes (IC documentation, cycles
costs). Work itself (instructions, messages) is free here. Knows neither time nor queues.
"""

from typing import Final

from bridge.replica.scheduler.sandbox import Sandbox
from bridge.replica.state.canister import Canister

_GIB: Final = 1024**3
_DAY: Final = 86_400
_SECOND: Final = 1_000_000_000
_CYCLES_PER_GIB_SECOND: Final = 127_000
_CYCLES_PER_PERCENT_SECOND: Final = 10_000_000


def memory_use(canister: Canister, sandbox: Sandbox) -> dict[str, int]:
    """Bytes that a canister uses, by kind, as ``canister_status`` names them."""
    instance = sandbox.instance
    return {
        "wasm_memory_size": instance.kept_size if instance is not None else 0,
        "stable_memory_size": sandbox.stable.kept_size * 65_536,
        "global_memory_size": 0,
        "wasm_binary_size": len(canister.module),
        "custom_sections_size": sum(len(data) for _, data in canister.metadata.values()),
        "canister_history_size": 0,
        "wasm_chunk_store_size": sum(map(len, canister.chunks.values())),
        "snapshots_size": sum(snapshot.size for snapshot in canister.snapshots.values()),
        "log_memory_store_size": canister.settings.log_memory_limit,
    }


def memory_fee(canister: Canister, sandbox: Sandbox, nanoseconds: int) -> int:
    """Cycles that the canister's memory, used or allocated, costs in so much time."""
    held = max(canister.settings.memory_allocation, sum(memory_use(canister, sandbox).values()))
    return held * _CYCLES_PER_GIB_SECOND * nanoseconds // (_GIB * _SECOND)


def compute_fee(canister: Canister, nanoseconds: int) -> int:
    """Cycles that the canister's compute allocation costs in so much time."""
    each_second = canister.settings.compute_allocation * _CYCLES_PER_PERCENT_SECOND
    return each_second * nanoseconds // _SECOND


def idle_cycles(canister: Canister, sandbox: Sandbox, nanoseconds: int) -> int:
    """Cycles that the canister burns in so much time by being there."""
    return memory_fee(canister, sandbox, nanoseconds) + compute_fee(canister, nanoseconds)


def idle_cycles_per_day(canister: Canister, sandbox: Sandbox) -> int:
    """Cycles that the canister burns in a day by being there."""
    return idle_cycles(canister, sandbox, _DAY * _SECOND)


def freezing_limit(canister: Canister, sandbox: Sandbox) -> int:
    """Cycles below which the canister is frozen: what its freezing threshold's time costs."""
    return idle_cycles(canister, sandbox, canister.settings.freezing_threshold * _SECOND)
