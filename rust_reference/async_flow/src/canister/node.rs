//! The shell around the tables: messages from peers, the application's requests, the timer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ptr::fn_addr_eq;
use std::time::Duration;

use candid::Principal;
use ic_cdk::api::{canister_self, is_controller, msg_cycles_accept, msg_cycles_available, time};
use ic_cdk_timers::TimerId;

use super::application::{Application, Work};
use super::calls::Gathered;
use super::install::{self, Install};
use super::store::{Memories, Store};
use super::work::{self, Awaited, Forwards, Job, Unsent};
use crate::admission::{self, Circumstances};
use crate::dialect::{Unreadable, BATCH_BYTES, BATCH_MESSAGES};
use crate::event::{Decision, Effect, Event, NotAllowed, Of, Received, Transmit, What};
use crate::flow::earliest;
use crate::message::{Blob, Kind, Message, OVERHEAD};
use crate::step::Rules;
use crate::turns::{self, Due};
use crate::usage::Usage;
use crate::words::{classify, Class, Dialect, Key, NullAck, Role, State};
use crate::{receiver, sender};

pub(crate) struct Node {
    pub store: Store,
    pub app: Application,
    pub gathered: Option<Gathered>,
    /// Work of handlers that goes on in a message of its own, by flow and try: a message from before an
    /// upgrade must not take the work of another flow.
    pub works: BTreeMap<(Principal, u128, u32), Work>,
    pub awaited: Awaited,
    pub unsent: Unsent,
    pub forwards: Forwards,
    armed: Option<(u64, TimerId)>,
    seed_due: u64,
}

thread_local! {
    static NODE: RefCell<Option<Node>> = const { RefCell::new(None) };
}

/// The node. The application's code must not run inside `ask`: it may ask for the node itself.
pub(crate) fn with<T>(ask: impl FnOnce(&mut Node) -> T) -> T {
    NODE.with_borrow_mut(|node| {
        ask(node.as_mut().expect("async_flow::canister::start comes first"))
    })
}

/// Why an event came, for the history.
fn why(what: &What) -> &'static str {
    match what {
        What::Received(r) => r.message.kind().name(),
        What::Due => "due",
        What::Restarted { .. } => "restart",
        What::NotSent(_) => "not sent",
        What::Refused(_) => "refused",
        What::Rejected(_) => "rejected",
        What::Send { .. } => "send",
        What::Cancel => "cancel",
        What::Returned { .. } => "application returned",
        What::HandlerFailed(_) => "application failed",
        What::Finish => "finish",
        What::Decided(_) => "decision",
        What::RetryDeadLetter => "operator: retry",
        What::DropDeadLetter => "operator: drop",
        What::Answer { .. } => "answer",
        What::Deferred => "deferred",
        What::FailedForNow => "failed, to be retried",
        What::FailedForGood { .. } => "failed for good",
        What::Rerun => "rerun",
    }
}

// --- One step of one flow ---------------------------------------------------------------------------

impl Node {
    fn event(&mut self, what: What, room: bool) -> Event {
        let meta = &mut self.store.meta;
        let u = meta.ids.up_to(meta.policy.most_jitter());
        Event { u, lag: meta.time.lag, room, what }
    }

    fn step_sender(&mut self, id: u128, what: What, room: bool) -> Result<Vec<Effect>, NotAllowed> {
        let (now, why) = (time(), why(&what));
        let event = self.event(what, room);
        let kept = self.store.sender(id);
        let hollow = fn_addr_eq(self.app.sender_table, sender::step as sender::Table)
            && kept.as_ref().is_some_and(|kept| !sender::looks_inside(&kept.flow, &event));
        let old = kept.clone().map(|kept| self.store.read(kept, hollow));
        let meta = &self.store.meta;
        let peer = old.as_ref().map(|flow| meta.peers.null_ack(&flow.peer));
        let rules = Rules {
            policy: &meta.policy,
            null_ack: peer.unwrap_or(NullAck::Response),
            rerun: self.app.rerun,
        };
        let t = (self.app.sender_table)(old, &event, now, rules)?;
        if t.changed {
            self.store.put_sender(id, kept, t.flow, hollow, why);
        }
        Ok(t.effects)
    }

