"""A canister snapshot: code and memories at one moment, or as they were uploaded."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from bridge.replica.state.stable import StableMemory

Source = Literal["taken_from_canister", "metadata_upload"]


@dataclass(slots=True, eq=False)
class Snapshot:
    """Interface specification, section Canister snapshots.

    Attributes:
        taken_at: Nanoseconds since 1970.
        version: The canister's version then.
        module: The module as installed; zeros where an upload has not come yet.
        globals: Value type and 16 raw bytes of each mutable global.
        wasm: The main memory.
        global_timer: Nanoseconds since 1970, 0 for inactive; ``None``: loading leaves it as it is.
        mark: Another object after each change, so that it can be told whether there was one.
        low_memory_reported: Whether the low-memory hook has run; ``None``: left as it is.
    """

    snapshot_id: bytes
    source: Source
    taken_at: int
    version: int
    module: bytearray
    globals: list[tuple[int, bytes]]
    wasm: StableMemory
    stable: StableMemory
    certified_data: bytes
    global_timer: int | None
    low_memory_reported: bool | None
    chunks: dict[bytes, bytes] = field(default_factory=dict)
    mark: object = field(default_factory=object)

    def copy(self) -> "Snapshot":
        """An independent copy."""
        return dataclasses.replace(
            self,
            module=bytearray(self.module),
            wasm=self.wasm.copy(),
            stable=self.stable.copy(),
            chunks=dict(self.chunks),
        )

    @property
    def size(self) -> int:
        """Bytes in all."""
        return (
            len(self.module)
            + (self.wasm.size + self.stable.size) * 65_536
            + sum(map(len, self.chunks.values()))
        )
