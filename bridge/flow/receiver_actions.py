"""Actions of the receiver's table. When they are taken is for the table to say."""

from typing import Any, Final, TypeAlias

from bridge.errors import LocalProtocolError
from bridge.flow.effects import Ask, HandOver, RememberPaid, Tell, Transmit
from bridge.flow.messages import Ack, payload_hash
from bridge.flow.receiver_conditions import pending
from bridge.flow.records import ReceiverFlow
from bridge.flow.states import ReceiverState, Role, Telling
from bridge.flow.tables import Step

S: TypeAlias = Step[ReceiverFlow]

ECHOES_BEYOND_ATTEMPTS: Final = 10


def _enter(step: S, state: ReceiverState) -> Any:
    """Change the state; what belongs to the state that is left goes with it."""
    draft = step.draft()
    draft.state = state
    draft.changed = step.now
    draft.tell_due = None
    draft.tries = 0
    draft.told = False
    draft.send_due = None
    return draft


def _enter_tombstone(step: S, state: ReceiverState) -> Any:
    """Enter a state that is kept for ``horizon`` of observed time.

    A shorter horizon than the one in force when the flow came does not hold for it.
    """
    draft = _enter(step, state)
    observed = step.now - step.event.lag
    draft.ends = max(observed, draft.floor) + max(draft.horizon, step.policy.horizon)
    return draft


# --- Admitting and handing over -----------------------------------------------------------------


def count_refused(_flow: ReceiverFlow, step: S) -> None:
    """Counted by reason; silent; nothing kept."""
    step.count(f"refused.{step.event.refused}")


def admit(_flow: ReceiverFlow, step: S) -> None:
    """Store, then hand over."""
    event = step.event
    new = event.message
    draft = step.begin(ReceiverFlow)
    draft.peer = event.caller
    draft.msg_id = new.msg_id
    draft.dialect = event.dialect
    draft.state = ReceiverState.PROCESSING
    draft.payload = new.payload
    draft.payload_hash = payload_hash(new.payload)
    draft.opened = step.now
    draft.changed = step.now
    draft.ends = step.now + step.policy.answer_within
    draft.horizon = step.policy.horizon
    draft.floor = event.floor
    draft.paid = event.paid
    draft.tries = 1
    _hand_over(draft, step, redelivered=False)


def _hand_over(flow: ReceiverFlow, step: S, *, redelivered: bool) -> None:
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


def run_again(flow: ReceiverFlow, step: S) -> None:
    """Hand over with ``redelivered``."""
    if flow.state is ReceiverState.STALLED:
        draft = _enter(step, ReceiverState.PROCESSING)
        draft.deferred = False
    else:
        draft = step.draft()
    draft.tries += 1
    draft.ends = step.now + step.policy.answer_within
    _hand_over(draft, step, redelivered=True)


def defer(_flow: ReceiverFlow, step: S) -> None:
    """A restart does not lose it."""
    step.draft().deferred = True


def stall(_flow: ReceiverFlow, step: S) -> None:
    """No handler works on it any more: tell."""
    _open_telling(_enter_tombstone(step, ReceiverState.STALLED), step)


# --- The answer ---------------------------------------------------------------------------------


def refuse_answer(flow: ReceiverFlow, step: S) -> None:
    """An error to the application; unchanged."""
    raise LocalProtocolError(
        f"an answer of {len(step.event.response or b'')} bytes to flow {flow.msg_id} cannot be"
        f" stored: at most {step.policy.max_response} bytes, within the quotas",
        hint="answer with less, such as a reference to the data",
    )


def error_answered(_flow: ReceiverFlow, step: S) -> None:
    """An error to the application; unchanged."""
    if step.record is None:
        raise LocalProtocolError("there is no such flow to answer: it was forgotten, or never came")
    raise LocalProtocolError(
        f"flow {step.record.msg_id} has its answer already; the first one stands"
    )


def answer(_flow: ReceiverFlow, step: S) -> None:
    """Store; transmit ACK as attempt 1, or come back to it if there is no room."""
    response = step.event.response
    draft = _enter(step, ReceiverState.ACKNOWLEDGING)
    draft.response = response
    draft.response_hash = payload_hash(response)
    draft.ends = step.now + step.policy.lifetime
    if step.event.room:
        transmit_ack_again(draft, step)
    else:
        wait_for_room(draft, step)