    fn step_receiver(
        &mut self,
        peer: Principal,
        id: u128,
        what: What,
        room: bool,
    ) -> Result<Vec<Effect>, NotAllowed> {
        let (now, why) = (time(), why(&what));
        let event = self.event(what, room);
        let kept = self.store.receiver(peer, id);
        let hollow = fn_addr_eq(self.app.receiver_table, receiver::step as receiver::Table)
            && kept.as_ref().is_some_and(|kept| !receiver::looks_inside(&kept.flow, &event, now));
        let old = kept.clone().map(|kept| self.store.read(kept, hollow));
        let rules = Rules {
            policy: &self.store.meta.policy,
            null_ack: NullAck::Response,
            rerun: self.app.rerun,
        };
        let t = (self.app.receiver_table)(old, &event, now, rules)?;
        if t.changed {
            self.store.put_receiver(peer, id, kept, t.flow, hollow, why);
        }
        Ok(t.effects)
    }
}

/// Lets the table decide, stores, carries the effects out. `direct`: a handler runs in this very
/// message.
pub(crate) fn on(key: Key, what: What, room: bool, direct: bool) -> Result<(), NotAllowed> {
    let effects = with(|node| match key {
        Key::Sender(id) => node.step_sender(id, what, room),
        Key::Receiver(peer, id) => node.step_receiver(peer, id, what, room),
    })?;
    for effect in effects {
        match effect {
            Effect::Transmit(t) => {
                if let Some(t) = with(|node| node.transmit(key, t)) {
                    not_sent(key, t);
                }
            }
            Effect::HandOver(h) if direct => work::hand_over(h),
            Effect::HandOver(h) => work::supervise(Job::HandOver(h)),
            Effect::Tell(t) => work::supervise(Job::Tell(t)),
            Effect::Ask(a) => work::supervise(Job::Ask(a)),
            Effect::Count(reason) => with(|node| node.store.count(&reason)),
            Effect::RememberPaid { peer, msg_id, until } => {
                with(|node| {
                    if !node.store.remember_paid(peer, msg_id, until) {
                        node.store.count("paid_mark_refused");
                    }
                });
            }
        }
    }
    Ok(())
}

fn not_sent(key: Key, t: Transmit) {
    // What a peer or the system does never gives an error.
    let _ = on(key, What::NotSent(t), true, false);
}

// --- Messages from peers ------------------------------------------------------------------------------

/// The one entry for what peers send, canisters by call and agents by ingress.
///
/// For a canister that takes messages by methods of its own. Whoever calls this vouches for the caller:
/// nothing else tells peers apart.
pub fn receive(caller: Principal, dialect: Dialect, message: Message) {
    let now = observe();
    if !with(|node| node.passes(&caller, &message)) {
        return;
    }
    with(|node| node.store.meta.peers.received(&caller));
    receive_checked(caller, dialect, message, now);
    arm();
    let instructions = ic_cdk::api::instruction_counter();
    with(|node| node.store.add("instructions.receive", instructions));
}

fn receive_checked(caller: Principal, dialect: Dialect, message: Message, now: u64) {
    match message.kind() {
        Kind::New => receive_new(caller, dialect, message, now),
        Kind::Ack => receive_ack(caller, dialect, message, now),
        Kind::Fin => receive_fin(caller, dialect, message),
    }
}

impl Node {
    /// Whether an ACK or a FIN names a stored flow with this caller.
    fn names_flow(&self, caller: &Principal, message: &Message) -> bool {
        match message {
            Message::New { .. } => false,
            Message::Ack { msg_id, .. } => {
                self.store.sender(*msg_id).is_some_and(|kept| kept.flow.peer == *caller)
            }
            Message::Fin { msg_id, .. } => self.store.has_receiver(*caller, *msg_id),
        }
    }

    /// Whether a message passes what is asked of every message; a refusal is counted.
    fn passes(&mut self, caller: &Principal, message: &Message) -> bool {
        // Only agents are asked for it.
        let named = classify(caller) == Class::Agent && self.names_flow(caller, message);
        let meta = &self.store.meta;
        let refused = admission::check_message(caller, message, named, &meta.access, &meta.policy);
        if let Some(reason) = refused {
            self.refuse(caller, reason);
        }
        refused.is_none()
    }

    fn refuse(&mut self, caller: &Principal, reason: &str) {
        self.store.count(&format!("refused.{reason}"));
        // Rows of the traffic table are not for those who are not even peers.
        if classify(caller) == Class::Canister {
            self.store.meta.peers.refused(caller);
        }
    }
}

