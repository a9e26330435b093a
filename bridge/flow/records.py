"""What is stored of a flow: one frozen record of plain fields a role.

Every field is an ``int``, ``bool``, ``str`` (enums are strings), ``bytes``, ``Principal``, None or
a tuple of ints, so that a store maps a field to a column. Times and durations are nanoseconds.

``due`` is the only time a scheduler needs: the earliest moment at which a ``Due`` event can change
something; None while nothing but an outside event can. It is derived from the other times in the
record at each step, so a store may index it, and need not understand it.

``version`` grows by one with each change; a store refuses a commit whose predecessor it does not
hold.
"""

from dataclasses import dataclass
from typing import ClassVar

from bridge.flow.states import Failure, ReceiverState, Role, SenderState
from bridge.principal import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderFlow:
    """A flow that we opened.

    Args:
        peer: The receiver.
        msg_id: Unique over all our flows.
        dialect: How we speak to this peer; fixed when the flow was opened.
        state: Row of the sender's table.
        failure: How it failed; None unless ``state`` is ``FAILED``.
        late: Whether a response came after the failure.
        payload: The NEW payload; None once dropped.
        payload_hash: Its hash, kept after the payload is dropped.
        response: The accepted response; None for a null one, before there is one, and once dropped.
        response_hash: Its hash; None until a response was accepted.
        attempts: Transmissions of NEW so far, those certainly not sent taken back.
        opened: When the application sent it. ``lifetime`` runs from here.
        changed: The last change of state.
        ends: When the present state is over by itself: lifetime, linger or retention.
        send_due: Next transmission of NEW.
        tell_due: When the application is told or asked again.
        tries: Opened tries of the present telling or question.
        told: Whether the application took the outcome.
        late_taken: Whether it took the late response.
        fin_due: Next transmission of a FIN that the system did not accept.
        fin_until: When that is given up.
        fin_at: The last transmission of FIN, for the echo rule.
        fin_echoes: How many FINs were sent in answer to repeats.
        wrong: Wrong hashes that were reported, at most three.
        wrong_hash: Hash of the stored wrong ACK; None when none is stored.
        wrong_payload: Its payload.
        due: See the module.
        version: See the module.
    """

    role: ClassVar[Role] = Role.SENDER

    peer: Principal
    msg_id: int
    dialect: str
    state: SenderState
    payload_hash: int
    opened: int
    changed: int
    payload: bytes | None = None
    failure: Failure | None = None
    late: bool = False
    response: bytes | None = None
    response_hash: int | None = None
    attempts: int = 0
    ends: int | None = None
    send_due: int | None = None
    tell_due: int | None = None
    tries: int = 0
    told: bool = False
    late_taken: bool = False
    fin_due: int | None = None
    fin_until: int | None = None
    fin_at: int | None = None
    fin_echoes: int = 0
    wrong: tuple[int, ...] = ()
    wrong_hash: int | None = None
    wrong_payload: bytes | None = None
    due: int | None = None
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverFlow:
    """A flow that a peer opened.

    Args:
        peer: The sender; (``peer``, ``msg_id``) is the key.
        msg_id: The peer's id of the flow; opaque.
        dialect: The dialect its NEW came in; replies use it.
        state: Row of the receiver's table.
        payload: The NEW payload; None once dropped.
        payload_hash: Its hash, kept in the tombstone.
        response: The response; None for a null one, before there is one, and once dropped.
        response_hash: Its hash; None until there is a response.
        attempts: Transmissions of ACK so far, echoes apart.
        opened: When NEW was admitted.
        changed: The last change of state.
        ends: When the present state is over by itself. For ``STALLED``, ``ABANDONED`` and
            ``FINISHED`` this is observed time (see ``Event.lag``), else the clock's.
        send_due: Next transmission of ACK.
        tell_due: When the application is told again.
        tries: Opened tries: of the handler while ``PROCESSING``, else of the present telling.
        told: Whether the application took what the present state tells.
        ack_at: The last transmission of ACK, for the echo rule.
        ack_echoes: How many ACKs were sent in answer to repeats.
        wrong_news: Hashes of other NEW payloads that were reported, at most three.
        wrong_fins: Wrong FIN hashes that were reported, at most three.
        asked: Those of them about which the corruption handler has yet to decide.
        asks: Opened tries of these questions.
        ask_due: When they are asked again: a restart took them.
        deferred: Whether the handler answers later by id, which survives a restart.
        paid: Whether this flow's cycles were accepted.
        horizon: The horizon in force when the flow came; a later shorter one does not hold for it.
        floor: Trusted ULID time of a peer with ``ids = "ulid"``, else 0: its tombstone is kept at
            least ``horizon`` after that.
        due: See the module.
        version: See the module.
    """

    role: ClassVar[Role] = Role.RECEIVER

    peer: Principal
    msg_id: int
    dialect: str
    state: ReceiverState
    payload_hash: int
    opened: int
    changed: int
    horizon: int
    payload: bytes | None = None
    response: bytes | None = None
    response_hash: int | None = None
    attempts: int = 0
    ends: int | None = None
    send_due: int | None = None
    tell_due: int | None = None
    tries: int = 0
    told: bool = False
    ack_at: int | None = None
    ack_echoes: int = 0
    wrong_news: tuple[int, ...] = ()
    wrong_fins: tuple[int, ...] = ()
    asked: tuple[int, ...] = ()
    asks: int = 0
    ask_due: int | None = None
    deferred: bool = False
    paid: bool = False
    floor: int = 0
    due: int | None = None
    version: int = 0


Flow = SenderFlow | ReceiverFlow

OPEN_STATES: frozenset[SenderState | ReceiverState] = frozenset(
    {
        SenderState.QUEUED,
        SenderState.SENDING,
        SenderState.CORRUPT,
        SenderState.ANSWERED,
        SenderState.DEAD_LETTER,
        ReceiverState.PROCESSING,
        ReceiverState.STALLED,
        ReceiverState.ACKNOWLEDGING,
    }
)


def is_open(record: Flow) -> bool:
    """Whether the flow counts as open in the quotas; a tombstone otherwise.

    A failed flow is open until its outcome, and a late response, was taken.
    """
    if record.state is SenderState.FAILED:
        assert isinstance(record, SenderFlow)
        return not record.told or (record.late and not record.late_taken)
    return record.state in OPEN_STATES


def stored_bytes(record: Flow, response_room: int) -> int:
    """Bytes that count in the quotas: what is stored, plus room for an answer that may yet come."""
    size = len(record.payload or b"") + len(record.response or b"")
    if isinstance(record, SenderFlow):
        size += len(record.wrong_payload or b"")
    if record.response_hash is None and is_open(record):
        size += response_room
    return size
