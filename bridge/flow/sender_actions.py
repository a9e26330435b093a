"""Actions of the sender's table. When they are taken is for the table to say."""

from typing import Any, Final, TypeAlias

from bridge.errors import LocalProtocolError
from bridge.flow.effects import Ask, Transmit
from bridge.flow.messages import Fin, New, is_well_formed, payload_hash
from bridge.flow.records import SenderFlow
from bridge.flow.sender_conditions import pending, telling
from bridge.flow.states import Failure, Role, SenderState
from bridge.flow.tables import Step

S: TypeAlias = Step[SenderFlow]

ECHOES_BEYOND_ATTEMPTS: Final = 10


def _enter(step: S, state: SenderState) -> Any:
    """Change the state; what belongs to the state that is left goes with it."""
    draft = step.draft()
    draft.state = state
    draft.changed = step.now
    draft.tell_due = None
    draft.tries = 0
    draft.wrong_hash = None
    draft.wrong_payload = None
    return draft


# --- Opening and transmitting -------------------------------------------------------------------


def open_flow(_flow: SenderFlow, step: S) -> None:
    """Store first; due now."""
    event, policy, now = step.event, step.policy, step.now
    if not is_well_formed(
        New(event.msg_id, event.payload),
        max_payload=policy.max_payload,
        max_response=policy.max_response,
    ):
        raise LocalProtocolError(
            f"a flow needs an id from 0 to 2^128-1 and at most {policy.max_payload} bytes of"
            f" payload; got an id of {event.msg_id.bit_length()} bits and {len(event.payload)}"
            " bytes",
            hint="send a reference to large data instead of the data",
        )
    if not (event.peer.is_canister or event.peer.is_self_authenticating):
        raise LocalProtocolError(f"{event.peer} is neither a canister nor an agent's own principal")
    draft = step.begin(SenderFlow)
    draft.peer = event.peer
    draft.msg_id = event.msg_id
    draft.dialect = event.dialect
    draft.state = SenderState.QUEUED
    draft.payload = event.payload
    draft.payload_hash = payload_hash(event.payload)
    draft.opened = now
    draft.changed = now
    draft.ends = now + policy.lifetime
    draft.send_due = now


def same_send_or_error(flow: SenderFlow, step: S) -> None:
    """The existing flow for the same peer and payload; else an error."""
    event = step.event
    if flow.payload is not None:
        same = event.payload == flow.payload
    else:  # dropped; its hash is all that is left to compare
        same = payload_hash(event.payload) == flow.payload_hash
    if event.peer != flow.peer or not same:
        raise LocalProtocolError(
            f"the id {flow.msg_id} is used by a flow to {flow.peer} with another peer or payload",
            hint="take a fresh id; a used one only repeats the very same send",
        )


def transmit_new(flow: SenderFlow, step: S) -> None:
    """Commit the attempt, then transmit NEW."""
    n = flow.attempts + 1
    draft = _enter(step, SenderState.SENDING) if flow.state is SenderState.QUEUED else step.draft()
    draft.attempts = n
    draft.send_due = step.now + step.policy.delay(n, step.event.u)
    message = New(flow.msg_id, flow.payload or b"")
    step.effects.append(Transmit(peer=flow.peer, dialect=flow.dialect, message=message, attempt=n))


def wait_for_room(_flow: SenderFlow, step: S) -> None:
    """Due again after ``send_retry``."""
    step.draft().send_due = step.now + step.policy.send_retry


def take_attempt_back(flow: SenderFlow, step: S) -> None:
    """The attempt did not count; queued again if none remains."""
    left = flow.attempts - 1
    draft = step.draft() if left else _enter(step, SenderState.QUEUED)
    draft.attempts = left
    draft.send_due = step.now + step.policy.send_retry


def count_rejected(_flow: SenderFlow, step: S) -> None:
    """The outcome is unknown; the next due decides."""
    step.count("rejected")


# --- Failing ------------------------------------------------------------------------------------


def _fail(step: S, failure: Failure) -> None:
    draft = _enter(step, SenderState.FAILED)
    draft.failure = failure
    draft.send_due = None
    draft.ends = step.now + step.policy.retention
    _open_telling(step)


def fail_unsent(_flow: SenderFlow, step: S) -> None:
    """Nothing left; certainly not done."""
    _fail(step, Failure.UNSENT)


def fail_unknown(_flow: SenderFlow, step: S) -> None:
    """It may yet have run."""
    _fail(step, Failure.UNKNOWN)