/// Refuses a message whose id is not below 2^128, as admission does any other that is malformed.
pub(crate) fn refuse_id(caller: &Principal) {
    observe();
    with(|node| node.refuse(caller, "malformed_id"));
}

fn received(caller: Principal, dialect: Dialect, message: Message) -> Received {
    Received { message, caller, dialect, refused: None, paid: false, listed: false, floor: 0 }
}

fn receive_new(caller: Principal, dialect: Dialect, message: Message, now: u64) {
    let id = message.msg_id();
    let prepared = with(|node| {
        if node.app.handler.is_none() {
            node.store.count("no_receiver");
            return None;
        }
        let mut r = received(caller, dialect, message);
        r.listed = node.store.meta.access.is_listed(&caller);
        if !node.store.has_receiver(caller, id) {
            let usages = node.store.usages(Role::Receiver, caller);
            let circumstances = Circumstances {
                now,
                trusted_ids: node.store.meta.peers.trusts_ids(&caller),
                listed: r.listed,
                usages: &usages,
                cycles: msg_cycles_available(),
                marked_paid: node.store.has_paid(caller, id),
            };
            let payload = r.message.payload().map_or(0, |bytes| bytes.len() as u64);
            let policy = &node.store.meta.policy;
            match admission::check_new(id, payload, &circumstances, policy) {
                Err(reason) => {
                    r.refused = Some(reason.to_string());
                    node.store.meta.peers.refused(&caller);
                }
                Ok(admitted) => {
                    // Taken last, and exactly the minimum: whatever was refused cost nothing.
                    if admitted.charge {
                        msg_cycles_accept(policy.min_cycles);
                    }
                    // From here on the flow itself says that it is paid for.
                    node.store.forget_paid(caller, id);
                    (r.paid, r.floor) = (admitted.paid, admitted.floor);
                }
            }
        }
        Some((r, node.has_room(&caller)))
    });
    if let Some((r, room)) = prepared {
        let _ = on(Key::Receiver(caller, id), What::Received(r), room, true);
    }
}

fn receive_ack(caller: Principal, dialect: Dialect, message: Message, now: u64) {
    let id = message.msg_id();
    let room = with(|node| {
        if node.app.outcome.is_none() {
            node.store.count("no_sender");
            return None;
        }
        let Some(flow) = node.store.sender(id).map(|kept| kept.flow) else {
            // One global rate for FINs that answer ACKs of unknown flows.
            let may = classify(&caller) == Class::Canister && node.has_room(&caller);
            let policy = &node.store.meta.policy;
            return Some(may && node.store.fin_rate.take(now, policy));
        };
        if flow.peer == caller {
            node.store.in_flight.answered(caller, Kind::New, id);
            // Its room was set aside while it was open; what exceeds that, and a late response, needs free
            // bytes, or waits for them.
            let size = message.payload().map_or(0, |bytes| bytes.len() as u64);
            let usages = node.store.usages(Role::Sender, caller);
            let reserved = Usage::of_sender(&flow).unanswered > 0;
            let fits = usages.fits(size, &node.store.meta.policy, true, reserved);
            if flow.response_hash.is_none() && !fits {
                node.store.count("refused.quota_bytes");
                return None;
            }
        }
        Some(node.has_room(&caller))
    });
    if let Some(room) = room {
        let r = received(caller, dialect, message);
        let _ = on(Key::Sender(id), What::Received(r), room, false);
    }
}

fn receive_fin(caller: Principal, dialect: Dialect, message: Message) {
    let id = message.msg_id();
    let room = with(|node| {
        if node.app.handler.is_none() {
            node.store.count("no_receiver");
            return None;
        }
        node.store.in_flight.answered(caller, Kind::Ack, id);
        Some(node.has_room(&caller))
    });
    if let Some(room) = room {
        let r = received(caller, dialect, message);
        let _ = on(Key::Receiver(caller, id), What::Received(r), room, false);
    }
}

