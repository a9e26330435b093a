//! `chaos`: stands between two peers that each take it for the other, and plays faults by a plan
//! (`candid/chaos.did`), on any replica.
//!
//! It passes arguments on as they came, byte for byte, unless the plan says otherwise. It knows messages
//! and dialects, and nothing of flows.

mod plan;
mod store;

use std::cell::RefCell;
use std::time::Duration;

use async_flow::dialect;
use async_flow::message::{payload_hash, Message};
use candid::{CandidType, Deserialize};
use ic_cdk::api::{is_controller, msg_caller, msg_cycles_accept, msg_cycles_available, time};
use ic_cdk::call::Call;
use ic_cdk_timers::TimerId;

use crate::plan::{corrupted, Fault, Kind, Plan};
use crate::store::{with, Entry, Passing, What, MOST_HELD};

/// The longest that a call may stay unanswered (seconds).
const CALL_TIMEOUT: u32 = 300;
const PAGE_ENTRIES: usize = 2_000;
/// Held messages that one message of this canister lets go.
const TICK_MESSAGES: usize = 100;

// --- Life cycle ---------------------------------------------------------------------------------------

#[ic_cdk::init]
fn init(plan: Option<Plan>) {
    if let Some(plan) = plan {
        if let Err(reason) = set_plan(plan) {
            ic_cdk::trap(format!("bad install argument: {reason}"));
        }
    }
}

#[ic_cdk::pre_upgrade]
fn save() {
    with(store::Store::save);
}

#[ic_cdk::post_upgrade]
fn resume(plan: Option<Plan>) {
    init(plan);
    arm();
}

/// Ingress of strangers costs no cycles.
#[ic_cdk::inspect_message]
fn inspect() {
    if readers_only().is_ok() {
        ic_cdk::api::accept_message();
    }
}

fn controllers_only() -> Result<(), String> {
    is_controller(&msg_caller())
        .then_some(())
        .ok_or("only controllers may set the plan".to_string())
}

fn readers_only() -> Result<(), String> {
    let who = msg_caller();
    let listed = with(|s| s.meta.plan.as_ref().is_some_and(|plan| plan.monitors.contains(&who)));
    (listed || is_controller(&who))
        .then_some(())
        .ok_or("only controllers and the plan's monitors may read this".to_string())
}

// --- The plan -----------------------------------------------------------------------------------------------

fn set_plan(plan: Plan) -> Result<(), String> {
    match plan.flaw() {
        Some(flaw) => Err(flaw),
        None => {
            with(|s| s.set_plan(plan));
            Ok(())
        }
    }
}

#[derive(CandidType)]
#[allow(non_camel_case_types)]
enum Planned {
    ok,
    err(String),
}

#[ic_cdk::update(guard = "controllers_only", hidden = true)]
fn chaos_plan(plan: Plan) -> Planned {
    match set_plan(plan) {
        Ok(()) => Planned::ok,
        Err(flaw) => Planned::err(flaw),
    }
}

#[derive(CandidType, Deserialize)]
struct Page {
    after: u64,
    limit: u32,
}

#[ic_cdk::query(guard = "readers_only", hidden = true)]
fn chaos_log(page: Page) -> Vec<Entry> {
    let Some(first) = page.after.checked_add(1) else { return Vec::new() };
    let most = PAGE_ENTRIES.min(page.limit as usize);
    with(|s| s.log.range(first..).take(most).map(|entry| entry.value()).collect())
}

#[derive(CandidType)]
struct Status {
    plan: Option<Plan>,
    held: u64,
    logged: u64,
    counters: Vec<(String, u64)>,
}

#[ic_cdk::query(guard = "readers_only", hidden = true)]
fn chaos_status() -> Status {
    with(|s| Status {
        plan: s.meta.plan.clone(),
        held: s.held.len(),
        logged: s.log.len(),
        counters: s.meta.counters.iter().map(|(name, n)| (name.clone(), *n)).collect(),
    })
}

// --- What passes -----------------------------------------------------------------------------------------------

fn raw(arg: Vec<u8>) -> Vec<u8> {
    arg
}

macro_rules! passes {
    ($($method:ident),*) => {
        $(#[allow(non_snake_case)]
        #[ic_cdk::update(hidden = true, decode_with = "raw", manual_reply = true)]
        fn $method(arg: Vec<u8>) {
            if pass(stringify!($method), arg) {
                // No values in Candid.
                ic_cdk::api::msg_reply(b"DIDL\0\0");
            } else {
                ic_cdk::api::msg_reject("this call is rejected by plan");
            }
        })*
    };
}

passes!(
    asyncFlow,
    asyncFlow_batch,
    com_asyncFlow_newMessage,
    com_asyncFlow_ack,
    com_asyncFlow_fin,
    com_asyncFlow_ackack,
    com_asyncFlow_finish
);

