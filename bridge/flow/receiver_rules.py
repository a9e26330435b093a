"""Conditions and actions of the receiver's table. Which of them meet is for the table to say."""

import dataclasses
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from bridge.errors import LocalProtocolError
from bridge.flow.effects import Ask, HandOver, RememberPaid, Tell, Transmit
from bridge.flow.messages import Ack, Fin, New, payload_hash
from bridge.flow.records import ReceiverFlow
from bridge.flow.states import Decision, ReceiverState, Role, Telling
from bridge.flow.tables import Step

if TYPE_CHECKING:
    from bridge.flow.events import (
        Answer,
        Decided,
        FailedForGood,
        HandlerFailed,
        NotSent,
        Received,
        Refused,
        Rejected,
        Restarted,
        Returned,
    )

S: TypeAlias = Step[ReceiverFlow]

MOST_WRONG_HASHES: Final = 3
ECHOES_BEYOND_ATTEMPTS: Final = 10


def _set(step: S, **changes: Any) -> None:
    step.record = dataclasses.replace(step.flow, **changes)


def _enter(step: S, state: ReceiverState, **changes: Any) -> None:
    """Change the state; what belongs to the state that is left goes with it."""
    _set(
        step,
        **{
            "state": state,
            "changed": step.now,
            "tell_due": None,
            "tries": 0,
            "told": False,
            "send_due": None,
        }
        | changes,
    )


def _enter_tombstone(step: S, state: ReceiverState, **changes: Any) -> None:
    """Enter a state that is kept for ``horizon`` of observed time.

    A shorter horizon than the one in force when the flow came does not hold for it.
    """
    flow = step.flow
    observed = step.now - step.event.lag
    horizon = max(flow.horizon, step.policy.horizon)
    _enter(step, state, ends=max(observed, flow.floor) + horizon, **changes)


# --- Conditions: times --------------------------------------------------------------------------


def send_due(step: S) -> bool:
    """ACK is due."""
    due = step.flow.send_due
    return due is not None and step.now >= due


def send_due_with_room(step: S) -> bool:
    """ACK is due and fits in flight."""
    return send_due(step) and step.event.room


def send_due_without_room(step: S) -> bool:
    """ACK is due and does not fit."""
    return send_due(step) and not step.event.room


def send_due_and_none_left(step: S) -> bool:
    """ACK is due and was sent as often as it may."""
    return send_due(step) and step.flow.attempts >= step.policy.attempts


def tell_due(step: S) -> bool:
    """A telling is due again."""
    due = step.flow.tell_due
    return due is not None and step.now >= due


def is_over(step: S) -> bool:
    """The state's own time is over, by the clock."""
    ends = step.flow.ends
    return ends is not None and step.now >= ends


def horizon_over(step: S) -> bool:
    """The tombstone's time is over, by observed time."""
    ends = step.flow.ends
    return ends is not None and step.now - step.event.lag >= ends


# --- Conditions: messages and their fate --------------------------------------------------------


def is_new(step: S) -> bool:
    """It is a NEW."""
    return isinstance(cast("Received", step.event).message, New)


def new_refused(step: S) -> bool:
    """It is a NEW that admission refuses."""
    return is_new(step) and cast("Received", step.event).refused is not None


def new_again(step: S) -> bool:
    """It is a NEW with the payload that is stored."""
    message = cast("Received", step.event).message
    return isinstance(message, New) and payload_hash(message.payload) == step.flow.payload_hash


def new_with_new_wrong_hash(step: S) -> bool:
    """It is a NEW with another payload that was not yet reported, among the first three."""
    message = cast("Received", step.event).message
    wrong = step.flow.wrong_news
    return (
        isinstance(message, New)
        and len(wrong) < MOST_WRONG_HASHES
        and payload_hash(message.payload) not in wrong
    )


def is_fin(step: S) -> bool:
    """It is a FIN."""
    return isinstance(cast("Received", step.event).message, Fin)


def fin_right(step: S) -> bool:
    """It is a FIN for our response; a null hash is always right."""
    message = cast("Received", step.event).message
    return isinstance(message, Fin) and message.hash in (None, step.flow.response_hash)


