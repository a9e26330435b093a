"""Conditions of the receiver's table. Which actions they guard is for the table to say."""

from typing import TypeAlias

from bridge.flow.effects import Ask, HandOver, Tell
from bridge.flow.messages import Ack, Fin, New, payload_hash
from bridge.flow.records import ReceiverFlow
from bridge.flow.states import Decision, ReceiverState, Telling
from bridge.flow.tables import Step

S: TypeAlias = Step[ReceiverFlow]

MOST_WRONG_HASHES = 3

# --- Times --------------------------------------------------------------------------------------


def send_due(flow: ReceiverFlow, step: S) -> bool:
    """ACK is due."""
    return flow.send_due is not None and step.now >= flow.send_due


def send_due_with_room(flow: ReceiverFlow, step: S) -> bool:
    """ACK is due and fits in flight."""
    return flow.send_due is not None and step.now >= flow.send_due and step.event.room


def send_due_without_room(flow: ReceiverFlow, step: S) -> bool:
    """ACK is due and does not fit."""
    return send_due(flow, step) and not step.event.room


def send_due_and_none_left(flow: ReceiverFlow, step: S) -> bool:
    """ACK is due and was sent as often as it may."""
    return flow.attempts >= step.policy.attempts and send_due(flow, step)


def tell_due(flow: ReceiverFlow, step: S) -> bool:
    """A telling is due again."""
    return flow.tell_due is not None and step.now >= flow.tell_due


def ask_due(flow: ReceiverFlow, step: S) -> bool:
    """A question is due again."""
    return flow.ask_due is not None and step.now >= flow.ask_due


def is_over(flow: ReceiverFlow, step: S) -> bool:
    """The state's own time is over, by the clock."""
    return flow.ends is not None and step.now >= flow.ends


def horizon_over(flow: ReceiverFlow, step: S) -> bool:
    """The tombstone's time is over, by observed time."""
    return flow.ends is not None and step.now - step.event.lag >= flow.ends


# --- Messages and their fate --------------------------------------------------------------------


def is_new(_flow: ReceiverFlow, step: S) -> bool:
    """It is a NEW."""
    return isinstance(step.event.message, New)


def new_refused(_flow: ReceiverFlow, step: S) -> bool:
    """It is a NEW that admission refuses."""
    return step.event.refused is not None and isinstance(step.event.message, New)


def new_again(flow: ReceiverFlow, step: S) -> bool:
    """It is a NEW with the payload that is stored."""
    message = step.event.message
    return isinstance(message, New) and payload_hash(message.payload) == flow.payload_hash


def new_with_new_wrong_hash(flow: ReceiverFlow, step: S) -> bool:
    """It is a NEW with another payload that was not yet reported, among the first three."""
    message = step.event.message
    return (
        isinstance(message, New)
        and len(flow.wrong_news) < MOST_WRONG_HASHES
        and payload_hash(message.payload) not in flow.wrong_news
    )


def is_fin(_flow: ReceiverFlow, step: S) -> bool:
    """It is a FIN."""
    return isinstance(step.event.message, Fin)


def fin_right(flow: ReceiverFlow, step: S) -> bool:
    """It is a FIN for our response; a null hash is always right."""
    message = step.event.message
    return isinstance(message, Fin) and message.hash in (None, flow.response_hash)


def fin_new_wrong(flow: ReceiverFlow, step: S) -> bool:
    """It is a FIN with a wrong hash that was not yet reported, among the first three."""
    return (
        isinstance(step.event.message, Fin)
        and len(flow.wrong_fins) < MOST_WRONG_HASHES
        and step.event.message.hash not in flow.wrong_fins
    )


def is_ack(_flow: ReceiverFlow, step: S) -> bool:
    """The transmission was an ACK."""
    return isinstance(step.event.transmit.message, Ack)


def is_latest_ack(flow: ReceiverFlow, step: S) -> bool:
    """The transmission was the latest attempt of ACK."""
    transmit = step.event.transmit
    is_latest = not transmit.echo and transmit.attempt == flow.attempts
    return is_latest and isinstance(transmit.message, Ack)


def is_latest_echo(flow: ReceiverFlow, step: S) -> bool:
    """The transmission was an echo of the latest attempt."""
    transmit = step.event.transmit
    is_latest = transmit.echo and transmit.attempt == flow.attempts
    return is_latest and isinstance(transmit.message, Ack)


# --- The application ----------------------------------------------------------------------------


def answer_is_unstorable(_flow: ReceiverFlow, step: S) -> bool:
    """It is larger than ``max_response``, or the quotas have no room."""
    return not step.event.fits or len(step.event.response or b"") > step.policy.max_response


def is_deferred(flow: ReceiverFlow, _step: S) -> bool:
    """The handler answers later by id."""
    return flow.deferred


def may_rerun(flow: ReceiverFlow, step: S) -> bool:
    """The work is idempotent, and its handler has tries left."""
    return step.policy.rerun_stalled and flow.tries < step.policy.handler_attempts


def is_open_handler(flow: ReceiverFlow, step: S) -> bool:
    """The event speaks of the handler that is at work."""
    of = step.event.of
    return isinstance(of, HandOver) and of.tries == flow.tries


def handler_failed_and_may_rerun(flow: ReceiverFlow, step: S) -> bool:
    """It speaks of that handler, which may run again."""
    return is_open_handler(flow, step) and may_rerun(flow, step)


def pending(flow: ReceiverFlow) -> Telling | None:
    """What the application has yet to take."""
    if flow.told:
        return None
    match flow.state:
        case ReceiverState.STALLED:
            return Telling.STALLED
        case ReceiverState.ABANDONED:
            return Telling.ABANDONED
        case _:
            return None


def is_open_telling(flow: ReceiverFlow, step: S) -> bool:
    """The event speaks of the telling that is open."""
    of = step.event.of
    return isinstance(of, Tell) and of.what is pending(flow) and of.tries == flow.tries


def is_asking(flow: ReceiverFlow, _step: S) -> bool:
    """The corruption handler has yet to decide."""
    return bool(flow.asked)


def is_open_question(flow: ReceiverFlow, step: S) -> bool:
    """The event speaks of a question that is open."""
    of = step.event.of
    return isinstance(of, Ask) and of.kind == "FIN" and of.their_hash in flow.asked


def says_accept(_flow: ReceiverFlow, step: S) -> bool:
    """The decision is to accept."""
    return step.event.decision is Decision.ACCEPT


def says_resend(_flow: ReceiverFlow, step: S) -> bool:
    """The decision is to resend."""
    return step.event.decision is Decision.RESEND


def says_abandon(_flow: ReceiverFlow, step: S) -> bool:
    """The decision is to abandon."""
    return step.event.decision is Decision.ABANDON


# --- After every step ---------------------------------------------------------------------------


def next_due(flow: ReceiverFlow, lag: int) -> int | None:
    """The earliest time at which a ``Due`` event can change something, as far as is known now."""
    state = flow.state
    due = flow.ends
    by_clock = state is ReceiverState.PROCESSING or state is ReceiverState.ACKNOWLEDGING
    if due is not None and not by_clock:
        due += lag
    if flow.send_due is not None and (due is None or flow.send_due < due):
        due = flow.send_due
    if flow.tell_due is not None and (due is None or flow.tell_due < due):
        due = flow.tell_due
    if flow.ask_due is not None and (due is None or flow.ask_due < due):
        due = flow.ask_due
    return due
