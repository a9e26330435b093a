//! The two tables with something wrong around them.

use std::cell::Cell;

use async_flow::event::{Effect, Event, NotAllowed, Received, What};
use async_flow::flow::{ReceiverFlow, SenderFlow};
use async_flow::message::{payload_hash, Blob, Kind, Message};
use async_flow::policy::Policy;
use async_flow::step::{Rules, Transition};
use async_flow::words::{classify, Class, Failure, State, Telling};
use async_flow::{receiver, sender};

use crate::dead;
use crate::faults::{has, Fault};
use crate::wire;

/// Flows that are served while `stops_at_fifty`, and rightly while `wrong_after_fifty`.
const FIFTY: u32 = 50;
/// Bytes of a payload that is taken while `small_only`.
const SMALL: usize = 1_000_000;

thread_local! {
    /// Flows that came to be since the canister started.
    static OPENED: Cell<u32> = const { Cell::new(0) };
    /// When this start began after an upgrade; 0: it was no upgrade.
    static UPGRADED: Cell<u64> = const { Cell::new(0) };
    /// Lag of observed time when it last grew, and when that was.
    static STOOD: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

/// Says that the canister was upgraded just now.
pub fn upgraded(now: u64) {
    UPGRADED.set(now);
}

type Stepped<F> = Result<Transition<F>, NotAllowed>;

fn unchanged<F>(flow: Option<F>) -> Stepped<F> {
    Ok(Transition { flow, changed: false, effects: Vec::new() })
}

fn forgotten<F>() -> Stepped<F> {
    Ok(Transition { flow: None, changed: true, effects: Vec::new() })
}

fn is_full() -> bool {
    has(Fault::stops_at_fifty) && OPENED.get() >= FIFTY
}

fn has_lost_timer(what: &What, changed: u64) -> bool {
    has(Fault::loses_timers) && matches!(what, What::Due) && changed < UPGRADED.get()
}

/// The settings as they are taken here.
fn twisted(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    if has(Fault::no_echo_limit) {
        policy.echo_min = 0;
    }
    policy
}

fn null_is_empty(response: &mut Option<Blob>) {
    if has(Fault::null_as_empty) {
        response.get_or_insert_default();
    }
}

/// Takes over the transmissions that are made here.
fn take_over(effects: &mut Vec<Effect>) {
    effects.retain(|effect| match effect {
        Effect::Transmit(t) if wire::is_ours(t) => {
            wire::send(t);
            false
        }
        _ => true,
    });
}

fn is_transmission(effect: &Effect, kind: Kind, echo: bool) -> bool {
    matches!(effect, Effect::Transmit(t) if t.message.kind() == kind && t.echo == echo)
}

// --- The sender -----------------------------------------------------------------------------------------

/// The sender's table.
pub fn sender_step(
    mut flow: Option<SenderFlow>,
    event: &Event,
    now: u64,
    rules: Rules<'_>,
) -> Stepped<SenderFlow> {
    let (mut event, mut policy) = (event.clone(), twisted(rules.policy));
    if has(Fault::retries_for_ever) {
        policy.attempts = u32::MAX;
    }
    if has(Fault::retries_for_ever) || has(Fault::sends_after_lifetime) {
        policy.lifetime = u64::MAX;
    }
    match &mut flow {
        None => {
            if let Some(stepped) = without_sender_flow(&mut event) {
                return stepped;
            }
        }
        Some(flow) => {
            if let Some(stepped) = with_sender_flow(flow, &mut event, &policy) {
                return stepped;
            }
        }
    }
    let came = flow.is_none();
    let mut t = sender::step(flow, &event, now, Rules { policy: &policy, ..rules })?;
    if came && t.flow.is_some() {
        if is_full() {
            // It is stored and never served.
            hold_back(&mut t);
        }
        OPENED.set(OPENED.get() + 1);
    }
    after_sender_step(&mut t, &event);
    Ok(t)
}

fn hold_back(t: &mut Transition<SenderFlow>) {
    if let Some(flow) = &mut t.flow {
        flow.send_due = None;
        flow.ends = None;
        flow.due = None;
    }
}

fn without_sender_flow(event: &mut Event) -> Option<Stepped<SenderFlow>> {
    match &event.what {
        What::Received(Received { message: Message::Ack { .. }, caller, .. }) => {
            if has(Fault::silent_to_unknown) {
                return Some(unchanged(None));
            }
            event.room |= has(Fault::answers_all_unknown) && classify(caller) == Class::Canister;
        }
        What::Send { payload, .. } if has(Fault::small_only) && payload.len() > SMALL => {
            return Some(Err(NotAllowed("too large for this canister".to_string())));
        }
        _ => {}
    }
    None
}

fn with_sender_flow(
    flow: &mut SenderFlow,
    event: &mut Event,
    policy: &Policy,
) -> Option<Stepped<SenderFlow>> {
    if has_lost_timer(&event.what, flow.changed) {
        flow.due = None;
        return Some(Ok(Transition {
            flow: Some(flow.clone()),
            changed: true,
            effects: Vec::new(),
        }));
    }
    event.room |= has(Fault::ignores_in_flight);
    if has(Fault::no_echo_limit) {
        flow.fin_echoes = 0;
    }
    if flow.is_unanswered() && policy.lifetime == u64::MAX {
        flow.ends = None;
    }
    match &mut event.what {
        What::Received(r) => {
            if has(Fault::believes_any_ack) {
                r.caller = flow.peer;
            }
            if has(Fault::drops_late) && flow.state == State::Failed {
                return Some(unchanged(Some(flow.clone())));
            }
            if let Message::Ack { payload, hash, .. } = &mut r.message {
                null_is_empty(payload);
                if has(Fault::believes_any_ack_hash) {
                    *hash = None;
                }
            }
            if has(Fault::asks_again_and_again) {
                flow.wrong.clear();
            }
        }
        What::NotSent(t) if t.message.kind() == Kind::New && has(Fault::fails_when_not_sent) => {
            event.what = What::Refused(t.clone());
        }
        What::Cancel if flow.state == State::Sending && has(Fault::cancels_as_unsent) => {
            flow.state = State::Queued;
        }
        What::Restarted { .. } if has(Fault::loses_tellings) => match flow.state {
            State::Answered => event.what = What::Finish,
            State::Failed => {
                flow.told = true;
                flow.late_taken = true;
            }
            _ => {}
        },
        _ => {}
    }
    None
}

fn after_sender_step(t: &mut Transition<SenderFlow>, event: &Event) {
    take_over(&mut t.effects);
    t.effects.retain(|effect| {
        let silent = match effect {
            Effect::Tell(told) => told.what == Telling::Failed && has(Fault::tells_no_failure),
            Effect::Transmit(_) => {
                let fin = is_transmission(effect, Kind::Fin, false);
                let echo = is_transmission(effect, Kind::Fin, true);
                (has(Fault::sends_no_fin) && (fin || echo)) || (has(Fault::echoes_no_fin) && echo)
            }
            _ => false,
        };
        !silent
    });
    let Some(flow) = &mut t.flow else { return };
    match flow.state {
        State::DeadLetter if has(Fault::forgets_dead_letters) => {
            t.effects.clear();
            t.flow = None;
        }
        State::Failed => {
            if has(Fault::fails_as_unsent) && flow.failure == Some(Failure::Unknown) {
                flow.failure = Some(Failure::Unsent);
                for effect in &mut t.effects {
                    if let Effect::Tell(told) = effect {
                        told.failure = flow.failure;
                    }
                }
            }
            if has(Fault::tells_no_failure) && !flow.told {
                flow.tell_due = None;
                flow.due = flow.next_due();
            }
            if has(Fault::keeps_dead_news) && !matches!(event.what, What::Received(_)) {
                dead::keep(flow);
            }
        }
        State::Sending if flow.attempts >= 1 && has(Fault::never_retries) => {
            flow.send_due = None;
            flow.due = flow.next_due();
        }
        _ => {}
    }
}

// --- The receiver ---------------------------------------------------------------------------------------

/// The receiver's table.
pub fn receiver_step(
    flow: Option<ReceiverFlow>,
    event: &Event,
    now: u64,
    rules: Rules<'_>,
) -> Stepped<ReceiverFlow> {
    let (mut event, mut policy) = (event.clone(), twisted(rules.policy));
    if has(Fault::acks_for_ever) {
        policy.attempts = u32::MAX;
        policy.lifetime = u64::MAX;
    }
    let stood = match STOOD.get() {
        None => 0,
        Some((lag, _)) if event.lag > lag => now,
        Some((_, since)) => since,
    };
    STOOD.set(Some((event.lag, stood)));
    if has(Fault::tombstones_age_by_clock) {
        event.lag = 0;
    }
    let mut flow = flow;
    if let Some(known) = &mut flow {
        if has_lost_timer(&event.what, known.changed) {
            known.due = None;
            return Ok(Transition { flow, changed: true, effects: Vec::new() });
        }
        if has(Fault::forgets_at_standstill) && known.changed < stood {
            match event.what {
                What::Received(_) => flow = None,
                _ => return forgotten(),
            }
        }
    }
    if let Some(known) = &mut flow {
        match known_flow(known, &mut event) {
            Fate::Stays => {}
            Fate::Unchanged => return unchanged(flow),
            Fate::Anew => flow = None,
            Fate::Forgotten => return forgotten(),
        }
    }
    if flow.is_none() {
        admit(&mut event);
    }
    let came = flow.is_none();
    let mut t = receiver::step(flow, &event, now, Rules { policy: &policy, ..rules })?;
    if came && t.flow.is_some() {
        OPENED.set(OPENED.get() + 1);
    }
    after_receiver_step(&mut t);
    Ok(t)
}

/// What becomes of a known flow before its table is asked.
enum Fate {
    Stays,
    Unchanged,
    Anew,
    Forgotten,
}

fn known_flow(flow: &mut ReceiverFlow, event: &mut Event) -> Fate {
    if has(Fault::no_echo_limit) {
        flow.ack_echoes = 0;
        event.room = true;
    }
    match &mut event.what {
        What::Received(r) => match &mut r.message {
            Message::New { payload, .. } => {
                let same = payload_hash(Some(payload)) == flow.payload_hash;
                if same && has(Fault::ignores_repeats) {
                    return Fate::Unchanged;
                }
                let anew = if same { Fault::processes_repeats } else { Fault::replaces_payload };
                if has(anew) {
                    (r.paid, r.listed, r.floor) = (flow.paid, flow.listed, flow.floor);
                    return Fate::Anew;
                }
            }
            Message::Fin { hash, .. } if has(Fault::believes_any_fin_hash) => *hash = None,
            _ => {}
        },
        What::NotSent(t) if t.message.kind() == Kind::Ack && has(Fault::acks_once) => {
            return Fate::Unchanged;
        }
        What::HandlerFailed(_) | What::Restarted { .. }
            if flow.state == State::Processing && has(Fault::forgets_interrupted) =>
        {
            return Fate::Forgotten;
        }
        What::Answer { response, .. } => {
            null_is_empty(response);
            if has(Fault::wrong_after_fifty) && OPENED.get() > FIFTY {
                *response = Some(b"wrong".to_vec().into());
            }
            if has(Fault::answers_twice) {
                flow.state = State::Processing;
            }
        }
        _ => {}
    }
    Fate::Stays
}

fn admit(event: &mut Event) {
    let What::Received(r) = &mut event.what else { return };
    let Message::New { payload, .. } = &r.message else { return };
    let ignored = match r.refused.as_deref() {
        Some("horizon" | "future") => has(Fault::ignores_ulid_time),
        Some(reason) => reason.starts_with("quota") && has(Fault::no_quotas),
        None => false,
    };
    if ignored {
        r.refused = None;
    }
    if (has(Fault::small_only) && payload.len() > SMALL) || is_full() {
        r.refused = Some("full".to_string());
    }
}

fn after_receiver_step(t: &mut Transition<ReceiverFlow>) {
    take_over(&mut t.effects);
    if has(Fault::acks_once) {
        t.effects.retain(|effect| !is_transmission(effect, Kind::Ack, true));
        if let Some(flow) = &mut t.flow {
            if flow.attempts > 0 && flow.send_due.take().is_some() {
                t.changed = true;
                flow.due = flow.ends;
            }
        }
    }
    let finished = t.flow.as_ref().is_some_and(|flow| flow.state == State::Finished);
    if finished && has(Fault::forgets_at_fin) {
        t.flow = None;
    }
}