def fin_new_wrong(step: S) -> bool:
    """It is a FIN with a wrong hash that was not yet reported, among the first three."""
    message = cast("Received", step.event).message
    wrong = step.flow.wrong_fins
    return isinstance(message, Fin) and message.hash not in wrong and len(wrong) < MOST_WRONG_HASHES


def _transmit_of(step: S) -> Transmit:
    return cast("NotSent | Refused | Rejected", step.event).transmit


def is_ack(step: S) -> bool:
    """The transmission was an ACK."""
    return isinstance(_transmit_of(step).message, Ack)


def is_latest_ack(step: S) -> bool:
    """The transmission was the latest attempt of ACK."""
    transmit = _transmit_of(step)
    return is_ack(step) and not transmit.echo and transmit.attempt == step.flow.attempts


def is_latest_echo(step: S) -> bool:
    """The transmission was an echo of the latest attempt."""
    transmit = _transmit_of(step)
    return is_ack(step) and transmit.echo and transmit.attempt == step.flow.attempts


# --- Conditions: the application ----------------------------------------------------------------


def answer_is_unstorable(step: S) -> bool:
    """It is larger than ``max_response``, or the quotas have no room."""
    event = cast("Answer | FailedForGood", step.event)
    return not event.fits or len(event.response or b"") > step.policy.max_response


def is_deferred(step: S) -> bool:
    """The handler answers later by id."""
    return step.flow.deferred


def may_rerun(step: S) -> bool:
    """The work is idempotent, and its handler has tries left."""
    return step.policy.rerun_stalled and step.flow.tries < step.policy.handler_attempts


def is_open_handler(step: S) -> bool:
    """The event speaks of the handler that is at work."""
    of = cast("HandlerFailed", step.event).of
    return isinstance(of, HandOver) and of.tries == step.flow.tries


def handler_failed_and_may_rerun(step: S) -> bool:
    """It speaks of that handler, which may run again."""
    return is_open_handler(step) and may_rerun(step)


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


def is_open_telling(step: S) -> bool:
    """The event speaks of the telling that is open."""
    of = cast("Returned | HandlerFailed", step.event).of
    return isinstance(of, Tell) and of.what is pending(step.flow) and of.tries == step.flow.tries


def says_accept(step: S) -> bool:
    """The decision is to accept."""
    return cast("Decided", step.event).decision is Decision.ACCEPT


def says_resend(step: S) -> bool:
    """The decision is to resend."""
    return cast("Decided", step.event).decision is Decision.RESEND


def says_abandon(step: S) -> bool:
    """The decision is to abandon."""
    return cast("Decided", step.event).decision is Decision.ABANDON


# --- Actions: admitting and handing over --------------------------------------------------------


def count_refused(step: S) -> None:
    """Counted by reason; silent; nothing kept."""
    step.count(f"refused.{cast('Received', step.event).refused}")


def admit(step: S) -> None:
    """Store, then hand over."""
    event = cast("Received", step.event)
    new = cast("New", event.message)
    step.record = ReceiverFlow(
        peer=event.caller,
        msg_id=new.msg_id,
        dialect=event.dialect,
        state=ReceiverState.PROCESSING,
        payload=new.payload,
        payload_hash=payload_hash(new.payload),
        opened=step.now,
        changed=step.now,
        ends=step.now + step.policy.answer_within,
        horizon=step.policy.horizon,
        floor=event.floor,
        paid=event.paid,
        tries=1,
    )
    _hand_over(step, redelivered=False)


def _hand_over(step: S, *, redelivered: bool) -> None:
    flow = step.flow
    step.effects.append(
        HandOver(
            peer=flow.peer,
            msg_id=flow.msg_id,
            payload=flow.payload or b"",
            hash=flow.payload_hash,
            redelivered=redelivered,
            tries=flow.tries,
        )
    )


def run_again(step: S) -> None:
    """Hand over with ``redelivered``."""
    ends = step.now + step.policy.answer_within
    if step.flow.state is ReceiverState.STALLED:
        _enter(step, ReceiverState.PROCESSING, ends=ends, tries=1, deferred=False)
    else:
        _set(step, ends=ends, tries=step.flow.tries + 1)
    _hand_over(step, redelivered=True)


def defer(step: S) -> None:
    """A restart does not lose it."""
    _set(step, deferred=True)


def stall(step: S) -> None:
    """No handler works on it any more: tell."""
    _enter_tombstone(step, ReceiverState.STALLED, tries=1)
    _tell(step)


