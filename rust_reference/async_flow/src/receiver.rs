//! The receiver's table as a pure function, to be read beside the protocol page's section Receiver.
//!
//! Every (state, event) pair has a row here or is ignored and counted; `match` makes that total.

use crate::event::{
    Ask, Decision, Effect, Event, HandOver, NotAllowed, Of, Received, Tell, Transmit, What,
};
use crate::flow::ReceiverFlow;
use crate::message::{payload_hash, Blob, Kind, Message};
use crate::step::{Decided, Rules, Transition, ECHOES_BEYOND_ATTEMPTS, MOST_WRONG_HASHES};
use crate::words::{Role, State, Telling};

type Step<'a> = crate::step::Step<'a, ReceiverFlow>;

/// What decides a step: [`step`], or a function around it.
pub type Table = fn(
    Option<ReceiverFlow>,
    &Event,
    u64,
    Rules<'_>,
) -> Result<Transition<ReceiverFlow>, NotAllowed>;

/// Decides one event on one flow that a peer opened.
///
/// # Errors
/// If the application asked for what the state does not allow; nothing changes. What a peer sends
/// never gives an error.
pub fn step(
    flow: Option<ReceiverFlow>,
    event: &Event,
    now: u64,
    rules: Rules<'_>,
) -> Result<Transition<ReceiverFlow>, NotAllowed> {
    let mut s = Step::new(flow, event, now, rules);
    let is_strange = match (&s.flow, &event.what) {
        (Some(flow), What::Received(r)) => r.caller != flow.peer,
        _ => false,
    };
    if is_strange {
        s.count("spoofed");
        return Ok(Transition { flow: s.flow, changed: false, effects: s.effects });
    }
    if !rows(&mut s)? {
        without_row(&mut s)?;
    }
    if let Some(flow) = &mut s.flow {
        let due = flow.next_due(event.lag);
        s.changed |= due != flow.due;
        flow.due = due;
    }
    Ok(Transition { flow: s.flow, changed: s.changed, effects: s.effects })
}

/// Whether a pending handing over, telling or question is still wanted, right before it is carried out:
/// one whose flow has left that state and try is dropped.
pub fn is_open(flow: Option<&ReceiverFlow>, of: Of) -> bool {
    match (of, flow) {
        // Told when nothing is stored any more.
        (Of::Tell { what: Telling::Forgotten, .. }, _) => true,
        (_, None) => false,
        (Of::Tell { what, tries }, Some(flow)) => {
            flow.pending() == Some(what) && flow.tries == tries
        }
        (Of::HandOver { tries }, Some(flow)) => {
            flow.state == State::Processing && flow.tries == tries
        }
        (Of::Ask { .. }, Some(_)) => true,
    }
}

/// Whether [`step`] looks at what the flow carries, its payload or response. If not, it decides the same
/// of a flow that carries empty strings in their places, and leaves or drops them.
pub fn looks_inside(flow: &ReceiverFlow, event: &Event, now: u64) -> bool {
    match &event.what {
        What::Due if flow.state == State::Acknowledging => {
            event.room || flow.ends.is_some_and(|ends| ends <= now) || flow.send_due.is_none()
        }
        What::Due => flow.state != State::Finished,
        What::Received(r) => match &r.message {
            Message::Fin { hash, .. } => hash.is_some() && *hash != flow.response_hash,
            _ => true,
        },
        What::Answer { .. } | What::FailedForGood { .. } => false,
        What::Deferred | What::NotSent(_) => false,
        _ => true,
    }
}

