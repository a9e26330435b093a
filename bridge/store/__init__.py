"""Where flows live between two steps: in memory, in SQLite or in PostgreSQL.

    async with SQLiteStore(path) as store:
        await store.commit(Change(None, record))
        [record] = await store.due(now, limit=1)

    async with view(path) as flows:  # beside the bridge that works on it
        await flows.usage(Role.SENDER)

Every store passes the same contract tests. Knows the records of ``bridge.flow`` and none of its
rules: what a record means is decided there.
"""

from bridge.store.base import Change, FlowPage, Store, StoreView
from bridge.store.memory import MemoryStore
from bridge.store.opening import view
from bridge.store.postgres import PostgresStore
from bridge.store.sqlite import SQLiteStore

__all__ = [
    "Change",
    "FlowPage",
    "MemoryStore",
    "PostgresStore",
    "SQLiteStore",
    "Store",
    "StoreView",
    "view",
]
