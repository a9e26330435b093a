"""Which replica to talk to, and how canisters come onto it.

A `Network` is a URL with its root key. Where it is an embedded replica, it also owns that replica's
process and its admin interface. Knows nothing of Async Flow.
"""

from bridge.network.admin import AdminClient, LoggedMessage
from bridge.network.management import (
    InstallMode,
    create_canister,
    install_code,
    start_canister,
    stop_canister,
)
from bridge.network.network import Network

__all__ = [
    "AdminClient",
    "InstallMode",
    "LoggedMessage",
    "Network",
    "create_canister",
    "install_code",
    "start_canister",
    "stop_canister",
]
