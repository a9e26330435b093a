"""The structured trace: one JSON-serialisable entry a step.

Tests assert on it, reports draw it as a timeline, and ``replay`` runs it again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from bridge.errors import UsageError
from bridge.flow.codec import Json, from_json, to_json
from bridge.flow.events import Event, Received, Send
from bridge.flow.messages import Ack
from bridge.flow.policy import Policy
from bridge.flow.records import Flow
from bridge.flow.states import Role
from bridge.flow.step import step
from bridge.flow.transition import Transition
from bridge.principal import Principal


@dataclass(frozen=True, slots=True)
class FlowKey:
    """Which flow, on our side.

    Args:
        role: Our side.
        peer: The other side.
        msg_id: The sender's id.
    """

    role: Role
    peer: Principal
    msg_id: int

    @classmethod
    def of(cls, record: Flow) -> Self:
        """The key of a record."""
        return cls(record.role, record.peer, record.msg_id)

    def __str__(self) -> str:
        return f"{self.role} {self.peer} {self.msg_id}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One step, as plain JSON values.

    Args:
        time: Nanoseconds since 1970.
        key: Which flow: role, peer, id; None for a message that names none.
        event: The event.
        before: State before; None if there was no flow.
        after: State after; None if there is none.
        effects: What was decided.
        rows: Names of the rows that decided.
    """

    time: int
    key: str | None
    event: Json
    before: str | None
    after: str | None
    effects: tuple[Json, ...]
    rows: tuple[str, ...]

    def line(self) -> str:
        """As one line of a timeline: when, which flow, what happened, and what was decided."""
        effects = ", ".join(str(effect["effect"]) for effect in self.effects)
        states = f"{self.before or '-'} -> {self.after or '-'}"
        decided = " ".join(
            part for part in (", ".join(self.rows), effects and f"=> {effects}") if part
        )
        return f"{self.time} {self.key or '-'}: {self.event['event']}: {states} {decided}".rstrip()

    def to_json(self) -> Json:
        """As one JSON object."""
        return {
            "time": self.time,
            "flow": self.key,
            "event": self.event,
            "from": self.before,
            "to": self.after,
            "effects": list(self.effects),
            "rows": list(self.rows),
        }

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """What ``to_json`` made this object of.

        Raises:
            UsageError: If a field is missing.
        """
        try:
            return cls(
                value["time"],
                value["flow"],
                value["event"],
                value["from"],
                value["to"],
                tuple(value["effects"]),
                tuple(value["rows"]),
            )
        except KeyError as error:
            raise UsageError(f"a trace entry lacks {error}") from error


def entry(before: Flow | None, event: Event, now: int, transition: Transition) -> Entry:
    """The trace entry of a step that was made."""
    record = transition.flow if before is None else before
    return Entry(
        time=now,
        key=None if record is None else str(FlowKey.of(record)),
        event=to_json(event),
        before=None if before is None else before.state.value,
        after=None if transition.flow is None else transition.flow.state.value,
        effects=tuple(to_json(effect) for effect in transition.effects),
        rows=transition.rows,
    )


def replay(entries: Iterable[Entry], policy: Policy) -> Iterator[tuple[Entry, Flow | None]]:
    """Run a trace again from no flows, checking that every step decides the same.

    Args:
        entries: A whole trace, oldest first.
        policy: The settings it was made with.

    Yields:
        Each entry with the record after it.

    Raises:
        UsageError: If a step decides something else than the trace says.
    """
    flows: dict[str, Flow] = {}
    for then in entries:
        event: Event = from_json(then.event)
        before = None if then.key is None else flows.get(then.key)
        transition = step(before, event, then.time, policy)
        now = entry(before, event, then.time, transition)
        if now != then:
            raise UsageError(
                f"the trace does not replay: at {then.time} it has {then.to_json()},"
                f" but the tables decide {now.to_json()}",
                hint="replay with the version and the policy that the trace was made with",
            )
        if then.key is not None:
            if transition.flow is None:
                flows.pop(then.key, None)
            else:
                flows[then.key] = transition.flow
        yield then, transition.flow


def key_of(event: Received | Send) -> FlowKey:
    """Which flow a message or a send names, as far as the event tells.

    A sender's flow is found by its id alone, whoever the caller of the ACK is.
    """
    if isinstance(event, Send):
        return FlowKey(Role.SENDER, event.peer, event.msg_id)
    role = Role.SENDER if isinstance(event.message, Ack) else Role.RECEIVER
    return FlowKey(role, event.caller, event.message.msg_id)
