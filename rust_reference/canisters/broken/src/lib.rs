//! Reference canister `broken`: sender and receiver that is wrong where it is told to be.
//!
//! Without a fault it is right: the library's own node, with the application of `player`, and `compute`
//! for payloads that are Candid. What is wrong sits here, around the tables, the messages and the methods
//! (`broken_own.did`). Speaks every dialect, told apart by the argument's type table.

mod dead;
mod faults;
mod tables;
mod wire;

use std::cell::RefCell;
use std::collections::BTreeMap;

use async_flow::access::{Lists, PeerSettings};
use async_flow::canister::{
    self as node, Answer, Application, Configured, Install, OutboxEntry, OutboxQuery, Reply,
    Request,
};
use async_flow::dialect::{dialect_of, message_from, messages_from, Unreadable};
use async_flow::event::Transmit;
use async_flow::message::{payload_hash, Blob, Kind, Message};
use async_flow::policy::Settings;
use async_flow::words::{classify, Class, Dialect};
use candid::{CandidType, Decode, Deserialize, Encode, Principal};
use ic_cdk::api::{msg_caller, msg_cycles_accept, msg_cycles_available, time};
use ic_stable_structures::{Memory as _, StableCell};
use reference_parts::{played, Memory, FIRST_MEMORY};

use faults::{has, Fault, Known};

thread_local! {
    /// The access list as it was given.
    static LISTS: RefCell<StableCell<Vec<u8>, Memory>> =
        RefCell::new(StableCell::init(reference_parts::memory(7), Vec::new()));
    /// Who sent the first NEW of an id.
    static OWNERS: RefCell<BTreeMap<u128, Principal>> = const { RefCell::new(BTreeMap::new()) };
}

// --- The application ------------------------------------------------------------------------------------

fn handle(request: &Request) -> Reply {
    if request.payload.starts_with(b"DIDL") {
        reference_parts::ran(request);
        return reference_parts::compute(request);
    }
    if has(Fault::half_done) && request.payload.as_slice() == b"trap" {
        reference_parts::ran(request);
        return Answer::Later.into();
    }
    played::handle(request)
}

fn take(told: &async_flow::event::Tell) {
    reference_parts::take(told);
    played::take(told);
}

fn application() -> Application {
    let right = played::application();
    Application {
        handler: (!has(Fault::only_sender)).then_some(handle),
        outcome: (!has(Fault::only_receiver)).then_some(node::Listener::Synchronous(take)),
        priced: true,
        sender_table: tables::sender_step,
        receiver_table: tables::receiver_step,
        ..right
    }
}

// --- Life cycle -----------------------------------------------------------------------------------------

/// The install argument: that of every canister here, and what is wrong.
#[derive(CandidType, Deserialize)]
struct Start {
    settings: Option<Settings>,
    access: Option<Lists>,
    peers: Option<Vec<PeerSettings>>,
    faults: Option<Vec<Fault>>,
}

fn begin(start: Option<Start>) {
    let install = start.map(|start| {
        if let Some(wrong) = &start.faults {
            faults::set(wrong);
        }
        let Start { settings, access, peers, .. } = start;
        with_lists(Install { settings, access, peers })
    });
    reference_parts::start(application(), install);
}

#[ic_cdk::init]
fn init(start: Option<Start>) {
    begin(start);
}

#[ic_cdk::pre_upgrade]
fn save() {
    node::save();
}

#[ic_cdk::post_upgrade]
fn resume(start: Option<Start>) {
    if has(Fault::loses_state) {
        // All memories of the library but the first, which holds its settings. Pages are empty by their
        // numbers, which stand behind their mark; a map without its mark is made anew.
        for n in 1..node::MEMORIES {
            let memory = reference_parts::memory(FIRST_MEMORY + n);
            if memory.size() > 0 {
                let mut mark = [0; 3];
                memory.read(0, &mut mark);
                if mark == *b"AFP" {
                    memory.write(4, &[0; 8]);
                } else {
                    memory.write(0, &[0; 3]);
                }
            }
        }
    }
    tables::upgraded(time());
    begin(start);
}

