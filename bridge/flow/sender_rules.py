"""Conditions and actions of the sender's table. Which of them meet is for the table to say."""

import dataclasses
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from bridge.errors import LocalProtocolError
from bridge.flow.effects import Ask, Tell, Transmit
from bridge.flow.messages import Ack, Fin, New, is_well_formed, payload_hash
from bridge.flow.records import SenderFlow
from bridge.flow.states import Decision, Failure, Role, SenderState, Telling
from bridge.flow.tables import Step

if TYPE_CHECKING:
    from bridge.flow.events import (
        Decided,
        HandlerFailed,
        NotSent,
        Received,
        Refused,
        Rejected,
        Restarted,
        Returned,
        Send,
    )

S: TypeAlias = Step[SenderFlow]

MOST_WRONG_HASHES: Final = 3
ECHOES_BEYOND_ATTEMPTS: Final = 10


def _set(step: S, **changes: Any) -> None:
    step.record = dataclasses.replace(step.flow, **changes)


def _enter(step: S, state: SenderState, **changes: Any) -> None:
    """Change the state; what belongs to the state that is left goes with it."""
    _set(
        step,
        **{
            "state": state,
            "changed": step.now,
            "tell_due": None,
            "tries": 0,
            "wrong_hash": None,
            "wrong_payload": None,
        }
        | changes,
    )


# --- Conditions: times --------------------------------------------------------------------------


def send_due(step: S) -> bool:
    """NEW is due."""
    due = step.flow.send_due
    return due is not None and step.now >= due


def send_due_with_room(step: S) -> bool:
    """NEW is due and fits in flight."""
    return send_due(step) and step.event.room


def send_due_without_room(step: S) -> bool:
    """NEW is due and does not fit."""
    return send_due(step) and not step.event.room


def send_due_and_none_left(step: S) -> bool:
    """NEW is due and was sent as often as it may."""
    return send_due(step) and step.flow.attempts >= step.policy.attempts


def tell_due(step: S) -> bool:
    """A telling or a question is due again."""
    due = step.flow.tell_due
    return due is not None and step.now >= due


def tell_due_and_none_left(step: S) -> bool:
    """A telling is due again, but a crash took the last try."""
    return tell_due(step) and step.flow.tries >= step.policy.handler_attempts


def fin_due(step: S) -> bool:
    """A FIN that did not leave is due again."""
    due = step.flow.fin_due
    return due is not None and step.now >= due


def fin_due_too_long(step: S) -> bool:
    """It has been due for ``linger``."""
    until = step.flow.fin_until
    return fin_due(step) and until is not None and step.now >= until


def is_over(step: S) -> bool:
    """The state's own time is over."""
    ends = step.flow.ends
    return ends is not None and step.now >= ends


def is_over_and_taken(step: S) -> bool:
    """The same, and nothing waits to be told."""
    return is_over(step) and pending(step.flow) is None


# --- Conditions: messages and their fate --------------------------------------------------------


def is_ack(step: S) -> bool:
    """It is an ACK."""
    return isinstance(cast("Received", step.event).message, Ack)


def is_receipt(step: S) -> bool:
    """It is a null ACK of a peer whose null ACKs are mere receipts."""
    event = cast("Received", step.event)
    if not isinstance(event.message, Ack):
        return False
    payload = event.message.payload
    is_null = payload is None or (not payload and event.dialect != "unified")
    return is_null and step.policy.peer(step.flow.peer).null_ack == "receipt"


def ack_right(step: S) -> bool:
    """It is an ACK of what we sent; a null hash is always right."""
    message = cast("Received", step.event).message
    return isinstance(message, Ack) and message.hash in (None, step.flow.payload_hash)


def ack_new_wrong(step: S) -> bool:
    """It is an ACK with a wrong hash that was not yet reported, among the first three."""
    message = cast("Received", step.event).message
    wrong = step.flow.wrong
    return isinstance(message, Ack) and message.hash not in wrong and len(wrong) < MOST_WRONG_HASHES


def first_ack(step: S) -> bool:
    """It is an ACK, and no response was accepted yet."""
    return is_ack(step) and not step.flow.late


def first_ack_right(step: S) -> bool:
    """The same, with the right hash."""
    return first_ack(step) and ack_right(step)


def _transmit_of(step: S) -> Transmit:
    return cast("NotSent | Refused | Rejected", step.event).transmit


def is_new(step: S) -> bool:
    """The transmission was a NEW."""
    return isinstance(_transmit_of(step).message, New)


def is_latest_new(step: S) -> bool:
    """The transmission was the latest NEW."""
    return is_new(step) and _transmit_of(step).attempt == step.flow.attempts


