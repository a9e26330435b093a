"""What passed between the two ends, as the chaos canister in the middle wrote it down.

The judge reads this and not the endpoints' word.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from bridge.monitor import MessageRecord

_LOST: Final = ("lose", "reject")


@dataclass(frozen=True, slots=True)
class Sighting:
    """One line of the chaos canister's log.

    Attributes:
        seq: Its place in the log.
        time: Nanoseconds since 1970.
        side: Who said it: ``a`` (the sender's end) or ``b`` (the receiver's).
        kind: ``NEW``, ``ACK``, ``FIN``; ``None`` for a batch, or where it could not be read.
        nth: Which of its side and kind.
        what: ``came``, ``left`` or ``not_left``.
        fault: What was done to it, for one that came; empty for nothing.
        method: The method called.
        dialect: What it is spoken in.
        msg_id: The flow's id.
        hash: The hash that it carries.
        payload_hash: Of its payload; ``None`` without one.
        size: Bytes of its argument.
    """

    seq: int
    time: int
    side: str
    kind: str | None
    nth: int
    what: str
    fault: str
    method: str
    dialect: str | None
    msg_id: int | None
    hash: int | None
    payload_hash: int | None
    size: int

    @classmethod
    def of(cls, entry: dict[str, Any]) -> "Sighting":
        """A line as the canister's interface gives it."""
        what = entry["what"]
        return cls(
            seq=entry["seq"],
            time=entry["time"],
            side=entry["from"].label,
            kind=entry["kind"] and entry["kind"].label,
            nth=entry["nth"],
            what=what.label,
            fault=what.value.label if what.label == "came" and what.value else "",
            method=entry["method"],
            dialect=entry["dialect"] and entry["dialect"].label,
            msg_id=entry["msg_id"],
            hash=entry["hash"],
            payload_hash=entry["payload_hash"],
            size=entry["size"],
        )


class Wire:
    """All that was seen so far.

    Args:
        sightings: The lines, in their order.
    """

    def __init__(self, sightings: Iterable[Sighting] = ()) -> None:
        self.sightings = list(sightings)

    def said(self, kind: str | None, msg_id: int | None = None) -> list[Sighting]:
        """What the two said of this kind, whether or not it was let through."""
        return self._pick("came", kind, msg_id)

    def passed(self, kind: str | None, msg_id: int | None = None) -> list[Sighting]:
        """What was let through of this kind, copies included."""
        return self._pick("left", kind, msg_id)

    def _pick(self, what: str, kind: str | None, msg_id: int | None) -> list[Sighting]:
        return [
            seen
            for seen in self.sightings
            if seen.what == what and seen.kind == kind and (msg_id is None or seen.msg_id == msg_id)
        ]

    def foreign(self, side: str, dialect: str) -> Sighting | None:
        """The first message that a side said in another dialect; ``None`` if all are in this one.

        What can be read in no dialect is no message, and is none of these.
        """
        said = (s for s in self.sightings if s.side == side and s.what == "came" and s.kind)
        return next((seen for seen in said if seen.dialect not in (None, dialect)), None)

    def ids(self) -> list[int]:
        """The flows' ids in the order in which their first NEW was said."""
        found = dict.fromkeys(seen.msg_id for seen in self.said("NEW"))
        return [msg_id for msg_id in found if msg_id is not None]

    def counts(self) -> str:
        """How many messages of each kind were said and passed, as a sentence."""
        parts = [
            f"{len(self.said(kind))} {kind} ({len(self.passed(kind))} passed)"
            for kind in ("NEW", "ACK", "FIN")
        ]
        return ", ".join(parts)


def timeline(wire: Wire, sender: str, receiver: str, *, flows: int) -> tuple[MessageRecord, ...]:
    """The sightings as a trace: each message once as lost, or once for each copy that left.

    Args:
        wire: What was seen.
        sender: What the sender is called.
        receiver: What the receiver is called.
        flows: Of how many flows at most.
    """
    names: dict[int, str] = {}
    attempts: dict[tuple[int, str], int] = {}
    records: list[MessageRecord] = []
    for seen in wire.sightings:
        if seen.msg_id is None or seen.kind is None:
            continue
        lost = seen.what == "not_left" or seen.fault in _LOST
        if seen.what == "came" and not lost:
            continue
        if seen.msg_id not in names and len(names) == flows:
            continue
        flow = names.setdefault(seen.msg_id, f"flow {len(names) + 1}")
        attempt = attempts[seen.msg_id, seen.kind] = attempts.get((seen.msg_id, seen.kind), 0) + 1
        ends = (sender, receiver) if seen.side == "a" else (receiver, sender)
        records.append(
            MessageRecord(
                time=seen.time,
                flow=flow,
                sender=ends[0],
                receiver=ends[1],
                message=cast("Literal['NEW', 'ACK', 'FIN']", seen.kind),
                size=seen.size,
                attempt=attempt,
                outcome="lost" if lost else "delivered",
            )
        )
    return tuple(records)
