"""What stores that speak SQL have in common: their thread, their tables, read, and records as rows.

The tables are those of `schema.sql` and `postgres.sql`; a placeholder is ``?``. Knows no database.
"""

import dataclasses
import json
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from bridge.errors import StoreError
from bridge.flow import Flow, ReceiverFlow, Role, SenderFlow
from bridge.flow.codec import from_json, to_json
from bridge.flow.usage import Usage
from bridge.principal import Principal
from bridge.store.base import FlowPage, StoreView
from bridge.store.keys import check_cursor, key_of, receiver_key, sender_key

PARTS: Final = ("payload", "response", "wrong")
_RECORD: Final = (
    "record,"
    " (SELECT data FROM body WHERE body.key = flow.key AND part = 'payload'),"
    " (SELECT data FROM body WHERE body.key = flow.key AND part = 'response'),"
    " (SELECT data FROM body WHERE body.key = flow.key AND part = 'wrong')"
)
_BARE: Final = "record, NULL, NULL, NULL"
Bodies = tuple[bytes | None, bytes | None, bytes | None]


class TablesView(StoreView):
    """Reads the tables, in a thread of its own while it is open."""

    _thread: ThreadPoolExecutor | None = None

    def _check_open(self) -> ThreadPoolExecutor:
        if self._thread is None:
            raise StoreError("the store is not open", hint="use it with: async with store")
        return self._thread

    @abstractmethod
    async def _select(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Every row that a query finds."""

    async def sender_flow(self, msg_id: int) -> SenderFlow | None:
        """See `StoreView.sender_flow`."""
        found = await self._by_key(sender_key(msg_id))
        assert found is None or isinstance(found, SenderFlow)
        return found

    async def receiver_flow(self, peer: Principal, msg_id: int) -> ReceiverFlow | None:
        """See `StoreView.receiver_flow`."""
        found = await self._by_key(receiver_key(peer, msg_id))
        assert found is None or isinstance(found, ReceiverFlow)
        return found

    async def _by_key(self, key: bytes) -> Flow | None:
        rows = await self._select(f"SELECT {_RECORD} FROM flow WHERE key = ?", key)  # noqa: S608
        return _flow(rows[0]) if rows else None

    async def note(self, name: str) -> bytes | None:
        """See `StoreView.note`."""
        rows = await self._select("SELECT value FROM note WHERE name = ?", name)
        return rows[0][0] if rows else None

    async def due(self, now: int, limit: int, *, bodies: bool = True) -> list[Flow]:
        """See `StoreView.due`."""
        fields = _RECORD if bodies else _BARE
        rows = await self._select(
            f"SELECT {fields} FROM flow WHERE due <= ? ORDER BY due LIMIT ?",  # noqa: S608
            now,
            limit,
        )
        return [_flow(row) for row in rows]

    async def next_due(self) -> int | None:
        """See `StoreView.next_due`."""
        rows = await self._select("SELECT min(due) FROM flow WHERE due IS NOT NULL")
        due: int | None = rows[0][0]
        return due

    async def flows(
        self,
        *,
        role: Role | None = None,
        state: str | None = None,
        after: bytes | None = None,
        limit: int = 100,
        bodies: bool = True,
    ) -> FlowPage:
        """See `StoreView.flows`."""
        fields = _RECORD if bodies else _BARE
        where, values = ["key > ?"], [check_cursor(after)]
        conditions: list[Any] = []
        for column, wanted in (("role", role), ("state", state)):
            if wanted is not None:
                where.append(f"{column} = ?")
                conditions.append(str(wanted))
        rows = await self._select(
            f"SELECT {fields} FROM flow WHERE {' AND '.join(where)} ORDER BY key LIMIT ?",  # noqa: S608
            *values,
            *conditions,
            limit + 1,
        )
        found = tuple(_flow(row) for row in rows[:limit])
        return FlowPage(found, key_of(found[-1]) if len(rows) > limit else None)

    async def peers(self, role: Role, *, with_open: bool = False) -> list[Principal]:
        """See `StoreView.peers`."""
        rows = await self._select(
            "SELECT peer FROM usage WHERE role = ? AND peer <> '' AND open >= ?",
            role,
            int(with_open),
        )
        return [Principal.from_text(peer) for (peer,) in rows]

    async def usage(self, role: Role, peer: Principal | None = None) -> Usage:
        """See `StoreView.usage`."""
        rows = await self._select(
            "SELECT open, tombstones, bytes, unanswered FROM usage WHERE role = ? AND peer = ?",
            role,
            "" if peer is None else str(peer),
        )
        return Usage(*rows[0]) if rows else Usage()


def statements(script: str) -> list[str]:
    """The statements of a schema file, without its comments."""
    lines = [line.split("--", 1)[0] for line in script.splitlines()]
    return [statement for part in "\n".join(lines).split(";") if (statement := part.strip())]


def bodies_of(record: Flow | None) -> Bodies:
    """The parts of a record that may be large, in the order of `PARTS`."""
    if record is None:
        return (None, None, None)
    wrong = record.wrong_payload if isinstance(record, SenderFlow) else None
    return (record.payload, record.response, wrong)


def document_of(record: Flow) -> str:
    """A record as the column `record` has it: JSON, without the parts that may be large."""
    if isinstance(record, SenderFlow):
        bare: Flow = dataclasses.replace(record, payload=None, response=None, wrong_payload=None)
    else:
        bare = dataclasses.replace(record, payload=None, response=None)
    return json.dumps(to_json(bare), separators=(",", ":"))


def _flow(row: tuple[Any, ...]) -> Flow:
    document, payload, response, wrong = row
    record: Flow = from_json(json.loads(document))
    if isinstance(record, SenderFlow):
        return dataclasses.replace(record, payload=payload, response=response, wrong_payload=wrong)
    return dataclasses.replace(record, payload=payload, response=response)