def is_fin(step: S) -> bool:
    """The transmission was a FIN for what stands: the response, or none after an abandon."""
    message, flow = _transmit_of(step).message, step.flow
    return (
        isinstance(message, Fin)
        and flow.fin_until is not None
        and message.hash == flow.response_hash
    )


# --- Conditions: the application ----------------------------------------------------------------


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


def is_open_telling(step: S) -> bool:
    """The event speaks of the telling that is open."""
    of = cast("Returned | HandlerFailed", step.event).of
    return isinstance(of, Tell) and of.what is pending(step.flow) and of.tries == step.flow.tries


def is_last_telling(step: S) -> bool:
    """The same, and it was the last try."""
    return is_open_telling(step) and step.flow.tries >= step.policy.handler_attempts


def is_open_question(step: S) -> bool:
    """The event speaks of the question that is open."""
    of = cast("HandlerFailed", step.event).of
    flow = step.flow
    return isinstance(of, Ask) and of.their_hash == flow.wrong_hash and of.tries == flow.tries


def says_resend(step: S) -> bool:
    """The decision is to resend."""
    return cast("Decided", step.event).decision is Decision.RESEND


def says_accept(step: S) -> bool:
    """The decision is to accept."""
    return cast("Decided", step.event).decision is Decision.ACCEPT


def says_abandon(step: S) -> bool:
    """The decision is to abandon."""
    return cast("Decided", step.event).decision is Decision.ABANDON


# --- Actions: opening and transmitting ----------------------------------------------------------


def open_flow(step: S) -> None:
    """Store first; due now."""
    event = cast("Send", step.event)
    policy = step.policy
    if not is_well_formed(
        New(event.msg_id, event.payload),
        max_payload=policy.max_payload,
        max_response=policy.max_response,
    ):
        raise LocalProtocolError(
            f"a flow needs an id from 0 to 2^128-1 and at most {policy.max_payload} bytes of"
            f" payload; got id {event.msg_id} and {len(event.payload)} bytes",
            hint="send a reference to large data instead of the data",
        )
    if not (event.peer.is_canister or event.peer.is_self_authenticating):
        raise LocalProtocolError(f"{event.peer} is neither a canister nor an agent's own principal")
    step.record = SenderFlow(
        peer=event.peer,
        msg_id=event.msg_id,
        dialect=event.dialect,
        state=SenderState.QUEUED,
        payload=event.payload,
        payload_hash=payload_hash(event.payload),
        opened=step.now,
        changed=step.now,
        ends=step.now + policy.lifetime,
        send_due=step.now,
    )


def same_send_or_error(step: S) -> None:
    """The existing flow for the same peer and payload; else an error."""
    event = cast("Send", step.event)
    flow = step.flow
    same = (
        event.payload == flow.payload
        if flow.payload is not None
        else payload_hash(event.payload) == flow.payload_hash
    )
    if event.peer != flow.peer or not same:
        raise LocalProtocolError(
            f"the id {flow.msg_id} is used by a flow to {flow.peer} with another peer or payload",
            hint="take a fresh id; a used one only repeats the very same send",
        )


def transmit_new(step: S) -> None:
    """Commit the attempt, then transmit NEW."""
    flow = step.flow
    n = flow.attempts + 1
    due = step.now + step.policy.delay(n, step.event.u)
    if flow.state is SenderState.QUEUED:
        _enter(step, SenderState.SENDING, attempts=n, send_due=due)
    else:
        _set(step, attempts=n, send_due=due)
    message = New(flow.msg_id, flow.payload or b"")
    step.effects.append(Transmit(peer=flow.peer, dialect=flow.dialect, message=message, attempt=n))


def wait_for_room(step: S) -> None:
    """Due again after ``send_retry``."""
    _set(step, send_due=step.now + step.policy.send_retry)


def take_attempt_back(step: S) -> None:
    """The attempt did not count; queued again if none remains."""
    left = step.flow.attempts - 1
    due = step.now + step.policy.send_retry
    if left:
        _set(step, attempts=left, send_due=due)
    else:
        _enter(step, SenderState.QUEUED, attempts=0, send_due=due)


def count_rejected(step: S) -> None:
    """The outcome is unknown; the next due decides."""
    step.count("rejected")


# --- Actions: failing ---------------------------------------------------------------------------


def _fail(step: S, failure: Failure, **changes: Any) -> None:
    _enter(
        step,
        SenderState.FAILED,
        failure=failure,
        send_due=None,
        ends=step.now + step.policy.retention,
        **changes,
    )
    _open_telling(step)


def fail_unsent(step: S) -> None:
    """Nothing left; certainly not done."""
    _fail(step, Failure.UNSENT)


def fail_unknown(step: S) -> None:
    """It may yet have run."""
    _fail(step, Failure.UNKNOWN)


def fail_cancelled(step: S) -> None:
    """Given up; the outcome is unknown."""
    _fail(step, Failure.CANCELLED)


