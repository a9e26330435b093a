//! Where flows live: stable memory, with the indices and sums over it.
//!
//! Every write of a flow goes through `put_sender` or `put_receiver`, which keep the due index, the
//! sums, the outbox, the restart marks and the history in step. No cost here grows with the number of
//! flows by more than the logarithm of a search on the heap. What follows from the flows (indices, sums,
//! marks) lives on the heap and is made anew at each start; `Meta`, with the bounded history, lives there
//! too and is saved before an upgrade.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use candid::{CandidType, Principal};
use ic_stable_structures::memory_manager::MemoryId;
use ic_stable_structures::storable::Bound;
use ic_stable_structures::{StableBTreeMap, Storable};
use serde::{Deserialize, Serialize};

use super::flows::{open_contents, Contents, Flow, Flows, Kept};
use super::outbox::Outbox;
use crate::access::{Access, Peers};
use crate::flow::{ReceiverFlow, SenderFlow};
use crate::inflight::{InFlight, MOST_AT_ONCE};
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
pub const MEMORIES: u8 = 9;

// --- How things are laid out ------------------------------------------------------------------------

crate::stored!(super::outbox::Entry, super::outbox::Size);

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
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    pub total: Usage,
    unlisted: Usage,
    peers: BTreeMap<Principal, Usage>,
}

impl Sums {
    fn exchange(&mut self, peer: Principal, listed: bool, out: Usage, into: Usage) {
        if out == into {
            return;
        }
        self.total.exchange(out, into);
        if !listed {
            self.unlisted.exchange(out, into);
        }
        let usage = self.peers.entry(peer).or_default();
        usage.exchange(out, into);
        if usage.is_empty() {
            self.peers.remove(&peer);
        }
    }

    /// Whether there are flows with this peer.
    pub fn has(&self, peer: &Principal) -> bool {
        self.peers.contains_key(peer)
    }

    /// Peers with which there are flows.
    pub fn peers(&self) -> u64 {
        self.peers.len() as u64
    }
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
    pub start: u64,
    pub started: u64,
    pub next_change: u64,
    /// The latest changes, oldest first.
    pub history: VecDeque<Change>,
    pub next_seq: u64,
    /// Due flows in the next tick: 1 while the last tick did not end.
    pub batch: u32,
}

// --- The store ----------------------------------------------------------------------------------------

/// What of a stored flow the indices need to know.
struct Summary {
    usage: Usage,
    listed: bool,
    due: Option<u64>,
    state: State,
    peer: Principal,
    /// Whether a handler is at work on it or a telling is not taken: what a restart has to look at.
    tells: bool,
}

impl From<&Kept<SenderFlow>> for Summary {
    fn from(kept: &Kept<SenderFlow>) -> Summary {
        let flow = &kept.flow;
        Summary {
            usage: kept.usage(),
            listed: true,
            due: flow.due,
            state: flow.state,
            peer: flow.peer,
            tells: flow.pending().is_some() || flow.state == State::Corrupt,
        }
    }
}

impl From<&Kept<ReceiverFlow>> for Summary {
    fn from(kept: &Kept<ReceiverFlow>) -> Summary {
        let flow = &kept.flow;
        let at_work = flow.state == State::Processing && !flow.deferred;
        Summary {
            usage: kept.usage(),
            listed: flow.listed,
            due: flow.due,
            state: flow.state,
            peer: flow.peer,
            tells: flow.pending().is_some() || at_work,
        }
    }
}

/// What follows from the flows, for both sides.
#[derive(Default)]
struct Index {
    due: BTreeSet<(u64, Key)>,
    /// Where the due index holds another time than the flow.
    postponed: BTreeMap<Key, u64>,
    /// Flows that this start found with a handler at work or an untaken telling, until it has seen to
    /// them.
    interrupted: BTreeSet<Key>,
    sending: Sums,
    receiving: Sums,
}

impl Index {
    fn sums(&mut self, key: Key) -> &mut Sums {
        match key {
            Key::Sender(_) => &mut self.sending,
            Key::Receiver(..) => &mut self.receiving,
        }
    }

    /// A flow that was there when the canister started.
    fn found(&mut self, key: Key, flow: &Summary) {
        if flow.tells {
            self.interrupted.insert(key);
        }
        self.exchange(key, None, Some(flow));
    }

    fn exchange(&mut self, key: Key, old: Option<&Summary>, new: Option<&Summary>) {
        let held = self.postponed.remove(&key).or_else(|| old.and_then(|f| f.due));
        let due = new.and_then(|f| f.due);
        if held != due {
            if let Some(time) = held {
                self.due.remove(&(time, key));
            }
            if let Some(time) = due {
                self.due.insert((time, key));
            }
        }
        if !new.is_some_and(|f| f.tells) {
            self.interrupted.remove(&key);
        }
        if let Some(flow) = new.or(old) {
            let usage = |f: Option<&Summary>| f.map(|f| f.usage).unwrap_or_default();
            self.sums(key).exchange(flow.peer, flow.listed, usage(old), usage(new));
        }
    }
}

