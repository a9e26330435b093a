"""The door to the tables: one event on one flow."""

from typing import Final

from bridge.errors import LocalProtocolError
from bridge.flow import receiver, receiver_conditions, sender, sender_conditions
from bridge.flow.drafts import freeze
from bridge.flow.effects import Ask, Count, Effect, HandOver, Tell, Transmit
from bridge.flow.events import (
    Answer,
    Cancel,
    DropDeadLetter,
    Due,
    Event,
    FailedForGood,
    FailedForNow,
    Finish,
    HandlerFailed,
    NotSent,
    Received,
    Refused,
    Rejected,
    Rerun,
    Restarted,
    RetryDeadLetter,
    Returned,
    Send,
)
from bridge.flow.messages import Ack, Fin, New
from bridge.flow.policy import Policy
from bridge.flow.records import Flow, ReceiverFlow, SenderFlow
from bridge.flow.states import ReceiverState, SenderState, Telling
from bridge.flow.tables import Step
from bridge.flow.transition import Transition

# What only the application or the operator can ask for. Where no row allows it, that is an error.
_REQUESTS: Final[dict[type[Event], str]] = {
    Send: "opened",
    Cancel: "cancelled",
    Finish: "finished",
    RetryDeadLetter: "retried as a dead letter",
    DropDeadLetter: "dropped as a dead letter",
    Answer: "answered",
    FailedForGood: "answered",
    FailedForNow: "failed for now",
    Rerun: "run again",
}
# How an event without a row is counted, where it is more than ignored.
_COUNTED_AS: Final[dict[type[Event], str]] = {
    NotSent: "outdated",
    Returned: "outdated",
    HandlerFailed: "outdated",
    Refused: "rejected",
    Rejected: "rejected",
}


def step(record: Flow | None, event: Event, now: int, policy: Policy) -> Transition:
    """Decide one event on one flow.

    A NEW or FIN goes to the receiver's flow (caller, msg_id), an ACK to the sender's flow with that
    msg_id; admission (``bridge.flow.admission``) comes before.

    Args:
        record: The stored flow; None if there is none.
        event: What happened.
        now: Nanoseconds since 1970.
        policy: The settings.

    Raises:
        LocalProtocolError: If the application asked for what the state does not allow; nothing
            changes. What a peer sends never raises.
    """
    if isinstance(event, Received) and record is not None and event.caller != record.peer:
        return Transition(record, (Count(reason="spoofed"),), ("spoofed",))
    if isinstance(record, SenderFlow) or (record is None and _is_for_sender(event)):
        return _step_sender(record, event, now, policy)
    assert record is None or isinstance(record, ReceiverFlow)
    return _step_receiver(record, event, now, policy)


def _is_for_sender(event: Event) -> bool:
    """Whether an event without a flow is the sender's business."""
    if isinstance(event, Received):
        return isinstance(event.message, Ack)
    return isinstance(event, (Send, Cancel, Finish, RetryDeadLetter, DropDeadLetter))


def _step_sender(record: SenderFlow | None, event: Event, now: int, policy: Policy) -> Transition:
    step_ = Step(record, event, now, policy)
    over = (
        record is not None
        and record.state in sender.UNANSWERED
        and sender_conditions.is_over(record, step_)
    )
    if over:
        sender.TABLE.apply(step_, sender.LifetimeOver)
    # A flow that failed in this very step has nothing else due, and its telling is not lost.
    if not (over and isinstance(event, Due | Restarted)) and not sender.TABLE.apply(step_):
        _without_row(step_.record, event, step_.effects)
    flow = step_.record
    if flow is not None:
        due = sender_conditions.next_due(flow)
        if flow is not record or due != flow.due:
            draft = step_.draft()
            draft.due = due
            draft.version += 1
            flow = freeze(draft, SenderFlow)
    return Transition(flow, tuple(step_.effects), tuple(step_.rows))


def _step_receiver(
    record: ReceiverFlow | None, event: Event, now: int, policy: Policy
) -> Transition:
    step_ = Step(record, event, now, policy)
    if not receiver.TABLE.apply(step_):
        _without_row(record, event, step_.effects)
    flow = step_.record
    if flow is not None:
        due = receiver_conditions.next_due(flow, event.lag)
        if flow is not record or due != flow.due:
            draft = step_.draft()
            draft.due = due
            draft.version += 1
            flow = freeze(draft, ReceiverFlow)
    return Transition(flow, tuple(step_.effects), tuple(step_.rows))


def _without_row(record: Flow | None, event: Event, effects: list[Effect]) -> None:
    """A due time that is not reached is nothing; a request is an error; the rest is counted."""
    if isinstance(event, Due) and record is not None:
        return
    request = _REQUESTS.get(type(event))
    if request is None:
        effects.append(Count(reason=_COUNTED_AS.get(type(event), "ignored")))
    elif record is None:
        raise LocalProtocolError(
            f"there is no such flow to be {request}", hint="it was forgotten, or its id is wrong"
        )
    else:
        raise LocalProtocolError(
            f"flow {record.msg_id} with {record.peer} is {record.state} and cannot be {request}"
        )


def is_current(record: Flow | None, effect: Effect, now: int) -> bool:
    """Whether a pending effect is still wanted, right before it is carried out.

    A pending effect whose flow has left that state and attempt is dropped; so is a NEW whose
    lifetime is over.

    Args:
        record: The flow as it is stored now; None if there is none.
        effect: The pending effect.
        now: Nanoseconds since 1970.
    """
    match effect, record:
        case Transmit(message=New()), SenderFlow(state=SenderState.SENDING):
            in_time = record.ends is None or now < record.ends
            return in_time and effect.attempt == record.attempts
        case Transmit(message=Ack()), ReceiverFlow(
            state=ReceiverState.ACKNOWLEDGING | ReceiverState.ABANDONED
        ):
            in_turn = record.state is ReceiverState.ACKNOWLEDGING or effect.echo
            return in_turn and effect.attempt == record.attempts
        case Transmit(message=Fin(hash=accepted)), SenderFlow():
            return accepted == record.response_hash
        case Transmit(message=Fin()), None:
            return True  # for an ACK that named no flow; or the flow was forgotten meanwhile
        case HandOver(), ReceiverFlow(state=ReceiverState.PROCESSING):
            return effect.tries == record.tries
        case Tell(what=Telling.FORGOTTEN), _:
            return True
        case Tell(), SenderFlow():
            return (effect.what, effect.tries) == (sender_conditions.pending(record), record.tries)
        case Tell(), ReceiverFlow():
            return (effect.what, effect.tries) == (
                receiver_conditions.pending(record),
                record.tries,
            )
        case Ask(kind="ACK"), SenderFlow(state=SenderState.CORRUPT):
            return (effect.their_hash, effect.tries) == (record.wrong_hash, record.tries)
        case Ask(kind="NEW" | "FIN"), ReceiverFlow():
            return True
        case ((Transmit() | HandOver() | Tell() | Ask()), _):
            return False
        case _:
            return True
