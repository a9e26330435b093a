"""Who works on a store in PostgreSQL: taken over, kept, found again after a break, or lost.

The owner is the session that holds an advisory lock, and every commit goes through that session:
once it has ended, for whatever reason, nothing of its bridge can be written any more. Beside the
lock the row ``store`` names the owner and counts its commits, and each commit insists on both, so
what became of a commit whose answer was lost can be read afterwards.

Works in the thread of whoever calls.
"""

import hashlib
import logging
import secrets
import time
from collections.abc import Sequence
from importlib import resources
from typing import Final

import psycopg

from bridge.errors import StoreError, StoreLostError
from bridge.store.grouping import Commit
from bridge.store.postgres_group import Group
from bridge.store.postgres_session import Session, Statement
from bridge.store.tables import statements

_log = logging.getLogger("bridge.store")

LAYOUT: Final = 1
_PAUSE: Final = 0.25
_TRIES: Final = 5  # of a group whose session breaks each time
_TRY: Final = "SELECT pg_try_advisory_lock(%s)"
_HAS_SCHEMA: Final = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %s)"


def has_tables(session: Session) -> bool:
    """Whether there is a store in the session's schema.

    Asked with the schema's name, since PostgreSQL passes a schema over, without a word, that the
    role may not use; tables would then be temporary ones.

    Raises:
        psycopg.Error: If the role may not use the schema.
    """
    [[(it_has,)]] = session.ask(
        [("SELECT to_regclass(%s) IS NOT NULL", [f"{session.quoted}.store"])]
    )
    return bool(it_has)


def check_layout(session: Session, layout: int) -> None:
    """See that this version knows how a store is laid out.

    Raises:
        StoreError: If a newer one wrote it.
    """
    if layout > LAYOUT:
        raise StoreError(
            f"the store {session.label} has layout {layout}, this version knows {LAYOUT}",
            hint="use the version of ic-bridge that wrote it, or a later one",
        )


