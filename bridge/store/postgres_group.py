"""What a group of commits comes to, as statements: decided here, carried out elsewhere.

Only one bridge writes to a store, so what is stored of the flows that a group changes can be read
first. Which of its commits conflict is then known without a try, and the others are merged: a group
takes two ways to the server and back, however many commits it has.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from bridge.errors import StoreConflictError
from bridge.flow import Flow, Role
from bridge.flow.usage import Usage
from bridge.store.base import Change
from bridge.store.grouping import Commit
from bridge.store.keys import key_of
from bridge.store.tables import PARTS, bodies_of, document_of

_PUT_FLOWS: Final = (
    "INSERT INTO flow SELECT * FROM unnest(%b::bytea[], %b::text[], %b::text[],"
    " %b::text[]::numeric[], %b::text[], %b::bigint[], %b::bigint[], %b::text[])"
    " ON CONFLICT (key) DO UPDATE SET peer = excluded.peer, msg_id = excluded.msg_id,"
    " state = excluded.state, due = excluded.due, version = excluded.version,"
    " record = excluded.record"
)
_PUT_BODIES: Final = (
    "INSERT INTO body SELECT * FROM unnest(%b::bytea[], %b::text[], %b::bytea[])"
    " ON CONFLICT (key, part) DO UPDATE SET data = excluded.data"
)
_END_BODIES: Final = (
    "DELETE FROM body USING unnest(%b::bytea[], %b::text[]) AS gone (key, part)"
    " WHERE body.key = gone.key AND body.part = gone.part"
)
_BODY_BYTES: Final = 16 * 1024 * 1024  # of one statement; the server takes less than 1 GiB
_ADD_USAGE: Final = (
    "INSERT INTO usage VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (role, peer) DO UPDATE"
    " SET open = usage.open + excluded.open, bytes = usage.bytes + excluded.bytes,"
    " tombstones = usage.tombstones + excluded.tombstones,"
    " unanswered = usage.unanswered + excluded.unanswered"
)
_END_USAGE: Final = (
    "DELETE FROM usage WHERE peer = ANY(%s) AND peer <> '' AND open = 0 AND tombstones = 0"
)
_PUT_NOTE: Final = (
    "INSERT INTO note VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)


class Group:
    """Some commits, each all or nothing by itself.

    Args:
        commits: In the order in which they were asked for.
    """

    def __init__(self, commits: Sequence[Commit]) -> None:
        self._commits = commits
        self._before: dict[bytes, Flow | None] = {}
        self._after: dict[bytes, Flow | None] = {}
        self._usage: dict[tuple[Role, str], Usage] = {}
        self._notes: dict[str, bytes] = {}

    @property
    def keys(self) -> list[bytes]:
        """The keys of all flows that the group changes."""
        changes = (change for commit in self._commits for change in commit.changes)
        return list({key_of(change.subject): None for change in changes})

    def decide(self, stored: Mapping[bytes, int]) -> list[StoreConflictError | None]:
        """Take up the commits whose flows are as they say.

        Args:
            stored: The version of each flow of `keys` that is stored.

        Returns:
            Of each commit, why it cannot be made; ``None`` where it is taken up.
        """
        versions: dict[bytes, int | None] = dict(stored)
        outcomes: list[StoreConflictError | None] = []
        for commit in self._commits:
            tried: dict[bytes, int | None] = {}
            outcome = None
            for change in commit.changes:
                key = key_of(change.subject)
                held = tried[key] if key in tried else versions.get(key)
                if held != (None if change.before is None else change.before.version):
                    outcome = StoreConflictError(
                        f"flow {change.subject.msg_id} was changed meanwhile",
                        hint="read it again and decide anew",
                    )
                    break
                tried[key] = None if change.after is None else change.after.version
            outcomes.append(outcome)
            if outcome is None:
                versions |= tried
                self._notes |= commit.notes
                for change in commit.changes:
                    self._take(change)
        return outcomes

    def _take(self, change: Change) -> None:
        key, subject = key_of(change.subject), change.subject
        self._before.setdefault(key, change.before)
        self._after[key] = change.after
        delta = Usage.of(change.after) - Usage.of(change.before)
        for peer in ("", str(subject.peer)):
            place = (subject.role, peer)
            self._usage[place] = self._usage.get(place, Usage()) + delta

    def statements(self) -> list[tuple[str, Sequence[Any]]]:
        """What is to be done for the commits that were taken up; nothing where none changes."""
        gone = [key for key, record in self._after.items() if record is None]
        kept = [(key, record) for key, record in self._after.items() if record is not None]
        made: list[tuple[str, Sequence[Any]]] = []
        if gone:
            made += [
                (f"DELETE FROM {table} WHERE key = ANY(%b::bytea[])", [gone])  # noqa: S608 - two constants
                for table in ("flow", "body")
            ]
        if kept:
            made.append((_PUT_FLOWS, _columns([_row(key, record) for key, record in kept])))
        made += self._bodies(kept)
        changed = [(place, delta) for place, delta in self._usage.items() if delta != Usage()]
        made += [
            (
                _ADD_USAGE,
                [
                    str(role),
                    peer,
                    delta.open,
                    delta.tombstones,
                    delta.bytes,
                    delta.unanswered,
                ],
            )
            for (role, peer), delta in changed
        ]
        if changed:
            made.append((_END_USAGE, [[peer for (_, peer), _ in changed]]))
        made += [(_PUT_NOTE, [name, value]) for name, value in self._notes.items()]
        return made

    def _bodies(self, kept: Sequence[tuple[bytes, Flow]]) -> list[tuple[str, Sequence[Any]]]:
        """What differs; a body that stays is not touched, however large it is."""
        gone: list[tuple[bytes, str]] = []
        put: list[list[tuple[bytes, str, bytes]]] = [[]]
        size = 0
        for key, record in kept:
            had, has = bodies_of(self._before[key]), bodies_of(record)
            for part, old, new in zip(PARTS, had, has, strict=True):
                if new is None and old is not None:
                    gone.append((key, part))
                elif new is not None and new is not old:
                    size += len(new)
                    if size > _BODY_BYTES and put[-1]:
                        put.append([])
                        size = len(new)
                    put[-1].append((key, part, new))
        made = [(_END_BODIES, _columns(gone))] if gone else []
        return made + [(_PUT_BODIES, _columns(rows)) for rows in put if rows]


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _row(key: bytes, record: Flow) -> tuple[Any, ...]:
    return (
        key,
        str(record.role),
        str(record.peer),
        str(record.msg_id),
        str(record.state),
        record.due,
        record.version,
        document_of(record),
    )