def fail_corrupt(step: S) -> None:
    """The question was never answered."""
    _fail(step, Failure.CORRUPT)


def fail_refused(step: S) -> None:
    """Certainly not done if it was the only attempt."""
    _fail(step, Failure.REFUSED if step.flow.attempts == 1 else Failure.UNKNOWN)


# --- Actions: ACK and FIN -----------------------------------------------------------------------


def _fin(step: S, *, echo: bool = False) -> None:
    """Transmit FIN for what was accepted, or come back to it if there is no room."""
    flow = step.flow
    if not step.event.room:
        _set(step, fin_due=step.now + step.policy.send_retry)
        return
    step.effects.append(
        Transmit(
            peer=flow.peer,
            dialect=flow.dialect,
            message=Fin(flow.msg_id, flow.response_hash),
            attempt=1,
            echo=echo,
            prior_at=flow.fin_at,
        )
    )
    _set(step, fin_at=step.now, fin_due=None)


def _answer_with(step: S, response: bytes | None) -> None:
    _enter(
        step,
        SenderState.ANSWERED,
        response=response,
        response_hash=payload_hash(response),
        send_due=None,
        ends=None,
        fin_until=step.now + step.policy.linger,
    )
    _fin(step)
    _open_telling(step)


def answer(step: S) -> None:
    """Store the response; FIN; hand over."""
    _answer_with(step, cast("Ack", cast("Received", step.event).message).payload)


def accept_wrong_ack(step: S) -> None:
    """Take the stored wrong ACK of that hash."""
    flow = step.flow
    wanted = cast("Decided", step.event).hash
    if wanted != flow.wrong_hash:
        raise LocalProtocolError(
            f"flow {flow.msg_id} has no stored ACK with the hash {wanted}, but one with"
            f" {flow.wrong_hash}",
            hint="accept the hash of the latest question",
        )
    _answer_with(step, flow.wrong_payload)


def abandon(step: S) -> None:
    """FIN(null), tell."""
    _set(step, fin_until=step.now + step.policy.linger)
    _fin(step)
    _fail(step, Failure.CORRUPT)


def resend(step: S) -> None:
    """Sending again; it waits for its due time."""
    _enter(step, SenderState.SENDING)


def take_late(step: S) -> None:
    """Store the response; FIN; hand over as late, once the outcome was taken."""
    response = cast("Ack", cast("Received", step.event).message).payload
    _set(
        step,
        changed=step.now,
        late=True,
        response=response,
        response_hash=payload_hash(response),
        ends=step.now + step.policy.retention,
        fin_until=step.now + step.policy.linger,
    )
    _fin(step)
    if step.flow.told:
        _open_telling(step)


def echo_fin(step: S) -> None:
    """Echo FIN with the accepted hash, within the echo rule."""
    flow, policy = step.flow, step.policy
    may = (
        step.event.room
        and flow.fin_echoes < policy.attempts + ECHOES_BEYOND_ATTEMPTS
        and (flow.fin_at is None or step.now - flow.fin_at >= policy.echo_min)
    )
    if may:
        _set(step, fin_echoes=flow.fin_echoes + 1, fin_until=step.now + policy.linger)
        _fin(step, echo=True)
    else:
        step.count("echo_suppressed")
    ack = cast("Ack", cast("Received", step.event).message)
    if payload_hash(ack.payload) != flow.response_hash:
        step.count("other_payload")


def retry_fin_later(step: S) -> None:
    """Again at ``send_retry``; it was not transmitted."""
    _set(
        step,
        fin_at=_transmit_of(step).prior_at,
        fin_due=step.now + step.policy.send_retry,
    )


def give_fin_up(step: S) -> None:
    """The receiver's next ACK asks for it."""
    _set(step, fin_due=None)
    step.count("fin_given_up")


def transmit_fin_again(step: S) -> None:
    """The same FIN once more."""
    _fin(step)


def answer_unknown_ack(step: S) -> None:
    """FIN(null), only to canisters, under the global rate."""
    event = cast("Received", step.event)
    if event.caller.is_canister and event.room:
        step.effects.append(
            Transmit(
                peer=event.caller,
                dialect=event.dialect,
                message=Fin(event.message.msg_id),
                attempt=1,
            )
        )
    step.count("unknown_ack")


# --- Actions: wrong hashes ----------------------------------------------------------------------


def ask_about_ack(step: S) -> None:
    """Store it as the latest wrong ACK; ask the corruption handler."""
    flow = step.flow
    ack = cast("Ack", cast("Received", step.event).message)
    assert ack.hash is not None
    stored = {
        "wrong": (*flow.wrong, ack.hash),
        "wrong_hash": ack.hash,
        "wrong_payload": ack.payload,
        "tell_due": None,
        "tries": 1,
    }
    if flow.state is SenderState.CORRUPT:
        _set(step, **stored)
    else:
        _enter(step, SenderState.CORRUPT, **stored)
    _ask(step)