/// Remembers the access list, and opens it where it is ignored.
fn with_lists(mut change: Install) -> Install {
    if let Some(lists) = &change.access {
        let bytes = Encode!(lists).expect("it encodes");
        LISTS.with_borrow_mut(|kept| kept.set(bytes));
    }
    if has(Fault::ignores_access) {
        change.access = Some(Lists { canisters: None, ..lists() });
    }
    change
}

fn lists() -> Lists {
    LISTS.with_borrow(|kept| Decode!(kept.get(), Lists).unwrap_or_default())
}

// --- Messages -------------------------------------------------------------------------------------------

fn receive(method: &str, arg: &[u8]) {
    let caller = msg_caller();
    if has(Fault::wide_ids) {
        if let Some(message) = wire::narrowed(method, arg) {
            let dialect = dialect_of(method, arg).unwrap_or(Dialect::Unified);
            return deliver(caller, dialect, message);
        }
    }
    let read = dialect_of(method, arg)
        .and_then(|dialect| Ok((dialect, message_from(dialect, method, arg)?)));
    match read {
        Ok((dialect, message)) => deliver(caller, dialect, message),
        // Refused and counted, as the library does.
        Err(Unreadable::Id) => {
            node::receive_call(dialect_of(method, arg).unwrap_or(Dialect::Unified), method, arg);
        }
        Err(_) if has(Fault::takes_malformed) => {
            let msg_id = u128::from(payload_hash(Some(arg)));
            let payload = Blob::from(arg.to_vec());
            deliver(caller, Dialect::Unified, Message::New { msg_id, payload });
        }
        Err(reason) => ic_cdk::trap(format!("{method}: {reason}")),
    }
}

fn deliver(caller: Principal, dialect: Dialect, message: Message) {
    let (kind, id) = (message.kind(), message.msg_id());
    if has(Fault::answers_other_role) {
        answer_other_role(caller, dialect, kind, id);
    }
    let whom = match kind {
        Kind::Ack => caller,
        Kind::New if has(Fault::one_flow_per_id) => owner(id, caller),
        Kind::New => {
            owner(id, caller);
            caller
        }
        Kind::Fin if has(Fault::one_flow_per_id) || has(Fault::believes_any_fin) => {
            owner(id, caller)
        }
        Kind::Fin => caller,
    };
    let known = node::knows_received(whom, id);
    node::receive(whom, dialect, message);
    if kind == Kind::New && known && has(Fault::charges_again) {
        msg_cycles_accept(node::status().settings.min_cycles);
    }
    if has(Fault::keeps_all_cycles) {
        msg_cycles_accept(msg_cycles_available());
    }
}

fn owner(id: u128, caller: Principal) -> Principal {
    OWNERS.with_borrow_mut(|owners| *owners.entry(id).or_insert(caller))
}

fn answer_other_role(caller: Principal, dialect: Dialect, kind: Kind, msg_id: u128) {
    let message = match kind {
        Kind::Ack if has(Fault::only_receiver) => Message::Fin { msg_id, hash: None },
        Kind::New if has(Fault::only_sender) => Message::Ack { msg_id, payload: None, hash: None },
        _ => return,
    };
    if classify(&caller) == Class::Canister {
        wire::send(&Transmit {
            peer: caller,
            dialect,
            message,
            attempt: 1,
            echo: false,
            prior_due: None,
            prior_at: None,
        });
    }
}

macro_rules! messages {
    ($($method:literal => $name:ident),*) => {
        $(#[ic_cdk::update(name = $method, hidden = true, decode_with = "node::raw")]
        fn $name(arg: Vec<u8>) {
            receive($method, &arg);
        })*
    };
}

