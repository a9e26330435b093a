"""Async Flow for the Internet Computer: one-shot messages between agents and canisters.

The public names below arrive on first use, so that ``import bridge`` itself costs next to nothing:
a test session or a shell completion pays for the network, cryptography and Wasm only if it needs
them.
"""

import importlib

from bridge._version import __version__

# Checkers go by the name; its own module is half of what this import would cost.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from bridge.agent import Agent, Identity
    from bridge.errors import BridgeError
    from bridge.flow import Policy
    from bridge.monitor import CanisterWatch, StoreWatch
    from bridge.network import Network
    from bridge.principal import Principal
    from bridge.replica import Replica
    from bridge.service import Bridge
    from bridge.store import MemoryStore, PostgresStore, SQLiteStore

_HOMES = {
    "Agent": "bridge.agent",
    "Bridge": "bridge.service",
    "BridgeError": "bridge.errors",
    "CanisterWatch": "bridge.monitor",
    "Identity": "bridge.agent",
    "MemoryStore": "bridge.store",
    "Network": "bridge.network",
    "Policy": "bridge.flow",
    "PostgresStore": "bridge.store",
    "Principal": "bridge.principal",
    "Replica": "bridge.replica",
    "SQLiteStore": "bridge.store",
    "StoreWatch": "bridge.monitor",
}

__all__ = [
    "Agent",
    "Bridge",
    "BridgeError",
    "CanisterWatch",
    "Identity",
    "MemoryStore",
    "Network",
    "Policy",
    "PostgresStore",
    "Principal",
    "Replica",
    "SQLiteStore",
    "StoreWatch",
    "__version__",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