/// Takes a batch apart: stores no flow, and sends each entry to this canister itself as a message of its
/// own, so that one which traps harms no other. What names no flow is done with at once.
pub fn receive_batch(caller: Principal, entries: Vec<Result<Message, Unreadable>>) {
    let now = observe();
    let mut taken = Taken { cycles: msg_cycles_available(), usage: Usage::default() };
    let mut bytes = 0;
    let most = entries.len();
    for (n, entry) in entries.into_iter().enumerate() {
        bytes += entry.as_ref().map_or(0, Message::size);
        if n >= BATCH_MESSAGES || bytes > BATCH_BYTES {
            with(|node| node.store.add("batch_cut", (most - n) as u64));
            break;
        }
        let Ok(entry) = entry else {
            refuse_id(&caller);
            continue;
        };
        match with(|node| node.sort(&caller, &entry, &mut taken, now)) {
            Place::Dropped => {}
            Place::Apart => {
                work::forward(caller, entry);
            }
            Place::Here => {
                with(|node| node.store.meta.peers.received(&caller));
                receive_checked(caller, Dialect::Unified, entry, now);
            }
        }
    }
    arm();
}

/// What the entries of a batch before the present one leave, and take of the quotas.
struct Taken {
    cycles: u128,
    usage: Usage,
}

/// Where an entry of a batch is received.
enum Place {
    /// Nowhere: it is refused, or as lost.
    Dropped,
    /// In the message of the batch: it changes no flow.
    Here,
    /// In a message of its own.
    Apart,
}

impl Node {
    fn sort(&mut self, caller: &Principal, entry: &Message, taken: &mut Taken, now: u64) -> Place {
        if !self.passes(caller, entry) {
            return Place::Dropped;
        }
        let stays_here = match entry.kind() {
            Kind::New => self.app.handler.is_none(),
            _ => !self.names_flow(caller, entry),
        };
        if stays_here {
            return Place::Here;
        }
        let listed = self.store.meta.access.is_listed(caller);
        if !self.forwards.has_room(now, listed) {
            self.store.count("forwards_full");
            return Place::Dropped;
        }
        match entry {
            Message::New { msg_id, .. } if !self.store.has_receiver(*caller, *msg_id) => {
                self.admit_of_batch(caller, entry, listed, taken, now)
            }
            _ => Place::Apart,
        }
    }

    /// Takes the price of a NEW that its own message will admit, and remembers that.
    fn admit_of_batch(
        &mut self,
        caller: &Principal,
        new: &Message,
        listed: bool,
        taken: &mut Taken,
        now: u64,
    ) -> Place {
        let (id, payload) = (new.msg_id(), new.payload().map_or(0, |bytes| bytes.len() as u64));
        let usages = self.store.usages(Role::Receiver, *caller).with_more(taken.usage, listed);
        let circumstances = Circumstances {
            now,
            trusted_ids: self.store.meta.peers.trusts_ids(caller),
            listed,
            usages: &usages,
            cycles: taken.cycles,
            marked_paid: self.store.has_paid(*caller, id),
        };
        let policy = &self.store.meta.policy;
        let (price, until) = (policy.min_cycles, now.saturating_add(policy.lifetime));
        match admission::check_new(id, payload, &circumstances, policy) {
            Err(reason) => {
                self.refuse(caller, reason);
                return Place::Dropped;
            }
            Ok(admitted) if admitted.charge => {
                if !self.store.remember_paid(*caller, id, until) {
                    self.refuse(caller, "quota_paid_marks");
                    return Place::Dropped;
                }
                taken.cycles -= price;
                msg_cycles_accept(price);
            }
            Ok(_) => {}
        }
        taken.usage.exchange(Usage::default(), Usage::of_new(payload));
        Place::Apart
    }
}

// --- The application's own requests ---------------------------------------------------------------------

fn observe() -> u64 {
    let now = time();
    with(|node| node.store.observe(now));
    now
}

/// Opens a flow: stores it, then transmits its NEW if there is room; its id.
///
/// Awaits only where this canister has no randomness yet: once, soon after its installation.
///
/// # Errors
/// Why it was not opened; nothing is stored then.
pub async fn send(to: Principal, payload: Blob) -> Result<u128, NotAllowed> {
    if !with(|node| node.store.meta.ids.is_seeded()) {
        seed().await;
    }
    let now = observe();
    let (id, dialect) = with(|node| {
        let meta = &mut node.store.meta;
        let id = meta.ids.is_seeded().then(|| meta.ids.mint(now));
        (id, meta.peers.dialect(&to))
    });
    let Some(id) = id else {
        return Err(NotAllowed(
            "no randomness yet: the management canister's raw_rand failed".into(),
        ));
    };
    send_as(id, to, payload, dialect)
}