messages!(
    "asyncFlow" => message,
    "com_asyncFlow_newMessage" => new_message,
    "com_asyncFlow_ack" => ack,
    "com_asyncFlow_fin" => fin,
    "com_asyncFlow_ackack" => ackack,
    "com_asyncFlow_finish" => finish
);

#[ic_cdk::update(name = "asyncFlow_batch", hidden = true, decode_with = "node::raw")]
fn batch(arg: Vec<u8>) {
    if !has(Fault::batch_all_or_nothing) {
        return node::receive_call(Dialect::Unified, "asyncFlow_batch", &arg);
    }
    let all: Vec<Message> = match messages_from(&arg) {
        Ok(all) => all.into_iter().flatten().collect(),
        Err(reason) => ic_cdk::trap(reason.to_string()),
    };
    let news = all.iter().filter(|message| message.kind() == Kind::New).count() as u128;
    if news * node::status().settings.min_cycles > msg_cycles_available() {
        return;
    }
    for message in all {
        deliver(msg_caller(), Dialect::Unified, message);
    }
}

// --- The other methods ----------------------------------------------------------------------------------

async_flow::endpoint!(operations);
reference_parts::inspection!();
reference_parts::directing!();
reference_parts::handling!();

fn drivers_only() -> Result<(), String> {
    node::is_driver(&msg_caller())
        .then_some(())
        .ok_or("only controllers, monitors and listed agents may drive this canister".to_string())
}

reference_parts::sending!();

fn agents_only() -> Result<(), String> {
    node::has_outbox(&msg_caller())
        .then_some(())
        .ok_or("only agents on this canister's access list have an outbox".to_string())
}

#[ic_cdk::query(name = "asyncFlow_outbox", hidden = true, guard = "agents_only")]
fn outbox(query: OutboxQuery) -> Vec<OutboxEntry> {
    let agent = msg_caller();
    let mut found = node::read_outbox(agent, query);
    while has(Fault::oversized_pages) && found.len() < query.limit as usize {
        let limit = query.limit - found.len() as u32;
        let more =
            node::read_outbox(agent, OutboxQuery { after: found.last().map(|e| e.seq), limit });
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    if has(Fault::keeps_dead_news) {
        let limit = query.limit.saturating_sub(found.len() as u32);
        found.extend(dead::read(agent, OutboxQuery { after: query.after, limit }));
    }
    found
}

#[ic_cdk::update(name = "asyncFlow_outbox_trim", hidden = true, guard = "agents_only")]
fn trim(seq: u64) {
    node::trim_outbox(msg_caller(), seq);
}

fn controllers_only() -> Result<(), String> {
    ic_cdk::api::is_controller(&msg_caller())
        .then_some(())
        .ok_or("only controllers may change this canister".to_string())
}

#[ic_cdk::update(name = "asyncFlow_configure", hidden = true, guard = "controllers_only")]
fn configure(change: Install) -> Configured {
    match node::configure(with_lists(change)) {
        Ok(()) => Configured::Ok,
        Err(reason) => Configured::Err(reason),
    }
}

/// What is wrong from now on, instead of what was.
#[ic_cdk::update(name = "break", hidden = true, guard = "controllers_only")]
fn break_it(wrong: Vec<Fault>) {
    let roles = |fault| has(fault);
    let before = (roles(Fault::only_sender), roles(Fault::only_receiver));
    faults::set(&wrong);
    if before != (roles(Fault::only_sender), roles(Fault::only_receiver)) {
        // Which roles a node has is fixed when it starts.
        node::save();
        reference_parts::start(application(), None);
    }
    let change = with_lists(Install { access: Some(lists()), ..Install::default() });
    if let Err(reason) = node::configure(change) {
        ic_cdk::trap(reason);
    }
}

/// What can be wrong, and which scenarios of the protocol page that breaks.
#[ic_cdk::query(hidden = true, guard = "controllers_only")]
fn faults() -> Vec<Known> {
    faults::known()
}
