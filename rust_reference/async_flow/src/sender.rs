//! The sender's table as a pure function, to be read beside the protocol page's section Sender.
//!
//! Every (state, event) pair has a row here or is ignored and counted; `match` makes that total.

use candid::Principal;

use crate::event::{Ask, Decision, Effect, Event, NotAllowed, Of, Received, Tell, Transmit, What};
use crate::flow::SenderFlow;
use crate::message::{payload_hash, Blob, Kind, Message};
use crate::step::{Decided, Rules, Transition, ECHOES_BEYOND_ATTEMPTS, MOST_WRONG_HASHES};
use crate::words::{classify, Class, Dialect, Failure, NullAck, Role, State, Telling};

type Step<'a> = crate::step::Step<'a, SenderFlow>;

/// What decides a step: [`step`], or a function around it.
pub type Table =
    fn(Option<SenderFlow>, &Event, u64, Rules<'_>) -> Result<Transition<SenderFlow>, NotAllowed>;

/// Decides one event on one flow that we opened.
///
/// # Errors
/// If the application asked for what the state does not allow; nothing changes. What a peer sends
/// never gives an error.
pub fn step(
    flow: Option<SenderFlow>,
    event: &Event,
    now: u64,
    rules: Rules<'_>,
) -> Result<Transition<SenderFlow>, NotAllowed> {
    let mut s = Step::new(flow, event, now, rules);
    let is_strange = match (&s.flow, &event.what) {
        (Some(flow), What::Received(r)) => r.caller != flow.peer,
        _ => false,
    };
    if is_strange {
        s.count("spoofed");
        return Ok(Transition { flow: s.flow, changed: false, effects: s.effects });
    }
    // The lifetime is tested before any other event.
    let over = s.flow.as_ref().is_some_and(|f| f.is_unanswered() && s.passed(f.ends));
    if over {
        match s.look().state {
            State::Queued => fail(&mut s, Failure::Unsent),
            State::Corrupt => fail(&mut s, Failure::Corrupt),
            _ => fail(&mut s, Failure::Unknown),
        }
    }
    // A flow that failed in this very step has nothing else due, and its telling is not lost.
    let done = over && matches!(event.what, What::Due | What::Restarted { .. });
    if !done && !rows(&mut s)? {
        without_row(&mut s)?;
    }
    if let Some(flow) = &mut s.flow {
        let due = flow.next_due();
        s.changed |= due != flow.due;
        flow.due = due;
    }
    Ok(Transition { flow: s.flow, changed: s.changed, effects: s.effects })
}

/// Whether a pending telling or question is still wanted, right before it is carried out: one whose flow
/// has left that state and try is dropped.
pub fn is_open(flow: Option<&SenderFlow>, of: Of) -> bool {
    let Some(flow) = flow else { return false };
    match of {
        Of::Tell { what, tries } => flow.pending() == Some(what) && flow.tries == tries,
        Of::Ask { their_hash, tries } => {
            flow.state == State::Corrupt
                && flow.wrong_hash == Some(their_hash)
                && flow.tries == tries
        }
        Of::HandOver { .. } => false,
    }
}

/// Whether [`step`] looks at what the flow carries, its payload or responses. If not, it decides the same
/// of a flow that carries empty strings in their places, and leaves or drops them.
pub fn looks_inside(flow: &SenderFlow, event: &Event) -> bool {
    match &event.what {
        What::Due => event.room || !matches!(flow.state, State::Queued | State::Sending),
        What::Received(r) => match &r.message {
            Message::Ack { hash: Some(hash), .. } => {
                flow.is_unanswered() && *hash != flow.payload_hash
            }
            _ => false,
        },
        // A late response may be next to be told.
        What::Returned { .. } => flow.state == State::Failed,
        What::NotSent(_) | What::Refused(_) | What::Rejected(_) => false,
        What::Restarted { .. } | What::Cancel | What::Finish | What::DropDeadLetter => false,
        _ => true,
    }
}

fn rows(s: &mut Step<'_>) -> Decided {
    let event = s.event;
    let Some(state) = s.flow.as_ref().map(|flow| flow.state) else {
        return without_flow(s);
    };
    match &event.what {
        What::Send { peer, payload, .. } => same_send_or_error(s, peer, payload),
        What::Due => Ok(due(s, state)),
        What::Received(r) => Ok(received(s, state, r)),
        What::Cancel => Ok(match state {
            State::Queued => {
                fail(s, Failure::Unsent);
                true
            }
            State::Sending | State::Corrupt => {
                fail(s, Failure::Cancelled);
                true
            }
            _ => false,
        }),
        What::NotSent(t) => Ok(not_sent(s, state, t)),
        What::Refused(t) => Ok(state == State::Sending && is_new(t) && {
            let only = s.look().attempts == 1;
            fail(s, if only { Failure::Refused } else { Failure::Unknown });
            true
        }),
        What::Rejected(t) => Ok(state == State::Sending && is_new(t) && {
            s.count("rejected");
            true
        }),
        What::Decided(decision) if state == State::Corrupt => decided(s, *decision),
        What::Returned { what, tries } => Ok(is_open_telling(s, *what, *tries) && {
            if state == State::Answered {
                acknowledge(s);
            } else {
                take_telling(s);
            }
            true
        }),
        What::HandlerFailed(of) => Ok(handler_failed(s, state, *of)),
        What::Finish if matches!(state, State::Answered | State::DeadLetter) => {
            acknowledge(s);
            Ok(true)
        }
        What::DropDeadLetter if state == State::DeadLetter => {
            acknowledge(s);
            Ok(true)
        }
        What::RetryDeadLetter if state == State::DeadLetter => {
            enter(s, State::Answered).told = false;
            open_telling(s, true);
            Ok(true)
        }
        What::Restarted { share } => {
            restart(s, state, *share);
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn without_row(s: &mut Step<'_>) -> Result<(), NotAllowed> {
    let request = match &s.event.what {
        What::Due if s.flow.is_some() => return Ok(()),
        What::Send { .. } => "opened",
        What::Cancel => "cancelled: it has ended",
        What::Finish => "finished",
        What::RetryDeadLetter => "retried: it is no dead letter",
        What::DropDeadLetter => "dropped: it is no dead letter",
        What::Answer { .. } | What::FailedForGood { .. } => "answered",
        What::FailedForNow => "failed for now",
        What::Rerun => "run again",
        What::NotSent(_) | What::Returned { .. } | What::HandlerFailed(_) => {
            s.count("outdated");
            return Ok(());
        }
        What::Refused(_) | What::Rejected(_) => {
            s.count("rejected");
            return Ok(());
        }
        _ => {
            s.count("ignored");
            return Ok(());
        }
    };
    Err(NotAllowed(match &s.flow {
        None => {
            format!("there is no such flow to be {request}: it was forgotten, or its id is wrong")
        }
        Some(f) => {
            format!(
                "flow {} with {} is {} and cannot be {request}",
                f.msg_id,
                f.peer,
                f.state.name()
            )
        }
    }))
}

fn without_flow(s: &mut Step<'_>) -> Decided {
    match &s.event.what {
        What::Send { peer, msg_id, payload, dialect } => {
            open(s, *peer, *msg_id, payload, *dialect)?;
            Ok(true)
        }
        What::Received(r) => {
            let Message::Ack { msg_id, .. } = r.message else { return Ok(false) };
            // Only to canisters, and under the one global rate, which `room` tells.
            if classify(&r.caller) == Class::Canister && s.event.room {
                s.effects.push(Effect::Transmit(Transmit {
                    peer: r.caller,
                    dialect: r.dialect,
                    message: Message::Fin { msg_id, hash: None },
                    attempt: 1,
                    echo: false,
                    prior_due: None,
                    prior_at: None,
                }));
            }
            s.count("unknown_ack");
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Changes the state; what belongs to the state that is left goes with it.
fn enter<'s>(s: &'s mut Step<'_>, state: State) -> &'s mut SenderFlow {
    let now = s.now;
    let flow = s.change();
    flow.state = state;
    flow.changed = now;
    flow.tell_due = None;
    flow.tries = 0;
    flow.wrong_hash = None;
    flow.wrong_payload = None;
    flow
}

// --- Opening and transmitting -----------------------------------------------------------------------

fn open(
    s: &mut Step<'_>,
    peer: Principal,
    msg_id: u128,
    payload: &Blob,
    dialect: Dialect,
) -> Result<(), NotAllowed> {
    let policy = s.rules.policy;
    if payload.len() as u64 > policy.max_payload {
        return Err(NotAllowed(format!(
            "the payload has {} bytes, more than max_payload ({}): send a reference to the data",
            payload.len(),
            policy.max_payload
        )));
    }
    if classify(&peer) == Class::Other {
        return Err(NotAllowed(format!(
            "{peer} is neither a canister nor an agent's own principal"
        )));
    }
    s.store(SenderFlow {
        peer,
        msg_id,
        dialect,
        state: State::Queued,
        failure: None,
        late: false,
        payload: Some(payload.clone()),
        payload_hash: payload_hash(Some(payload)),
        response: None,
        response_hash: None,
        attempts: 0,
        opened: s.now,
        changed: s.now,
        ends: Some(s.after(policy.lifetime)),
        send_due: Some(s.now),
        tell_due: None,
        tries: 0,
        told: false,
        late_taken: false,
        fin_due: None,
        fin_until: None,
        fin_at: None,
        fin_echoes: 0,
        wrong: Vec::new(),
        wrong_hash: None,
        wrong_payload: None,
        due: None,
    });
    Ok(())
}

fn same_send_or_error(s: &mut Step<'_>, peer: &Principal, payload: &Blob) -> Decided {
    let flow = s.look();
    let same = match &flow.payload {
        Some(stored) => stored == payload,
        // Dropped: its hash is all that is left to compare.
        None => payload_hash(Some(payload)) == flow.payload_hash,
    };
    if same && flow.peer == *peer {
        return Ok(true);
    }
    Err(NotAllowed(format!(
        "the id {} is used by a flow to {} with another peer or payload: take a fresh id",
        flow.msg_id, flow.peer
    )))
}

fn transmit_new(s: &mut Step<'_>) {
    let n = s.look().attempts + 1;
    let next = s.after(s.delay(n));
    if s.look().state == State::Queued {
        enter(s, State::Sending);
    }
    let flow = s.change();
    flow.attempts = n;
    flow.send_due = Some(next);
    let transmit = Transmit {
        peer: flow.peer,
        dialect: flow.dialect,
        message: Message::New {
            msg_id: flow.msg_id,
            payload: flow.payload.clone().unwrap_or_default(),
        },
        attempt: n,
        echo: false,
        prior_due: None,
        prior_at: None,
    };
    s.effects.push(Effect::Transmit(transmit));
}

fn due(s: &mut Step<'_>, state: State) -> bool {
    let policy = s.rules.policy;
    let mut any = false;
    let send_due = s.passed(s.look().send_due);
    match state {
        State::Sending if send_due && s.look().attempts >= policy.attempts => {
            fail(s, Failure::Unknown);
            return true;
        }
        State::Queued | State::Sending if send_due && s.event.room => {
            transmit_new(s);
            if state == State::Queued {
                return true;
            }
            any = true;
        }
        State::Queued | State::Sending if send_due => {
            let again = s.after(policy.send_retry);
            s.change().send_due = Some(again);
            any = true;
        }
        State::Corrupt => {
            if s.passed(s.look().tell_due) {
                let flow = s.change();
                flow.tell_due = None;
                flow.tries += 1;
                ask(s);
                any = true;
            }
            // Nothing is sent while the question is open.
            any |= send_due;
        }
        State::Answered if tell_due(s) && s.look().tries >= policy.handler_attempts => {
            bury(s);
            return true;
        }
        State::Acknowledged | State::Failed
            if s.passed(s.look().ends) && s.look().pending().is_none() =>
        {
            s.forget();
            return true;
        }
        _ => {}
    }
    if s.passed(s.look().fin_due) {
        if s.passed(s.look().fin_until) {
            s.change().fin_due = None;
            s.count("fin_given_up");
        } else {
            fin(s, false);
        }
        any = true;
    }
    if matches!(state, State::Answered | State::DeadLetter | State::Failed) && tell_due(s) {
        let flow = s.change();
        flow.tries += 1;
        flow.tell_due = None;
        tell(s, true);
        any = true;
    }
    any
}

fn tell_due(s: &Step<'_>) -> bool {
    s.passed(s.look().tell_due)
}

fn is_new(transmit: &Transmit) -> bool {
    transmit.message.kind() == Kind::New
}

fn not_sent(s: &mut Step<'_>, state: State, t: &Transmit) -> bool {
    let again = s.after(s.rules.policy.send_retry);
    let flow = s.look();
    if state == State::Sending && is_new(t) && t.attempt == flow.attempts {
        let left = flow.attempts - 1;
        if left == 0 {
            enter(s, State::Queued);
        }
        let flow = s.change();
        flow.attempts = left;
        flow.send_due = Some(again);
        return true;
    }
    let Message::Fin { hash, .. } = t.message else { return false };
    if flow.fin_until.is_none() || hash != flow.response_hash {
        return false;
    }
    let flow = s.change();
    flow.fin_at = t.prior_at;
    flow.fin_due = Some(again);
    true
}

// --- Failing ------------------------------------------------------------------------------------------

fn fail(s: &mut Step<'_>, failure: Failure) {
    let ends = s.after(s.rules.policy.retention);
    let flow = enter(s, State::Failed);
    flow.failure = Some(failure);
    flow.send_due = None;
    flow.ends = Some(ends);
    open_telling(s, false);
}

// --- ACK and FIN ----------------------------------------------------------------------------------------

fn received(s: &mut Step<'_>, state: State, r: &Received) -> bool {
    let Message::Ack { payload, hash, .. } = &r.message else { return false };
    if is_receipt(s, r, payload) {
        if s.look().is_unanswered() {
            let next = s.after(s.delay(s.look().attempts.max(1)));
            s.change().send_due = Some(next);
        }
        s.count("receipt");
        return true;
    }
    let flow = s.look();
    let right = hash.is_none() || *hash == Some(flow.payload_hash);
    match state {
        State::Queued | State::Sending | State::Corrupt => match hash {
            Some(wrong) if !right => {
                if flow.wrong.len() < MOST_WRONG_HASHES && !flow.wrong.contains(wrong) {
                    ask_about_ack(s, *wrong, payload);
                } else if state == State::Queued {
                    return false;
                } else {
                    s.count("wrong_hash_again");
                }
            }
            _ => answer_with(s, payload.clone()),
        },
        State::Answered | State::DeadLetter | State::Acknowledged => echo_fin(s, payload),
        State::Failed if flow.late => echo_fin(s, payload),
        State::Failed if right => take_late(s, payload),
        State::Failed => s.count("wrong_hash"),
        _ => return false,
    }
    true
}

fn is_receipt(s: &Step<'_>, r: &Received, payload: &Option<Blob>) -> bool {
    let is_null = match payload {
        None => true,
        Some(bytes) => bytes.is_empty() && r.dialect != Dialect::Unified,
    };
    is_null && s.rules.null_ack == NullAck::Receipt
}

/// Transmits FIN for what was accepted, or comes back to it if there is no room.
fn fin(s: &mut Step<'_>, echo: bool) {
    let (now, room) = (s.now, s.event.room);
    let again = s.after(s.rules.policy.send_retry);
    let flow = s.change();
    if !room {
        flow.fin_due = Some(again);
        return;
    }
    let transmit = Transmit {
        peer: flow.peer,
        dialect: flow.dialect,
        message: Message::Fin { msg_id: flow.msg_id, hash: flow.response_hash },
        attempt: 1,
        echo,
        prior_due: None,
        prior_at: flow.fin_at,
    };
    flow.fin_at = Some(now);
    flow.fin_due = None;
    s.effects.push(Effect::Transmit(transmit));
}

fn answer_with(s: &mut Step<'_>, response: Option<Blob>) {
    let until = s.after(s.rules.policy.linger);
    let flow = enter(s, State::Answered);
    flow.response_hash = Some(payload_hash(response.as_ref().map(|b| b.as_slice())));
    flow.response = response;
    flow.send_due = None;
    flow.ends = None;
    flow.fin_until = Some(until);
    fin(s, false);
    open_telling(s, false);
}

fn take_late(s: &mut Step<'_>, response: &Option<Blob>) {
    let now = s.now;
    let ends = s.after(s.rules.policy.retention);
    let until = s.after(s.rules.policy.linger);
    let flow = s.change();
    flow.changed = now;
    flow.late = true;
    flow.response_hash = Some(payload_hash(response.as_ref().map(|b| b.as_slice())));
    flow.response = response.clone();
    flow.ends = Some(ends);
    flow.fin_until = Some(until);
    let told = flow.told;
    fin(s, false);
    // Handed over as late, once the outcome was taken.
    if told {
        open_telling(s, false);
    }
}

fn echo_fin(s: &mut Step<'_>, payload: &Option<Blob>) {
    let policy = s.rules.policy;
    let until = s.after(policy.linger);
    let flow = s.look();
    let other = Some(payload_hash(payload.as_ref().map(|b| b.as_slice()))) != flow.response_hash;
    let rested = flow.fin_at.is_none_or(|at| s.now.saturating_sub(at) >= policy.echo_min);
    let left = flow.fin_echoes < policy.attempts.saturating_add(ECHOES_BEYOND_ATTEMPTS);
    if s.event.room && left && rested {
        let flow = s.change();
        flow.fin_echoes += 1;
        flow.fin_until = Some(until);
        fin(s, true);
    } else {
        s.count("echo_suppressed");
    }
    if other {
        s.count("other_payload");
    }
}

// --- Wrong hashes ---------------------------------------------------------------------------------------

fn ask_about_ack(s: &mut Step<'_>, wrong: u32, payload: &Option<Blob>) {
    if s.look().state != State::Corrupt {
        enter(s, State::Corrupt);
    }
    let flow = s.change();
    flow.wrong.push(wrong);
    flow.wrong_hash = Some(wrong);
    flow.wrong_payload = payload.clone();
    flow.tell_due = None;
    flow.tries = 1;
    ask(s);
}

fn ask(s: &mut Step<'_>) {
    let flow = s.look();
    let question = Ask {
        role: Role::Sender,
        peer: flow.peer,
        msg_id: flow.msg_id,
        kind: Kind::Ack,
        our_payload: flow.payload.clone(),
        their_payload: flow.wrong_payload.clone(),
        our_hash: flow.payload_hash,
        their_hash: flow.wrong_hash.unwrap_or_default(),
        decide: true,
        tries: flow.tries,
    };
    s.effects.push(Effect::Ask(question));
}

fn decided(s: &mut Step<'_>, decision: Decision) -> Decided {
    match decision {
        Decision::Resend => {
            enter(s, State::Sending);
        }
        Decision::Accept(wanted) => {
            let flow = s.look();
            if wanted != flow.wrong_hash {
                return Err(NotAllowed(format!(
                    "flow {} has no ACK with the hash {wanted:?} stored, but one with {:?}",
                    flow.msg_id, flow.wrong_hash
                )));
            }
            let response = flow.wrong_payload.clone();
            answer_with(s, response);
        }
        Decision::Abandon => {
            let until = s.after(s.rules.policy.linger);
            s.change().fin_until = Some(until);
            fin(s, false);
            fail(s, Failure::Corrupt);
        }
    }
    Ok(true)
}

// --- Telling ----------------------------------------------------------------------------------------------

fn is_open_telling(s: &Step<'_>, what: Telling, tries: u32) -> bool {
    s.look().pending() == Some(what) && s.look().tries == tries
}

fn tell(s: &mut Step<'_>, redelivered: bool) {
    let flow = s.look();
    let Some(what) = flow.pending() else { return };
    let failed = what == Telling::Failed;
    let told = Tell {
        role: Role::Sender,
        peer: flow.peer,
        msg_id: flow.msg_id,
        what,
        failure: if failed { flow.failure } else { None },
        response: if failed { None } else { flow.response.clone() },
        redelivered,
        tries: flow.tries,
    };
    s.effects.push(Effect::Tell(told));
}

fn open_telling(s: &mut Step<'_>, redelivered: bool) {
    let flow = s.change();
    flow.tries = 1;
    flow.tell_due = None;
    tell(s, redelivered);
}

fn tell_again_later(s: &mut Step<'_>) {
    let again = s.after(s.delay(s.look().tries));
    s.change().tell_due = Some(again);
}

fn handler_failed(s: &mut Step<'_>, state: State, of: Of) -> bool {
    match of {
        Of::Ask { their_hash, tries } if state == State::Corrupt => {
            let flow = s.look();
            if flow.wrong_hash != Some(their_hash) || flow.tries != tries {
                return false;
            }
            tell_again_later(s);
        }
        Of::Tell { what, tries } if is_open_telling(s, what, tries) => {
            if state == State::Answered && tries >= s.rules.policy.handler_attempts {
                bury(s);
            } else {
                tell_again_later(s);
            }
        }
        _ => return false,
    }
    true
}

fn take_telling(s: &mut Step<'_>) {
    let flow = s.change();
    if flow.told {
        flow.late_taken = true;
    } else {
        flow.told = true;
    }
    flow.tries = 0;
    flow.tell_due = None;
    // A late response that waited for this comes next.
    if flow.pending().is_some() {
        open_telling(s, false);
    }
}

fn acknowledge(s: &mut Step<'_>) {
    let ends = s.after(s.rules.policy.linger);
    let flow = enter(s, State::Acknowledged);
    flow.payload = None;
    flow.response = None;
    flow.told = true;
    flow.ends = Some(ends);
}

fn bury(s: &mut Step<'_>) {
    enter(s, State::DeadLetter);
    open_telling(s, false);
}

fn restart(s: &mut Step<'_>, state: State, share: u64) {
    if state == State::Corrupt && s.look().tell_due.is_none() {
        // The question was lost with the process: ask again after delay(n).
        tell_again_later(s);
    }
    let (now, later) = (s.now, s.spread(share));
    let flow = s.look();
    let overdue = |time: Option<u64>| time.is_some_and(|time| time <= now);
    let tell = (flow.tell_due.is_none() && flow.pending().is_some()) || overdue(flow.tell_due);
    let (send, fin) = (overdue(flow.send_due), overdue(flow.fin_due));
    if tell {
        s.change().tell_due = Some(later);
    }
    if send {
        s.change().send_due = Some(later);
    }
    if fin {
        s.change().fin_due = Some(later);
    }
}
