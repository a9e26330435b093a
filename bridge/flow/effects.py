"""What is to be done after a step was committed: data, carried out by whoever runs the tables.

Order is: commit the record, then carry the effects out. A pending effect whose flow has left that
state and attempt is dropped: ask ``bridge.flow.is_current`` right before carrying it out.
An error to the application is no effect: ``step`` raises ``LocalProtocolError``, nothing changes.
"""

from dataclasses import dataclass

from bridge.flow.messages import Message
from bridge.flow.states import Failure, Role, Telling
from bridge.principal import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Transmit:
    """Hand a message to the system.

    Report ``NotSent``, ``Refused`` or ``Rejected`` with this very effect where that is known.

    Args:
        peer: To whom.
        dialect: In which dialect.
        message: What.
        attempt: Number of this transmission; 1 is the first. Echoes have the number of the attempt
            that they repeat.
        echo: Whether it answers a repeat.
        prior_due: For an echo of ACK: the record's ``send_due`` before it.
        prior_at: For ACK and FIN: when it was last transmitted before. Both are restored if this
            transmission certainly did not leave.
    """

    peer: Principal
    dialect: str
    message: Message
    attempt: int
    echo: bool = False
    prior_due: int | None = None
    prior_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """Give a NEW to the application's handler.

    Args:
        peer: The sender.
        msg_id: The id.
        payload: The payload.
        hash: Its hash.
        redelivered: Whether the handler may have run on it before.
        tries: Number of this try, counted to ``handler_attempts``.
    """

    peer: Principal
    msg_id: int
    payload: bytes
    hash: int
    redelivered: bool
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Tell the application how a flow stands, until it returns.

    Args:
        role: Our side of the flow.
        peer: The other side.
        msg_id: The id.
        what: What is told.
        failure: For ``FAILED``: how.
        response: For ``ANSWERED``, ``LATE``, ``DEAD_LETTER``, ``ABANDONED``: the response.
        redelivered: Whether it was told before.
        tries: Number of this try, counted to ``handler_attempts``.
    """

    role: Role
    peer: Principal
    msg_id: int
    what: Telling
    failure: Failure | None = None
    response: bytes | None = None
    redelivered: bool = False
    tries: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Ask, or only inform, the corruption handler.

    Args:
        role: Our side of the flow.
        peer: The other side.
        msg_id: The id.
        kind: Kind of the message with the wrong hash: ``"NEW"``, ``"ACK"`` or ``"FIN"``.
        our_payload: What is stored here: the NEW payload, or for a FIN the response.
        their_payload: What came; None for a FIN.
        our_hash: The hash that would have been right.
        their_hash: The hash that came.
        decide: Whether a ``Decided`` is expected.
        tries: Number of this try.
    """

    role: Role
    peer: Principal
    msg_id: int
    kind: str
    our_payload: bytes | None
    their_payload: bytes | None
    our_hash: int
    their_hash: int
    decide: bool
    tries: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Count something by its reason; nothing else happens because of it."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberPaid:
    """Keep the paid mark of a flow that is forgotten, so that its retry is not charged again.

    Args:
        peer: The sender.
        msg_id: The id.
        until: When the mark may go.
    """

    peer: Principal
    msg_id: int
    until: int


Effect = Transmit | HandOver | Tell | Ask | Count | RememberPaid
