"""What can happen to a flow. Chance and ids come in with the event; the tables draw nothing.

``u`` is the jitter drawn for this event, in millionths, 0 to ``1000 * policy.jitter_permille``.

``lag`` is how far observed time stands behind ``now`` (nanoseconds): the receiver's tombstones age
by observed time, see ``bridge.flow.world.ObservedTime``. Senders ignore it.

``room`` says whether one more transmission to the peer fits the in-flight bound; for an ACK that
names no flow, whether the global rate of unknown-ACK FINs allows one as well.
"""

from dataclasses import dataclass

from bridge.flow.effects import Ask, HandOver, Tell, Transmit
from bridge.flow.messages import Message
from bridge.flow.states import Decision
from bridge.principal import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What all events carry."""

    u: int = 0
    lag: int = 0
    room: bool = True


# --- From outside -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Received(Event):
    """A message came.

    NEW and FIN belong to the receiver's flow (caller, msg_id), ACK to the sender's flow with that
    msg_id, whoever the caller is: the table knows the spoofed ones itself.

    Args:
        message: The message.
        caller: Who the system says called.
        dialect: The dialect that it came in.
        refused: For a NEW without a flow: why admission refuses it; None if it is admitted.
        paid: For an admitted NEW: whether its cycles were accepted, now or before.
        floor: For an admitted NEW: the trusted ULID time in nanoseconds, else 0.
    """

    message: Message
    caller: Principal
    dialect: str = "unified"
    refused: str | None = None
    paid: bool = False
    floor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Due(Event):
    """The record's ``due`` time has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarted(Event):
    """The process came back: restart or upgrade. Handlers that ran are lost.

    Args:
        share: Where in ``spread`` overdue work lands, in millionths.
    """

    share: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSent(Event):
    """A transmission certainly did not leave: queue full, frozen, no byte sent.

    Args:
        transmit: The effect that could not be carried out.
    """

    transmit: Transmit


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Event):
    """A certified reject: no such canister, or no such method.

    Args:
        transmit: The effect that was refused.
    """

    transmit: Transmit


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected(Event):
    """Any other reject, and any uncertified one: the outcome is unknown.

    Args:
        transmit: The effect that was rejected.
    """

    transmit: Transmit


# --- From the application or the operator -------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Send(Event):
    """The application opens a flow; quotas were asked (``admission.check_send``).

    Args:
        peer: The receiver.
        msg_id: A fresh id, or a used one to repeat a send idempotently.
        payload: Opaque bytes.
        dialect: How to speak to this peer.
    """

    peer: Principal
    msg_id: int
    payload: bytes
    dialect: str = "unified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(Event):
    """The application gives the flow up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned(Event):
    """The application took what it was told.

    Args:
        of: The telling that returned; an outdated one is counted.
    """

    of: Tell


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerFailed(Event):
    """The application's code raised or trapped: on a telling, a question, or a NEW.

    For a NEW that is a trap, or an error that the application did not classify as
    ``FailedForNow`` or ``FailedForGood``.

    Args:
        of: What it was given; an outdated one is counted.
    """

    of: Tell | Ask | HandOver


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish(Event):
    """finish(id): the application has the response, however it got it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided(Event):
    """The corruption handler decided.

    Args:
        decision: Resend, accept or abandon.
        hash: The wrong hash that was asked about. For accept at the sender: of the ACK to be
            accepted. At the receiver: None stands for all that are asked about.
    """

    decision: Decision
    hash: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDeadLetter(Event):
    """The operator: hand the response over again, tries from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DropDeadLetter(Event):
    """The operator: the response is not wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Event):
    """The application answers a NEW.

    Args:
        response: Opaque bytes, or None for a null response.
        fits: Whether the quotas have room to store it (``admission.answer_fits``).
    """

    response: bytes | None
    fits: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred(Event):
    """The handler returned and will answer later by id; this survives a restart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedForNow(Event):
    """The application says: failed, to be retried. The sender's next NEW is processed anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedForGood(Event):
    """The application says: failed for good; a final failure is an answer.

    Args:
        response: The bytes to answer with.
        fits: As in ``Answer``.
    """

    response: bytes | None
    fits: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun(Event):
    """The application or the operator: run the handler of a stalled flow again."""