# --- Actions: the answer ------------------------------------------------------------------------


def refuse_answer(step: S) -> None:
    """An error to the application; unchanged."""
    event = cast("Answer | FailedForGood", step.event)
    raise LocalProtocolError(
        f"an answer of {len(event.response or b'')} bytes to flow {step.flow.msg_id} cannot be"
        f" stored: at most {step.policy.max_response} bytes, within the quotas",
        hint="answer with less, such as a reference to the data",
    )


def error_answered(step: S) -> None:
    """An error to the application; unchanged."""
    if step.record is None:
        raise LocalProtocolError("there is no such flow to answer: it was forgotten, or never came")
    raise LocalProtocolError(
        f"flow {step.flow.msg_id} has its answer already; the first one stands"
    )


def answer(step: S) -> None:
    """Store; transmit ACK as attempt 1, or come back to it if there is no room."""
    response = cast("Answer | FailedForGood", step.event).response
    now, policy = step.now, step.policy
    _enter(
        step,
        ReceiverState.ACKNOWLEDGING,
        response=response,
        response_hash=payload_hash(response),
        ends=now + policy.lifetime,
        send_due=now,
    )
    if step.event.room:
        transmit_ack_again(step)
    else:
        wait_for_room(step)


def forget_for_retry(step: S) -> None:
    """The sender's next NEW is processed anew, and not charged again."""
    flow = step.flow
    if flow.paid:
        until = step.now + step.policy.lifetime
        step.effects.append(RememberPaid(peer=flow.peer, msg_id=flow.msg_id, until=until))
    step.record = None


def _transmit_ack(step: S, *, attempt: int, echo: bool) -> None:
    flow = step.flow
    step.effects.append(
        Transmit(
            peer=flow.peer,
            dialect=flow.dialect,
            message=Ack(flow.msg_id, flow.response, flow.payload_hash),
            attempt=attempt,
            echo=echo,
            prior_due=flow.send_due if echo else None,
            prior_at=flow.ack_at,
        )
    )


def transmit_ack_again(step: S) -> None:
    """The next attempt."""
    n = step.flow.attempts + 1
    _transmit_ack(step, attempt=n, echo=False)
    due = step.now + step.policy.delay(n, step.event.u)
    _set(step, attempts=n, send_due=due, ack_at=step.now)


def wait_for_room(step: S) -> None:
    """Due again after ``send_retry``."""
    _set(step, send_due=step.now + step.policy.send_retry)


def take_attempt_back(step: S) -> None:
    """The attempt did not count."""
    _set(
        step,
        attempts=step.flow.attempts - 1,
        ack_at=_transmit_of(step).prior_at,
        send_due=step.now + step.policy.send_retry,
    )


def echo_ack(step: S) -> None:
    """Echo the ACK within the echo rule; one that is sent moves due."""
    flow, policy = step.flow, step.policy
    may = (
        step.event.room
        and flow.ack_echoes < policy.attempts + ECHOES_BEYOND_ATTEMPTS
        and (flow.ack_at is None or step.now - flow.ack_at >= policy.echo_min)
    )
    if not may:
        step.count("echo_suppressed")
        return
    _transmit_ack(step, attempt=flow.attempts, echo=True)
    _set(step, ack_at=step.now, ack_echoes=flow.ack_echoes + 1)
    if flow.send_due is not None:
        _set(step, send_due=step.now + policy.delay(max(1, flow.attempts), step.event.u))


def undo_echo(step: S) -> None:
    """An echo that is not sent moves nothing."""
    transmit, flow = _transmit_of(step), step.flow
    _set(step, ack_at=transmit.prior_at, ack_echoes=flow.ack_echoes - 1)
    if flow.send_due is not None and transmit.prior_due is not None:
        _set(step, send_due=transmit.prior_due)


def abandon(step: S) -> None:
    """Tell; keep the response."""
    _enter_tombstone(step, ReceiverState.ABANDONED, tries=1)
    _tell(step)


# --- Actions: FIN -------------------------------------------------------------------------------


def finish(step: S) -> None:
    """Drop payloads, keep the tombstone."""
    _enter_tombstone(step, ReceiverState.FINISHED, payload=None, response=None)