def fail_cancelled(_flow: SenderFlow, step: S) -> None:
    """Given up; the outcome is unknown."""
    _fail(step, Failure.CANCELLED)


def fail_corrupt(_flow: SenderFlow, step: S) -> None:
    """The question was never answered."""
    _fail(step, Failure.CORRUPT)


def fail_refused(flow: SenderFlow, step: S) -> None:
    """Certainly not done if it was the only attempt."""
    _fail(step, Failure.REFUSED if flow.attempts == 1 else Failure.UNKNOWN)


# --- ACK and FIN --------------------------------------------------------------------------------


def _fin(step: S, *, echo: bool = False) -> None:
    """Transmit FIN for what was accepted, or come back to it if there is no room."""
    draft = step.draft()
    if not step.event.room:
        draft.fin_due = step.now + step.policy.send_retry
        return
    step.effects.append(
        Transmit(
            peer=draft.peer,
            dialect=draft.dialect,
            message=Fin(draft.msg_id, draft.response_hash),
            attempt=1,
            echo=echo,
            prior_at=draft.fin_at,
        )
    )
    draft.fin_at = step.now
    draft.fin_due = None


def _answer_with(step: S, response: bytes | None) -> None:
    draft = _enter(step, SenderState.ANSWERED)
    draft.response = response
    draft.response_hash = payload_hash(response)
    draft.send_due = None
    draft.ends = None
    draft.fin_until = step.now + step.policy.linger
    _fin(step)
    _open_telling(step)


def answer(_flow: SenderFlow, step: S) -> None:
    """Store the response; FIN; hand over."""
    _answer_with(step, step.event.message.payload)


def accept_wrong_ack(flow: SenderFlow, step: S) -> None:
    """Take the stored wrong ACK of that hash."""
    wanted = step.event.hash
    if wanted != flow.wrong_hash:
        raise LocalProtocolError(
            f"flow {flow.msg_id} has no stored ACK with the hash {wanted}, but one with"
            f" {flow.wrong_hash}",
            hint="accept the hash of the latest question",
        )
    _answer_with(step, flow.wrong_payload)


def abandon(_flow: SenderFlow, step: S) -> None:
    """FIN(null), tell."""
    step.draft().fin_until = step.now + step.policy.linger
    _fin(step)
    _fail(step, Failure.CORRUPT)


def resend(_flow: SenderFlow, step: S) -> None:
    """Sending again; it waits for its due time."""
    _enter(step, SenderState.SENDING)


def take_late(flow: SenderFlow, step: S) -> None:
    """Store the response; FIN; hand over as late, once the outcome was taken."""
    response = step.event.message.payload
    draft = step.draft()
    draft.changed = step.now
    draft.late = True
    draft.response = response
    draft.response_hash = payload_hash(response)
    draft.ends = step.now + step.policy.retention
    draft.fin_until = step.now + step.policy.linger
    _fin(step)
    if flow.told:
        _open_telling(step)


def echo_fin(flow: SenderFlow, step: S) -> None:
    """Echo FIN with the accepted hash, within the echo rule."""
    policy = step.policy
    other = payload_hash(step.event.message.payload) != flow.response_hash
    if (
        step.event.room
        and flow.fin_echoes < policy.attempts + ECHOES_BEYOND_ATTEMPTS
        and (flow.fin_at is None or step.now - flow.fin_at >= policy.echo_min)
    ):
        draft = step.draft()
        draft.fin_echoes += 1
        draft.fin_until = step.now + policy.linger
        _fin(step, echo=True)
    else:
        step.count("echo_suppressed")
    if other:
        step.count("other_payload")


def retry_fin_later(_flow: SenderFlow, step: S) -> None:
    """Again at ``send_retry``; it was not transmitted."""
    draft = step.draft()
    draft.fin_at = step.event.transmit.prior_at
    draft.fin_due = step.now + step.policy.send_retry


def give_fin_up(_flow: SenderFlow, step: S) -> None:
    """The receiver's next ACK asks for it."""
    step.draft().fin_due = None
    step.count("fin_given_up")


def transmit_fin_again(_flow: SenderFlow, step: S) -> None:
    """The same FIN once more."""
    _fin(step)


def answer_unknown_ack(_flow: SenderFlow, step: S) -> None:
    """FIN(null), only to canisters, under the global rate."""
    event = step.event
    if event.caller.is_canister and event.room:
        message = Fin(event.message.msg_id)
        step.effects.append(
            Transmit(peer=event.caller, dialect=event.dialect, message=message, attempt=1)
        )
    step.count("unknown_ack")


