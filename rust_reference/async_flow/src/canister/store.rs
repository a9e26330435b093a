//! Where flows live: stable memory, with the indices and sums over it.
//!
//! Every write of a flow goes through `put_sender` or `put_receiver`, which keep the due index, the
//! sums, the outbox, the restart marks and the history in step. No cost here grows with the number of
//! flows by more than a logarithm. `Meta` is small, lives on the heap, and is saved before an upgrade.

use std::borrow::Cow;
use std::collections::BTreeMap;

use candid::{CandidType, Principal};
use ic_stable_structures::memory_manager::MemoryId;
use ic_stable_structures::storable::Bound;
use ic_stable_structures::{StableBTreeMap, Storable};
use serde::{Deserialize, Serialize};

use super::outbox::Outbox;
use crate::access::{Access, Peers};
use crate::flow::{ReceiverFlow, SenderFlow};
use crate::inflight::InFlight;
use crate::message::Kind;
use crate::policy::Policy;
pub use crate::stable::Memories;
pub(crate) use crate::stable::Memory;
use crate::stable::Saved;
use crate::ulid::Ids;
use crate::usage::{Usage, Usages};
use crate::words::{classify, Class, Key, Role, State};
use crate::world::{FinRate, ObservedTime};

pub(crate) type Map<K, V> = StableBTreeMap<K, V, Memory>;

/// How many memories, from the first one that it is given, the library uses.
pub const MEMORIES: u8 = 14;

// --- How things are laid out ------------------------------------------------------------------------

crate::stored!(SenderFlow, ReceiverFlow, Change, Usage, super::outbox::Entry, super::outbox::Size);

/// A principal as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Who(pub Principal);

impl Storable for Who {
    const BOUND: Bound = Bound::Bounded { max_size: 29, is_fixed_size: false };
    fn to_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.0.as_slice())
    }
    fn into_bytes(self) -> Vec<u8> {
        self.0.as_slice().to_vec()
    }
    fn from_bytes(bytes: Cow<'_, [u8]>) -> Self {
        Who(Principal::from_slice(&bytes))
    }
}

/// A peer and one of its ids as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PeerId(pub Principal, pub u128);

impl Storable for PeerId {
    const BOUND: Bound = Bound::Bounded { max_size: 45, is_fixed_size: false };
    fn to_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Owned((*self).into_bytes())
    }
    fn into_bytes(self) -> Vec<u8> {
        [&self.1.to_be_bytes(), self.0.as_slice()].concat()
    }
    fn from_bytes(bytes: Cow<'_, [u8]>) -> Self {
        let (id, peer) = bytes.split_at(16);
        PeerId(Principal::from_slice(peer), u128::from_be_bytes(id.try_into().expect("16 bytes")))
    }
}

impl Storable for Key {
    const BOUND: Bound = Bound::Bounded { max_size: 46, is_fixed_size: false };
    fn to_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.into_bytes())
    }
    fn into_bytes(self) -> Vec<u8> {
        match self {
            Key::Sender(id) => [&[0], id.to_be_bytes().as_slice()].concat(),
            Key::Receiver(peer, id) => [&[1], PeerId(peer, id).into_bytes().as_slice()].concat(),
        }
    }
    fn from_bytes(bytes: Cow<'_, [u8]>) -> Self {
        let PeerId(peer, id) = PeerId::from_bytes(Cow::Borrowed(&bytes[1..]));
        if bytes[0] == 0 {
            Key::Sender(id)
        } else {
            Key::Receiver(peer, id)
        }
    }
}

/// One entry of the bounded history (`candid/watch.did`).
#[derive(CandidType, Serialize, Deserialize, Clone, Debug)]
pub struct Change {
    /// Its number.
    pub seq: u64,
    /// When.
    pub time: u64,
    /// Our side of the flow.
    pub role: Role,
    /// The other side.
    pub peer: Principal,
    /// The id.
    pub msg_id: u128,
    /// `None` where the flow came to be.
    pub from: Option<State>,
    /// `None` where it was forgotten.
    pub to: Option<State>,
    /// The event that did it.
    pub why: String,
}

/// Sums over the flows of one side.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub total: Usage,
    pub unlisted: Usage,
}

/// What concerns no single flow.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub(crate) struct Meta {
    pub policy: Policy,
    pub access: Access,
    pub peers: Peers,
    pub time: ObservedTime,
    pub ids: Ids,
    pub counters: BTreeMap<String, u64>,
    pub sending: Sums,
    pub receiving: Sums,
    pub start: u64,
    pub started: u64,
    pub next_change: u64,
    pub oldest_change: u64,
    pub next_seq: u64,
    /// Due flows in the next tick: 1 while the last tick did not end.
    pub batch: u32,
}

// --- The store ----------------------------------------------------------------------------------------

/// What of a flow, as it was stored, the indices need to know.
pub(crate) struct Before {
    usage: Usage,
    listed: bool,
    due: Option<u64>,
    state: State,
    peer: Principal,
}

impl Before {
    pub fn of_sender(flow: &SenderFlow) -> Before {
        Before {
            usage: Usage::of_sender(flow),
            listed: true,
            due: flow.due,
            state: flow.state,
            peer: flow.peer,
        }
    }

