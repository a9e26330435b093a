"""The tables of a subnet's state in SQLite, and writes that are whole or not at all.

With a write-ahead log, what has been committed outlives the process, however that ends. After a
failure of the machine itself (power), the file is whole, and may lack the newest commits. Knows
rows and bytes, and not what they mean.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from bridge.errors import StateDirectoryError
from bridge.replica.state.codec import FORMAT

# "icbr", so that a file of another program is not taken for one of ours.
_APPLICATION: Final = 0x69636272
# The log is merged into the file when it has so many pages of 4 KiB: seldom, as that waits for
# the disk.
_LOG_PAGES: Final = 8000

_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE canister (
  owner INTEGER PRIMARY KEY,       -- of pages and chunks
  id BLOB NOT NULL UNIQUE,
  record BLOB NOT NULL,
  wasm_size INTEGER NOT NULL,      -- bytes
  stable_size INTEGER NOT NULL,    -- pages of 64 KiB
  globals BLOB NOT NULL
);
CREATE TABLE snapshot (
  owner INTEGER PRIMARY KEY,
  canister INTEGER NOT NULL,       -- the owner of the canister
  record BLOB NOT NULL,
  module BLOB NOT NULL
);
CREATE TABLE deleted (id BLOB PRIMARY KEY);
CREATE TABLE module (hash BLOB PRIMARY KEY, wasm BLOB NOT NULL);
CREATE TABLE chunk (
  owner INTEGER NOT NULL, hash BLOB NOT NULL, content BLOB NOT NULL, PRIMARY KEY (owner, hash)
);
CREATE TABLE page (place INTEGER PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE request (id BLOB PRIMARY KEY, record BLOB NOT NULL);
"""

# A page's place: the owner, which of its memories, and the offset in units of 4 KiB.
_OWNER_BITS: Final = 32
_UNIT: Final = 4096
WASM: Final = 0
STABLE: Final = 1
_MEMORY_BIT: Final = 31

Row = tuple[Any, ...]


def _range(owner: int, memory: int) -> tuple[int, int]:
    first = owner << _OWNER_BITS | memory << _MEMORY_BIT
    return first, first + (1 << _MEMORY_BIT)


class Database:
    """The file, held open.

    Args:
        file: Made if it is not there.

    Raises:
        StateDirectoryError: If the file is damaged, of another version, or none of ours.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            # It holds the subnet's secret keys; what SQLite puts beside it gets the same mode.
            os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise self._unusable(str(error)) from error
        try:
            self._connection = sqlite3.connect(
                file, isolation_level=None, check_same_thread=False, cached_statements=64
            )
            try:
                self._open()
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.OperationalError as error:
            raise self._unusable(str(error)) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error

    def _open(self) -> None:
        run = self._connection.execute
        # One process only, which the directory's lock sees to: so no memory is shared with others.
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        (application,) = run("PRAGMA application_id").fetchone()
        (found,) = run("PRAGMA user_version").fetchone()
        (tables,) = run("SELECT count(*) FROM sqlite_schema").fetchone()
        if not tables and not application:
            self._connection.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA application_id = {_APPLICATION};"
                f"PRAGMA user_version = {FORMAT}; COMMIT;"
            )
            return
        if application != _APPLICATION:
            raise StateDirectoryError(
                f"{self._file} is not the state of a replica",
                hint="name another state directory",
            )
        if found != FORMAT:
            raise StateDirectoryError(
                f"the state in {self._file} has format {found}, and this version of ic-bridge reads"
                f" format {FORMAT}",
                hint="use the version that wrote it, or begin with an empty state directory",
            )
        (verdict,) = run("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise self._damaged(verdict)

    def _unusable(self, why: str) -> StateDirectoryError:
        return StateDirectoryError(
            f"the state in {self._file} cannot be opened: {why}",
            hint="see whether the disk has room, and whether you may write to the directory",
        )

    def _damaged(self, why: str) -> StateDirectoryError:
        return StateDirectoryError(
            f"the state in {self._file} is damaged: {why}",
            hint="put a backup of the directory in its place, or begin with an empty one",
        )

    def close(self) -> None:
        """Close the file; what has been committed is in it."""
        self._connection.close()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """All writes of the block, or none of them.

        Raises:
            StateDirectoryError: If they cannot be written.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            if not isinstance(error, sqlite3.Error):
                raise
            raise StateDirectoryError(
                f"the state cannot be written to {self._file}: {error}",
                hint="make room on the disk, and start the replica again",
            ) from error

    # --- writing --------------------------------------------------------------------------------

    def put(self, table: str, rows: Iterable[Row]) -> None:
        """Write rows, in the place of those with the same key."""
        listed = list(rows)
        if listed:
            marks = ", ".join("?" * len(listed[0]))
            self._connection.executemany(
                f"INSERT OR REPLACE INTO {table} VALUES ({marks})",  # noqa: S608 - our own names
                listed,
            )

    def drop(self, table: str, column: str, keys: Iterable[Any]) -> None:
        """Delete the rows with these keys."""
        self._connection.executemany(
            f"DELETE FROM {table} WHERE {column} = ?",  # noqa: S608 - our own names
            [(key,) for key in keys],
        )

    def put_pages(self, owner: int, memory: int, pages: dict[int, bytes]) -> None:
        """Write pages of a memory, by their offsets."""
        first, _ = _range(owner, memory)
        self.put("page", ((first + at // _UNIT, content) for at, content in pages.items()))

    def drop_pages(self, owner: int, memory: int) -> None:
        """Delete all pages of a memory."""
        self._connection.execute(
            "DELETE FROM page WHERE place >= ? AND place < ?", _range(owner, memory)
        )

    # --- reading --------------------------------------------------------------------------------

    def rows(self, query: str, arguments: Row = ()) -> Iterator[Row]:
        """The rows of a query.

        Raises:
            StateDirectoryError: If the file is damaged.
        """
        try:
            yield from self._connection.execute(query, arguments)
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error

    def pages(self, owner: int, memory: int) -> Iterator[tuple[int, bytes]]:
        """The pages of a memory in order, with their offsets."""
        first, last = _range(owner, memory)
        for place, content in self.rows(
            "SELECT place, content FROM page WHERE place >= ? AND place < ? ORDER BY place",
            (first, last),
        ):
            yield (place - first) * _UNIT, content
