"""A store in a PostgreSQL server: durable there once `commit` has returned.

All access goes through one thread of its own and, in it, through the one session that owns the
store. Commits that wait share a transaction, questions that wait a way to the server and back.
Needs the extra ``postgres``, whose library is imported when a store is made, and not before.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote

from bridge.errors import StoreError, StoreLostError, UsageError
from bridge.store.base import Change, Store
from bridge.store.grouping import Commit, Grouped
from bridge.store.tables import TablesView

if TYPE_CHECKING:
    import psycopg

    from bridge.store.postgres_session import Session

_log = logging.getLogger("bridge.store")
_T = TypeVar("_T")
_Question = tuple[str, Sequence[Any]]
_Rows = list[tuple[Any, ...]]

SCHEMES: Final = ("postgresql://", "postgres://")
_SCHEMA: Final = "ic_bridge"
_IN_USE: Final = "is in use"
_LOOK: Final = 1.0  # seconds between two tries of a bridge that stands by
_BEAT: Final = 5.0  # seconds between two signs of life; the server waits for six of them
_ANSWER: Final = 45.0  # seconds for an answer; the server ends a statement after 30


def _new_session(conninfo: str, schema: str, *, writes: bool) -> "Session":
    try:
        from bridge.store.postgres_session import Session  # noqa: PLC0415 - needs the extra
    except ImportError as error:  # psycopg, or the C library that it needs
        raise UsageError(
            f"PostgreSQL needs the package psycopg: {' '.join(str(error).split())}",
            hint="pip install 'ic-bridge[postgres]'",
        ) from None
    return Session(conninfo, schema, writes=writes)


def _split(conninfo: str) -> tuple[str, str]:
    """A connection string as PostgreSQL knows it, and the schema that it names for us."""
    place, _, query = conninfo.partition("?")
    if not place.startswith(SCHEMES):
        return conninfo, _SCHEMA
    schema, others = _SCHEMA, []
    for parameter in query.split("&") if query else ():
        name, _, value = parameter.partition("=")
        if name == "schema":
            schema = unquote(value)
        else:
            others.append(parameter)
    return place + ("?" + "&".join(others) if others else ""), schema


class PostgresView(TablesView):
    """Flows in a PostgreSQL server, read only; the primary's or a standby server's.

    Args:
        conninfo: PostgreSQL's connection string, as a URI or as ``key=value`` pairs. A URI may have
            the schema among its parameters: ``postgresql://user@host/database?schema=orders``.
        schema: Where the bridge keeps its flows; ``ic_bridge`` where neither says it.

    Raises:
        UsageError: If the string or the name cannot be used, or the extra is missing.
    """

    _WRITES = False

    def __init__(self, conninfo: str, *, schema: str | None = None) -> None:
        bare, named = _split(conninfo)
        where = named if schema is None else schema
        self._session = _new_session(bare, where, writes=self._WRITES)
        self._ended: Future[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._questions: Grouped[_Question, _Rows] = Grouped(
            lambda group: self._run(lambda: self._answer(group))
        )

    # --- Opening and closing --------------------------------------------------------------------

    async def open(self) -> None:
        """See `StoreView.open`."""
        if self._thread is not None:
            raise StoreError(
                f"the store {self._session.label} is open already", hint="open it only once"
            )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flow-store")
        try:
            if self._ended is not None:  # of a time before, whose close was not waited for
                await asyncio.shield(asyncio.wrap_future(self._ended))
            self._session.closing.clear()
            self._tasks = [asyncio.create_task(self._bound())]
            await self._begin()
        except BaseException as error:
            await self._end(at_once=not isinstance(error, Exception))
            raise

    async def _bound(self) -> None:
        """Wait for no answer for ever."""
        while True:
            await asyncio.sleep(_BEAT)
            if self._session.waits > _ANSWER:
                self._session.abort()

    async def _begin(self) -> None:
        await self._run(self._connect)

    def _connect(self) -> None:
        from bridge.store.postgres_owner import check_layout, has_tables  # noqa: PLC0415 - needs the extra

        session = self._session
        session.begin()
        if not has_tables(session):
            raise StoreError(
                f"there is no store {session.label}",
                hint="name the schema that the bridge works on; a bridge makes it when it starts, "
                "and this role needs usage of the schema and select on its tables",
            )
        [[(layout,)]] = session.ask([("SELECT layout FROM store", [])])
        check_layout(session, layout)

    async def close(self) -> None:
        """See `StoreView.close`. Whoever is cancelled in it waits for the server no longer."""
        self._session.closing.set()
        try:
            await self._finish()
        except BaseException:
            await self._end(at_once=True)
            raise
        await self._end()

    async def _finish(self) -> None:
        await self._questions.end()

    async def _end(self, *, at_once: bool = False) -> None:
        """Let go of the session, the thread and all else; whatever is cancelled, they end."""
        thread, self._thread = self._thread, None  # from here on, whoever comes is told so
        if thread is None:
            return
        self._session.closing.set()
        if at_once:
            self._session.abort()
        tasks, self._tasks = self._tasks, []
        self._ended = thread.submit(self._session.end)
        thread.shutdown(wait=False)
        try:
            await asyncio.shield(asyncio.wrap_future(self._ended))
        except BaseException:
            self._session.abort()
            raise
        finally:
            for task in tasks:  # until now one has seen to it that the server answers
                task.cancel()

    async def _run(self, work: Callable[[], _T]) -> _T:
        import psycopg  # noqa: PLC0415 - needs the extra

        def guarded() -> _T:
            try:
                return work()
            except psycopg.Error as error:
                raise self._session.failed(error) from error

        return await asyncio.get_running_loop().run_in_executor(self._check_open(), guarded)

    # --- Reading --------------------------------------------------------------------------------

    async def _select(self, query: str, *values: Any) -> _Rows:
        self._check_open()
        return await self._questions.do((query.replace("?", "%s"), values))

    def _answer(self, questions: list[_Question]) -> list[_Rows | Exception]:
        import psycopg  # noqa: PLC0415 - needs the extra

        session, again = self._session, False
        while True:
            try:
                return [*session.ask(questions)]
            except psycopg.Error as error:
                broken = session.is_broken(error)
                # Class 40 is for what goes well when it is asked again, as where a standby server
                # took up what its primary cleared away.
                if not again and (broken or (error.sqlstate or "").startswith("40")):
                    again = True
                    if broken:
                        self._reconnect(error)
                elif broken:
                    raise
                elif len(questions) == 1:
                    return [session.failed(error)]
                else:
                    return [answer for one in questions for answer in self._answer([one])]

    def _reconnect(self, fault: "psycopg.Error") -> None:  # noqa: ARG002 - an owner tells it
        self._session.begin()


class PostgresStore(PostgresView, Store):
    """Flows in a PostgreSQL server, in a schema of their own.

    One bridge works on a store at a time. It owns the store by a lock that lasts as long as its
    session; a connection that breaks is made anew, and what became of a commit meanwhile is read
    from the server. If another bridge took the store over first, or the server stays away, the
    store is lost, and every call raises a `StoreLostError`.

    The server ends the session of an owner that it has heard nothing of for 30 seconds, as when its
    host died or its event loop was blocked.

    Args:
        conninfo: PostgreSQL's connection string, as a URI or as ``key=value`` pairs: of the server
            itself, not of a connection pooler. A URI may have the schema among its parameters:
            ``postgresql://user@host/database?schema=orders``.
        schema: Where the flows are, ``ic_bridge`` where neither says it. It is made where absent,
            if this role may. Each bridge needs one of its own.
        standby: Whether to wait, in `open`, while another bridge owns the store, and to take over
            when that one's session ends; else such a store is refused.
        reconnect_within: Seconds for which a server that was lost is sought.

    Raises:
        UsageError: If the string or the name cannot be used, or the extra is missing.
    """

    _WRITES = True

    def __init__(
        self,
        conninfo: str,
        *,
        schema: str | None = None,
        standby: bool = False,
        reconnect_within: float = 60.0,
    ) -> None:
        super().__init__(conninfo, schema=schema)
        from bridge.store.postgres_owner import Owner  # noqa: PLC0415 - needs the extra

        self._standby = standby
        self._owner = Owner(self._session, reconnect_within)
        self._lost: asyncio.Future[StoreLostError] | None = None
        self._commits: Grouped[Commit, None] = Grouped(
            lambda group: self._run(lambda: self._owner.write(group))
        )

    # --- Opening and closing --------------------------------------------------------------------

    async def _begin(self) -> None:
        self._lost = asyncio.get_running_loop().create_future()
        told = ""
        # Asked again and again, since a session that waits for a lock inside of the server keeps it
        # from clearing away old rows, of all its tables, for as long as it waits.
        while (why := await self._take(patient=bool(told))) is not None:
            if not self._standby:
                raise StoreError(
                    f"the store {self._session.label} {_IN_USE}",
                    hint="another bridge works on it; stop that one, give each a schema of its own,"
                    " or stand by with standby=True",
                )
            if why != told:
                told = why
                _log.log(
                    logging.INFO if told is _IN_USE else logging.WARNING,
                    "standing by: the store %s %s",
                    self._session.label,
                    told,
                )
            await asyncio.sleep(_LOOK)
        self._tasks.append(asyncio.create_task(self._live()))

    async def _take(self, *, patient: bool) -> str | None:
        """Take the store over; why that cannot be yet. One that stands by is patient."""
        import psycopg  # noqa: PLC0415 - needs the extra

        try:
            return None if await self._run(self._owner.take) else _IN_USE
        except StoreError as error:
            await self._run(self._session.end)
            if not patient or not isinstance(error.__cause__, psycopg.OperationalError):
                raise
            return f"cannot be reached: {' '.join(str(error.__cause__).split())}"

    async def _live(self) -> None:
        """Show the server that we are here, and see that it is."""
        while not self._owner.loss:
            await asyncio.sleep(_BEAT)
            with contextlib.suppress(StoreError):  # whoever asks for more is told it
                await self._select("SELECT 1")

    async def _finish(self) -> None:
        await self._commits.end()
        await super()._finish()
        with contextlib.suppress(StoreError):  # broken: then it owns nothing any more
            await self._run(self._owner.release)

    async def _run(self, work: Callable[[], _T]) -> _T:
        try:
            return await super()._run(work)
        finally:
            loss = self._owner.loss
            if loss is not None and self._lost is not None and not self._lost.done():
                self._lost.set_result(loss)

    async def lost(self) -> StoreLostError:
        """See `Store.lost`."""
        if self._lost is None:
            raise StoreError("the store is not open", hint="use it with: async with store")
        return await asyncio.shield(self._lost)

    # --- Reading and writing --------------------------------------------------------------------

    def _answer(self, questions: list[_Question]) -> list[_Rows | Exception]:
        self._owner.check()
        return super()._answer(questions)

    def _reconnect(self, fault: "psycopg.Error") -> None:
        self._owner.find_again(fault)

    async def commit(self, *changes: Change, notes: Mapping[str, bytes] | None = None) -> None:
        """See `Store.commit`."""
        self._check_open()
        await self._commits.do(Commit(changes, notes or {}))
