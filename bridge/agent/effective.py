"""Which canister a request is routed by: its effective canister id.

Rule implemented: interface specification, section Effective canister id.
"""

from functools import cache
from typing import TYPE_CHECKING, Final

from bridge.errors import CandidError, UsageError
from bridge.principal import Principal

if TYPE_CHECKING:
    from bridge.candid import Codec

_ANYWHERE: Final = frozenset(
    {
        "create_canister",
        "provisional_create_canister_with_cycles",
        "list_canisters",
        "raw_rand",
    }
)


@cache
def _codec_of(field: str) -> "Codec":
    # Loaded when first needed: the codec takes a quarter of this room's time to import, and only
    # calls to the management canister need it.
    from bridge import candid  # noqa: PLC0415

    return candid.Codec([candid.Record({field: candid.PrincipalType})])


def effective_canister_id(canister_id: Principal, method: str, arg: bytes) -> Principal:
    """Find the id by which a call or query is routed.

    For the management canister it is the canister that the argument names; for methods that name
    none (such as creating one) it is the management canister's own id, which stands for any subnet.

    Args:
        canister_id: The callee.
        method: Its method.
        arg: The argument, Candid-encoded.

    Raises:
        UsageError: If the argument must name a canister and does not.
    """
    if canister_id != Principal.management() or method in _ANYWHERE:
        return canister_id
    field = "target_canister" if method == "install_chunked_code" else "canister_id"
    try:
        (record,) = _codec_of(field).decode(arg)
        named = record[field]
    except CandidError as cause:
        raise UsageError(
            f"the argument of the management canister's {method!r} does not name a canister by "
            f"{field}: {cause.message}",
            hint="correct the argument, or pass effective_canister_id",
        ) from None
    assert isinstance(named, Principal)
    return named
