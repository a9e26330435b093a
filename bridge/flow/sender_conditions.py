"""Conditions of the sender's table. Which actions they guard is for the table to say."""

from typing import TypeAlias

from bridge.flow.effects import Ask, Tell
from bridge.flow.messages import Ack, Fin, New
from bridge.flow.records import SenderFlow
from bridge.flow.states import Decision, Role, SenderState, Telling
from bridge.flow.tables import Step

S: TypeAlias = Step[SenderFlow]

MOST_WRONG_HASHES = 3

# --- Times --------------------------------------------------------------------------------------


def send_due(flow: SenderFlow, step: S) -> bool:
    """NEW is due."""
    return flow.send_due is not None and step.now >= flow.send_due


def send_due_with_room(flow: SenderFlow, step: S) -> bool:
    """NEW is due and fits in flight."""
    return flow.send_due is not None and step.now >= flow.send_due and step.event.room


def send_due_without_room(flow: SenderFlow, step: S) -> bool:
    """NEW is due and does not fit."""
    return send_due(flow, step) and not step.event.room


def send_due_and_none_left(flow: SenderFlow, step: S) -> bool:
    """NEW is due and was sent as often as it may."""
    return flow.attempts >= step.policy.attempts and send_due(flow, step)


def tell_due(flow: SenderFlow, step: S) -> bool:
    """A telling or a question is due again."""
    return flow.tell_due is not None and step.now >= flow.tell_due


def tell_due_and_none_left(flow: SenderFlow, step: S) -> bool:
    """A telling is due again, but a crash took the last try."""
    return tell_due(flow, step) and flow.tries >= step.policy.handler_attempts


def fin_due(flow: SenderFlow, step: S) -> bool:
    """A FIN that did not leave is due again."""
    return flow.fin_due is not None and step.now >= flow.fin_due


def fin_due_too_long(flow: SenderFlow, step: S) -> bool:
    """It has been due for ``linger``."""
    return fin_due(flow, step) and flow.fin_until is not None and step.now >= flow.fin_until


def is_over(flow: SenderFlow, step: S) -> bool:
    """The state's own time is over."""
    return flow.ends is not None and step.now >= flow.ends


def is_over_and_taken(flow: SenderFlow, step: S) -> bool:
    """The same, and nothing waits to be told."""
    return is_over(flow, step) and pending(flow) is None


# --- Messages and their fate --------------------------------------------------------------------


def is_ack(_flow: SenderFlow, step: S) -> bool:
    """It is an ACK."""
    return isinstance(step.event.message, Ack)


def is_receipt(flow: SenderFlow, step: S) -> bool:
    """It is a null ACK of a peer whose null ACKs are mere receipts."""
    event = step.event
    if not isinstance(event.message, Ack) or event.message.payload:
        return False
    is_null = event.message.payload is None or event.dialect != "unified"
    return is_null and step.policy.peer(flow.peer).null_ack == "receipt"


def ack_right(flow: SenderFlow, step: S) -> bool:
    """It is an ACK of what we sent; a null hash is always right."""
    message = step.event.message
    return isinstance(message, Ack) and message.hash in (None, flow.payload_hash)


def ack_new_wrong(flow: SenderFlow, step: S) -> bool:
    """It is an ACK with a wrong hash that was not yet reported, among the first three."""
    return (
        isinstance(step.event.message, Ack)
        and len(flow.wrong) < MOST_WRONG_HASHES
        and step.event.message.hash not in flow.wrong
    )


def first_ack(flow: SenderFlow, step: S) -> bool:
    """It is an ACK, and no response was accepted yet."""
    return not flow.late and isinstance(step.event.message, Ack)


def first_ack_right(flow: SenderFlow, step: S) -> bool:
    """The same, with the right hash."""
    return not flow.late and ack_right(flow, step)


def is_new(_flow: SenderFlow, step: S) -> bool:
    """The transmission was a NEW."""
    return isinstance(step.event.transmit.message, New)


def is_latest_new(flow: SenderFlow, step: S) -> bool:
    """The transmission was the latest NEW."""
    transmit = step.event.transmit
    return isinstance(transmit.message, New) and transmit.attempt == flow.attempts


def is_fin(flow: SenderFlow, step: S) -> bool:
    """The transmission was a FIN for what stands: the response, or none after an abandon."""
    message = step.event.transmit.message
    return (
        isinstance(message, Fin)
        and flow.fin_until is not None
        and message.hash == flow.response_hash
    )


# --- The application ----------------------------------------------------------------------------


def pending(flow: SenderFlow) -> Telling | None:
    """What the application, or for a dead letter the operator, has yet to take."""
    match flow.state:
        case SenderState.ANSWERED:
            return Telling.ANSWERED
        case SenderState.DEAD_LETTER if not flow.told:
            return Telling.DEAD_LETTER
        case SenderState.FAILED if not flow.told:
            return Telling.FAILED
        case SenderState.FAILED if flow.late and not flow.late_taken:
            return Telling.LATE
        case _:
            return None


def telling(flow: SenderFlow, *, redelivered: bool = False) -> Tell | None:
    """What is told of it, as it stands; None if everything was taken.

    Args:
        flow: A sender's flow.
        redelivered: Whether it was told before.
    """
    what = pending(flow)
    if what is None:
        return None
    failed = what is Telling.FAILED
    return Tell(
        role=Role.SENDER,
        peer=flow.peer,
        msg_id=flow.msg_id,
        what=what,
        failure=flow.failure if failed else None,
        response=None if failed else flow.response,
        redelivered=redelivered,
        tries=flow.tries,
    )


def is_open_telling(flow: SenderFlow, step: S) -> bool:
    """The event speaks of the telling that is open."""
    of = step.event.of
    return isinstance(of, Tell) and of.what is pending(flow) and of.tries == flow.tries


def is_last_telling(flow: SenderFlow, step: S) -> bool:
    """The same, and it was the last try."""
    return flow.tries >= step.policy.handler_attempts and is_open_telling(flow, step)


def is_open_question(flow: SenderFlow, step: S) -> bool:
    """The event speaks of the question that is open."""
    of = step.event.of
    return isinstance(of, Ask) and of.their_hash == flow.wrong_hash and of.tries == flow.tries


def says_resend(_flow: SenderFlow, step: S) -> bool:
    """The decision is to resend."""
    return step.event.decision is Decision.RESEND


def says_accept(_flow: SenderFlow, step: S) -> bool:
    """The decision is to accept."""
    return step.event.decision is Decision.ACCEPT


def says_abandon(_flow: SenderFlow, step: S) -> bool:
    """The decision is to abandon."""
    return step.event.decision is Decision.ABANDON


# --- After every step ---------------------------------------------------------------------------


def next_due(flow: SenderFlow) -> int | None:
    """The earliest time at which a ``Due`` event can change something."""
    state = flow.state
    due = flow.ends
    if state is SenderState.QUEUED or state is SenderState.SENDING:
        if due is None or (flow.send_due is not None and flow.send_due < due):
            due = flow.send_due
    elif state is SenderState.FAILED and pending(flow) is not None:
        due = None
    if flow.tell_due is not None and (due is None or flow.tell_due < due):
        due = flow.tell_due
    if flow.fin_due is not None and (due is None or flow.fin_due < due):
        due = flow.fin_due
    return due