def forget_for_retry(flow: ReceiverFlow, step: S) -> None:
    """The sender's next NEW is processed anew, and not charged again."""
    if flow.paid:
        until = step.now + step.policy.lifetime
        step.effects.append(RememberPaid(peer=flow.peer, msg_id=flow.msg_id, until=until))
    step.record = None


def _transmit_ack(flow: ReceiverFlow, step: S, *, attempt: int, echo: bool) -> None:
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


def transmit_ack_again(flow: ReceiverFlow, step: S) -> None:
    """The next attempt."""
    n = flow.attempts + 1
    _transmit_ack(flow, step, attempt=n, echo=False)
    draft = step.draft()
    draft.attempts = n
    draft.send_due = step.now + step.policy.delay(n, step.event.u)
    draft.ack_at = step.now


def wait_for_room(_flow: ReceiverFlow, step: S) -> None:
    """Due again after ``send_retry``."""
    step.draft().send_due = step.now + step.policy.send_retry


def take_attempt_back(_flow: ReceiverFlow, step: S) -> None:
    """The attempt did not count."""
    draft = step.draft()
    draft.attempts -= 1
    draft.ack_at = step.event.transmit.prior_at
    draft.send_due = step.now + step.policy.send_retry


def echo_ack(flow: ReceiverFlow, step: S) -> None:
    """Echo the ACK within the echo rule; one that is sent moves due."""
    policy = step.policy
    if not (
        step.event.room
        and flow.ack_echoes < policy.attempts + ECHOES_BEYOND_ATTEMPTS
        and (flow.ack_at is None or step.now - flow.ack_at >= policy.echo_min)
    ):
        step.count("echo_suppressed")
        return
    _transmit_ack(flow, step, attempt=flow.attempts, echo=True)
    draft = step.draft()
    draft.ack_at = step.now
    draft.ack_echoes += 1
    if draft.send_due is not None:
        draft.send_due = step.now + policy.delay(max(1, draft.attempts), step.event.u)


def undo_echo(_flow: ReceiverFlow, step: S) -> None:
    """An echo that is not sent moves nothing."""
    transmit = step.event.transmit
    draft = step.draft()
    draft.ack_at = transmit.prior_at
    draft.ack_echoes -= 1
    if draft.send_due is not None:
        draft.send_due = transmit.prior_due


def abandon(_flow: ReceiverFlow, step: S) -> None:
    """Tell; keep the response."""
    _open_telling(_enter_tombstone(step, ReceiverState.ABANDONED), step)


# --- FIN ----------------------------------------------------------------------------------------


def finish(_flow: ReceiverFlow, step: S) -> None:
    """Drop payloads, keep the tombstone."""
    draft = _enter_tombstone(step, ReceiverState.FINISHED)
    draft.payload = None
    draft.response = None
    _close_question(draft, None, step)


def report_new(flow: ReceiverFlow, step: S) -> None:
    """Reported to the corruption handler, no decision asked; what is stored stands."""
    theirs = step.event.message.payload
    wrong = payload_hash(theirs)
    step.draft().wrong_news = (*flow.wrong_news, wrong)
    step.effects.append(
        Ask(
            role=Role.RECEIVER,
            peer=flow.peer,
            msg_id=flow.msg_id,
            kind="NEW",
            our_payload=flow.payload,
            their_payload=theirs,
            our_hash=flow.payload_hash,
            their_hash=wrong,
            decide=False,
        )
    )


def ask_about_fin(flow: ReceiverFlow, step: S) -> None:
    """Ask the corruption handler; timers go on."""
    wrong = step.event.message.hash
    draft = step.draft()
    draft.wrong_fins = (*flow.wrong_fins, wrong)
    draft.asked = (*flow.asked, wrong)
    draft.asks = max(1, flow.asks)
    _ask(draft, wrong, step)


def _ask(flow: ReceiverFlow, wrong: int, step: S) -> None:
    assert flow.response_hash is not None
    step.effects.append(
        Ask(
            role=Role.RECEIVER,
            peer=flow.peer,
            msg_id=flow.msg_id,
            kind="FIN",
            our_payload=flow.response,
            their_payload=None,
            our_hash=flow.response_hash,
            their_hash=wrong,
            decide=True,
            tries=flow.asks,
        )
    )