    pub fn of_receiver(flow: &ReceiverFlow) -> Before {
        Before {
            usage: Usage::of_receiver(flow),
            listed: flow.listed,
            due: flow.due,
            state: flow.state,
            peer: flow.peer,
        }
    }
}

pub(crate) struct Store {
    pub meta: Meta,
    saved: Saved,
    pub senders: Map<u128, SenderFlow>,
    pub receivers: Map<PeerId, ReceiverFlow>,
    pub due: Map<(u64, Key), ()>,
    /// Where the due index holds another time than the flow.
    postponed: Map<Key, u64>,
    /// Flows with a handler at work or an untaken telling, by the number of the start in which that
    /// began: what a restart has to look at.
    attention: Map<Key, u64>,
    oldest: Map<(u64, Key), ()>,
    usages: Map<(u8, Who), Usage>,
    pub outbox: Outbox,
    paid: Map<PeerId, u64>,
    paid_ends: Map<(u64, PeerId), ()>,
    pub events: Map<u64, Change>,
    pub in_flight: InFlight,
    pub fin_rate: FinRate,
}

fn role_byte(role: Role) -> u8 {
    u8::from(role == Role::Receiver)
}

impl Store {
    /// Opens what is stored in the memories from `first` on; what is not there yet is made.
    pub fn open(memories: &Memories, first: u8) -> Store {
        let memory = |n: u8| memories.get(MemoryId::new(first + n));
        let (saved, meta) = Saved::open(memory(0));
        let first =
            Meta { next_change: 1, oldest_change: 1, next_seq: 1, batch: 100, ..Meta::default() };
        Store {
            meta: meta.unwrap_or(first),
            saved,
            senders: Map::init(memory(1)),
            receivers: Map::init(memory(2)),
            due: Map::init(memory(3)),
            postponed: Map::init(memory(4)),
            attention: Map::init(memory(5)),
            oldest: Map::init(memory(6)),
            usages: Map::init(memory(7)),
            outbox: Outbox::open(memory(8), memory(9), memory(10)),
            paid: Map::init(memory(11)),
            paid_ends: Map::init(memory(12)),
            events: Map::init(memory(13)),
            in_flight: InFlight::default(),
            fin_rate: FinRate::default(),
        }
    }

    /// Before an upgrade: what lives on the heap.
    pub fn save(&mut self) {
        self.saved.save(&self.meta);
    }

    pub fn count(&mut self, reason: &str) {
        self.add(reason, 1);
    }

    pub fn add(&mut self, counter: &str, amount: u64) {
        match self.meta.counters.get_mut(counter) {
            Some(n) => *n = n.wrapping_add(amount),
            None => {
                self.meta.counters.insert(counter.to_string(), amount);
            }
        }
    }

    /// First thing in every message: time is observed.
    pub fn observe(&mut self, now: u64) {
        self.meta.time.observe(now, &self.meta.policy);
        self.in_flight.expire(now);
        while let Some(((until, key), ())) = self.paid_ends.first_key_value() {
            if until > now {
                break;
            }
            self.paid_ends.remove(&(until, key));
            self.paid.remove(&key);
        }
    }

    // --- Writing flows ----------------------------------------------------------------------------------

    pub fn put_sender(
        &mut self,
        id: u128,
        old: Option<Before>,
        new: Option<SenderFlow>,
        now: u64,
        why: &str,
    ) {
        let key = Key::Sender(id);
        let after = new.as_ref().map(Before::of_sender);
        let tells =
            new.as_ref().is_some_and(|f| f.pending().is_some() || f.state == State::Corrupt);
        match new {
            Some(flow) => {
                self.senders.insert(id, flow);
            }
            None => {
                self.senders.remove(&id);
            }
        }
        self.index(key, old.as_ref(), after.as_ref(), tells);
        if let Some(before) = &old {
            let waits = after.as_ref().is_some_and(|f| f.state == State::Sending);
            if classify(&before.peer) == Class::Agent {
                if before.state == State::Sending && !waits {
                    self.outbox.remove(before.peer, Kind::New, id);
                }
                if after.is_none() {
                    self.outbox.remove(before.peer, Kind::Fin, id);
                }
            }
        }
        self.follow(Role::Sender, id, old, after, now, why);
    }

    pub fn put_receiver(
        &mut self,
        peer: Principal,
        id: u128,
        old: Option<Before>,
        new: Option<ReceiverFlow>,
        now: u64,
        why: &str,
    ) {
        let key = Key::Receiver(peer, id);
        let after = new.as_ref().map(Before::of_receiver);
        let tells = new.as_ref().is_some_and(|f| {
            f.pending().is_some() || (f.state == State::Processing && !f.deferred)
        });
        match new {
            Some(flow) => {
                self.receivers.insert(PeerId(peer, id), flow);
            }
            None => {
                self.receivers.remove(&PeerId(peer, id));
            }
        }
        self.index(key, old.as_ref(), after.as_ref(), tells);
        let over = after.as_ref().is_none_or(|f| f.state == State::Finished);
        if over && classify(&peer) == Class::Agent {
            self.outbox.remove(peer, Kind::Ack, id);
        }
        self.follow(Role::Receiver, id, old, after, now, why);
    }

