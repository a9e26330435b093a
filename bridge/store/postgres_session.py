"""One session of a PostgreSQL server: how it is asked for, what it is set to, what its faults mean.

Works in the thread of whoever calls. Knows nothing of flows. Nothing here puts a password into an
error or a log.
"""

import logging
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Final

import psycopg
from psycopg import conninfo as libpq
from psycopg.rows import TupleRow

from bridge.errors import StoreError, UsageError
from bridge.store.postgres_connection import Connection

_log = logging.getLogger("bridge.store")

Statement = tuple[str, Sequence[Any]]
Row = tuple[Any, ...]

# How soon a dead end of the connection is noticed, where the caller's own parameters do not say it.
_PARAMETERS: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "application_name": "ic-bridge",
}
# The server ends a session that it has heard nothing of for so long: an owner whose host died, or
# that hangs, holds its store no longer than that.
SILENCE: Final = 30
_SETTINGS: Final = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
    "default_transaction_isolation": "read committed",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20s",
}
_OLDEST: Final = 140_000  # PostgreSQL 14: the first to end silent sessions
_SET: Final = (
    "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS s (name, value)"
)
# In microseconds: how a moment is written differs from role to role.
_BEGUN: Final = "(extract(epoch FROM backend_start) * 1000000)::bigint"
_WHO: Final = (
    f"SELECT pid, {_BEGUN}, current_setting('synchronous_commit'), current_setting('fsync')"  # noqa: S608 - a constant
    " FROM pg_stat_activity WHERE pid = pg_backend_pid()"
)
# A number alone may be a later session's; the moment when it began tells them apart.
_END: Final = (
    f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND {_BEGUN} = %s"  # noqa: S608 - a constant
)
# Errors with which the server ends a session, beside class 08.
_ENDINGS: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03"})
_ESCAPES: Final = "write %40 for an @, %2F for a / in a user's name or a password"
_HINT: Final = "see that the server runs and lets this role in; its log may tell more"
_HINTS: Final = {
    "25006": "give the primary server: this one, or this role, only reads",
    "42501": "grant this role what it lacks, or name a schema of its own",
    "53100": "make room on the server's disk; nothing was changed",
    "53300": "raise the server's max_connections, or close other sessions",
    "57014": "see what keeps the server busy; nothing was changed",
    "55P03": "see who holds locks on the schema's tables; nothing was changed",
}


def _is_torn(given: Mapping[str, Any]) -> bool:
    """Whether a string came apart at the wrong place: then anything may hold part of a password."""
    host, port, database = (str(given.get(name, "")) for name in ("host", "port", "dbname"))
    return (
        ("@" in host and "/" not in host)
        or "@" in database
        or "://" in database
        or not all(one == "" or one.isdecimal() for one in port.split(","))
    )