/// The same with an id and a dialect of the application's choice; to repeat it changes nothing.
///
/// # Errors
/// Why it was not opened, or that the id is used by another flow.
pub fn send_as(
    id: u128,
    to: Principal,
    payload: Blob,
    dialect: Dialect,
) -> Result<u128, NotAllowed> {
    observe();
    let refused = with(|node| {
        let meta = &node.store.meta;
        if node.app.outcome.is_none() {
            return Some(
                "this canister is no sender: give its application an outcome handler".into(),
            );
        }
        match classify(&to) {
            Class::Canister => {}
            Class::Agent if meta.access.is_agent(&to) => {}
            _ => return Some("a peer must be a canister or a listed agent".to_string()),
        }
        if node.store.has_sender(id) {
            return None;
        }
        let usages = node.store.usages(Role::Sender, to);
        usages.broken_by(payload.len() as u64, &meta.policy, true).map(str::to_string)
    });
    if let Some(reason) = refused {
        return Err(NotAllowed(reason));
    }
    let key = Key::Sender(id);
    on(key, What::Send { peer: to, msg_id: id, payload, dialect }, true, false)?;
    let room = with(|node| node.has_room(&to));
    on(key, What::Due, room, false)?;
    arm();
    Ok(id)
}

fn asked(key: Key, what: What) -> Result<(), NotAllowed> {
    observe();
    let room = with(|node| {
        let peer = match key {
            Key::Receiver(peer, _) => Some(peer),
            Key::Sender(id) => node.store.sender(id).map(|kept| kept.flow.peer),
        };
        peer.is_none_or(|peer| node.has_room(&peer))
    });
    let result = on(key, what, room, false);
    arm();
    result
}

/// Gives up on a flow that has not ended.
///
/// # Errors
/// If the flow's state does not allow it.
pub fn cancel(id: u128) -> Result<(), NotAllowed> {
    asked(Key::Sender(id), What::Cancel)
}

/// The application has the response, however it got it.
///
/// # Errors
/// If the flow's state does not allow it.
pub fn finish(id: u128) -> Result<(), NotAllowed> {
    asked(Key::Sender(id), What::Finish)
}

/// The operator: hands a dead letter over again.
///
/// # Errors
/// If the flow is no dead letter.
pub fn retry(id: u128) -> Result<(), NotAllowed> {
    asked(Key::Sender(id), What::RetryDeadLetter)
}

/// The operator: drops a dead letter.
///
/// # Errors
/// If the flow is no dead letter.
pub fn drop_dead_letter(id: u128) -> Result<(), NotAllowed> {
    asked(Key::Sender(id), What::DropDeadLetter)
}

/// The decision about a corruption, where the handler gave none.
///
/// # Errors
/// If there is no such wrong ACK to accept.
pub fn decide(key: Key, decision: Decision) -> Result<(), NotAllowed> {
    asked(key, What::Decided(decision))
}

pub(crate) fn answered(
    peer: Principal,
    id: u128,
    response: Option<Blob>,
    for_good: bool,
) -> Result<(), NotAllowed> {
    let (fits, room) = with(|node| {
        let listed = node.store.meta.access.is_listed(&peer);
        let size = response.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let usages = node.store.usages(Role::Receiver, peer);
        // A flow that is to be answered is open.
        (usages.fits(size, &node.store.meta.policy, listed, true), node.has_room(&peer))
    });
    let what = match for_good {
        true => What::FailedForGood { response, fits },
        false => What::Answer { response, fits },
    };
    on(Key::Receiver(peer, id), what, room, false)
}

/// The answer to a request that a handler put off, or that is stalled.
///
/// # Errors
/// If the flow has its answer or is gone, or the answer cannot be stored.
pub fn answer(sender: Principal, id: u128, response: Option<Blob>) -> Result<(), NotAllowed> {
    observe();
    let result = answered(sender, id, response, false);
    arm();
    result
}

/// Failed for good: these bytes are the answer.
///
/// # Errors
/// As for [`answer`].
pub fn fail(sender: Principal, id: u128, response: Option<Blob>) -> Result<(), NotAllowed> {
    observe();
    let result = answered(sender, id, response, true);
    arm();
    result
}