pub(crate) struct Store {
    pub meta: Meta,
    saved: Saved,
    senders: Flows<SenderFlow>,
    receivers: Flows<ReceiverFlow>,
    contents: Contents,
    index: Index,
    pub outbox: Outbox,
    paid: Map<PeerId, u64>,
    paid_ends: Map<(u64, PeerId), ()>,
    /// How many marks of a payment each peer has.
    paid_by: BTreeMap<Principal, u64>,
    pub in_flight: InFlight,
    pub fin_rate: FinRate,
}

impl Store {
    /// Opens what is stored in the memories from `first` on; what is not there yet is made.
    pub fn open(memories: &Memories, first: u8) -> Store {
        let memory = |n: u8| memories.get(MemoryId::new(first + n));
        let (saved, meta) = Saved::open(memory(0));
        let first = Meta { next_change: 1, next_seq: 1, batch: 100, ..Meta::default() };
        let mut index = Index::default();
        let paid: Map<PeerId, u64> = Map::init(memory(7));
        let mut paid_by = BTreeMap::new();
        for mark in paid.keys() {
            *paid_by.entry(mark.0).or_default() += 1;
        }
        Store {
            meta: meta.unwrap_or(first),
            saved,
            senders: Flows::open(memory(1), |kept: &Kept<SenderFlow>| {
                index.found(Key::Sender(kept.flow.msg_id), &Summary::from(kept));
            }),
            receivers: Flows::open(memory(2), |kept: &Kept<ReceiverFlow>| {
                index.found(Key::Receiver(kept.flow.peer, kept.flow.msg_id), &Summary::from(kept));
            }),
            contents: open_contents(memory(3)),
            index,
            outbox: Outbox::open(memory(4), memory(5), memory(6)),
            paid,
            paid_ends: Map::init(memory(8)),
            paid_by,
            in_flight: InFlight::default(),
            fin_rate: FinRate::default(),
        }
    }

