"""Which replica to talk to, and how canisters come onto it.

A `Network` is a URL with its root key. Where it is an embedded replica, it also owns that replica's
process and its admin interface. A `Canister` is called by the names of its interface. Knows nothing
of Async Flow.
"""

from bridge.network.admin import AdminClient, LoggedMessage
from bridge.network.canister import Canister, encode_arguments
from bridge.network.choice import NAMES, open_network, parse_root_key
from bridge.network.management import (
    InstallMode,
    create_canister,
    install_code,
    start_canister,
    stop_canister,
)
from bridge.network.module import metadata, module_interface
from bridge.network.network import Network

__all__ = [
    "NAMES",
    "AdminClient",
    "Canister",
    "InstallMode",
    "LoggedMessage",
    "Network",
    "create_canister",
    "encode_arguments",
    "install_code",
    "metadata",
    "module_interface",
    "open_network",
    "parse_root_key",
    "start_canister",
    "stop_canister",
]