# --- Wrong hashes -------------------------------------------------------------------------------


def ask_about_ack(flow: SenderFlow, step: S) -> None:
    """Store it as the latest wrong ACK; ask the corruption handler."""
    ack = step.event.message
    corrupt = flow.state is SenderState.CORRUPT
    draft = step.draft() if corrupt else _enter(step, SenderState.CORRUPT)
    draft.wrong = (*draft.wrong, ack.hash)
    draft.wrong_hash = ack.hash
    draft.wrong_payload = ack.payload
    draft.tell_due = None
    draft.tries = 1
    _ask(draft, step)


def _ask(flow: SenderFlow, step: S) -> None:
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


def ask_again(_flow: SenderFlow, step: S) -> None:
    """The same question once more."""
    draft = step.draft()
    draft.tell_due = None
    draft.tries += 1
    _ask(draft, step)


def ask_again_after_restart(flow: SenderFlow, step: S) -> None:
    """The question was lost with the process: ask again after delay(n)."""
    if flow.tell_due is None:
        tell_again_later(flow, step)
        flow = step.draft()
    restart(flow, step)


def count_wrong_again(_flow: SenderFlow, step: S) -> None:
    """Reported before, or a fourth."""
    step.count("wrong_hash_again")


def count_wrong(_flow: SenderFlow, step: S) -> None:
    """Silent: a FIN(null) here could discard a good response."""
    step.count("wrong_hash")


def postpone_by_receipt(flow: SenderFlow, step: S) -> None:
    """Nothing changes but due."""
    n = max(1, flow.attempts)
    step.draft().send_due = step.now + step.policy.delay(n, step.event.u)
    step.count("receipt")


def count_receipt(_flow: SenderFlow, step: S) -> None:
    """It says nothing new."""
    step.count("receipt")


# --- Telling ------------------------------------------------------------------------------------


def _tell(flow: SenderFlow, step: S, *, redelivered: bool) -> None:
    told = telling(flow, redelivered=redelivered)
    assert told is not None
    step.effects.append(told)


def _open_telling(step: S, *, redelivered: bool = False) -> None:
    draft = step.draft()
    draft.tries = 1
    _tell(draft, step, redelivered=redelivered)


def tell_again_later(flow: SenderFlow, step: S) -> None:
    """Again after delay(n)."""
    step.draft().tell_due = step.now + step.policy.delay(flow.tries, step.event.u)


def tell_again(_flow: SenderFlow, step: S) -> None:
    """One more try, marked redelivered."""
    draft = step.draft()
    draft.tries += 1
    draft.tell_due = None
    _tell(draft, step, redelivered=True)


def take_telling(flow: SenderFlow, step: S) -> None:
    """Taken; a late response that waited for this comes next."""
    draft = step.draft()
    if flow.told:
        draft.late_taken = True
    else:
        draft.told = True
    draft.tries = 0
    draft.tell_due = None
    if pending(draft) is not None:
        _open_telling(step)


def acknowledge(_flow: SenderFlow, step: S) -> None:
    """Drop both payloads, keep key and hashes."""
    draft = _enter(step, SenderState.ACKNOWLEDGED)
    draft.payload = None
    draft.response = None
    draft.told = True
    draft.ends = step.now + step.policy.linger


def bury(_flow: SenderFlow, step: S) -> None:
    """The application failed on the response too often: tell the operator."""
    _enter(step, SenderState.DEAD_LETTER)
    _open_telling(step)


def exhume(_flow: SenderFlow, step: S) -> None:
    """Hand the response over again, tries from 1."""
    _enter(step, SenderState.ANSWERED).told = False
    _open_telling(step, redelivered=True)


# --- Ends ---------------------------------------------------------------------------------------


def forget(_flow: SenderFlow, step: S) -> None:
    """Nothing is kept."""
    step.record = None


def restart(flow: SenderFlow, step: S) -> None:
    """Due times are kept, overdue ones spread; tellings that were open come again."""
    now = step.now
    later = now + step.policy.spread * step.event.share // 1_000_000
    if flow.tell_due is None and pending(flow) is not None:
        step.draft().tell_due = later
    for name in ("send_due", "tell_due", "fin_due"):
        due = getattr(flow, name)
        if due is not None and due <= now:
            setattr(step.draft(), name, later)
