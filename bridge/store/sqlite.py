"""The default store: one SQLite file, durable at any `kill -9` once `commit` has returned.

All access goes through one thread of its own, so that no disk ever holds up the event loop. Commits
that wait while one is written share the next transaction and its one flush to disk; each keeps its
own all-or-nothing by a savepoint.
"""

import asyncio
import dataclasses
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

from bridge.errors import StoreConflictError, StoreError
from bridge.flow import Flow, ReceiverFlow, Role, SenderFlow
from bridge.flow.codec import from_json, to_json
from bridge.flow.usage import Usage
from bridge.principal import Principal
from bridge.store.base import Change, FlowPage, Store
from bridge.store.keys import check_cursor, key_of, receiver_key, sender_key

_VERSION: Final = 1
_BODIES: Final = ("payload", "response", "wrong")
_RECORD: Final = (
    "record,"
    " (SELECT data FROM body WHERE body.key = flow.key AND part = 'payload'),"
    " (SELECT data FROM body WHERE body.key = flow.key AND part = 'response'),"
    " (SELECT data FROM body WHERE body.key = flow.key AND part = 'wrong')"
)
_BARE: Final = "record, NULL, NULL, NULL"
_T = TypeVar("_T")
_Bodies = tuple[bytes | None, bytes | None, bytes | None]


@dataclass(frozen=True, slots=True)
class _Commit:
    changes: tuple[Change, ...]
    notes: Mapping[str, bytes]
    done: "asyncio.Future[None]"


