"""The management canister ``aaaaa-aa``: creating, installing and running canisters."""

from bridge.replica.management.canister import handle, ingress_filter, query

__all__ = ["handle", "ingress_filter", "query"]
