"""Installing code: ``install``, ``reinstall`` and ``upgrade``, all or nothing.

Rule implemented: interface specification, sections Canister initialization and Canister upgrades,
and IC method ``install_code``. A module with enhanced orthogonal persistence keeps its main memory.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from bridge.replica.execution.binary import ModuleInfo
from bridge.replica.execution.engine import CompiledModule, compile_module
from bridge.replica.execution.failures import ExecutionError, InvalidModuleError
from bridge.replica.execution.instance import Instance
from bridge.replica.execution.run import Mode, Run
from bridge.replica.scheduler.machine import Machine
from bridge.replica.scheduler.rejects import failure_reject, frozen
from bridge.replica.scheduler.sandbox import (
    MAX_STABLE_PAGES,
    Sandbox,
    attempt,
    check_memory,
    new_instance,
)
from bridge.replica.state.canister import Canister
from bridge.replica.state.messages import Reject, RejectCode, Request
from bridge.replica.state.stable import StableMemory

Kind = Literal["install", "reinstall", "upgrade"]
_PERSISTENT: Final = "enhanced-orthogonal-persistence"


@dataclass(frozen=True, slots=True)
class Installation:
    """What is asked for.

    Attributes:
        keep_memory: For upgrades, whether the main memory is kept; ``None`` if nothing was said.
    """

    kind: Kind
    module: bytes
    arg: bytes
    skip_pre_upgrade: bool = False
    keep_memory: bool | None = None


def _refuse(text: str, error_code: str) -> Reject:
    return Reject(RejectCode.CANISTER_ERROR, text, error_code)


def _objection(canister: Canister, wanted: Installation, compiled: CompiledModule) -> Reject | None:
    """Why this cannot be done to this canister."""
    name = canister.canister_id
    if wanted.kind == "install" and canister.module_hash is not None:
        return _refuse(
            f"Canister {name} cannot be installed because the canister is not empty. Try "
            "installing with mode='reinstall' instead.",
            "IC0538",
        )
    if wanted.kind != "upgrade":
        return None
    if canister.module_hash is None:
        return _refuse(
            f"Error from Canister {name}: Canister cannot be upgraded because it is empty: it "
            "contains no Wasm module",
            "IC0537",
        )
    if wanted.keep_memory is None and _PERSISTENT in canister.metadata:
        return _refuse(
            f"Error from Canister {name}: Missing upgrade option: Enhanced orthogonal persistence "
            "requires the `wasm_memory_persistence` upgrade option.",
            "IC0504",
        )
    if wanted.keep_memory and not compiled.info.orthogonal_persistence:
        return _refuse(
            f"Error from Canister {name}: Invalid upgrade option: The "
            "`wasm_memory_persistence: opt Keep` upgrade option requires that the new canister "
            "module supports enhanced orthogonal persistence.",
            "IC0504",
        )
    return None


def _hooks(
    machine: Machine, canister: Canister, request: Request, arg: bytes, runs: list[Run], timer: int
) -> Callable[[Mode], Run]:
    limit = machine.limits.install

    def run(mode: Mode) -> Run:
        environment = machine.environment(canister)
        # The hooks run one after another, but their effects are applied together.
        spent = sum(run.balance - run.environment.balance for run in runs)
        environment = dataclasses.replace(
            environment,
            version=canister.version + (mode is not Mode.G),
            global_timer=timer if mode is Mode.G else 0,
            balance=environment.balance + spent,
        )
        return Run(
            mode=mode,
            environment=environment,
            instruction_limit=limit,
            caller=request.sender.raw,
            arg=arg if mode is Mode.I else b"",
        )

    return run


def install(
    machine: Machine, canister: Canister, request: Request, wanted: Installation
) -> Reject | None:
    """Install, reinstall or upgrade; why it failed, or ``None``."""
    try:
        # This takes long, and touches no memory: neither the others nor its queries wait for it.
        compiled = machine.outside(Sandbox(), lambda: compile_module(wanted.module))
    except InvalidModuleError as error:
        return failure_reject(canister, error)
    objection = _objection(canister, wanted, compiled) or (
        frozen(canister) if machine.is_frozen(canister) else None
    )
    if objection is not None:
        return objection
    runs: list[Run] = []
    timer = canister.global_timer
    run_for = _hooks(machine, canister, request, wanted.arg, runs, timer)
    sandbox = machine.sandbox(canister)
    old = sandbox.instance
    made: list[Instance] = []

    def enter(instance: Instance, mode: Mode, export: str) -> None:
        if instance.has(export):
            run = run_for(mode)
            runs.append(run)
            instance.enter(run, export)
            if mode is Mode.I:
                check_memory(instance, canister.settings.wasm_memory_limit)

    def renew() -> None:
        stable = StableMemory(MAX_STABLE_PAGES)
        stable.begin()
        new = new_instance(compiled, stable)
        enter(new, Mode.s, compiled.info.start_name)
        enter(new, Mode.I, "canister_init")
        made.append(new)

    def upgrade() -> None:
        assert old is not None
        if not wanted.skip_pre_upgrade:
            enter(old, Mode.G, "canister_pre_upgrade")
        new = new_instance(compiled, sandbox.stable)
        if wanted.keep_memory:
            size, contents, _ = old.save()
            new.load_memory(size, contents)
        enter(new, Mode.s, compiled.info.start_name)
        enter(new, Mode.I, "canister_post_upgrade")
        made.append(new)

    def whole() -> ExecutionError | None:
        if wanted.kind != "upgrade":
            failure = attempt(renew)
        else:
            assert old is not None
            failure = attempt(old.begin)
            if failure is not None:
                return failure
            failure = attempt(upgrade)
            if failure is not None:
                old.undo()
        if failure is None:
            (new,) = made
            new.stable.keep()
            new.note_size()
            sandbox.instance, sandbox.stable = new, new.stable
        return failure

    failure = machine.outside(sandbox, whole)
    if failure is not None:
        for run in runs:
            machine.apply_hook(canister, run, failure if run is runs[-1] else None, keep=False)
        return failure_reject(canister, failure)
    canister.global_timer = 0
    info = compiled.info
    if wanted.kind != "upgrade":
        canister.certified_data = b""
        canister.low_memory_reported = False
        canister.clear_log()
    note_module(machine, canister, wanted.module, info)
    for run in runs:
        if run.mode is Mode.G:
            run.global_timer = None  # no timer outlives an installation
        machine.apply_hook(canister, run, None, keep=True)
    canister.version += 1
    machine.measure(canister)
    return None


def note_module(machine: Machine, canister: Canister, module: bytes, info: ModuleInfo) -> None:
    """Remember which module a canister now runs."""
    canister.module_hash, canister.module = info.module_hash, module
    canister.metadata = {
        name: (section.public, section.content) for name, section in info.metadata.items()
    }
    canister.installed = machine.time
    machine.module_changed(canister)