def restart_and_ask_later(flow: ReceiverFlow, step: S) -> None:
    """What was asked is lost with the process: ask again after delay(n)."""
    if flow.ask_due is None:
        step.draft().ask_due = step.now + step.policy.delay(flow.asks, step.event.u)
    restart(flow, step)


def ask_again(flow: ReceiverFlow, step: S) -> None:
    """The same questions once more."""
    draft = step.draft()
    draft.ask_due = None
    draft.asks += 1
    for wrong in flow.asked:
        _ask(draft, wrong, step)


def _close_question(flow: ReceiverFlow, wrong: int | None, step: S) -> None:
    """It is decided, or stays undecided; None: all are."""
    if not flow.asked:
        return
    draft = step.draft()
    draft.asked = () if wrong is None else tuple(hash_ for hash_ in flow.asked if hash_ != wrong)
    if not draft.asked:
        draft.asks = 0
        draft.ask_due = None


def resend(flow: ReceiverFlow, step: S) -> None:
    """Echo the ACK within the echo rule."""
    _close_question(flow, step.event.hash, step)
    echo_ack(flow, step)


def abandon_as_decided(flow: ReceiverFlow, step: S) -> None:
    """Tell; keep the response."""
    _close_question(flow, step.event.hash, step)
    abandon(flow, step)


def abandon_again(flow: ReceiverFlow, step: S) -> None:
    """It is abandoned already."""
    _close_question(flow, step.event.hash, step)
    step.count("ignored")


def leave_undecided(flow: ReceiverFlow, step: S) -> None:
    """A handler that fails has decided nothing, and the timers go on."""
    _close_question(flow, step.event.of.their_hash, step)
    step.count("outdated")


# --- Counting -----------------------------------------------------------------------------------


def count_repeated(_flow: ReceiverFlow, step: S) -> None:
    """Nothing: the answer is being made, or the sender has it."""
    step.count("repeated")


def count_wrong_again(_flow: ReceiverFlow, step: S) -> None:
    """Reported before, or a fourth."""
    step.count("wrong_hash_again")


def count_fin(_flow: ReceiverFlow, step: S) -> None:
    """There is no response to finish, or it is finished."""
    step.count("fin_ignored")


def count_unknown_fin(_flow: ReceiverFlow, step: S) -> None:
    """Nobody but the sender can end a flow."""
    step.count("unknown_fin")


def count_rejected(_flow: ReceiverFlow, step: S) -> None:
    """The outcome is unknown; the next due decides."""
    step.count("rejected")


# --- Telling ------------------------------------------------------------------------------------


def _tell(flow: ReceiverFlow, step: S, *, redelivered: bool) -> None:
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


def _open_telling(draft: Any, step: S) -> None:
    draft.tries = 1
    _tell(draft, step, redelivered=False)


def tell_again_later(flow: ReceiverFlow, step: S) -> None:
    """Again after delay(n)."""
    step.draft().tell_due = step.now + step.policy.delay(flow.tries, step.event.u)


def tell_again(_flow: ReceiverFlow, step: S) -> None:
    """One more try, marked redelivered."""
    draft = step.draft()
    draft.tries += 1
    draft.tell_due = None
    _tell(draft, step, redelivered=True)


def take_telling(_flow: ReceiverFlow, step: S) -> None:
    """Taken."""
    draft = step.draft()
    draft.told = True
    draft.tries = 0
    draft.tell_due = None


# --- Ends ---------------------------------------------------------------------------------------


def forget(_flow: ReceiverFlow, step: S) -> None:
    """Nothing is kept."""
    step.record = None


def forget_stalled(flow: ReceiverFlow, step: S) -> None:
    """A stalled one is told."""
    step.record = None
    step.effects.append(
        Tell(role=Role.RECEIVER, peer=flow.peer, msg_id=flow.msg_id, what=Telling.FORGOTTEN)
    )


def restart(flow: ReceiverFlow, step: S) -> None:
    """Due times are kept, overdue ones spread; tellings that were open come again."""
    now = step.now
    later = now + step.policy.spread * step.event.share // 1_000_000
    if flow.tell_due is None and pending(flow) is not None:
        step.draft().tell_due = later
    for name in ("send_due", "tell_due", "ask_due"):
        due = getattr(flow, name)
        if due is not None and due <= now:
            setattr(step.draft(), name, later)
