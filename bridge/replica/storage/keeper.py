"""Keeps a subnet on disk: writes what has changed, and reads it all back.

What is written at one time is one transaction, and is the subnet between two messages: an
execution under way counts as not begun, so it begins again after a crash. Its effects and the
certificate of them come later, and together. The message log, planned faults, and snapshots of the
whole subnet are not kept. Runs under the machine's lock.
"""

import logging
from collections.abc import Iterator
from operator import attrgetter
from typing import Any, Final

from bridge.errors import StateDirectoryError
from bridge.principal import Principal
from bridge.replica.execution.engine import compile_module
from bridge.replica.execution.failures import InvalidModuleError
from bridge.replica.execution.instance import Instance
from bridge.replica.scheduler.clock import Position
from bridge.replica.scheduler.machine import Machine
from bridge.replica.scheduler.sandbox import MAX_STABLE_PAGES, Sandbox, new_instance
from bridge.replica.state import codec
from bridge.replica.state.canister import Canister
from bridge.replica.state.requests import IngressHistory
from bridge.replica.state.snapshot import Snapshot
from bridge.replica.state.stable import StableMemory
from bridge.replica.state.subnet import Subnet, Unsaved
from bridge.replica.storage.database import STABLE, WASM, Database

_SEED: Final = "seed"
_HEAD: Final = "head"
# The subnet's numbers that are kept.
_NUMBERS: Final = (
    "certified_time", "next_number", "next_context", "next_callback", "random_blocks",
    "transactions", "burned",
)  # fmt: skip
_numbers_of: Final = attrgetter(*_NUMBERS)
_SNAPSHOT_FIELDS: Final = (
    "snapshot_id", "source", "taken_at", "version", "globals", "certified_data", "global_timer",
    "low_memory_reported",
)  # fmt: skip

_log: Final = logging.getLogger(__name__)


def seed_in(database: Database) -> bytes | None:
    """What the keys of the subnet in the database follow from; ``None`` if it has none yet."""
    for (seed,) in database.rows("SELECT value FROM meta WHERE name = ?", (_SEED,)):
        return bytes(seed)
    return None


