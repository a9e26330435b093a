"""What flows take of the quotas: sums that a store keeps and admission asks for."""

from dataclasses import dataclass
from typing import Self

from bridge.flow.records import Flow, ReceiverFlow, SenderFlow, is_open, stored_bytes
from bridge.flow.states import SenderState


@dataclass(frozen=True, slots=True)
class Usage:
    """What some flows take.

    Args:
        open: Open flows.
        tombstones: Flows kept only to know a late message.
        bytes: Bytes of the payloads and responses that are stored.
        unanswered: Open flows without a response, for each of which ``response_room`` counts too.
    """

    open: int = 0
    tombstones: int = 0
    bytes: int = 0
    unanswered: int = 0

    @classmethod
    def of(cls, record: Flow | None) -> Self:
        """What one record takes; None takes nothing."""
        if record is None:
            return cls()
        opened = is_open(record)
        return cls(
            open=int(opened),
            tombstones=int(not opened),
            bytes=stored_bytes(record, 0),
            unanswered=int(opened and record.response_hash is None),
        )

    def counted_bytes(self, response_room: int) -> int:
        """Bytes as the quotas count them: as stored, plus room for each answer that may come."""
        return self.bytes + self.unanswered * response_room

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.open + other.open,
            self.tombstones + other.tombstones,
            self.bytes + other.bytes,
            self.unanswered + other.unanswered,
        )

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(
            self.open - other.open,
            self.tombstones - other.tombstones,
            self.bytes - other.bytes,
            self.unanswered - other.unanswered,
        )


def usage_change(before: Flow | None, after: Flow | None) -> Usage | None:
    """What a change of a record adds to the sums; None if nothing, as for most steps."""
    if before is not None and after is not None:
        same = (
            before.state is after.state
            and before.payload is after.payload
            and before.response is after.response
        )
        if same and (isinstance(after, ReceiverFlow) or not _says_more(after)):
            return None
    change = Usage.of(after) - Usage.of(before)
    return None if change == Usage() else change


def _says_more(record: SenderFlow) -> bool:
    """Whether a sender's flow takes what its state and payloads do not tell."""
    return record.state is SenderState.FAILED or record.state is SenderState.CORRUPT


@dataclass(frozen=True, slots=True)
class Usages:
    """The sums that one decision needs, of one side's flows only (sender or receiver).

    Args:
        peer: Of the flows with the peer in question.
        everyone: Of all flows.
        unlisted: Of the flows with peers that are on no list, which share at most half.
    """

    peer: Usage = Usage()
    everyone: Usage = Usage()
    unlisted: Usage = Usage()