def _ask(
    step: S, kind: str, ours: bytes | None, theirs: bytes | None, hashes: tuple[int, int]
) -> None:
    flow = step.flow
    step.effects.append(
        Ask(
            role=Role.RECEIVER,
            peer=flow.peer,
            msg_id=flow.msg_id,
            kind=kind,
            our_payload=ours,
            their_payload=theirs,
            our_hash=hashes[0],
            their_hash=hashes[1],
            decide=kind == "FIN",
        )
    )


def report_new(step: S) -> None:
    """Reported to the corruption handler, no decision asked; what is stored stands."""
    flow = step.flow
    theirs = cast("New", cast("Received", step.event).message).payload
    wrong = payload_hash(theirs)
    _set(step, wrong_news=(*flow.wrong_news, wrong))
    _ask(step, "NEW", flow.payload, theirs, (flow.payload_hash, wrong))


def ask_about_fin(step: S) -> None:
    """Ask the corruption handler; timers go on."""
    flow = step.flow
    wrong = cast("Fin", cast("Received", step.event).message).hash
    assert wrong is not None
    assert flow.response_hash is not None
    _set(step, wrong_fins=(*flow.wrong_fins, wrong))
    _ask(step, "FIN", flow.response, None, (flow.response_hash, wrong))


# --- Actions: counting --------------------------------------------------------------------------


def count_repeated(step: S) -> None:
    """Nothing: the answer is being made, or the sender has it."""
    step.count("repeated")


def count_wrong_again(step: S) -> None:
    """Reported before, or a fourth."""
    step.count("wrong_hash_again")


def count_fin(step: S) -> None:
    """There is no response to finish, or it is finished."""
    step.count("fin_ignored")


def count_unknown_fin(step: S) -> None:
    """Nobody but the sender can end a flow."""
    step.count("unknown_fin")


def count_rejected(step: S) -> None:
    """The outcome is unknown; the next due decides."""
    step.count("rejected")


def count_ignored(step: S) -> None:
    """It changes nothing here."""
    step.count("ignored")


# --- Actions: telling ---------------------------------------------------------------------------


def _tell(step: S, *, redelivered: bool = False) -> None:
    flow = step.flow
    what = pending(flow)
    assert what is not None
    step.effects.append(
        Tell(
            role=Role.RECEIVER,
            peer=flow.peer,
            msg_id=flow.msg_id,
            what=what,
            response=flow.response,
            redelivered=redelivered,
            tries=flow.tries,
        )
    )


def tell_again_later(step: S) -> None:
    """Again after delay(n)."""
    _set(step, tell_due=step.now + step.policy.delay(step.flow.tries, step.event.u))


def tell_again(step: S) -> None:
    """One more try, marked redelivered."""
    _set(step, tries=step.flow.tries + 1, tell_due=None)
    _tell(step, redelivered=True)


def take_telling(step: S) -> None:
    """Taken."""
    _set(step, told=True, tries=0, tell_due=None)


# --- Actions: ends ------------------------------------------------------------------------------


def forget(step: S) -> None:
    """Nothing is kept."""
    step.record = None


def forget_stalled(step: S) -> None:
    """A stalled one is told."""
    flow = step.flow
    step.record = None
    step.effects.append(
        Tell(role=Role.RECEIVER, peer=flow.peer, msg_id=flow.msg_id, what=Telling.FORGOTTEN)
    )


def restart(step: S) -> None:
    """Due times are kept, overdue ones spread; tellings that were open come again."""
    flow, now = step.flow, step.now
    later = now + step.policy.spread * cast("Restarted", step.event).share // 1_000_000
    changes: dict[str, int] = {}
    if flow.tell_due is None and pending(flow) is not None:
        changes["tell_due"] = later
    for name in ("send_due", "tell_due"):
        due = getattr(flow, name)
        if due is not None and due <= now:
            changes[name] = later
    if changes:
        _set(step, **changes)


# --- After every step ---------------------------------------------------------------------------


def next_due(flow: ReceiverFlow, lag: int) -> int | None:
    """The earliest time at which a ``Due`` event can change something, as far as is known now."""
    ends = flow.ends
    if ends is not None and flow.state not in (
        ReceiverState.PROCESSING,
        ReceiverState.ACKNOWLEDGING,
    ):
        ends += lag
    times = (flow.send_due, flow.tell_due, ends)
    return min((time for time in times if time is not None), default=None)