fn rows(s: &mut Step<'_>) -> Decided {
    let event = s.event;
    let Some(state) = s.flow.as_ref().map(|flow| flow.state) else {
        return without_flow(s);
    };
    let without_answer = matches!(state, State::Processing | State::Stalled);
    let answered = matches!(state, State::Acknowledging | State::Abandoned);
    match &event.what {
        What::Received(r) => Ok(received(s, state, r)),
        What::Answer { response, fits } | What::FailedForGood { response, fits } => {
            answer(s, without_answer, response, *fits)
        }
        What::FailedForNow if without_answer => {
            forget_for_retry(s);
            Ok(true)
        }
        What::Rerun if state == State::Stalled => {
            run_again(s);
            Ok(true)
        }
        What::Deferred if state == State::Processing => {
            s.change().deferred = true;
            Ok(true)
        }
        What::Restarted { share } => {
            match state {
                State::Processing if s.look().deferred => restart(s, *share),
                State::Processing if may_rerun(s) => run_again(s),
                State::Processing => enter_tombstone_and_tell(s, State::Stalled),
                _ => restart(s, *share),
            }
            Ok(true)
        }
        What::HandlerFailed(of) => Ok(handler_failed(s, state, *of)),
        What::Due => Ok(due(s, state)),
        What::NotSent(t) => Ok(not_sent(s, state, t)),
        What::Refused(t) if state == State::Acknowledging && is_ack(t) => {
            enter_tombstone_and_tell(s, State::Abandoned);
            Ok(true)
        }
        What::Decided(decision) if answered => {
            match decision {
                Decision::Accept(_) => finish(s),
                Decision::Resend => echo_ack(s),
                Decision::Abandon if state == State::Acknowledging => {
                    enter_tombstone_and_tell(s, State::Abandoned);
                }
                Decision::Abandon => s.count("ignored"),
            }
            Ok(true)
        }
        What::Returned { what, tries } => Ok(is_open_telling(s, *what, *tries) && {
            let flow = s.change();
            flow.told = true;
            flow.tries = 0;
            flow.tell_due = None;
            true
        }),
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
        What::Received(r) => {
            match (&r.message, &r.refused) {
                (Message::New { .. }, Some(reason)) => s.count(&format!("refused.{reason}")),
                (Message::New { msg_id, payload }, None) => admit(s, r, *msg_id, payload),
                (Message::Fin { .. }, _) => s.count("unknown_fin"),
                (Message::Ack { .. }, _) => return Ok(false),
            }
            Ok(true)
        }
        What::Answer { .. } | What::FailedForGood { .. } => Err(NotAllowed(
            "there is no such flow to answer: it was forgotten, or never came".to_string(),
        )),
        _ => Ok(false),
    }
}

/// Changes the state; what belongs to the state that is left goes with it.
fn enter<'s>(s: &'s mut Step<'_>, state: State) -> &'s mut ReceiverFlow {
    let now = s.now;
    let flow = s.change();
    flow.state = state;
    flow.changed = now;
    flow.tell_due = None;
    flow.tries = 0;
    flow.told = false;
    flow.send_due = None;
    flow
}

/// Enters a state that is kept for `horizon` of observed time. A shorter horizon than the one in force
/// when the flow came does not hold for it.
fn enter_tombstone<'s>(s: &'s mut Step<'_>, state: State) -> &'s mut ReceiverFlow {
    let observed = s.now.saturating_sub(s.event.lag);
    let horizon = s.rules.policy.horizon;
    let flow = enter(s, state);
    let kept = flow.horizon.max(horizon);
    flow.ends = Some(observed.max(flow.floor).saturating_add(kept));
    flow
}

fn enter_tombstone_and_tell(s: &mut Step<'_>, state: State) {
    enter_tombstone(s, state).tries = 1;
    tell(s, false);
}

// --- Admitting and handing over ---------------------------------------------------------------------

fn admit(s: &mut Step<'_>, r: &Received, msg_id: u128, payload: &Blob) {
    let policy = s.rules.policy;
    s.store(ReceiverFlow {
        peer: r.caller,
        msg_id,
        dialect: r.dialect,
        state: State::Processing,
        payload: Some(payload.clone()),
        payload_hash: payload_hash(Some(payload)),
        response: None,
        response_hash: None,
        attempts: 0,
        opened: s.now,
        changed: s.now,
        ends: Some(s.after(policy.answer_within)),
        send_due: None,
        tell_due: None,
        tries: 1,
        told: false,
        ack_at: None,
        ack_echoes: 0,
        wrong_news: Vec::new(),
        wrong_fins: Vec::new(),
        deferred: false,
        paid: r.paid,
        listed: r.listed,
        horizon: policy.horizon,
        floor: r.floor,
        due: None,
    });
    hand_over(s, false);
}

fn hand_over(s: &mut Step<'_>, redelivered: bool) {
    let flow = s.look();
    let handed = HandOver {
        peer: flow.peer,
        msg_id: flow.msg_id,
        payload: flow.payload.clone().unwrap_or_default(),
        hash: flow.payload_hash,
        redelivered,
        tries: flow.tries,
    };
    s.effects.push(Effect::HandOver(handed));
}

fn may_rerun(s: &Step<'_>) -> bool {
    s.rules.rerun && s.look().tries < s.rules.policy.handler_attempts
}

fn run_again(s: &mut Step<'_>) {
    let ends = s.after(s.rules.policy.answer_within);
    if s.look().state == State::Stalled {
        enter(s, State::Processing).deferred = false;
    }
    let flow = s.change();
    flow.tries += 1;
    flow.ends = Some(ends);
    hand_over(s, true);
}

