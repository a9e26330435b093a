"""The whole subnet at one moment, to come back to it: cheap enough to be done between two tests.

A snapshot shares with the subnet whatever cannot change: certificates, trees, modules, pages of
stable memory. It copies records, and the pages of Wasm memories that are in use; those of a
canister that nothing happened to since are neither copied again nor put back. Knows nothing of who
waits for answers, and of HTTP.
"""

import copy
import dataclasses
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from bridge.principal import Principal
from bridge.replica.execution.engine import CompiledModule
from bridge.replica.execution.instance import Instance, SavedState
from bridge.replica.scheduler.faults import Faults
from bridge.replica.scheduler.held import HeldMessages
from bridge.replica.scheduler.machine import Machine
from bridge.replica.scheduler.message_log import MessageLog
from bridge.replica.scheduler.plan import Plan
from bridge.replica.scheduler.sandbox import Sandbox, new_instance
from bridge.replica.state import codec
from bridge.replica.state.canister import Canister
from bridge.replica.state.requests import IngressHistory
from bridge.replica.state.snapshot import Snapshot
from bridge.replica.state.stable import StableMemory
from bridge.replica.state.subnet import Subnet

_T = TypeVar("_T")
# Fields of the subnet that are numbers, or records and trees that never change.
_VALUES: Final = (
    "certificate", "certified_time", "next_number", "next_context", "next_callback",
    "random_blocks", "transactions", "state_bytes", "burned", "_canister_tree", "_request_tree",
    "_delegation",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Module:
    """A running module: what was compiled, and its memory and globals."""

    compiled: CompiledModule
    saved: SavedState
    mark: object


@dataclass(frozen=True, slots=True)
class _Memories:
    """What is in a sandbox."""

    module: _Module | None
    stable: StableMemory


@dataclass(frozen=True, slots=True)
class _Canister:
    """A canister: its record, and what is kept beside it."""

    record: bytes
    module: bytes
    metadata: dict[str, tuple[bool, bytes]]
    chunks: dict[bytes, bytes]
    snapshots: dict[bytes, Snapshot]


@dataclass(frozen=True, slots=True)
class SubnetSnapshot:
    """Everything of a subnet at one moment.

    Attributes:
        taken_at: Nanoseconds since 1970, by the subnet's clock.
    """

    taken_at: int
    values: dict[str, Any]
    deleted: frozenset[Principal]
    memories: dict[Principal, _Memories]
    canisters: dict[Principal, _Canister]
    requests: bytes
    changed: frozenset[Principal]
    changed_requests: tuple[bytes, ...]
    plan: Plan
    log: MessageLog
    faults: Faults
    held: HeldMessages


def take(machine: Machine, before: SubnetSnapshot | None = None) -> SubnetSnapshot:
    """Remember the whole subnet. Needs the machine's lock, and that the machine is still.

    Args:
        machine: The subnet at work.
        before: An earlier snapshot: memories that have not changed since are shared with it.
    """
    known = before.memories if before is not None else {}
    memories = {
        name: _entered(
            machine, sandbox, lambda name=name, sandbox=sandbox: _memories(sandbox, known.get(name))  # type: ignore[misc]
        )
        for name, sandbox in machine.sandboxes.items()
    }  # fmt: skip
    subnet = machine.subnet
    return SubnetSnapshot(
        taken_at=machine.clock.now(),
        values={name: getattr(subnet, name) for name in _VALUES},
        deleted=frozenset(subnet.deleted),
        memories=memories,
        canisters={name: _remembered(canister) for name, canister in subnet.canisters.items()},
        requests=codec.dumps(list(subnet.history.records.values())),
        changed=frozenset(subnet.changed),
        changed_requests=tuple(subnet.changed_requests),
        log=_copy_of_log(machine.log),
        faults=copy.deepcopy(machine.faults),
        held=copy.deepcopy(machine.held),
        plan=machine.planned(),
    )


def restore(machine: Machine, snapshot: SubnetSnapshot) -> None:
    """Make the subnet what it was. Needs the machine's lock, and that the machine is still.

    Raises:
        InvalidModuleError: If a module cannot be instantiated any more, as for want of memory;
            nothing has changed then.
    """
    new = {
        name: new_instance(memories.module.compiled, memories.stable.copy())
        for name, memories in snapshot.memories.items()
        if memories.module is not None and not _runs(machine, name, memories.module)
    }
    sandboxes = {
        name: machine.sandboxes.get(name) or machine.new_sandbox() for name in snapshot.memories
    }
    for name, memories in snapshot.memories.items():
        sandbox = sandboxes[name]
        _entered(
            machine,
            sandbox,
            lambda name=name, sandbox=sandbox, memories=memories: _put_back(  # type: ignore[misc]
                sandbox, memories, new.get(name)
            ),
        )
    machine.sandboxes = sandboxes
    subnet = machine.subnet
    _mark_all(subnet)
    for field, value in snapshot.values.items():
        setattr(subnet, field, value)
    subnet.deleted = set(snapshot.deleted)
    _restore_canisters(subnet, snapshot)
    subnet.history = IngressHistory.of(codec.loads(snapshot.requests))
    _mark_all(subnet)
    subnet.set_changed(snapshot.changed, snapshot.changed_requests)
    machine.plan_again(snapshot.plan)
    machine.log = _copy_of_log(snapshot.log)
    machine.faults = copy.deepcopy(snapshot.faults)
    machine.held = copy.deepcopy(snapshot.held)


# --- memories -----------------------------------------------------------------------------------


def _entered(machine: Machine, sandbox: Sandbox, action: Callable[[], _T]) -> _T:
    """Do something with a canister's memories; a query that is in them is waited for."""
    if not sandbox.lock.acquire(blocking=False):
        # A query may hold this lock and want the machine's: so that one is given up first.
        machine.lock.release()
        sandbox.lock.acquire()
        machine.lock.acquire()
    try:
        return action()
    finally:
        sandbox.lock.release()


def _memories(sandbox: Sandbox, known: _Memories | None) -> _Memories:
    instance = sandbox.instance
    stable = sandbox.stable.copy()
    if instance is None:
        return _Memories(None, stable)
    module = None if known is None else known.module
    if module is None or module.mark is not instance.mark:
        module = _Module(instance.compiled, instance.save(), instance.mark)
    return _Memories(module, stable)


def _runs(machine: Machine, name: Principal, module: _Module) -> bool:
    """Whether the canister has an instance of this module."""
    sandbox = machine.sandboxes.get(name)
    instance = None if sandbox is None else sandbox.instance
    return instance is not None and instance.compiled is module.compiled


def _put_back(sandbox: Sandbox, memories: _Memories, new: Instance | None) -> None:
    module = memories.module
    if module is None:
        sandbox.instance, sandbox.stable = None, memories.stable.copy()
    else:
        if new is not None:
            sandbox.instance, sandbox.stable = new, new.stable
        instance = sandbox.instance
        assert instance is not None
        if instance.mark is module.mark:
            return  # nothing was kept since, in neither of the memories
        instance.reset(module.saved, module.mark)
        sandbox.stable.reset_to(memories.stable)
    if sandbox.records:
        sandbox.see_anew()
        sandbox.take_over(sandbox.capture())


# --- records ------------------------------------------------------------------------------------


def _remembered(canister: Canister) -> _Canister:
    return _Canister(
        record=codec.dumps(canister),
        module=canister.module,
        metadata=canister.metadata,
        chunks=dict(canister.chunks),
        snapshots=_copies(canister.snapshots),
    )


def _copies(snapshots: dict[bytes, Snapshot]) -> dict[bytes, Snapshot]:
    """Copies of those that may still change: to an uploaded one, parts may be added."""
    return {
        name: snapshot.copy() if snapshot.source == "metadata_upload" else snapshot
        for name, snapshot in snapshots.items()
    }


def _restore_canisters(subnet: Subnet, snapshot: SubnetSnapshot) -> None:
    """Put the records back; those that are as they were stay."""
    before = subnet.canisters
    subnet.canisters = {}
    for name, remembered in snapshot.canisters.items():
        canister = before.get(name)
        if canister is None or codec.dumps(canister) != remembered.record:
            canister = codec.loads(remembered.record)
        canister.module = remembered.module
        canister.metadata = remembered.metadata
        canister.chunks = dict(remembered.chunks)
        canister.snapshots = _copies(remembered.snapshots)
        canister.scheduled = False
        subnet.canisters[name] = canister


def _mark_all(subnet: Subnet) -> None:
    """Let a store on disk learn of everything."""
    if subnet.unsaved is not None:
        subnet.unsaved.canisters.update(subnet.canisters)
        for request_id in subnet.unsaved.requests:
            subnet.unsaved.requests[request_id] = None
        subnet.unsaved.requests.update(subnet.history.records)


def _copy_of_log(log: MessageLog) -> MessageLog:
    return dataclasses.replace(log, entries=deque(log.entries))