/// Lets the plan decide about one call; false: it is to be rejected.
fn pass(method: &str, arg: Vec<u8>) -> bool {
    let Some(plan) = with(|s| s.meta.plan.clone()) else {
        with(|s| s.count("refused.no_plan"));
        return false;
    };
    let Some((from, to)) = plan.route(msg_caller()) else {
        with(|s| s.count("refused.caller"));
        return false;
    };
    let read = dialect::dialect_of(method, &arg)
        .ok()
        .and_then(|dialect| Some((dialect, dialect::message_from(dialect, method, &arg).ok()?)));
    let kind = read.as_ref().map(|(_, message)| Kind::from(message));
    let now = time();
    let nth = with(|s| s.number(from, kind));
    let mut luck = plan.luck(from, kind, nth);
    let mut fault = plan.fault(from, kind, nth, &mut luck);
    let is_held = matches!(fault, Some(Fault::Delay(_) | Fault::Reorder));
    if is_held && with(|s| s.held.len() >= MOST_HELD) {
        with(|s| s.count("held_full"));
        fault = None;
    }
    let message = read.as_ref().map(|(_, message)| message);
    let line = Entry {
        seq: 0,
        time: now,
        from,
        kind,
        nth,
        what: What::left,
        method: method.to_string(),
        dialect: read.as_ref().map(|(dialect, _)| *dialect),
        msg_id: message.map(Message::msg_id),
        hash: match message {
            Some(Message::Ack { hash, .. } | Message::Fin { hash, .. }) => *hash,
            _ => None,
        },
        payload_hash: message.and_then(Message::payload).map(|bytes| payload_hash(Some(bytes))),
        size: arg.len() as u64,
    };
    with(|s| s.write(line.clone(), now, What::came(fault)));
    if fault == Some(Fault::Reject) {
        with(|s| s.count("rejected"));
        return false;
    }
    if fault == Some(Fault::Lose) {
        with(|s| s.count("lost"));
        return true;
    }
    let cycles = msg_cycles_accept(msg_cycles_available());
    let mut passing = Passing { to, arg, cycles, line };
    match fault {
        Some(Fault::Delay(wait)) => {
            with(|s| {
                s.count("delayed");
                s.hold(now.saturating_add(wait), passing, false);
            });
            arm();
            return true;
        }
        Some(Fault::Reorder) => {
            with(|s| {
                s.count("reordered");
                s.hold(now.saturating_add(plan.longest_hold), passing, true);
            });
            arm();
            return true;
        }
        Some(Fault::Corrupt) => {
            let read = read.as_ref().map(|(dialect, message)| (*dialect, message));
            passing.arg = corrupted(read, &passing.arg, &mut luck);
            let other = dialect::dialect_of(method, &passing.arg)
                .and_then(|dialect| dialect::message_from(dialect, method, &passing.arg))
                .ok();
            passing.line.payload_hash =
                other.as_ref().and_then(Message::payload).map(|bytes| payload_hash(Some(bytes)));
            with(|s| s.count("corrupted"));
        }
        Some(Fault::Repeat(copies)) => {
            with(|s| s.count("repeated"));
            let copy = Passing { cycles: 0, ..passing.clone() };
            let first = passing;
            leave(first);
            for _ in 0..copies {
                leave(copy.clone());
            }
            overtake(from);
            return true;
        }
        // Those have returned above.
        Some(Fault::Lose | Fault::Reject) => {}
        None => with(|s| s.count("passed")),
    }
    leave(passing);
    overtake(from);
    true
}

/// What waited for a message of this side to pass goes after it, the rest by ticks.
fn overtake(from: plan::Side) {
    with(|s| s.overtake(from));
    for passing in with(|s| s.take_overtaken(TICK_MESSAGES)) {
        leave(passing);
    }
    arm();
}

fn leave(passing: Passing) {
    let Passing { to, arg, cycles, line } = passing;
    let call = Call::bounded_wait(to, &line.method).change_timeout(CALL_TIMEOUT);
    let left = call.with_raw_args(&arg).with_cycles(cycles).oneway().is_ok();
    let what = if left { What::left } else { What::not_left };
    with(|s| s.write(line, time(), what));
}

// --- What is held -----------------------------------------------------------------------------------------------

thread_local! {
    static ARMED: RefCell<Option<(u64, TimerId)>> = const { RefCell::new(None) };
}

/// Sets the one timer for what is due first.
fn arm() {
    let now = time();
    let due = with(|s| match s.must_go() {
        true => Some(now),
        false => s.held.first_key_value().map(|((due, _), _)| due),
    });
    let Some(due) = due else { return };
    ARMED.with_borrow_mut(|armed| {
        let mut lost = false;
        if let Some((earlier, timer)) = armed.take() {
            // One that is overdue may have come while the canister was stopped, and then is lost.
            lost = earlier < now;
            if earlier <= due && !lost {
                *armed = Some((earlier, timer));
                return;
            }
            ic_cdk_timers::clear_timer(timer);
        }
        let wait = Duration::from_nanos(due.saturating_sub(now));
        *armed = Some((due, ic_cdk_timers::set_timer(wait, async { tick() })));
        if lost {
            // The timers' library still waits for the lost one: have it look at what it has.
            ic_cdk::api::global_timer_set(now);
        }
    });
}

fn tick() {
    ARMED.set(None);
    let due = with(|s| s.take_due(time(), TICK_MESSAGES));
    let left = TICK_MESSAGES - due.len();
    for passing in due {
        with(|s| s.overtake(passing.line.from));
        leave(passing);
    }
    for passing in with(|s| s.take_overtaken(left)) {
        leave(passing);
    }
    arm();
}