fn handler_failed(s: &mut Step<'_>, state: State, of: Of) -> bool {
    match of {
        Of::HandOver { tries } if state == State::Processing && tries == s.look().tries => {
            if may_rerun(s) {
                run_again(s);
            } else {
                enter_tombstone_and_tell(s, State::Stalled);
            }
        }
        Of::Tell { what, tries } if is_open_telling(s, what, tries) => {
            let again = s.after(s.delay(tries));
            s.change().tell_due = Some(again);
        }
        _ => return false,
    }
    true
}

// --- The answer -----------------------------------------------------------------------------------------

fn answer(s: &mut Step<'_>, without_answer: bool, response: &Option<Blob>, fits: bool) -> Decided {
    let policy = s.rules.policy;
    let flow = s.look();
    if !without_answer {
        return Err(NotAllowed(format!(
            "flow {} has its answer already; the first one stands",
            flow.msg_id
        )));
    }
    let size = response.as_ref().map_or(0, |bytes| bytes.len() as u64);
    if !fits || size > policy.max_response {
        return Err(NotAllowed(format!(
            "an answer of {size} bytes to flow {} cannot be stored: it exceeds {}, or there is no room",
            flow.msg_id, policy.max_response
        )));
    }
    let ends = s.after(policy.lifetime);
    let flow = enter(s, State::Acknowledging);
    flow.response_hash = Some(payload_hash(response.as_ref().map(|b| b.as_slice())));
    flow.response = response.clone();
    flow.ends = Some(ends);
    transmit_or_wait(s);
    Ok(true)
}

fn forget_for_retry(s: &mut Step<'_>) {
    let until = s.after(s.rules.policy.lifetime);
    let flow = s.look();
    if flow.paid {
        // Its retry is not charged again.
        let mark = Effect::RememberPaid { peer: flow.peer, msg_id: flow.msg_id, until };
        s.effects.push(mark);
    }
    s.forget();
}

fn transmit(s: &mut Step<'_>, attempt: u32, echo: bool) {
    let flow = s.look();
    let transmit = Transmit {
        peer: flow.peer,
        dialect: flow.dialect,
        message: Message::Ack {
            msg_id: flow.msg_id,
            payload: flow.response.clone(),
            hash: Some(flow.payload_hash),
        },
        attempt,
        echo,
        prior_due: if echo { flow.send_due } else { None },
        prior_at: flow.ack_at,
    };
    s.effects.push(Effect::Transmit(transmit));
}

fn transmit_or_wait(s: &mut Step<'_>) {
    if !s.event.room {
        let again = s.after(s.rules.policy.send_retry);
        s.change().send_due = Some(again);
        return;
    }
    let n = s.look().attempts + 1;
    transmit(s, n, false);
    let (now, next) = (s.now, s.after(s.delay(n)));
    let flow = s.change();
    flow.attempts = n;
    flow.send_due = Some(next);
    flow.ack_at = Some(now);
}

fn is_ack(transmit: &Transmit) -> bool {
    transmit.message.kind() == Kind::Ack
}

fn not_sent(s: &mut Step<'_>, state: State, t: &Transmit) -> bool {
    let again = s.after(s.rules.policy.send_retry);
    if !is_ack(t) || t.attempt != s.look().attempts {
        return false;
    }
    match state {
        State::Acknowledging | State::Abandoned if t.echo => {
            // An echo that is not sent moves nothing.
            let flow = s.change();
            flow.ack_at = t.prior_at;
            flow.ack_echoes = flow.ack_echoes.saturating_sub(1);
            if flow.send_due.is_some() {
                flow.send_due = t.prior_due;
            }
        }
        State::Acknowledging => {
            let flow = s.change();
            flow.attempts -= 1;
            flow.ack_at = t.prior_at;
            flow.send_due = Some(again);
        }
        _ => return false,
    }
    true
}

fn echo_ack(s: &mut Step<'_>) {
    let policy = s.rules.policy;
    let flow = s.look();
    let rested = flow.ack_at.is_none_or(|at| s.now.saturating_sub(at) >= policy.echo_min);
    let left = flow.ack_echoes < policy.attempts.saturating_add(ECHOES_BEYOND_ATTEMPTS);
    if !(s.event.room && left && rested) {
        s.count("echo_suppressed");
        return;
    }
    let attempts = flow.attempts;
    transmit(s, attempts, true);
    let (now, next) = (s.now, s.after(s.delay(attempts.max(1))));
    let flow = s.change();
    flow.ack_at = Some(now);
    flow.ack_echoes += 1;
    if flow.send_due.is_some() {
        flow.send_due = Some(next);
    }
}

// --- Messages ---------------------------------------------------------------------------------------------

