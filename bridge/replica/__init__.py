"""The embedded replica: an IC subnet in one process, for development and tests.

It runs unchanged canister Wasm, speaks the IC's HTTP interface, verifies what a replica verifies
and certifies what a replica certifies. Its floors, lowest first: ``state``, ``execution``,
``scheduler``, ``management``, ``http``.
"""

from bridge.replica.replica import Replica

__all__ = ["Replica"]
