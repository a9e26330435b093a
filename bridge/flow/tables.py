"""What a table of the protocol is: rows as data, and how a step looks an event up in them.

A row names the states and the event that it is for, the condition under which it holds, the states
that it may lead to, what is done, and the row of the page that it implements. The tables themselves
are ``bridge.flow.sender`` and ``bridge.flow.receiver``; tests read them beside the page, and the
diagrams of the documentation are drawn from them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from bridge.flow.drafts import blank, draft
from bridge.flow.effects import Count, Effect
from bridge.flow.events import Due, Event
from bridge.flow.policy import Policy
from bridge.flow.records import ReceiverFlow, SenderFlow
from bridge.flow.states import ReceiverState, SenderState

State = SenderState | ReceiverState
F = TypeVar("F", bound=SenderFlow | ReceiverFlow)


class Step(Generic[F]):
    """One step in the making: what conditions look at and actions change.

    Args:
        record: The flow as it is stored; None if there is none.
        event: What happened. A row is looked up by the event's class, so its condition and action
            know which class it is.
        now: Nanoseconds since 1970.
        policy: The settings.

    Attributes:
        record: The flow as it stands; None before it came to be and once it is forgotten. A draft
            as soon as something was changed.
        is_draft: Whether something was changed.
        effects: What was decided so far.
        rows: Names of the rows that decided.
    """

    __slots__ = ("effects", "event", "is_draft", "now", "policy", "record", "rows")

    def __init__(self, record: F | None, event: Any, now: int, policy: Policy) -> None:
        self.record = record
        self.is_draft = False
        self.event = event
        self.now = now
        self.policy = policy
        self.effects: list[Effect] = []
        self.rows: list[str] = []

    def draft(self) -> Any:
        """The flow, to be changed."""
        if not self.is_draft:
            assert self.record is not None
            self.record = draft(self.record)
            self.is_draft = True
        return self.record

    def begin(self, kind: type[SenderFlow | ReceiverFlow]) -> Any:
        """A new flow, whose fields without a default are to be set."""
        record: Any = blank(kind)
        self.record = record
        self.is_draft = True
        return record

    def count(self, reason: str) -> None:
        """Count something; nothing else happens because of it."""
        self.effects.append(Count(reason=reason))


# Both are given the flow as it stands. Rows for "no flow" get none and do not look at it.
Condition = Callable[[F, Step[F]], bool]
Action = Callable[[F, Step[F]], None]


@dataclass(frozen=True, slots=True)
class Row(Generic[F]):
    """One row.

    Args:
        name: Unique within the table.
        page: The cells "state" and "event" of the page's row; None for what the page says in prose.
        states: For which states; None stands for "no flow".
        event: For which class of event.
        when: Under which condition; ``always`` for none.
        to: The states that it may lead to, beside the present one; None stands for "forgotten".
        then: What is done.
    """

    name: str
    page: tuple[str, str] | None
    states: tuple[State | None, ...]
    event: type[Event]
    when: Condition[F]
    to: tuple[State | None, ...]
    then: Action[F]


def always(_flow: F, _step: Step[F]) -> bool:
    """No condition."""
    return True


def nothing(_flow: F, _step: Step[F]) -> None:
    """The row says that nothing is done."""


class Table(Generic[F]):
    """Rows, indexed by state and event.

    Of the rows for a state and an event, the first whose condition holds decides. A ``Due`` event
    is the one exception: several of a flow's times can have come, so all rows that hold decide, in
    their order, until the state changes.

    Args:
        rows: In the order in which they are tried.
    """

    def __init__(self, rows: Sequence[Row[F]]) -> None:
        self.rows: Final = tuple(rows)
        self._index: Final[dict[tuple[State | None, type[Event]], list[Row[F]]]] = {}
        for row in rows:
            for state in row.states:
                self._index.setdefault((state, row.event), []).append(row)

    def apply(self, step: Step[F], event: type[Event] | None = None) -> bool:
        """Let the rows decide; whether one did.

        Args:
            step: The step, which is changed.
            event: Look this class of event up, instead of the class of the step's event.
        """
        flow: Any = step.record
        state = None if flow is None else flow.state
        kind = type(step.event) if event is None else event
        decided = False
        for row in self._index.get((state, kind), ()):
            if not row.when(flow, step):
                continue
            step.rows.append(row.name)
            row.then(flow, step)
            decided = True
            flow = step.record
            if kind is not Due or flow is None or flow.state is not state:
                break
        return decided
