"""What tools expect beside subnets: the ICP ledger, the cycles minting canister, the cycles ledger.

They are canisters of this project (``motoko_reference/system``) at the ids of those on mainnet.
Balances are real: the cycles that users hold here are backed by those that the canisters are
created with. Nothing in here is known to the replica's other floors.
"""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final

from bridge import candid, contracts
from bridge.errors import ReplicaError
from bridge.principal import Principal
from bridge.replica import management
from bridge.replica.execution.engine import compile_module
from bridge.replica.management.types import SIGNATURES
from bridge.replica.scheduler.machine import Machine
from bridge.replica.state.messages import FROM_SYSTEM, Reject, Request

ICP_LEDGER: Final = Principal.from_text("ryjl3-tyaaa-aaaaa-aaaba-cai")
CYCLES_MINTING_CANISTER: Final = Principal.from_text("rkp4c-7iaaa-aaaaa-aaaca-cai")
CYCLES_LEDGER: Final = Principal.from_text("um5iw-rqaaa-aaaaq-qaaba-cai")

USER_CYCLES: Final = 1_000 * 10**12
"""Cycles that every user has in the cycles ledger from the beginning."""
USER_E8S: Final = 1_000 * 10**8
"""What every user has in the ICP ledger from the beginning, in 1/100,000,000 ICP."""
XDR_PERMYRIAD_PER_ICP: Final = 50_000
"""The price of an ICP, in 1/10,000 XDR; one XDR buys 10^12 cycles."""

# Their controller on mainnet, which does not exist here: nobody can change them.
_CONTROLLER: Final = Principal.from_text("r7inp-6aaaa-aaaaa-aaabq-cai")
_RESERVE: Final = 10**30

_LEDGER_INSTALL: Final = candid.Codec([candid.Record({"grant": candid.Nat})])
_MINTING_INSTALL: Final = candid.Codec(
    [candid.Record({"subnet": candid.PrincipalType, "xdr_permyriad_per_icp": candid.Nat64})]
)


@dataclass(frozen=True, slots=True)
class _SystemCanister:
    module: str
    canister_id: Principal
    argument: Callable[[Machine], bytes]


_CANISTERS: Final = (
    _SystemCanister(
        "icp_ledger", ICP_LEDGER, lambda _machine: _LEDGER_INSTALL.encode({"grant": USER_E8S})
    ),
    _SystemCanister(
        "cycles_minting",
        CYCLES_MINTING_CANISTER,
        lambda machine: _MINTING_INSTALL.encode(
            {
                "subnet": machine.subnet.keys.subnet_id,
                "xdr_permyriad_per_icp": XDR_PERMYRIAD_PER_ICP,
            }
        ),
    ),
    _SystemCanister(
        "cycles_ledger",
        CYCLES_LEDGER,
        lambda _machine: _LEDGER_INSTALL.encode({"grant": USER_CYCLES}),
    ),
)


def compile_all(executor: Executor) -> None:
    """Compile their modules side by side; what was compiled before comes from the cache."""
    modules = [contracts.motoko_canister(canister.module) for canister in _CANISTERS]
    list(executor.map(compile_module, modules))


def install_missing(machine: Machine) -> None:
    """Install those that the subnet does not have yet.

    Must run on a thread whose stack can run canisters, before the rounds begin.

    Raises:
        ReplicaError: If one cannot be installed.
    """
    with machine.lock:
        machine.begin_round()
        for canister in _CANISTERS:
            found = machine.subnet.canisters.get(canister.canister_id)
            if found is None:
                _create(machine, canister)
                _install(machine, canister)
            elif found.module_hash is None and found.is_controller(_CONTROLLER):
                _install(machine, canister)  # which failed at an earlier start


def _create(machine: Machine, canister: _SystemCanister) -> None:
    _manage(
        machine,
        canister,
        "provisional_create_canister_with_cycles",
        {
            "amount": _RESERVE,
            "settings": None,  # so the caller becomes the controller
            "specified_id": canister.canister_id,
            "sender_canister_version": None,
        },
    )


def _install(machine: Machine, canister: _SystemCanister) -> None:
    _manage(
        machine,
        canister,
        "install_code",
        {
            "mode": candid.Case("install"),
            "canister_id": canister.canister_id,
            "wasm_module": contracts.motoko_canister(canister.module),
            "arg": canister.argument(machine),
            "sender_canister_version": None,
        },
    )


def _manage(
    machine: Machine, canister: _SystemCanister, method: str, value: dict[str, Any]
) -> None:
    signature = SIGNATURES[method]
    assert signature.argument is not None
    arg = signature.argument.encode(value)
    answer = management.carry_out(
        machine, Request(FROM_SYSTEM, _CONTROLLER, Principal.management(), method, arg)
    )
    if isinstance(answer, Reject):
        raise ReplicaError(
            f"the system canister {canister.module} could not be installed at "
            f"{canister.canister_id}: {answer.message}",
            hint="install the package again, or start the replica without system canisters",
        )