class SQLiteStore(Store):
    """Flows in a file.

    Args:
        path: The file; it is made where absent, readable by its owner only.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        self._owner: sqlite3.Connection | None = None
        self._waiting: list[_Commit] = []
        self._writer: asyncio.Task[None] | None = None

    # --- Opening and closing --------------------------------------------------------------------

    async def open(self) -> None:
        """See `Store.open`."""
        if self._thread is not None:
            raise StoreError(f"the store {self._path} is open already", hint="open it only once")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flow-store")
        try:
            await self._run(self._connect)
        except BaseException:
            await self._run(self._disconnect)
            self._thread.shutdown(wait=True)
            self._thread = None
            raise

    def _connect(self) -> None:
        self._own()
        try:
            if not self._path.exists():
                self._path.touch(mode=0o600)
            connection = sqlite3.connect(self._path, isolation_level=None, timeout=30)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"the store {self._path} cannot be opened: {error}",
                hint="give a file in a folder that exists and may be written",
            ) from error
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _own(self) -> None:
        """Keep any other process, and any other store of this one, from working on the flows.

        Two bridges on one store would each take the other's running handlers for lost ones. The
        lock is SQLite's own, on a file beside the store, so it ends with the process however that
        ends, and whoever only reads the store is not held up.
        """
        place = self._path.with_name(self._path.name + "-owner")
        try:
            owner = sqlite3.connect(place, isolation_level=None, timeout=0)
        except sqlite3.Error as error:
            raise StoreError(
                f"the store {self._path} cannot be opened: {error}",
                hint="give a file in a folder that exists and may be written",
            ) from error
        try:
            owner.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            owner.close()
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise StoreError(
                    f"the store {self._path} cannot be opened: {place.name}: {error}",
                    hint="see that this file and its folder may be written",
                ) from error
            raise StoreError(
                f"the store {self._path} is in use",
                hint="another process works on it; stop that one, or give each its own file",
            ) from error
        self._owner = owner

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if self._layout(connection) == 0:
                schema = resources.files("bridge.store") / "schema.sql"
                for statement in _statements(schema.read_text(encoding="utf-8")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def _layout(self, connection: sqlite3.Connection) -> int:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise StoreError(
                f"the store {self._path} has layout {version}, this version knows {_VERSION}",
                hint="use the version of ic-bridge that wrote it, or a later one",
            )
        return version

    async def close(self) -> None:
        """See `Store.close`."""
        while self._writer is not None:
            await asyncio.wait([self._writer])
        thread, self._thread = self._thread, None  # from here on, whoever comes is told so
        if thread is None:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(thread, self._disconnect)
        finally:
            thread.shutdown(wait=True)

    def _disconnect(self) -> None:
        for held in (self._connection, self._owner):
            if held is not None:
                held.close()
        self._connection = self._owner = None

    async def _run(self, work: Callable[[], _T]) -> _T:
        if self._thread is None:
            raise StoreError("the store is not open", hint="use it with: async with store")

        def guarded() -> _T:
            try:
                return work()
            except sqlite3.Error as error:
                raise self._failed(error) from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, guarded)

    def _failed(self, error: Exception) -> StoreError:
        return StoreError(
            f"the store {self._path} failed: {error}",
            hint="see that its disk has room, and that nothing else writes to the file",
        )

    @property
    def _sql(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection

    # --- Writing --------------------------------------------------------------------------------

    async def commit(self, *changes: Change, notes: Mapping[str, bytes] | None = None) -> None:
        """See `Store.commit`."""
        if self._thread is None:
            raise StoreError("the store is not open", hint="use it with: async with store")
        entry = _Commit(changes, notes or {}, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_waiting())
        await entry.done

    async def _write_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                outcomes: Sequence[Exception | None]
                try:
                    outcomes = await self._run(lambda batch=batch: self._write(batch))  # type: ignore[misc]
                except Exception as error:  # noqa: BLE001 - whatever failed, each caller has to hear
                    outcomes = [error] * len(batch)
                for entry, outcome in zip(batch, outcomes, strict=True):
                    if entry.done.done():  # its caller was cancelled; what is written stays so
                        continue
                    if outcome is None:
                        entry.done.set_result(None)
                    else:
                        entry.done.set_exception(outcome)
        finally:
            self._writer = None

    def _write(self, batch: list[_Commit]) -> list[StoreError | None]:
        outcomes: list[StoreError | None] = []
        self._sql.execute("BEGIN IMMEDIATE")
        try:
            for entry in batch:
                self._sql.execute("SAVEPOINT one")
                try:
                    for change in entry.changes:
                        self._write_change(change)
                    self._sql.executemany(
                        "INSERT INTO note VALUES (?, ?) "
                        "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                        entry.notes.items(),
                    )
                except Exception as error:
                    # What is wrong with one commit alone is its own caller's; where SQLite gave
                    # the whole transaction up, as it does on a full disk, it is everybody's.
                    if not self._sql.in_transaction:
                        raise
                    self._sql.execute("ROLLBACK TO one")
                    outcomes.append(error if isinstance(error, StoreError) else self._failed(error))
                else:
                    outcomes.append(None)
                self._sql.execute("RELEASE one")
            self._sql.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._sql.execute("ROLLBACK")
            raise
        return outcomes

    def _write_change(self, change: Change) -> None:
        subject, before, after = change.subject, change.before, change.after
        key = key_of(subject)
        if before is None:
            assert after is not None
            changed = self._sql.execute(
                "INSERT INTO flow VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    key,
                    subject.role,
                    str(subject.peer),
                    str(subject.msg_id),
                    after.state,
                    after.due,
                    after.version,
                    _document(after),
                ),
            )
        elif after is None:
            changed = self._sql.execute(
                "DELETE FROM flow WHERE key = ? AND version = ?", (key, before.version)
            )
        else:
            changed = self._sql.execute(
                "UPDATE flow SET state = ?, due = ?, version = ?, record = ?"
                " WHERE key = ? AND version = ?",
                (after.state, after.due, after.version, _document(after), key, before.version),
            )
        if changed.rowcount != 1:
            raise StoreConflictError(
                f"flow {subject.msg_id} was changed meanwhile",
                hint="read it again and decide anew",
            )
        self._write_bodies(key, _bodies(before), _bodies(after))
        delta = Usage.of(after) - Usage.of(before)
        if delta != Usage():
            for peer in ("", str(subject.peer)):
                self._sql.execute(
                    "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (role, peer) DO UPDATE"
                    " SET open = open + excluded.open, bytes = bytes + excluded.bytes,"
                    " tombstones = tombstones + excluded.tombstones,"
                    " unanswered = unanswered + excluded.unanswered",
                    (subject.role, peer, *dataclasses.astuple(delta)),
                )
            self._sql.execute(
                "DELETE FROM usage WHERE role = ? AND peer = ? AND open = 0 AND tombstones = 0",
                (subject.role, str(subject.peer)),
            )

    def _write_bodies(self, key: bytes, had: _Bodies, has: _Bodies) -> None:
        """Write what differs; a body that stays is not touched, however large it is."""
        for part, old, new in zip(_BODIES, had, has, strict=True):
            if new is None and old is not None:
                self._sql.execute("DELETE FROM body WHERE key = ? AND part = ?", (key, part))
            elif new is not None and new is not old:
                self._sql.execute(
                    "INSERT INTO body VALUES (?, ?, ?)"
                    " ON CONFLICT (key, part) DO UPDATE SET data = excluded.data",
                    (key, part, new),
                )

    # --- Reading --------------------------------------------------------------------------------

    async def sender_flow(self, msg_id: int) -> SenderFlow | None:
        """See `Store.sender_flow`."""
        found = await self._by_key(sender_key(msg_id))
        assert found is None or isinstance(found, SenderFlow)
        return found

    async def receiver_flow(self, peer: Principal, msg_id: int) -> ReceiverFlow | None:
        """See `Store.receiver_flow`."""
        found = await self._by_key(receiver_key(peer, msg_id))
        assert found is None or isinstance(found, ReceiverFlow)
        return found

    async def _by_key(self, key: bytes) -> Flow | None:
        rows = await self._select(f"SELECT {_RECORD} FROM flow WHERE key = ?", key)  # noqa: S608
        return _flow(rows[0]) if rows else None

    async def _select(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return await self._run(lambda: self._sql.execute(query, values).fetchall())

    async def note(self, name: str) -> bytes | None:
        """See `Store.note`."""
        rows = await self._select("SELECT value FROM note WHERE name = ?", name)
        return rows[0][0] if rows else None

    async def due(self, now: int, limit: int, *, bodies: bool = True) -> list[Flow]:
        """See `Store.due`."""
        fields = _RECORD if bodies else _BARE
        rows = await self._select(
            f"SELECT {fields} FROM flow WHERE due <= ? ORDER BY due LIMIT ?",  # noqa: S608
            now,
            limit,
        )
        return [_flow(row) for row in rows]

    async def next_due(self) -> int | None:
        """See `Store.next_due`."""
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
        """See `Store.flows`."""
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
        """See `Store.peers`."""
        rows = await self._select(
            "SELECT peer FROM usage WHERE role = ? AND peer <> '' AND open >= ?",
            role,
            int(with_open),
        )
        return [Principal.from_text(peer) for (peer,) in rows]

    async def usage(self, role: Role, peer: Principal | None = None) -> Usage:
        """See `Store.usage`."""
        rows = await self._select(
            "SELECT open, tombstones, bytes, unanswered FROM usage WHERE role = ? AND peer = ?",
            role,
            "" if peer is None else str(peer),
        )
        return Usage(*rows[0]) if rows else Usage()


def _statements(script: str) -> list[str]:
    lines = [line.split("--", 1)[0] for line in script.splitlines()]
    return [statement for part in "\n".join(lines).split(";") if (statement := part.strip())]


def _bodies(record: Flow | None) -> _Bodies:
    """The parts of a record that may be large, in the order of `_BODIES`."""
    if record is None:
        return (None, None, None)
    wrong = record.wrong_payload if isinstance(record, SenderFlow) else None
    return (record.payload, record.response, wrong)


def _document(record: Flow) -> str:
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