class Keeper:
    """Keeps one machine's subnet in one database.

    Args:
        machine: The subnet at work; nothing of it has run yet.
        database: Where it is kept.
    """

    def __init__(self, machine: Machine, database: Database) -> None:
        self._machine = machine
        self._database = database
        self._closed = False
        self._owners: dict[Principal, int] = {}
        self._next_owner = 1
        # Bytes of the main memory, pages of the stable memory, and globals, as they are on disk.
        self._sizes: dict[Principal, tuple[int, int, bytes]] = {}
        self._modules: set[bytes] = set()
        self._chunks: dict[int, set[bytes]] = {}
        self._snapshots: dict[Principal, dict[bytes, tuple[int, object]]] = {}
        self._deleted: set[Principal] = set()
        self._written: tuple[Any, ...] = ()
        self._failure: StateDirectoryError | None = None
        machine.records = True
        machine.subnet.unsaved = Unsaved()
        machine.save = self.save

    def close(self) -> None:
        """Write what there is, and write no more.

        Raises:
            StateDirectoryError: If it cannot be written.
        """
        with self._machine.lock:
            try:
                self.save()
            finally:
                self._closed = True
                self._database.close()

    # --- writing --------------------------------------------------------------------------------

    def save(self) -> None:
        """Write what has changed, as one whole.

        Raises:
            StateDirectoryError: If it cannot be written, now or once before; what was written
                before that is untouched. Also if it is closed: nobody may be told of what happens
                from then on.
        """
        unsaved = self._machine.subnet.unsaved
        if unsaved is None:
            return
        numbers = self._numbers()
        if not unsaved.canisters and not unsaved.requests and numbers == self._written:
            return
        if self._failure is not None:
            raise self._failure  # what it took with it is lacking in all that came later
        if self._closed:
            raise StateDirectoryError("the state directory is closed: no more can be kept in it")
        try:
            with self._database.writing():
                self._save_canisters(unsaved.canisters)
                self._save_requests(unsaved)
                self._database.put("meta", [(_HEAD, self._encoded_head())])
        except StateDirectoryError as error:
            self._failure = error
            raise
        except Exception as error:
            # A defect of ours: nothing may be certified that is not kept, so this is the end too.
            _log.exception("the state cannot be written")
            self._failure = StateDirectoryError(f"the state cannot be written: {error!r}")
            raise self._failure from error
        unsaved.canisters.clear()
        unsaved.requests.clear()
        self._written = numbers

    def _numbers(self) -> tuple[Any, ...]:
        """What of the head decides whether it has to be written; that time runs on does not."""
        machine = self._machine
        position = machine.clock.position()
        last = position.last if position.paused else 0
        return (
            _numbers_of(machine.subnet), position.ahead, position.paused, last, machine.fees,
            len(machine.held), len(machine.subnet.managing),
        )  # fmt: skip

    def _encoded_head(self) -> bytes:
        """What is neither a canister's nor a request's."""
        machine = self._machine
        position = machine.clock.position()
        return codec.dumps(
            [
                list(_numbers_of(machine.subnet)),
                [position.ahead, position.last, position.paused],
                machine.fees,
                [held.message for held in machine.held],
                list(machine.subnet.managing),
            ]
        )

    def _save_requests(self, unsaved: Unsaved) -> None:
        gone = [name for name, record in unsaved.requests.items() if record is None]
        self._database.drop("request", "id", gone)
        self._database.put(
            "request",
            (
                (name, codec.dumps(record))
                for name, record in unsaved.requests.items()
                if record is not None
            ),
        )

    def _save_canisters(self, changed: set[Principal]) -> None:
        subnet = self._machine.subnet
        for name in changed:
            canister = subnet.canisters.get(name)
            if canister is None:
                self._drop(name)
            else:
                self._save_canister(canister, self._machine.sandboxes[name])
        if changed and self._deleted != subnet.deleted:
            self._database.drop("deleted", "id", (p.raw for p in self._deleted - subnet.deleted))
            self._database.put("deleted", ((p.raw,) for p in subnet.deleted - self._deleted))
            self._deleted = set(subnet.deleted)

    def _new_owner(self) -> int:
        self._next_owner += 1
        return self._next_owner - 1

    def _drop(self, name: Principal) -> None:
        owner = self._owners.pop(name, None)
        if owner is None:
            return
        for snapshot_owner, _ in self._snapshots.pop(name, {}).values():
            self._drop_snapshot(snapshot_owner)
        self._drop_memories(owner)
        self._database.drop("canister", "owner", [owner])
        self._sizes.pop(name, None)

    def _drop_memories(self, owner: int) -> None:
        for memory in (WASM, STABLE):
            self._database.drop_pages(owner, memory)
        self._database.drop("chunk", "owner", [owner])
        self._chunks.pop(owner, None)

    def _drop_snapshot(self, owner: int) -> None:
        self._drop_memories(owner)
        self._database.drop("snapshot", "owner", [owner])

    def _save_canister(self, canister: Canister, sandbox: Sandbox) -> None:
        name = canister.canister_id
        owner = self._owners.get(name)
        if owner is None:
            owner = self._owners[name] = self._new_owner()
        self._save_memories(name, owner, sandbox)
        if canister.module_hash is not None and canister.module_hash not in self._modules:
            self._modules.add(canister.module_hash)
            self._database.put("module", [(canister.module_hash, canister.module)])
        self._save_chunks(owner, canister.chunks)
        self._save_snapshots(name, owner, canister.snapshots)
        record = codec.dumps(canister.settled())
        sizes = self._sizes.setdefault(name, (0, 0, b""))
        self._database.put("canister", [(owner, name.raw, record, *sizes)])

    def _save_memories(self, name: Principal, owner: int, sandbox: Sandbox) -> None:
        changes, sandbox.unsaved = sandbox.unsaved, None
        if changes is None:
            return
        if changes.wasm_replaced:
            self._database.drop_pages(owner, WASM)
        if changes.stable_replaced:
            self._database.drop_pages(owner, STABLE)
        self._database.put_pages(owner, WASM, changes.wasm)
        self._database.put_pages(owner, STABLE, changes.stable)
        self._sizes[name] = (changes.wasm_size, changes.stable_size, changes.globals)

    def _save_chunks(self, owner: int, chunks: dict[bytes, bytes]) -> None:
        known = self._chunks.get(owner, set())
        if known == chunks.keys():
            return
        if known - chunks.keys():
            self._database.drop("chunk", "owner", [owner])
            known = set()
        self._database.put(
            "chunk", ((owner, key, chunks[key]) for key in chunks if key not in known)
        )
        self._chunks[owner] = set(chunks)

    def _save_snapshots(
        self, name: Principal, owner: int, snapshots: dict[bytes, Snapshot]
    ) -> None:
        known = self._snapshots.setdefault(name, {})
        for snapshot_id in [key for key in known if key not in snapshots]:
            self._drop_snapshot(known.pop(snapshot_id)[0])
        for snapshot_id, snapshot in snapshots.items():
            own, mark = known.get(snapshot_id, (0, None))
            if mark is snapshot.mark:
                continue
            if own:
                self._drop_memories(own)
            else:
                own = self._new_owner()
            known[snapshot_id] = (own, snapshot.mark)
            sizes = [snapshot.wasm.size, snapshot.stable.size]
            record = [[getattr(snapshot, field) for field in _SNAPSHOT_FIELDS], sizes]
            self._database.put(
                "snapshot", [(own, owner, codec.dumps(record), bytes(snapshot.module))]
            )
            self._database.put_pages(own, WASM, snapshot.wasm.pages())
            self._database.put_pages(own, STABLE, snapshot.stable.pages())
            self._save_chunks(own, snapshot.chunks)

    # --- reading --------------------------------------------------------------------------------

    def load(self) -> bool:
        """Make the subnet what is in the database; whether there is one.

        Must run on a thread whose stack can run canisters, before the rounds begin.

        Raises:
            StateDirectoryError: If what is there makes no sense.
        """
        if seed_in(self._database) is None:
            with self._database.writing():
                self._database.put("meta", [(_SEED, self._machine.subnet.seed)])
            return False
        with self._machine.lock:
            head = next(
                self._database.rows("SELECT value FROM meta WHERE name = ?", (_HEAD,)), None
            )
            if head is not None:
                self._load(codec.loads(head[0]))
        return head is not None

    def _load(self, head: list[Any]) -> None:
        machine, rows = self._machine, self._database.rows
        subnet = machine.subnet
        numbers, position, fees, held, managing = head
        for name, number in zip(_NUMBERS, numbers, strict=True):
            setattr(subnet, name, number)
        machine.clock.set_position(Position(*position))
        machine.time = machine.clock.now()
        machine.fees = fees
        subnet.deleted = {Principal(raw) for (raw,) in rows("SELECT id FROM deleted")}
        self._deleted = set(subnet.deleted)
        for owner, raw, record, *sizes in rows(
            "SELECT owner, id, record, wasm_size, stable_size, globals FROM canister ORDER BY owner"
        ):
            self._load_canister(owner, Principal(raw), record, *sizes)
        records = [codec.loads(record) for (record,) in rows("SELECT record FROM request")]
        subnet.history = IngressHistory.of(records)
        for record in records:
            subnet.changed_requests[record.request_id] = record
        self._next_owner = (
            1
            + next(
                rows(
                    "SELECT max((SELECT coalesce(max(owner), 0) FROM canister),"
                    " (SELECT coalesce(max(owner), 0) FROM snapshot))"
                )
            )[0]
        )
        self._forget_modules(subnet)
        subnet.managing = dict.fromkeys(managing)
        machine.go_on(held)

    def _forget_modules(self, subnet: Subnet) -> None:
        """Delete modules that no canister runs any more."""
        used = {canister.module_hash for canister in subnet.canisters.values()}
        kept = {bytes(key) for (key,) in self._database.rows("SELECT hash FROM module")}
        self._modules = {key for key in kept if key in used}
        with self._database.writing():
            self._database.drop("module", "hash", kept - self._modules)

    def _load_canister(
        self,
        owner: int,
        name: Principal,
        record: bytes,
        wasm_size: int,
        stable_size: int,
        values: bytes,
    ) -> None:
        machine = self._machine
        canister: Canister = codec.loads(record)
        stable = StableMemory.of_pages(
            MAX_STABLE_PAGES, stable_size, self._database.pages(owner, STABLE)
        )
        sandbox = Sandbox(stable=stable)
        if canister.module_hash is not None:
            sandbox.instance = self._load_instance(owner, canister, stable, wasm_size, values)
        sandbox.see_as_kept()
        canister.chunks = self._load_chunks(owner)
        canister.snapshots = dict(self._load_snapshots(name, owner))
        machine.subnet.canisters[name] = canister
        machine.sandboxes[name] = sandbox
        machine.subnet.state_bytes += canister.memory_bytes
        self._owners[name] = owner
        self._sizes[name] = (wasm_size, stable_size, bytes(values))

    def _load_instance(
        self, owner: int, canister: Canister, stable: StableMemory, size: int, values: bytes
    ) -> Instance:
        found = next(
            self._database.rows("SELECT wasm FROM module WHERE hash = ?", (canister.module_hash,)),
            None,
        )
        if found is None:
            raise StateDirectoryError(
                f"the state directory lacks the module of canister {canister.canister_id}",
                hint="put a backup of the directory in its place, or begin with an empty one",
            )
        canister.module = bytes(found[0])
        try:
            compiled = compile_module(canister.module)
            instance = new_instance(compiled, stable)
            instance.reset((size, list(self._database.pages(owner, WASM)), bytes(values)), object())
        except InvalidModuleError as error:
            raise StateDirectoryError(
                f"canister {canister.canister_id} cannot be run again: {error.message}"
            ) from error
        canister.metadata = {
            key: (section.public, section.content)
            for key, section in compiled.info.metadata.items()
        }
        return instance

    def _load_chunks(self, owner: int) -> dict[bytes, bytes]:
        chunks = {
            bytes(key): bytes(content)
            for key, content in self._database.rows(
                "SELECT hash, content FROM chunk WHERE owner = ? ORDER BY rowid", (owner,)
            )
        }
        self._chunks[owner] = set(chunks)
        return chunks

    def _load_snapshots(self, name: Principal, owner: int) -> Iterator[tuple[bytes, Snapshot]]:
        known = self._snapshots[name] = {}
        for own, record, module in list(
            self._database.rows(
                "SELECT owner, record, module FROM snapshot WHERE canister = ? ORDER BY owner",
                (owner,),
            )
        ):
            fields, (wasm, stable) = codec.loads(record)
            snapshot = Snapshot(
                **dict(zip(_SNAPSHOT_FIELDS, fields, strict=True)),
                module=bytearray(module),
                wasm=StableMemory.of_pages(wasm, wasm, self._database.pages(own, WASM)),
                stable=StableMemory.of_pages(stable, stable, self._database.pages(own, STABLE)),
                chunks=self._load_chunks(own),
            )
            known[snapshot.snapshot_id] = (own, snapshot.mark)
            yield snapshot.snapshot_id, snapshot
