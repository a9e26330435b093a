"""The management canister ``aaaaa-aa``: creating, installing and running canisters."""

# Importing the modules enters their methods into the table.
from bridge.replica.management import canister as _canister  # noqa: F401
from bridge.replica.management import snapshots as _snapshots  # noqa: F401
from bridge.replica.management.dispatch import (
    carry_out,
    effective_canister_id,
    handle,
    ingress_filter,
    query,
)

__all__ = ["carry_out", "effective_canister_id", "handle", "ingress_filter", "query"]