class Owner:
    """One bridge's hold on a store.

    Args:
        session: Through which all is done.
        reconnect_within: Seconds for which a lost server is sought.
    """

    def __init__(self, session: Session, reconnect_within: float) -> None:
        self._session = session
        self._within = reconnect_within
        self._name = ""
        self._commits = 0
        self._loss: StoreLostError | None = None
        # Of all advisory locks of the database this one is the store's: the schema's name says so
        # before the schema is there.
        digest = hashlib.sha256(b"ic-bridge store " + session.schema.encode()).digest()
        self._lock = int.from_bytes(digest[:8], "big", signed=True)

    # --- Taking over ----------------------------------------------------------------------------

    def take(self) -> bool:
        """Become the owner, unless another is.

        Raises:
            psycopg.Error: If the server cannot be reached or refuses.
            StoreError: If what is there cannot be used.
        """
        session, self._loss = self._session, None
        if not session.is_open:
            session.begin()
        [[(taken,)]] = session.ask([(_TRY, [self._lock])])
        if not taken:
            return False
        self._name = secrets.token_hex(16)
        session.ask([("BEGIN", [])])
        try:
            self._make_tables()
            [[(layout,)]] = session.ask([("SELECT layout FROM store", [])])
            check_layout(session, layout)
            [named] = session.commit(
                [("UPDATE store SET owner = %s RETURNING commits", [self._name])]
            )
            [(self._commits,)] = named.fetchall()
        except BaseException:
            session.end()
            raise
        return True

    def _make_tables(self) -> None:
        session = self._session
        if has_tables(session):
            return
        [[(has_schema,)]] = session.ask([(_HAS_SCHEMA, [session.schema])])
        if not has_schema:
            session.ask([(f"CREATE SCHEMA {session.quoted}", [])])
        script = resources.files("bridge.store") / "postgres.sql"
        made: list[Statement] = [
            (statement, []) for statement in statements(script.read_text(encoding="utf-8"))
        ]
        session.ask(
            [*made, ("INSERT INTO store (layout, owner, commits) VALUES (%s, '', 0)", [LAYOUT])]
        )

    def release(self) -> None:
        """Own the store no more; the next one need not wait until the session has ended.

        Raises:
            psycopg.Error: If the session is broken.
        """
        if self._session.is_open:
            self._session.ask([("SELECT pg_advisory_unlock(%s)", [self._lock])])

    # --- Writing --------------------------------------------------------------------------------

    def write(self, commits: Sequence[Commit]) -> list[StoreError | None]:
        """Commit a group; returns what became of each, ``None`` where it is durable.

        Raises:
            StoreError: If the store fails, for all of them; nothing was changed.
            StoreLostError: If the store is lost.
        """
        ones_own = True
        for _ in range(_TRIES):
            self.check()
            group = Group(commits)
            outcomes: list[StoreError | None] = []
            try:
                stored = self._begin(group.keys)
                outcomes = [*group.decide(stored)]
                self._finish(group)
            except psycopg.Error as error:
                fault = error
                if not self._session.is_broken(error):
                    ones_own = isinstance(error, (psycopg.DataError, psycopg.IntegrityError))
                    self._roll_back()
                    break
                if self.find_again(error) and outcomes:
                    return outcomes
            else:
                return outcomes
        # What is wrong with one, its data or what it makes of every session, is its own caller's.
        if ones_own and len(commits) > 1:
            return [self._alone(commit) for commit in commits]
        raise self._session.failed(fault) from fault

    def _alone(self, commit: Commit) -> StoreError | None:
        try:
            [outcome] = self.write([commit])
        except StoreError as error:
            return error
        return outcome

    def _begin(self, keys: list[bytes]) -> dict[bytes, int]:
        """Begin a transaction that only the owner can, and read what is stored of some flows."""
        _, counted, found = self._session.tell(
            [
                ("BEGIN", []),
                (
                    "UPDATE store SET commits = commits + 1 WHERE owner = %s AND commits = %s",
                    [self._name, self._commits],
                ),
                ("SELECT key, version FROM flow WHERE key = ANY(%b::bytea[])", [keys]),
            ]
        )
        if counted.rowcount != 1:
            raise self.lose("another bridge took it over")
        return dict(found.fetchall())

    def _finish(self, group: Group) -> None:
        made = group.statements()
        if not made:
            self._session.ask([("ROLLBACK", [])])
            return
        self._session.commit(made)
        self._commits += 1

    def _roll_back(self) -> None:
        try:
            self._session.ask([("ROLLBACK", [])])
        except psycopg.Error:
            self._session.end()  # found again by whoever comes next

    # --- Losing and finding ---------------------------------------------------------------------

    def check(self) -> None:
        """See that the store was not lost.

        Raises:
            StoreLostError: If it was.
        """
        if self._loss is not None:  # made anew: an exception gathers the places that raise it
            raise StoreLostError(self._loss.message, hint=self._loss.hint)

    def lose(self, why: str) -> StoreLostError:
        """Give the store up for good."""
        self._session.end()
        self._loss = StoreLostError(
            f"the store {self._session.label} is lost: {why}",
            hint="end this bridge and start a new one on the store; what was committed is there",
        )
        return self._loss

    @property
    def loss(self) -> StoreLostError | None:
        """Why the store was lost, where it was."""
        return self._loss

    def find_again(self, fault: psycopg.Error) -> bool:
        """Begin a new session where one broke, and own the store in it.

        Args:
            fault: How it broke.

        Returns:
            Whether a transaction of which no answer came stands.

        Raises:
            StoreError: If the store was closed meanwhile.
            StoreLostError: If another bridge took it over, or the server stayed away.
        """
        session = self._session
        ours = [session.ending]
        session.end()
        _log.warning(
            "the connection to the store %s broke, and is made anew: %s",
            session.label,
            _told(fault),
        )
        deadline = time.monotonic() + self._within
        why = "its owner's last session did not end"
        while True:
            try:
                stood = self._look(ours)
            except (psycopg.Error, StoreError) as error:
                if isinstance(error, StoreLostError) or (
                    isinstance(error, StoreError) and session.closing.is_set()
                ):
                    raise
                why = error.message if isinstance(error, StoreError) else _told(error)
                if session.ending not in ours:  # it may have the lock, and live on
                    ours.append(session.ending)
            else:
                if stood is not None:
                    _log.info("the store %s was found again", session.label)
                    return stood
            session.end()
            if time.monotonic() > deadline:
                raise self.lose(f"its server was not found again within {self._within:g} s: {why}")
            session.closing.wait(_PAUSE)

    def _look(self, ours: Sequence[Statement]) -> bool | None:
        """As `find_again`, once; nothing is known while one of our broken sessions has the lock."""
        session = self._session
        session.begin()
        # Our own sessions that broke may live on at the server, where nobody has told them yet.
        *_, [(taken,)], [(owner, commits)] = session.ask(
            [*ours, (_TRY, [self._lock]), ("SELECT owner, commits FROM store", [])]
        )
        if owner != self._name:
            raise self.lose("another bridge took it over")
        if not taken:
            return None
        went_on = commits - self._commits
        if went_on not in (0, 1):
            raise self.lose(
                "the server has forgotten what it had confirmed; it was restored, or another took "
                "its place that did not have all"
            )
        if went_on:
            # What is there need not be at the standby servers: whoever ended the old session ended
            # its wait for them too. A commit that is behind it, and was waited for, has it with it.
            session.commit([("BEGIN", []), ("UPDATE store SET owner = owner", [])])
        self._commits = commits
        return bool(went_on)


def _told(error: psycopg.Error) -> str:
    return error.diag.message_primary or " ".join(str(error).split())