/// Failed, to be retried: the sender's next NEW is processed anew.
///
/// # Errors
/// If the flow's state does not allow it.
pub fn forget(sender: Principal, id: u128) -> Result<(), NotAllowed> {
    asked(Key::Receiver(sender, id), What::FailedForNow)
}

/// Runs the handler of a stalled flow again.
///
/// # Errors
/// If the flow is not stalled.
pub fn rerun(sender: Principal, id: u128) -> Result<(), NotAllowed> {
    asked(Key::Receiver(sender, id), What::Rerun)
}

/// Whether a flow that we opened is stored.
pub fn is_known(id: u128) -> bool {
    with(|node| node.store.has_sender(id))
}

/// Whether a flow that a peer opened is stored.
pub fn knows_received(sender: Principal, id: u128) -> bool {
    with(|node| node.store.has_receiver(sender, id))
}

// --- Who may do what ----------------------------------------------------------------------------------------

/// Whether this caller has an outbox: a listed agent, or one with flows from when it was listed.
pub fn has_outbox(who: &Principal) -> bool {
    let has_flows = |node: &Node| {
        classify(who) == Class::Agent
            && [Role::Sender, Role::Receiver].iter().any(|role| node.store.sums(*role).has(who))
    };
    with(|node| node.store.meta.access.is_agent(who) || has_flows(node))
}

/// Whether this caller may watch: controllers and listed monitors.
pub fn may_watch(who: &Principal) -> bool {
    is_controller(who) || with(|node| node.store.meta.access.is_monitor(who))
}

/// Whether this caller may drive a reference canister: controllers, monitors, listed agents.
pub fn is_driver(who: &Principal) -> bool {
    may_watch(who) || with(|node| node.store.meta.access.is_agent(who))
}

/// For `inspect_message`: lets an ingress message in where it can be of use. It saves cycles only; every
/// method checks for itself.
pub fn inspect() {
    let who = ic_cdk::api::msg_caller();
    if is_driver(&who) || has_outbox(&who) {
        ic_cdk::api::accept_message();
    }
}

/// Whether the caller is this canister itself.
pub fn works_on_itself() -> bool {
    ic_cdk::api::msg_caller() == canister_self()
}

// --- Settings, start, upgrade ---------------------------------------------------------------------------------

/// Changes settings, lists and peers. The caller must have checked that a controller asks.
///
/// # Errors
/// The first bad value; nothing is changed then.
pub fn configure(change: Install) -> Result<(), String> {
    observe();
    let result = with(|node| install::apply(&mut node.store.meta, change, !node.app.priced));
    arm();
    result
}

/// Starts the node: from `init` and from `post_upgrade`. `first` is the first of the [`MEMORIES`]
/// memories that it uses.
///
/// # Panics
/// On a bad install argument, with the reason: the installation or upgrade fails then.
///
/// [`MEMORIES`]: super::MEMORIES
pub fn start(app: Application, memories: &Memories, first: u8, install: Option<Install>) {
    let mut store = Store::open(memories, first);
    if let Some(change) = install {
        if let Err(reason) = install::apply(&mut store.meta, change, !app.priced) {
            ic_cdk::trap(format!("bad install argument: {reason}"));
        }
    }
    let now = time();
    store.observe(now);
    store.meta.started = now;
    store.meta.start += 1;
    store.meta.batch = u32::try_from(turns::TICK_FLOWS).unwrap_or(1);
    NODE.set(Some(Node {
        store,
        app,
        gathered: None,
        works: BTreeMap::new(),
        awaited: Awaited::default(),
        unsent: Unsent::default(),
        forwards: Forwards::default(),
        armed: None,
        seed_due: 0,
    }));
    arm();
}

/// From `pre_upgrade`: saves what lives on the heap.
pub fn save() {
    with(|node| node.store.save());
}

// --- The timer --------------------------------------------------------------------------------------------------

impl Node {
    fn wake(&self, now: u64) -> Option<u64> {
        if self.store.interrupted().is_some() {
            return Some(now);
        }
        let meta = &self.store.meta;
        let seeding = (!meta.ids.is_seeded()).then_some(self.seed_due);
        let due = self.store.due().next().map(|(time, _)| *time);
        // While tombstones are kept, time is observed often enough for them.
        let glance = (!self.store.has_no_receivers()).then(|| meta.time.next_look(&meta.policy));
        let given_up = self.awaited.over_at(meta.policy.answer_within);
        earliest([seeding, due, glance, given_up, self.unsent.due()])
    }

