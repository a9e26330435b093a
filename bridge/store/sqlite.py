"""The default store: one SQLite file, durable at any `kill -9` once `commit` has returned.

All access goes through one thread of its own, so that no disk ever holds up the event loop. Commits
that wait while one is written share the next transaction and its one flush to disk; each keeps its
own all-or-nothing by a savepoint.
"""

import asyncio
import dataclasses
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

from bridge.errors import StoreConflictError, StoreError
from bridge.flow.usage import Usage
from bridge.store.base import Change, Store
from bridge.store.grouping import Commit, Grouped
from bridge.store.keys import key_of
from bridge.store.tables import PARTS, Bodies, TablesView, bodies_of, document_of, statements

_VERSION: Final = 1
_MAGIC: Final = b"SQLite format 3\0"
_T = TypeVar("_T")


class SQLiteView(TablesView):
    """Flows in a file, read only.

    SQLite needs its two files beside a database (``-wal``, ``-shm``) to read it too, and makes them
    where they are missing; the file itself is opened for reading.

    Args:
        path: The file that a bridge works on, or did.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._ended: Future[None] | None = None
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """See `StoreView.open`."""
        if self._thread is not None:
            raise StoreError(f"the store {self._path} is open already", hint="open it only once")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flow-store")
        try:
            if self._ended is not None:  # of a time before, whose close was not waited for
                await asyncio.shield(asyncio.wrap_future(self._ended))
            await self._run(self._connect)
        except BaseException:
            await self._end()
            raise

    def _connect(self) -> None:
        if not self._path.exists():
            raise StoreError(
                f"there is no store {self._path}",
                hint="give the file that the bridge works on; a bridge makes it when it starts",
            )
        if not self._path.is_file():  # to open a pipe is to wait for who writes into it
            raise StoreError(
                f"{self._path} is no regular file, so there is no store in it",
                hint="give the file that the bridge works on",
            )
        place = f"{self._path.resolve().as_uri()}?mode=ro"
        try:
            self._connection = sqlite3.connect(place, uri=True, isolation_level=None, timeout=30)
            layout = self._layout(self._connection)
        except sqlite3.Error as error:
            raise StoreError(
                f"the store {self._path} cannot be read: {error}",
                hint="give the file that a bridge works on; it and its folder must be readable, "
                "and the folder writable while no bridge is at work",
            ) from error
        if layout == 0:
            raise StoreError(
                f"the file {self._path} holds no flows",
                hint="give the file that a bridge works on; a bridge makes it when it starts",
            )

    def _layout(self, connection: sqlite3.Connection) -> int:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise StoreError(
                f"the store {self._path} has layout {version}, this version knows {_VERSION}",
                hint="use the version of ic-bridge that wrote it, or a later one",
            )
        return version

    async def close(self) -> None:
        """See `StoreView.close`."""
        await self._end()

    async def _end(self) -> None:
        thread, self._thread = self._thread, None  # from here on, whoever comes is told so
        if thread is None:
            return
        self._ended = thread.submit(self._disconnect)  # it is done even if nobody waits for it
        thread.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(self._ended))

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    async def _run(self, work: Callable[[], _T]) -> _T:
        def guarded() -> _T:
            try:
                return work()
            except sqlite3.Error as error:
                raise self._failed(error) from error

        return await asyncio.get_running_loop().run_in_executor(self._check_open(), guarded)

    def _failed(self, error: Exception) -> StoreError:
        return StoreError(
            f"the store {self._path} failed: {error}",
            hint="see that its disk has room, and that nothing else writes to the file",
        )

    @property
    def _sql(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection

    async def _select(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return await self._run(lambda: self._sql.execute(query, values).fetchall())


class SQLiteStore(SQLiteView, Store):
    """Flows in a file.

    Args:
        path: The file; it is made where absent, readable by its owner only. SQLite keeps what it
            has not yet taken over in files beside it, whose names end in ``-wal`` and ``-shm``; an
            empty one that ends in ``-owner`` is the lock of the bridge that works on it.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._owner: sqlite3.Connection | None = None
        self._commits: Grouped[Commit, None] = Grouped(
            lambda group: self._run(lambda: self._write(group))
        )

    # --- Opening and closing --------------------------------------------------------------------

    def _connect(self) -> None:
        self._look()
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
            self._check_kind(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _look(self) -> None:
        """Refuse a file that is no database, before anything is put beside it."""
        try:
            with self._path.open("rb") as file:
                beginning = file.read(len(_MAGIC))
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(
                f"the store {self._path} cannot be opened: {error}",
                hint="give a file in a folder that exists and may be written",
            ) from error
        if beginning and beginning != _MAGIC:
            raise StoreError(
                f"the file {self._path} is no store: it is no SQLite database",
                hint="name another file, or one that is not there yet: it is made",
            )

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

    def _check_kind(self, connection: sqlite3.Connection) -> None:
        """Refuse a database that has tables, and none of ours."""
        if (
            self._layout(connection) == 0
            and connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
        ):
            raise StoreError(
                f"the file {self._path} is no store: it is a database of something else",
                hint="name another file, or one that is not there yet: it is made",
            )

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if self._layout(connection) == 0:
                schema = resources.files("bridge.store") / "schema.sql"
                for statement in statements(schema.read_text(encoding="utf-8")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    async def close(self) -> None:
        """See `StoreView.close`."""
        try:
            await self._commits.end()
        finally:  # also where nobody waits until they are written
            await self._end()

    def _disconnect(self) -> None:
        super()._disconnect()
        if self._owner is not None:
            self._owner.close()
        self._owner = None

    # --- Writing --------------------------------------------------------------------------------

    async def commit(self, *changes: Change, notes: Mapping[str, bytes] | None = None) -> None:
        """See `Store.commit`."""
        self._check_open()
        await self._commits.do(Commit(changes, notes or {}))

    def _write(self, group: list[Commit]) -> list[StoreError | None]:
        outcomes: list[StoreError | None] = []
        self._sql.execute("BEGIN IMMEDIATE")
        try:
            for entry in group:
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
                    document_of(after),
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
                (after.state, after.due, after.version, document_of(after), key, before.version),
            )
        if changed.rowcount != 1:
            raise StoreConflictError(
                f"flow {subject.msg_id} was changed meanwhile",
                hint="read it again and decide anew",
            )
        self._write_bodies(key, bodies_of(before), bodies_of(after))
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

    def _write_bodies(self, key: bytes, had: Bodies, has: Bodies) -> None:
        """Write what differs; a body that stays is not touched, however large it is."""
        for part, old, new in zip(PARTS, had, has, strict=True):
            if new is None and old is not None:
                self._sql.execute("DELETE FROM body WHERE key = ? AND part = ?", (key, part))
            elif new is not None and new is not old:
                self._sql.execute(
                    "INSERT INTO body VALUES (?, ?, ?)"
                    " ON CONFLICT (key, part) DO UPDATE SET data = excluded.data",
                    (key, part, new),
                )