    fn index(&mut self, key: Key, old: Option<&Before>, new: Option<&Before>, tells: bool) {
        let held = self.postponed.remove(&key).or_else(|| old.and_then(|f| f.due));
        let due = new.and_then(|f| f.due);
        if held != due {
            if let Some(time) = held {
                self.due.remove(&(time, key));
            }
            if let Some(time) = due {
                self.due.insert((time, key), ());
            }
        }
        self.attend(key, tells);
    }

    fn follow(
        &mut self,
        role: Role,
        id: u128,
        old: Option<Before>,
        new: Option<Before>,
        now: u64,
        why: &str,
    ) {
        self.weigh(role, old.as_ref(), new.as_ref());
        let Some(peer) = new.as_ref().or(old.as_ref()).map(|f| f.peer) else { return };
        let (from, to) = (old.map(|f| f.state), new.map(|f| f.state));
        if from == to {
            return;
        }
        let meta = &mut self.meta;
        let seq = meta.next_change;
        meta.next_change += 1;
        let why = why.to_string();
        self.events.insert(seq, Change { seq, time: now, role, peer, msg_id: id, from, to, why });
        while meta.next_change - meta.oldest_change > u64::from(meta.policy.events) {
            self.events.remove(&meta.oldest_change);
            meta.oldest_change += 1;
        }
    }

    /// Holds a due flow back until `until`, without a change of the flow.
    pub fn postpone(&mut self, at: u64, key: Key, until: u64) {
        self.due.remove(&(at, key));
        self.due.insert((until, key), ());
        self.postponed.insert(key, until);
    }

    fn attend(&mut self, key: Key, needed: bool) {
        let start = self.meta.start;
        if let Some(since) = self.attention.get(&key) {
            if needed && since == start {
                return;
            }
            self.oldest.remove(&(since, key));
            if !needed {
                self.attention.remove(&key);
                return;
            }
        } else if !needed {
            return;
        }
        self.attention.insert(key, start);
        self.oldest.insert((start, key), ());
    }

    /// A flow that a start before the present one left with a handler at work or an untaken telling.
    pub fn interrupted(&self) -> Option<Key> {
        let ((since, key), ()) = self.oldest.first_key_value()?;
        (since < self.meta.start).then_some(key)
    }

    /// Marks an interrupted flow as seen to in this start.
    pub fn seen_to(&mut self, key: Key) {
        if self.attention.contains_key(&key) {
            self.attend(key, true);
        }
    }

    // --- Sums and marks ---------------------------------------------------------------------------------

    fn weigh(&mut self, role: Role, old: Option<&Before>, new: Option<&Before>) {
        let (out, into) =
            (old.map(|f| f.usage).unwrap_or_default(), new.map(|f| f.usage).unwrap_or_default());
        let Some(flow) = new.or(old) else { return };
        if out == into {
            return;
        }
        let sums = match role {
            Role::Sender => &mut self.meta.sending,
            Role::Receiver => &mut self.meta.receiving,
        };
        sums.total.exchange(out, into);
        if !flow.listed {
            sums.unlisted.exchange(out, into);
        }
        let own = (role_byte(role), Who(flow.peer));
        let mut usage = self.usages.get(&own).unwrap_or_default();
        usage.exchange(out, into);
        if usage.is_empty() {
            self.usages.remove(&own);
        } else {
            self.usages.insert(own, usage);
        }
    }

    pub fn usages(&self, role: Role, peer: Principal) -> Usages {
        let sums = match role {
            Role::Sender => &self.meta.sending,
            Role::Receiver => &self.meta.receiving,
        };
        Usages {
            peer: self.usages.get(&(role_byte(role), Who(peer))).unwrap_or_default(),
            everyone: sums.total,
            unlisted: sums.unlisted,
        }
    }

    pub fn known_peers(&self, role: Role) -> u64 {
        let from = (role_byte(role), Who(Principal::from_slice(&[])));
        self.usages.range(from..).filter(|entry| entry.key().0 == role_byte(role)).count() as u64
    }

    pub fn remember_paid(&mut self, peer: Principal, id: u128, until: u64) {
        let key = PeerId(peer, id);
        if let Some(old) = self.paid.insert(key, until) {
            self.paid_ends.remove(&(old, key));
        }
        self.paid_ends.insert((until, key), ());
    }

    pub fn has_paid(&self, peer: Principal, id: u128) -> bool {
        self.paid.contains_key(&PeerId(peer, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_as_they_were() {
        let peer = Principal::from_slice(&[1, 2, 3, 1]);
        for key in [Key::Sender(u128::MAX), Key::Receiver(peer, 7), Key::Sender(0)] {
            assert_eq!(Key::from_bytes(key.to_bytes()), key);
        }
        let none = PeerId(Principal::from_slice(&[]), 5);
        assert_eq!(PeerId::from_bytes(none.to_bytes()), none);
    }
}