    fn arm_at(&mut self, now: u64, time: u64) {
        let mut lost = false;
        if let Some((earlier, timer)) = self.armed.take() {
            // One that is overdue may have come while the canister was stopped, and then is lost.
            lost = earlier < now;
            if earlier <= time && !lost {
                self.armed = Some((earlier, timer));
                return;
            }
            ic_cdk_timers::clear_timer(timer);
        }
        let wait = Duration::from_nanos(time.saturating_sub(now).min(LONGEST_WAIT));
        self.armed = Some((time, ic_cdk_timers::set_timer(wait, async { tick() })));
        if lost {
            // The timers' library still waits for the lost one: have it look at what it has.
            ic_cdk::api::global_timer_set(now);
        }
    }
}

/// A year; nothing needs to look further ahead.
const LONGEST_WAIT: u64 = 365 * 24 * 3_600 * 1_000_000_000;

/// Sets the one timer for the earliest due time.
pub(crate) fn arm() {
    let now = time();
    with(|node| {
        if let Some(wake) = node.wake(now) {
            node.arm_at(now, wake.max(now));
        }
    });
}

fn tick() {
    let now = observe();
    let (work, size): (Vec<_>, _) = with(|node| {
        node.armed = None;
        let retry = now.saturating_add(node.store.meta.policy.send_retry);
        // Re-armed, and taken to be doomed, before the work, which is a message of its own: a flow that
        // traps costs one tick, is then tried alone, and holds no other up.
        node.arm_at(now, retry);
        let size = node.store.meta.batch;
        node.store.meta.batch = 1;
        // What a start has to look at has ticks of its own, before all else.
        let most = if node.store.interrupted().is_some() { 0 } else { size as usize };
        let due = node.due(now, most);
        if size == 1 {
            for one in &due {
                node.store.postpone(one.time, one.key, retry);
            }
        }
        (turns::in_turn(due).into_iter().map(|one| (one.time, one.key)).collect(), size)
    });
    if !work::later(&Job::Tick { work, size }) {
        // It did not end, yet no flow is at fault.
        with(|node| node.store.meta.batch = size);
    }
}

impl Node {
    fn due(&self, now: u64, most: usize) -> Vec<Due> {
        let mut found = Vec::new();
        let mut bytes = 0;
        for (time, key) in self.store.due() {
            let (time, key) = (*time, *key);
            if time > now || found.len() >= most {
                break;
            }
            let due = match key {
                Key::Sender(id) => self.store.sender(id).map(|kept| {
                    let (payload, _) = kept.sizes();
                    Due::sender(time, now, &kept.flow, payload, kept.usage().bytes)
                }),
                Key::Receiver(peer, id) => self.store.receiver(peer, id).map(|kept| {
                    let (_, response) = kept.sizes();
                    Due::receiver(time, now, &kept.flow, response)
                }),
            };
            let Some(due) = due else { continue };
            bytes += due.bulk;
            if bytes > turns::TICK_BYTES && !found.is_empty() {
                break;
            }
            found.push(due);
        }
        found
    }

    fn due_of(&self, key: Key) -> Option<(u64, Principal)> {
        match key {
            Key::Sender(id) => {
                let flow = self.store.sender(id)?.flow;
                Some((flow.due?, flow.peer))
            }
            Key::Receiver(peer, id) => Some((self.store.receiver(peer, id)?.flow.due?, peer)),
        }
    }

    /// Whether what is pending for a flow is still wanted.
    pub(crate) fn is_open(&self, key: Key, of: Of) -> bool {
        match key {
            Key::Sender(id) => {
                sender::is_open(self.store.sender(id).map(|kept| kept.flow).as_ref(), of)
            }
            Key::Receiver(peer, id) => {
                receiver::is_open(self.store.receiver(peer, id).map(|kept| kept.flow).as_ref(), of)
            }
        }
    }

