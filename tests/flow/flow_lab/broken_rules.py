"""`step` with one rule broken on purpose, a function a rule: what the judges have to find out."""

import dataclasses

from bridge.flow import (
    Ack,
    Due,
    Fin,
    New,
    Received,
    ReceiverState,
    Restarted,
    Send,
    SenderState,
    Tell,
    Telling,
    Transition,
    Transmit,
    step,
)


def no_caller_check(record, event, now, policy):
    if isinstance(event, Received) and record is not None:
        event = dataclasses.replace(event, caller=record.peer)
    return step(record, event, now, policy)


def forgotten_tombstone(record, event, now, policy):
    transition = step(record, event, now, policy)
    if transition.flow is not None and transition.flow.state is ReceiverState.FINISHED:
        return dataclasses.replace(transition, flow=None)
    return transition


def no_echo_limit(record, event, now, policy):
    return step(record, event, now, dataclasses.replace(policy, echo_min=0))


def horizon_by_the_clock(record, event, now, policy):
    return step(record, dataclasses.replace(event, lag=0), now, policy)


def lost_by_restart(record, event, now, policy):
    if isinstance(event, Restarted) and record.state is SenderState.ANSWERED:
        return Transition(record)
    return step(record, event, now, policy)


def attempts_without_end(record, event, now, policy):
    return step(record, event, now, dataclasses.replace(policy, attempts=100))


def lifetime_never_over(record, event, now, policy):
    if isinstance(event, Send):
        policy = dataclasses.replace(policy, lifetime=400 * policy.lifetime)
    return step(record, event, now, policy)


def late_is_told_as_the_outcome(record, event, now, policy):
    transition = step(record, event, now, policy)
    effects = tuple(
        dataclasses.replace(e, what=Telling.ANSWERED)
        if isinstance(e, Tell) and e.what is Telling.LATE
        else e
        for e in transition.effects
    )
    return dataclasses.replace(transition, effects=effects)


def fin_claims_what_is_not_stored(record, event, now, policy):
    transition = step(record, event, now, policy)
    effects = tuple(
        dataclasses.replace(e, message=Fin(e.message.msg_id, 1))
        if isinstance(e, Transmit) and isinstance(e.message, Fin) and record is not None
        else e
        for e in transition.effects
    )
    return dataclasses.replace(transition, effects=effects)


def rerun_unmarked(record, event, now, policy):
    processing = getattr(record, "state", None) is ReceiverState.PROCESSING
    if isinstance(event, Restarted) and processing and not record.deferred:
        transition = step(record, event, now, dataclasses.replace(policy, rerun_stalled=True))
        effects = tuple(dataclasses.replace(e, redelivered=False) for e in transition.effects)
        return dataclasses.replace(transition, effects=effects)
    return step(record, event, now, policy)


def fin_before_store(record, event, now, policy):
    """FIN leaves in a step of its own; the response is stored only when the ACK comes again."""
    transition = step(record, event, now, policy)
    fresh = (
        isinstance(event, Received)
        and record is not None
        and transition.flow is not None
        and transition.flow.state is SenderState.ANSWERED
        and record.state is SenderState.SENDING
        and record.fin_at is None
    )
    if fresh:
        fins = tuple(e for e in transition.effects if isinstance(e, Transmit))
        return Transition(dataclasses.replace(record, fin_at=now), fins)
    return transition


def restart_forgets_tellings(record, event, now, policy):
    transition = step(record, event, now, policy)
    if isinstance(event, Restarted) and transition.flow is not None:
        return Transition(dataclasses.replace(transition.flow, tell_due=None, due=None), ())
    return transition


def ack_retries_without_end(record, event, now, policy):
    """The ACK is repeated for ever: a quiet system never comes."""
    unlimited = dataclasses.replace(policy, attempts=10**9, lifetime=10**9)
    if getattr(record, "state", None) is ReceiverState.ACKNOWLEDGING and isinstance(event, Due):
        return step(dataclasses.replace(record, ends=now + 10**6), event, now, unlimited)
    return step(record, event, now, policy)


def new_retries_without_end(record, event, now, policy):
    if getattr(record, "state", None) is SenderState.SENDING and isinstance(event, Due):
        record = dataclasses.replace(record, attempts=1)
    return step(record, event, now, policy)


def wrong_hash_is_believed(record, event, now, policy):
    if isinstance(event, Received) and isinstance(event.message, Ack):
        event = dataclasses.replace(event, message=dataclasses.replace(event.message, hash=None))
    return step(record, event, now, policy)


def repeated_new_is_processed_again(record, event, now, policy):
    stalled = getattr(record, "state", None) is ReceiverState.STALLED
    if stalled and isinstance(event, Received) and isinstance(event.message, New):
        return step(None, event, now, policy)
    return step(record, event, now, policy)