    /// Before an upgrade: what lives on the heap and does not follow from the flows.
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
        for _ in 0..MOST_AT_ONCE {
            match self.paid_ends.first_key_value() {
                Some(((until, key), ())) if until <= now => self.forget_paid(key.0, key.1),
                _ => break,
            }
        }
    }

    // --- Reading flows ----------------------------------------------------------------------------------

    /// A flow that we opened, without what it carries.
    pub fn sender(&self, id: u128) -> Option<Kept<SenderFlow>> {
        self.senders.get(&id)
    }

    /// A flow that a peer opened, without what it carries.
    pub fn receiver(&self, peer: Principal, id: u128) -> Option<Kept<ReceiverFlow>> {
        self.receivers.get(&PeerId(peer, id))
    }

    /// The same, with or without what it carries.
    pub fn read<F: Flow>(&self, kept: Kept<F>, hollow: bool) -> F {
        match hollow {
            true => kept.hollow(),
            false => kept.whole(&self.contents),
        }
    }

    pub fn has_sender(&self, id: u128) -> bool {
        self.senders.contains(&id)
    }

    pub fn has_receiver(&self, peer: Principal, id: u128) -> bool {
        self.receivers.contains(&PeerId(peer, id))
    }

    /// Whether no flow that a peer opened is kept.
    pub fn has_no_receivers(&self) -> bool {
        self.receivers.is_empty()
    }

    /// Flows that we opened, by id.
    pub fn senders_from(&self, id: u128) -> impl Iterator<Item = (u128, Kept<SenderFlow>)> + '_ {
        self.senders.range(id..)
    }

    /// Flows that peers opened, by peer and id.
    pub fn receivers_from(
        &self,
        first: PeerId,
    ) -> impl Iterator<Item = (PeerId, Kept<ReceiverFlow>)> + '_ {
        self.receivers.range(first..)
    }

    // --- Writing flows ----------------------------------------------------------------------------------

    /// Stores what became of a flow that we opened. `hollow`: the step saw it without what it carries.
    pub fn put_sender(
        &mut self,
        id: u128,
        old: Option<Kept<SenderFlow>>,
        new: Option<SenderFlow>,
        hollow: bool,
        why: &str,
    ) {
        let before = old.as_ref().map(Summary::from);
        let after = match new {
            Some(flow) => {
                let kept = self.senders.put(&mut self.contents, old.as_ref(), flow, hollow);
                Some(Summary::from(&kept))
            }
            None => {
                if let Some(old) = &old {
                    self.senders.remove(&mut self.contents, old);
                }
                None
            }
        };
        if let Some(before) = &before {
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
        self.follow(Key::Sender(id), id, before, after, why);
    }

    /// The same for a flow that a peer opened.
    pub fn put_receiver(
        &mut self,
        peer: Principal,
        id: u128,
        old: Option<Kept<ReceiverFlow>>,
        new: Option<ReceiverFlow>,
        hollow: bool,
        why: &str,
    ) {
        let before = old.as_ref().map(Summary::from);
        let after = match new {
            Some(flow) => {
                let kept = self.receivers.put(&mut self.contents, old.as_ref(), flow, hollow);
                Some(Summary::from(&kept))
            }
            None => {
                if let Some(old) = &old {
                    self.receivers.remove(&mut self.contents, old);
                }
                None
            }
        };
        let over = after.as_ref().is_none_or(|f| f.state == State::Finished);
        if over && classify(&peer) == Class::Agent {
            self.outbox.remove(peer, Kind::Ack, id);
        }
        self.follow(Key::Receiver(peer, id), id, before, after, why);
    }

    fn follow(
        &mut self,
        key: Key,
        msg_id: u128,
        old: Option<Summary>,
        new: Option<Summary>,
        why: &str,
    ) {
        self.index.exchange(key, old.as_ref(), new.as_ref());
        let Some(peer) = new.as_ref().or(old.as_ref()).map(|f| f.peer) else { return };
        let (from, to) = (old.map(|f| f.state), new.map(|f| f.state));
        if from == to {
            return;
        }
        let role = match key {
            Key::Sender(_) => Role::Sender,
            Key::Receiver(..) => Role::Receiver,
        };
        let meta = &mut self.meta;
        let (seq, time, why) = (meta.next_change, ic_cdk::api::time(), why.to_string());
        meta.next_change += 1;
        meta.history.push_back(Change { seq, time, role, peer, msg_id, from, to, why });
        while meta.history.len() as u64 > u64::from(meta.policy.events) {
            meta.history.pop_front();
        }
    }

    // --- What is due ------------------------------------------------------------------------------------

    /// Due times, earliest first.
    pub fn due(&self) -> impl ExactSizeIterator<Item = &(u64, Key)> {
        self.index.due.iter()
    }

    /// Whether the due index holds this flow at this time.
    pub fn is_due(&self, at: u64, key: Key) -> bool {
        self.index.due.contains(&(at, key))
    }

    /// Holds a due flow back until `until`, without a change of the flow.
    pub fn postpone(&mut self, at: u64, key: Key, until: u64) {
        self.index.due.remove(&(at, key));
        self.index.due.insert((until, key));
        self.index.postponed.insert(key, until);
    }

    /// A flow that a start before the present one left with a handler at work or an untaken telling.
    pub fn interrupted(&self) -> Option<Key> {
        self.index.interrupted.first().copied()
    }

    /// Marks an interrupted flow as seen to in this start.
    pub fn seen_to(&mut self, key: Key) {
        self.index.interrupted.remove(&key);
    }

    // --- Sums and marks ---------------------------------------------------------------------------------

    pub fn sums(&self, role: Role) -> &Sums {
        match role {
            Role::Sender => &self.index.sending,
            Role::Receiver => &self.index.receiving,
        }
    }

    pub fn usages(&self, role: Role, peer: Principal) -> Usages {
        let sums = self.sums(role);
        Usages {
            peer: sums.peers.get(&peer).copied().unwrap_or_default(),
            everyone: sums.total,
            unlisted: sums.unlisted,
        }
    }

    /// Marks a flow that is not stored as paid for. False: as many marks are kept already, of this peer or
    /// in all, as tombstones may be.
    pub fn remember_paid(&mut self, peer: Principal, id: u128, until: u64) -> bool {
        self.forget_paid(peer, id);
        let policy = &self.meta.policy;
        let of_peer = self.paid_by.get(&peer).copied().unwrap_or(0);
        if of_peer >= u64::from(policy.tombstones_per_peer)
            || self.paid.len() >= u64::from(policy.tombstones)
        {
            return false;
        }
        let key = PeerId(peer, id);
        self.paid.insert(key, until);
        self.paid_ends.insert((until, key), ());
        *self.paid_by.entry(peer).or_default() += 1;
        true
    }

    /// Drops the mark of a flow, if there is one.
    pub fn forget_paid(&mut self, peer: Principal, id: u128) {
        let key = PeerId(peer, id);
        let Some(until) = self.paid.remove(&key) else { return };
        self.paid_ends.remove(&(until, key));
        if let Some(count) = self.paid_by.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.paid_by.remove(&peer);
            }
        }
    }

    pub fn has_paid(&self, peer: Principal, id: u128) -> bool {
        self.paid.contains_key(&PeerId(peer, id))
    }

    /// Changes after a number, oldest first.
    pub fn changes_after(&self, seq: u64) -> impl Iterator<Item = &Change> {
        let oldest = self.meta.next_change - self.meta.history.len() as u64;
        let passed = seq.saturating_add(1).saturating_sub(oldest);
        self.meta.history.iter().skip(usize::try_from(passed).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_as_they_were() {
        let peer = Principal::from_slice(&[1, 2, 3, 1]);
        for key in [PeerId(peer, u128::MAX), PeerId(peer, 7)] {
            assert_eq!(PeerId::from_bytes(key.to_bytes()), key);
        }
        let none = PeerId(Principal::from_slice(&[]), 5);
        assert_eq!(PeerId::from_bytes(none.to_bytes()), none);
    }
}