    /// Whether there is room for what a due flow would transmit: known before the flow's payload is read.
    fn has_room_for(&self, key: Key, peer: &Principal) -> bool {
        if classify(peer) != Class::Agent {
            return self.has_room(peer);
        }
        let waits = match key {
            Key::Sender(id) => self.store.sender(id).map(|kept| {
                match matches!(kept.flow.state, State::Queued | State::Sending) {
                    true => (Kind::New, id, kept.sizes().0),
                    false => (Kind::Fin, id, 0),
                }
            }),
            Key::Receiver(peer, id) => {
                self.store.receiver(peer, id).map(|kept| (Kind::Ack, id, kept.sizes().1))
            }
        };
        let policy = &self.store.meta.policy;
        waits.is_none_or(|(kind, id, bytes)| {
            self.store.outbox.takes(*peer, kind, id, OVERHEAD + bytes, policy)
        })
    }

    /// The bytes of a flow's payload and response.
    fn carried(&self, key: Key) -> u64 {
        let sizes = match key {
            Key::Sender(id) => self.store.sender(id).map(|kept| kept.sizes()),
            Key::Receiver(peer, id) => self.store.receiver(peer, id).map(|kept| kept.sizes()),
        };
        sizes.map_or(0, |(payload, response)| payload + response)
    }

    fn share(&mut self) -> What {
        What::Restarted { share: self.store.meta.ids.up_to(1_000_000) }
    }
}

/// The work of one tick, in a message of its own.
pub(crate) async fn work_on(work: Vec<(u64, Key)>, size: u32) {
    observe();
    with(Node::gather);
    look_after_interrupted();
    give_up();
    send_unsent();
    for (time, key) in work {
        work_on_one(time, key);
    }
    for (key, t) in with(Node::flush) {
        not_sent(key, t);
    }
    let instructions = ic_cdk::api::instruction_counter();
    let must_seed = with(|node| {
        let most = u32::try_from(turns::TICK_FLOWS).unwrap_or(1);
        node.store.meta.batch = size.saturating_mul(2).clamp(1, most);
        node.store.add("instructions.tick", instructions);
        if let Some((_, timer)) = node.armed.take() {
            ic_cdk_timers::clear_timer(timer);
        }
        !node.store.meta.ids.is_seeded() && time() >= node.seed_due
    });
    if must_seed {
        seed().await;
    }
    arm();
}

fn work_on_one(fell_due: u64, key: Key) {
    // What fell due before this start is spread.
    let spread = with(|node| (fell_due < node.store.meta.started).then(|| node.share()));
    if let Some(restarted) = spread {
        let _ = on(key, restarted, true, false);
    }
    let room = with(|node| {
        let (due, peer) = node.due_of(key)?;
        (due <= time()).then(|| node.has_room_for(key, &peer))
    });
    if let Some(room) = room {
        let _ = on(key, What::Due, room, false);
    }
    with(|node| {
        let now = time();
        if let Some((due, _)) = node.due_of(key) {
            if due <= now && node.store.is_due(due, key) {
                let retry = now.saturating_add(node.store.meta.policy.send_retry);
                node.store.postpone(due, key, retry);
            }
        }
    });
}

fn look_after_interrupted() {
    let mut bytes = 0;
    for n in 0..turns::TICK_FLOWS {
        let Some(key) = with(|node| node.store.interrupted()) else { return };
        // A handler that runs again is handed the payload, who is told gets the response.
        bytes += with(|node| node.carried(key));
        if bytes > turns::TICK_BYTES && n > 0 {
            return;
        }
        let restarted = with(Node::share);
        let _ = on(key, restarted, true, false);
        with(|node| node.store.seen_to(key));
    }
}

fn give_up() {
    for _ in 0..turns::TICK_FLOWS {
        let given_up = with(|node| {
            let within = node.store.meta.policy.answer_within;
            node.awaited.take_over(time(), within)
        });
        let Some((key, of)) = given_up else { return };
        with(|node| node.store.count("never_ended"));
        let _ = on(key, What::HandlerFailed(of), true, false);
    }
}

fn send_unsent() {
    for _ in 0..turns::TICK_FLOWS {
        let Some(job) = with(|node| node.unsent.take_due(time())) else { return };
        work::supervise_again(job);
    }
}

async fn seed() {
    let call = ic_cdk::call::Call::unbounded_wait(Principal::management_canister(), "raw_rand");
    let bytes = match call.await {
        Ok(reply) => reply.candid::<Blob>().ok(),
        Err(_) => None,
    };
    with(|node| match bytes {
        Some(bytes) => node.store.meta.ids.seed(&bytes),
        None => {
            node.store.count("raw_rand failed");
            node.seed_due = time().saturating_add(node.store.meta.policy.send_retry);
        }
    });
}