def _ask(step: S) -> None:
    flow = step.flow
    assert flow.wrong_hash is not None
    step.effects.append(
        Ask(
            role=Role.SENDER,
            peer=flow.peer,
            msg_id=flow.msg_id,
            kind="ACK",
            our_payload=flow.payload,
            their_payload=flow.wrong_payload,
            our_hash=flow.payload_hash,
            their_hash=flow.wrong_hash,
            decide=True,
            tries=flow.tries,
        )
    )


def ask_again(step: S) -> None:
    """The same question once more."""
    _set(step, tell_due=None, tries=step.flow.tries + 1)
    _ask(step)


def ask_again_after_restart(step: S) -> None:
    """The question was lost with the process: ask again after delay(n)."""
    if step.flow.tell_due is None:
        tell_again_later(step)
    restart(step)


def count_wrong_again(step: S) -> None:
    """Reported before, or a fourth."""
    step.count("wrong_hash_again")


def count_wrong(step: S) -> None:
    """Silent: a FIN(null) here could discard a good response."""
    step.count("wrong_hash")


def postpone_by_receipt(step: S) -> None:
    """Nothing changes but due."""
    n = max(1, step.flow.attempts)
    _set(step, send_due=step.now + step.policy.delay(n, step.event.u))
    step.count("receipt")


def count_receipt(step: S) -> None:
    """It says nothing new."""
    step.count("receipt")


# --- Actions: telling ---------------------------------------------------------------------------


def _tell(step: S, *, redelivered: bool) -> None:
    flow = step.flow
    what = pending(flow)
    assert what is not None
    step.effects.append(
        Tell(
            role=Role.SENDER,
            peer=flow.peer,
            msg_id=flow.msg_id,
            what=what,
            failure=flow.failure if what is Telling.FAILED else None,
            response=None if what is Telling.FAILED else flow.response,
            redelivered=redelivered,
            tries=flow.tries,
        )
    )


def _open_telling(step: S, *, redelivered: bool = False) -> None:
    _set(step, tries=1, tell_due=None)
    _tell(step, redelivered=redelivered)


def tell_again_later(step: S) -> None:
    """Again after delay(n)."""
    _set(step, tell_due=step.now + step.policy.delay(step.flow.tries, step.event.u))


def tell_again(step: S) -> None:
    """One more try, marked redelivered."""
    _set(step, tries=step.flow.tries + 1, tell_due=None)
    _tell(step, redelivered=True)


def take_telling(step: S) -> None:
    """Taken; a late response that waited for this comes next."""
    if step.flow.told:
        _set(step, late_taken=True, tries=0, tell_due=None)
    else:
        _set(step, told=True, tries=0, tell_due=None)
    if pending(step.flow) is not None:
        _open_telling(step)


def acknowledge(step: S) -> None:
    """Drop both payloads, keep key and hashes."""
    _enter(
        step,
        SenderState.ACKNOWLEDGED,
        payload=None,
        response=None,
        told=True,
        ends=step.now + step.policy.linger,
    )


def bury(step: S) -> None:
    """The application failed on the response too often: tell the operator."""
    _enter(step, SenderState.DEAD_LETTER)
    _open_telling(step)


def exhume(step: S) -> None:
    """Hand the response over again, tries from 1."""
    _enter(step, SenderState.ANSWERED, told=False)
    _open_telling(step, redelivered=True)


# --- Actions: ends ------------------------------------------------------------------------------


def forget(step: S) -> None:
    """Nothing is kept."""
    step.record = None


def restart(step: S) -> None:
    """Due times are kept, overdue ones spread; tellings that were open come again."""
    flow, now = step.flow, step.now
    later = now + step.policy.spread * cast("Restarted", step.event).share // 1_000_000
    changes: dict[str, int] = {}
    if flow.tell_due is None and pending(flow) is not None:
        changes["tell_due"] = later
    for name in ("send_due", "tell_due", "fin_due"):
        due = getattr(flow, name)
        if due is not None and due <= now:
            changes[name] = later
    if changes:
        _set(step, **changes)


# --- After every step ---------------------------------------------------------------------------


def next_due(flow: SenderFlow) -> int | None:
    """The earliest time at which a ``Due`` event can change something."""
    times = [flow.tell_due, flow.fin_due]
    if flow.state in (SenderState.QUEUED, SenderState.SENDING):
        times.append(flow.send_due)
    if flow.state is not SenderState.FAILED or pending(flow) is None:
        times.append(flow.ends)
    return min((time for time in times if time is not None), default=None)
