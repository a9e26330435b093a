"""The System API of cycles: balance, what came with a call, burning, and what things cost.

Nothing is charged for work on this replica, so the functions that tell a cost say zero.
"""

from typing import Final

from bridge.candid import Codec, Nat32, Nat64, Opt, Record, Reserved, Variant
from bridge.errors import CandidError
from bridge.replica.execution.failures import TrapError
from bridge.replica.execution.run import EVERYWHERE, Run
from bridge.replica.execution.table import (
    ANYWHERE,
    BURN,
    CYCLES,
    REFUNDED,
    U64,
    Function,
    charge,
    row,
    violation,
)

_MAX_COST_PARAMETERS: Final = 1024
_OUTCALL_COST: Final = Codec(
    [
        Record(
            {
                "request_bytes": Nat64,
                "http_roundtrip_time_ms": Nat64,
                "raw_response_bytes": Nat64,
                "transformed_response_bytes": Nat64,
                "transform_instructions": Nat64,
                "outcall_type": Opt(
                    Variant(
                        {
                            "fully_replicated": Reserved,
                            "non_replicated": Reserved,
                            "flexible": Opt(
                                Record(
                                    {
                                        "min_responses": Nat32,
                                        "max_responses": Nat32,
                                        "total_requests": Nat32,
                                    }
                                )
                            ),
                        }
                    )
                ),
            }
        )
    ]
)


def _put128(run: Run, dst: int, value: int) -> None:
    run.instance.write(dst, value.to_bytes(16, "little"))


def _fits64(value: int, name: str) -> int:
    if value > U64:
        raise TrapError(f"Canister trapped: {name}: cycles amount exceeds 64-bit representation")
    return value


def _accept(run: Run, most: int) -> int:
    amount = min(most, run.available - run.accepted)
    if run.responded:
        amount = 0
    run.accepted += amount
    run.balance += amount
    return amount


def _available(run: Run) -> int:
    return 0 if run.responded else run.available - run.accepted


@row("msg_cycles_available", "", "l", CYCLES, only32=True)
def _msg_cycles_available(run: Run) -> int:
    return _fits64(_available(run), "ic0.msg_cycles_available")


@row("msg_cycles_available128", "I", "", CYCLES)
def _msg_cycles_available128(run: Run, dst: int) -> None:
    _put128(run, dst, _available(run))


@row("msg_cycles_refunded", "", "l", REFUNDED, only32=True)
def _msg_cycles_refunded(run: Run) -> int:
    return _fits64(run.refunded, "ic0.msg_cycles_refunded")


@row("msg_cycles_refunded128", "I", "", REFUNDED)
def _msg_cycles_refunded128(run: Run, dst: int) -> None:
    _put128(run, dst, run.refunded)


@row("msg_cycles_accept", "l", "l", CYCLES, only32=True)
def _msg_cycles_accept(run: Run, most: int) -> int:
    return _accept(run, most)


@row("msg_cycles_accept128", "llI", "", CYCLES)
def _msg_cycles_accept128(run: Run, high: int, low: int, dst: int) -> None:
    _put128(run, dst, _accept(run, high << 64 | low))


@row("cycles_burn128", "llI", "", BURN)
def _cycles_burn128(run: Run, high: int, low: int, dst: int) -> None:
    amount = min(high << 64 | low, run.liquid)
    run.balance -= amount
    run.burned += amount
    _put128(run, dst, amount)


@row("canister_cycle_balance", "", "l", EVERYWHERE, only32=True)
def _canister_cycle_balance(run: Run) -> int:
    return _fits64(run.balance, "ic0.canister_cycle_balance")


@row("canister_cycle_balance128", "I", "", EVERYWHERE)
def _canister_cycle_balance128(run: Run, dst: int) -> None:
    _put128(run, dst, run.balance)


@row("canister_liquid_cycle_balance128", "I", "", EVERYWHERE)
def _canister_liquid_cycle_balance128(run: Run, dst: int) -> None:
    _put128(run, dst, run.liquid)


@row("cost_call", "llI", "", ANYWHERE)
def _cost_call(run: Run, _method_name_size: int, _payload_size: int, dst: int) -> None:
    _put128(run, dst, 0)


@row("cost_create_canister", "I", "", ANYWHERE)
def _cost_create_canister(run: Run, dst: int) -> None:
    _put128(run, dst, 0)


@row("cost_http_request", "llI", "", ANYWHERE)
def _cost_http_request(run: Run, _request_size: int, _max_res_bytes: int, dst: int) -> None:
    _put128(run, dst, 0)


@row("cost_http_request_v2", "III", "", ANYWHERE)
def _cost_http_request_v2(run: Run, src: int, size: int, dst: int) -> None:
    if size > _MAX_COST_PARAMETERS:
        raise violation(f"ic0.cost_http_request_v2: {size} bytes of parameters are too many")
    charge(run, size)
    try:
        _OUTCALL_COST.decode(run.instance.read(src, size))
    except CandidError as error:
        raise violation(f"ic0.cost_http_request_v2: {error.message}") from error
    _put128(run, dst, 0)


def _cost_of_key(curves: int) -> Function:
    def cost(run: Run, src: int, size: int, curve: int, dst: int) -> int:
        """There are no threshold keys on this replica: 2 says that the key's name is unknown."""
        charge(run, size)
        run.instance.check(src, size)
        run.instance.check(dst, 16)
        return 2 if curve < curves else 1

    return cost


for _name, _curves in (
    ("cost_sign_with_ecdsa", 2),
    ("cost_sign_with_schnorr", 2),
    ("cost_vetkd_derive_key", 1),
):
    row(_name, "IIiI", "i", ANYWHERE)(_cost_of_key(_curves))
