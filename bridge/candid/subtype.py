"""Which type may stand where another is expected: the specification's section Subtyping.

The relation is the largest one that the rules allow, so a pair that is met again while it is being
checked holds. Every type is a subtype of every ``opt``, hence no rule asks that another pair does
*not* hold, and the check is a plain walk: it holds if no pair reached from it breaks a rule.
The walk is a loop, and each pair is charged to the caller's budget.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from bridge.candid import types as t
from bridge.candid.table import Table, flatten

_NULLABLE: Final = {t.Null.code, t.Reserved.code}


class Goal(NamedTuple):
    """One question: is ``left`` a subtype of ``right``?

    Attributes:
        swapped: Whether ``left`` is of the second table (below a function's arguments) rather than
            the first.
        left: A reference.
        right: A reference.
    """

    swapped: bool
    left: int
    right: int


def code_of(table: Table, ref: int) -> int:
    """The opcode behind a reference."""
    return ref if ref < 0 else table.entries[ref].code


def nullable(table: Table, ref: int) -> bool:
    """Whether ``null`` is a subtype, so that the type's value may be left out."""
    code = code_of(table, ref)
    return code == t.OPT or code in _NULLABLE


def type_name(code: int) -> str:
    """A word for a type, for messages."""
    if code in t.PRIMITIVES_BY_CODE:
        return t.PRIMITIVES_BY_CODE[code].name
    return _KINDS.get(code, "a type of a future Candid")


_KINDS: Final = {
    t.OPT: "opt",
    t.VEC: "vec",
    t.RECORD: "record",
    t.VARIANT: "variant",
    t.FUNC: "func",
    t.SERVICE: "service",
}


class Subtyping:
    """Subtyping between the types of two tables, with what was found kept.

    Args:
        first: The table of the types on the left at the outset.
        second: The table of those on the right.
        charge: Called once for each pair looked at; may raise.
    """

    def __init__(self, first: Table, second: Table, charge: Callable[[], None]) -> None:
        self._tables = (first, second)
        self._charge = charge
        self._known: dict[Goal, bool] = {}

    def holds(self, left: int, right: int) -> bool:
        """Whether the first table's ``left`` is a subtype of the second's ``right``."""
        return self._holds(Goal(False, left, right))

    def _holds(self, start: Goal) -> bool:
        if start in self._known:
            return self._known[start]
        seen = {start}
        todo = [start]
        while todo:
            goal = todo.pop()
            known = self._known.get(goal)
            if known:
                continue
            self._charge()
            broken, parts = self._step(goal) if known is None else ("known", [])
            if broken is not None:
                self._known[goal] = self._known[start] = False
                return False
            for _, part in parts:
                if part not in seen:
                    seen.add(part)
                    todo.append(part)
        self._known.update(dict.fromkeys(seen, True))
        return True

    def faults(self, left: int, right: int) -> Iterator[tuple[tuple[str, ...], str]]:
        """Each broken rule: the steps that lead to it, and what is wrong."""
        start = Goal(False, left, right)
        seen = {start}
        todo: list[tuple[Goal, tuple[str, ...]]] = [(start, ())]
        while todo:
            goal, path = todo.pop()
            self._charge()
            broken, parts = self._step(goal)
            if broken is not None:
                yield path, broken
            for step, part in reversed(parts):
                if part not in seen:
                    seen.add(part)
                    todo.append((part, (*path, step)))

    def losses(self, left: int, right: int) -> Iterator[tuple[tuple[str, ...], str]]:
        """Where a subtype's value is read as null only because any type is a subtype of any opt.

        Gives the steps that lead to each place, and what is lost there. The specification asks
        checkers to warn of these.
        """
        start = Goal(False, left, right)
        seen = {start}
        todo: list[tuple[Goal, tuple[str, ...]]] = [(start, ())]
        while todo:
            goal, path = todo.pop()
            self._charge()
            mine, theirs = (self._tables[goal.swapped], self._tables[not goal.swapped])
            a, b = code_of(mine, goal.left), code_of(theirs, goal.right)
            parts: list[tuple[str, Goal]] = []
            if b == t.OPT and a not in (t.Null.code, t.Reserved.code, t.Empty.code):
                content = theirs.entries[goal.right].refs[0]
                inner = mine.entries[goal.left].refs[0] if a == t.OPT else goal.left
                step = Goal(goal.swapped, inner, content)
                if (a != t.OPT and nullable(theirs, content)) or not self._holds(step):
                    names = type_name(code_of(mine, inner)), type_name(code_of(theirs, content))
                    yield path, f"{names[0]} would be read as null where opt {names[1]} is expected"
                else:
                    parts = [("content", step)]
            elif b != t.OPT:
                parts = self._step(goal)[1]
            for name, part in reversed(parts):
                if part not in seen:
                    seen.add(part)
                    todo.append((part, (*path, name)))

    def _step(self, goal: Goal) -> tuple[str | None, list[tuple[str, Goal]]]:
        """What is wrong with the pair itself (None: nothing), and the pairs it rests on."""
        swapped, left, right = goal
        mine, theirs = (self._tables[swapped], self._tables[not swapped])
        a, b = code_of(mine, left), code_of(theirs, right)
        if b in (t.OPT, t.Reserved.code) or a == t.Empty.code or left == right < 0:
            return None, []
        if (a, b) == (t.Nat.code, t.Int.code) or (a, b) == (t.SERVICE, t.PRINCIPAL):
            return None, []
        if a != b or right < 0 or left < 0 or a < t.PRINCIPAL:
            return f"{type_name(a)} is not a subtype of {type_name(b)}", []
        if a == t.VEC:
            ours, other = mine.entries[left].refs[0], theirs.entries[right].refs[0]
            return None, [("element", Goal(swapped, ours, other))]
        if a == t.RECORD:
            return self._record(goal, mine, theirs)
        if a == t.VARIANT:
            return self._variant(goal, mine, theirs)
        if a == t.FUNC:
            return self._function(goal, mine, theirs)
        return self._service(goal, mine, theirs)

    def _record(
        self, goal: Goal, mine: Table, theirs: Table
    ) -> tuple[str | None, list[tuple[str, Goal]]]:
        ours = dict(zip(mine.entries[goal.left].keys, mine.entries[goal.left].refs, strict=True))
        broken = None
        parts = []
        wanted = theirs.entries[goal.right]
        for key, ref in zip(wanted.keys, wanted.refs, strict=True):
            name = _label(theirs, goal.right, key)
            if key in ours:
                parts.append((f"field {name}", Goal(goal.swapped, ours[key], ref)))
            elif not nullable(theirs, ref):
                broken = broken or f"the field {name} is missing, and not optional"
        return broken, parts

    def _variant(
        self, goal: Goal, mine: Table, theirs: Table
    ) -> tuple[str | None, list[tuple[str, Goal]]]:
        wanted = theirs.entries[goal.right]
        other = dict(zip(wanted.keys, wanted.refs, strict=True))
        broken = None
        parts = []
        ours = mine.entries[goal.left]
        for key, ref in zip(ours.keys, ours.refs, strict=True):
            name = _label(mine, goal.left, key)
            if key in other:
                parts.append((f"case {name}", Goal(goal.swapped, ref, other[key])))
            else:
                broken = broken or f"the case {name} is not expected"
        return broken, parts

    def _function(
        self, goal: Goal, mine: Table, theirs: Table
    ) -> tuple[str | None, list[tuple[str, Goal]]]:
        ours, other = mine.entries[goal.left], theirs.entries[goal.right]
        broken = None
        if ours.modes != other.modes:
            broken = f"its modes are {_modes(ours.modes)}, not {_modes(other.modes)}"
        parts = []
        # Arguments flow the other way: theirs must suit ours.
        given, taken = other.refs[: other.arg_count], ours.refs[: ours.arg_count]
        for place, ref in enumerate(taken):
            if place < len(given):
                goal_ = Goal(not goal.swapped, given[place], ref)
                parts.append((f"argument {place}", goal_))
            elif not nullable(mine, ref):
                broken = broken or f"argument {place} is not passed, and not optional"
        given, taken = ours.refs[ours.arg_count :], other.refs[other.arg_count :]
        for place, ref in enumerate(taken):
            if place < len(given):
                parts.append((f"result {place}", Goal(goal.swapped, given[place], ref)))
            elif not nullable(theirs, ref):
                broken = broken or f"result {place} is missing, and not optional"
        return broken, parts

    def _service(
        self, goal: Goal, mine: Table, theirs: Table
    ) -> tuple[str | None, list[tuple[str, Goal]]]:
        ours, other = mine.entries[goal.left], theirs.entries[goal.right]
        offered = dict(zip(ours.keys, ours.refs, strict=True))
        broken = None
        parts = []
        for name, ref in zip(other.keys, other.refs, strict=True):
            shown = t.label_text(name.decode())
            if name in offered:
                parts.append((f"method {shown}", Goal(goal.swapped, offered[name], ref)))
            else:
                broken = broken or f"the method {shown} is missing"
        return broken, parts


def _modes(modes: frozenset[str]) -> str:
    return " and ".join(mode for mode in t.MODES if mode in modes) or "none"


def _label(table: Table, ref: int, key: int) -> str:
    if table.types:
        type_ = table.types[ref]
        if isinstance(type_, t.Record | t.Variant):
            for field in type_.fields:
                if field.id == key:
                    return t.label_text(field.label)
    return str(key)


def is_subtype(left: t.Type, right: t.Type) -> bool:
    """Whether ``left <: right``: a value of ``left`` can be read where ``right`` is expected."""
    first, second = flatten([left]), flatten([right])
    return Subtyping(first, second, _free).holds(first.args[0], second.args[0])


def _free() -> None:
    """Types that the caller wrote cost nothing."""


class Fault(NamedTuple):
    """Why an interface cannot replace another.

    Attributes:
        path: Steps from the service to the place, such as ``("method send", "argument 0")``.
        message: What is wrong there.
    """

    path: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return f"{', '.join(self.path)}: {self.message}" if self.path else self.message


def subtype_faults(left: t.Type, right: t.Type) -> list[Fault]:
    """Everything that keeps ``left`` from being a subtype of ``right``; empty if it is one."""
    first, second = flatten([left]), flatten([right])
    relation = Subtyping(first, second, _free)
    return [Fault(*fault) for fault in relation.faults(first.args[0], second.args[0])]


def subtype_losses(left: t.Type, right: t.Type) -> list[Fault]:
    """Where values of ``left``, though it may be a subtype, are read as null at ``right``.

    Any type is a subtype of any ``opt``; what does not fit is null then, which is seldom meant.
    """
    first, second = flatten([left]), flatten([right])
    relation = Subtyping(first, second, _free)
    return [Fault(*loss) for loss in relation.losses(first.args[0], second.args[0])]