fn received(s: &mut Step<'_>, state: State, r: &Received) -> bool {
    match &r.message {
        Message::New { payload, .. } => new_again(s, state, payload),
        Message::Fin { hash, .. } => match state {
            State::Acknowledging | State::Abandoned => fin(s, *hash),
            _ => s.count("fin_ignored"),
        },
        Message::Ack { .. } => return false,
    }
    true
}

fn new_again(s: &mut Step<'_>, state: State, payload: &Blob) {
    let theirs = payload_hash(Some(payload));
    let flow = s.look();
    if theirs == flow.payload_hash {
        match state {
            State::Acknowledging | State::Abandoned => echo_ack(s),
            _ => s.count("repeated"),
        }
    } else if flow.wrong_news.len() < MOST_WRONG_HASHES && !flow.wrong_news.contains(&theirs) {
        let news = Ask {
            role: Role::Receiver,
            peer: flow.peer,
            msg_id: flow.msg_id,
            kind: Kind::New,
            our_payload: flow.payload.clone(),
            their_payload: Some(payload.clone()),
            our_hash: flow.payload_hash,
            their_hash: theirs,
            decide: false,
            tries: 1,
        };
        s.change().wrong_news.push(theirs);
        s.effects.push(Effect::Ask(news));
    } else {
        s.count("wrong_hash_again");
    }
}

fn fin(s: &mut Step<'_>, hash: Option<u32>) {
    let flow = s.look();
    match hash {
        Some(wrong) if Some(wrong) != flow.response_hash => {
            if flow.wrong_fins.len() >= MOST_WRONG_HASHES || flow.wrong_fins.contains(&wrong) {
                return s.count("wrong_hash_again");
            }
            let question = Ask {
                role: Role::Receiver,
                peer: flow.peer,
                msg_id: flow.msg_id,
                kind: Kind::Fin,
                our_payload: flow.response.clone(),
                their_payload: None,
                our_hash: flow.response_hash.unwrap_or_default(),
                their_hash: wrong,
                decide: true,
                tries: 1,
            };
            s.change().wrong_fins.push(wrong);
            s.effects.push(Effect::Ask(question));
        }
        _ => finish(s),
    }
}

fn finish(s: &mut Step<'_>) {
    let flow = enter_tombstone(s, State::Finished);
    flow.payload = None;
    flow.response = None;
}

// --- Due times, telling, ends -------------------------------------------------------------------------------

fn due(s: &mut Step<'_>, state: State) -> bool {
    let policy = s.rules.policy;
    let over = s.passed(s.look().ends);
    match state {
        State::Processing if over => enter_tombstone_and_tell(s, State::Stalled),
        State::Acknowledging => {
            let send_due = s.passed(s.look().send_due);
            if over || (send_due && s.look().attempts >= policy.attempts) {
                enter_tombstone_and_tell(s, State::Abandoned);
            } else if send_due {
                transmit_or_wait(s);
            } else {
                return false;
            }
        }
        State::Stalled | State::Abandoned | State::Finished => {
            let observed = s.now.saturating_sub(s.event.lag);
            if s.look().ends.is_some_and(|ends| observed >= ends) {
                if state == State::Stalled {
                    let flow = s.look();
                    let told = Tell {
                        role: Role::Receiver,
                        peer: flow.peer,
                        msg_id: flow.msg_id,
                        what: Telling::Forgotten,
                        failure: None,
                        response: None,
                        redelivered: false,
                        tries: 1,
                    };
                    s.effects.push(Effect::Tell(told));
                }
                s.forget();
            } else if state != State::Finished && s.passed(s.look().tell_due) {
                let flow = s.change();
                flow.tries += 1;
                flow.tell_due = None;
                tell(s, true);
            } else {
                return false;
            }
        }
        _ => return false,
    }
    true
}

fn is_open_telling(s: &Step<'_>, what: Telling, tries: u32) -> bool {
    s.look().pending() == Some(what) && s.look().tries == tries
}

fn tell(s: &mut Step<'_>, redelivered: bool) {
    let flow = s.look();
    let Some(what) = flow.pending() else { return };
    let told = Tell {
        role: Role::Receiver,
        peer: flow.peer,
        msg_id: flow.msg_id,
        what,
        failure: None,
        response: flow.response.clone(),
        redelivered,
        tries: flow.tries,
    };
    s.effects.push(Effect::Tell(told));
}

fn restart(s: &mut Step<'_>, share: u64) {
    let (now, later) = (s.now, s.spread(share));
    let flow = s.look();
    let overdue = |time: Option<u64>| time.is_some_and(|time| time <= now);
    let tell = (flow.tell_due.is_none() && flow.pending().is_some()) || overdue(flow.tell_due);
    let send = overdue(flow.send_due);
    if tell {
        s.change().tell_due = Some(later);
    }
    if send {
        s.change().send_due = Some(later);
    }
}