class Session:
    """A session, begun anew where it broke.

    Args:
        conninfo: PostgreSQL's connection string, as a URI or as ``key=value`` pairs.
        schema: Where the tables are.
        writes: Whether it is to write; one that only reads may be a standby server's.

    Attributes:
        closing: Set by whoever wants no further session; from any thread.
        ending: What ends the session from another one.
        label: The place, as errors name it.
        quoted: The schema's name, as statements have it.
        schema: As given.

    Raises:
        UsageError: If the string cannot be read, or the schema's name cannot be one.
    """

    def __init__(self, conninfo: str, schema: str, *, writes: bool) -> None:
        # Surrogates are no text; $user is what PostgreSQL puts the role's name for, quoted or not.
        size = len(schema.encode(errors="surrogatepass"))
        if (
            not 1 <= size <= 63
            or len(schema.encode(errors="ignore")) != size
            or "\0" in schema
            or schema.startswith("pg_")
            or schema == "$user"
        ):
            raise UsageError(
                f"{schema!r} cannot be the name of a schema",
                hint="give 1 to 63 bytes of UTF-8, not $user, and not beginning with pg_",
            )
        try:
            given = libpq.conninfo_to_dict(conninfo)
        except (psycopg.Error, UnicodeError):
            # Not with libpq's own words: they may quote any part of the string.
            raise UsageError(
                "the connection string of PostgreSQL cannot be read",
                hint=f"give postgresql://user@host/database; {_ESCAPES}",
            ) from None
        if _is_torn(given):
            raise UsageError(
                "the connection string of PostgreSQL has an @, a : or a / too many",
                hint=_ESCAPES,
            )
        self._parameters: dict[str, Any] = {**_PARAMETERS, **given, "client_encoding": "UTF8"}
        if writes:
            self._parameters.setdefault("target_session_attrs", "read-write")
        self.schema = schema
        self.quoted = '"' + schema.replace('"', '""') + '"'
        self._writes = writes
        self._connection: psycopg.Connection[TupleRow] | None = None
        self._pipeline: psycopg.Pipeline | None = None
        self._held = ExitStack()
        self._asked_at: float | None = None
        self._warned = False
        self._aborted = False
        self._closing_it = threading.Lock()  # a descriptor's number is another's once it is closed
        self.closing = threading.Event()
        self.ending: Statement = ("SELECT 1", [])
        place = given.get("host") or given.get("hostaddr") or given.get("service") or "this machine"
        database = given.get("dbname") or given.get("user") or "the default database"
        self.label = f"{schema!r} in {database} on {place}"

    # --- Beginning and ending -------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether there is a connection; it may be broken."""
        return self._connection is not None

    @property
    def waits(self) -> float:
        """For how many seconds the server has owed an answer; 0 where it owes none."""
        asked_at = self._asked_at
        return 0.0 if asked_at is None else time.monotonic() - asked_at

    def begin(self) -> None:
        """Connect, and set what this session depends on.

        Raises:
            psycopg.Error: If the server cannot be reached or refuses.
            StoreError: If what answers cannot be used, or the store is being closed.
        """
        self.end()
        self._check_wanted()
        self._aborted = False
        # Nothing is prepared: psycopg's book of it goes wrong when a statement of a pipeline fails,
        # and a plan for whatever value may read a whole table for a rare one.
        self._connection = Connection.connect(
            **self._parameters, autocommit=True, prepare_threshold=None
        )
        self._connection.add_notice_handler(self._noticed)
        try:
            self._check_wanted()  # an abort before now had nothing to break
            self._set_up(self._connection)
        except BaseException:
            self.end()
            raise

    def _check_wanted(self) -> None:
        if self.closing.is_set():
            raise StoreError(
                f"the store {self.label} was closed while its server was away",
                hint="open it again: what was under way is there whole, or not at all",
            )

    def _set_up(self, connection: psycopg.Connection[TupleRow]) -> None:
        version = connection.info.server_version
        if version < _OLDEST:
            raise StoreError(
                f"the server of the store {self.label} is PostgreSQL {version // 10_000}",
                hint="use PostgreSQL 14 or later",
            )
        settings = {
            **_SETTINGS,
            "search_path": f"{self.quoted}, pg_temp",
            "default_transaction_read_only": "off" if self._writes else "on",
            "idle_session_timeout": f"{SILENCE}s" if self._writes else "0",
        }
        _, [(pid, begun, synchronous, fsync)] = self.ask(
            [(_SET, [list(settings), list(settings.values())]), (_WHO, [])]
        )
        if pid != connection.info.backend_pid:
            raise StoreError(
                f"between this program and the store {self.label} is a connection pooler",
                hint="give the server's own address: a session's lock must not pass to others",
            )
        # What is reported as committed would be lost with the server, or be with no standby server.
        if synchronous in {"off", "local"}:
            self.ask([(_SET, [["synchronous_commit"], ["on"]])])
        if self._writes and fsync == "off":
            _log.warning(
                "the server of the store %s has fsync off: what is reported as committed may be "
                "lost when its machine ends",
                self.label,
            )
        self.ending = (_END, [pid, begun])

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self._warned = True
            _log.warning("the server of the store %s: %s", self.label, notice.message_primary)

    def end(self) -> None:
        """Close the connection, whatever its state."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with self._closing_it:
                connection.close()
        self._end_pipeline()

    def abort(self) -> None:
        """Break the connection, from any thread: whoever waits for the server waits no longer.

        A connection that is still being made is waited for; `connect_timeout` bounds that.
        """
        connection = self._connection
        if connection is None:
            return
        self._aborted = True
        with self._closing_it, suppress(OSError, psycopg.Error):
            held = socket.socket(fileno=connection.fileno())
            try:
                held.shutdown(socket.SHUT_RDWR)
            finally:
                held.detach()  # the descriptor is the connection's

    # --- Asking ---------------------------------------------------------------------------------

    def ask(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """Send statements together, and return the rows of each.

        Raises:
            psycopg.Error: What the first that failed failed with; none after it was carried out.
        """
        return [
            cursor.fetchall() if cursor.description is not None else []
            for cursor in self.tell(statements)
        ]

    def tell(self, statements: Sequence[Statement]) -> list[psycopg.Cursor[TupleRow]]:
        """Send statements together, and return the cursor of each. Raises as `ask`."""
        connection = self._connection
        if connection is None:
            raise psycopg.OperationalError("the connection is lost")
        self._asked_at = time.monotonic()
        try:
            if self._pipeline is None:
                self._pipeline = self._held.enter_context(connection.pipeline())
            cursors = [connection.execute(query, values) for query, values in statements]
            # One pipeline for all, as its end says more after the last statement: the server then
            # takes the session for one that is at work, and ends it never, however silent it is.
            self._pipeline.sync()
        except psycopg.Error as error:
            self._end_pipeline()
            if self._aborted:
                raise psycopg.OperationalError("no answer came, and none was waited for") from error
            raise
        except UnicodeError as error:  # half a surrogate pair is no text
            self._end_pipeline()
            raise psycopg.DataError(str(error)) from error
        except BaseException:  # a fault of this program; what it left half said must not be done
            self.end()
            raise
        finally:
            self._asked_at = None
        return cursors

    def commit(self, statements: Sequence[Statement]) -> list[psycopg.Cursor[TupleRow]]:
        """Send the last statements of a transaction together, and commit it.

        Raises:
            psycopg.Error: As `tell`; with the session ended where the server has committed and did
                not wait for the standby servers that it was to wait for. It says so by a warning.
        """
        self._warned = False
        *cursors, end = self.tell([*statements, ("COMMIT", [])])
        if end.statusmessage != "COMMIT":
            raise psycopg.errors.InFailedSqlTransaction("the transaction was rolled back")
        if self._warned:
            self.end()
            raise psycopg.OperationalError("the server did not wait for its standby servers")
        return cursors

    def _end_pipeline(self) -> None:
        self._pipeline = None
        with suppress(psycopg.Error):  # the cause was told, or the connection is closed
            self._held.close()

    # --- Faults ---------------------------------------------------------------------------------

    def is_broken(self, error: psycopg.Error) -> bool:
        """Whether an error means that the session is no more."""
        if self._connection is None or self._connection.closed:
            return True
        if isinstance(error, psycopg.errors.PipelineAborted):
            return False
        state = error.sqlstate
        if state is None:
            return isinstance(error, psycopg.OperationalError)
        return state[:2] == "08" or state in _ENDINGS

    def failed(self, error: psycopg.Error) -> StoreError:
        """An error as the caller is told it."""
        told = error.diag.message_primary or " ".join(str(error).split())
        return StoreError(
            f"the store {self.label} failed: {told}",
            hint=_HINTS.get(error.sqlstate or "", _HINT),
        )
