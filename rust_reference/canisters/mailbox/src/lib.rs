//! `mailbox`: owned by an agent, it makes that agent a full peer of canisters that know nothing of
//! outboxes (`candid/mailbox.did`).
//!
//! It knows messages and dialects, and nothing of flows: those are the owner's business.

mod room;
mod store;

use async_flow::dialect;
use async_flow::message::Message;
use async_flow::words::{classify, Class, Dialect};
use candid::{CandidType, Deserialize, Principal};
use ic_cdk::api::{is_controller, msg_caller};
use ic_cdk::call::Call;

use crate::room::Mailbox;
use crate::store::{with, Entry};

/// The longest that a call may stay unanswered (seconds).
const CALL_TIMEOUT: u32 = 300;
const PAGE_BYTES: u64 = 1_900_000;

// --- Life cycle ---------------------------------------------------------------------------------------

#[ic_cdk::init]
fn init(settings: Option<Mailbox>) {
    if let Some(settings) = settings {
        if let Err(reason) = with(|store| store.meta.settings.change(settings)) {
            ic_cdk::trap(format!("bad install argument: {reason}"));
        }
    }
    if with(|store| store.meta.settings.owner.is_none()) {
        // Whoever installs it owns it, so that tools can deploy it without an argument.
        let owner = Mailbox { owner: Some(msg_caller()), ..Mailbox::default() };
        if let Err(reason) = with(|store| store.meta.settings.change(owner)) {
            ic_cdk::trap(format!("bad install argument: name an owner: {reason}"));
        }
    }
}

#[ic_cdk::pre_upgrade]
fn save() {
    with(store::Store::save);
}

#[ic_cdk::post_upgrade]
fn resume(settings: Option<Mailbox>) {
    init(settings);
}

/// Ingress of strangers costs no cycles.
#[ic_cdk::inspect_message]
fn inspect() {
    if is_owner() || is_controller(&msg_caller()) {
        ic_cdk::api::accept_message();
    }
}

fn is_owner() -> bool {
    with(|store| store.meta.settings.owner == Some(msg_caller()))
}

fn owner_only() -> Result<(), String> {
    is_owner().then_some(()).ok_or("only the owner of this mailbox may".to_string())
}

fn watchers_only() -> Result<(), String> {
    (is_owner() || is_controller(&msg_caller()))
        .then_some(())
        .ok_or("only the owner and controllers of this mailbox may".to_string())
}

fn controllers_only() -> Result<(), String> {
    is_controller(&msg_caller())
        .then_some(())
        .ok_or("only controllers may configure this mailbox".to_string())
}

// --- What the owner sends -------------------------------------------------------------------------------

#[derive(CandidType, Deserialize)]
struct SendRequest {
    to: Principal,
    dialect: Dialect,
    cycles: u128,
    message: Message,
}

#[derive(CandidType)]
#[allow(non_camel_case_types)]
enum SendResult {
    sent,
    failed_at_once(String),
}

#[ic_cdk::update(guard = "owner_only", hidden = true)]
fn mailbox_send(request: SendRequest) -> SendResult {
    let SendRequest { to, dialect, cycles, message } = request;
    if classify(&to) != Class::Canister {
        return SendResult::failed_at_once(format!("{to} is not a canister"));
    }
    let (method, arg) = dialect::call_for(dialect, &message);
    let call = Call::bounded_wait(to, method).change_timeout(CALL_TIMEOUT);
    let left = call.with_raw_args(&arg).with_cycles(cycles).oneway();
    let counter = if left.is_ok() { "sent" } else { "failed_at_once" };
    with(|store| store.count(counter));
    match left {
        Ok(()) => SendResult::sent,
        Err(error) => SendResult::failed_at_once(error.to_string()),
    }
}

// --- What arrives -------------------------------------------------------------------------------------------

/// A call of any dialect. What cannot be read traps: to its sender it is as if it were lost.
fn arrive(method: &str, arg: &[u8]) {
    let from = msg_caller();
    if let Some(reason) = with(|store| store.refuses(from)) {
        return with(|store| store.count(reason));
    }
    let read = dialect::dialect_of(method, arg)
        .and_then(|dialect| Ok((dialect, dialect::message_from(dialect, method, arg)?)));
    match read {
        Err(unreadable) => ic_cdk::trap(format!("{method}: {unreadable}")),
        Ok((dialect, message)) => with(|store| store.keep(Entry { from, dialect, message })),
    }
}

fn raw(arg: Vec<u8>) -> Vec<u8> {
    arg
}

macro_rules! takes {
    ($($method:ident),*) => {
        $(#[allow(non_snake_case)]
        #[ic_cdk::update(hidden = true, decode_with = "raw")]
        fn $method(arg: Vec<u8>) {
            arrive(stringify!($method), &arg);
        })*
    };
}

takes!(
    asyncFlow,
    com_asyncFlow_newMessage,
    com_asyncFlow_ack,
    com_asyncFlow_fin,
    com_asyncFlow_ackack,
    com_asyncFlow_finish
);

// --- What the owner fetches ------------------------------------------------------------------------------------

#[derive(CandidType, Deserialize)]
struct Page {
    after: Option<u64>,
    limit: u32,
}

#[derive(CandidType)]
struct Waiting {
    seq: u64,
    from: Principal,
    dialect: Dialect,
    message: Message,
}

#[ic_cdk::query(guard = "owner_only", hidden = true)]
fn mailbox_outbox(page: Page) -> Vec<Waiting> {
    with(|store| {
        let mut found = Vec::new();
        let mut bytes = 0;
        for (seq, entry) in store.after(page.after) {
            let size = entry.message.size();
            let full = found.len() >= page.limit as usize;
            if full || (!found.is_empty() && bytes + size > PAGE_BYTES) {
                break;
            }
            bytes += size;
            let Entry { from, dialect, message } = entry;
            found.push(Waiting { seq, from, dialect, message });
        }
        found
    })
}

#[ic_cdk::update(guard = "owner_only", hidden = true)]
fn mailbox_outbox_trim(seq: u64) {
    with(|store| store.trim(seq));
}

// --- Settings and watching ----------------------------------------------------------------------------------------

#[derive(CandidType)]
#[allow(non_camel_case_types)]
enum Configured {
    ok,
    err(String),
}

#[ic_cdk::update(guard = "controllers_only", hidden = true)]
fn mailbox_configure(change: Mailbox) -> Configured {
    match with(|store| store.meta.settings.change(change)) {
        Ok(()) => Configured::ok,
        Err(reason) => Configured::err(reason),
    }
}

#[derive(CandidType)]
struct Status {
    settings: Mailbox,
    waiting: u32,
    bytes: u64,
    counters: Vec<(String, u64)>,
}

#[ic_cdk::query(guard = "watchers_only", hidden = true)]
fn mailbox_status() -> Status {
    with(|store| Status {
        settings: (&store.meta.settings).into(),
        waiting: store.meta.total.messages,
        bytes: store.meta.total.bytes,
        counters: store.meta.counters.iter().map(|(name, n)| (name.clone(), *n)).collect(),
    })
}
