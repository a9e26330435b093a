//! Messages that wait for agents, which fetch and trim them (`candid/outbox.did`).
//!
//! An entry names its flow and holds no bytes of its own: the message is made from the stored flow when
//! it is read.

use candid::{CandidType, Deserialize, Principal};
use serde::Serialize;

use super::store::{Map, Memory, PeerId, Store, Who};
use crate::message::{Kind, Message};
use crate::policy::Policy;
use crate::words::State;

/// What waits: which message of which flow.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Entry {
    kind: Kind,
    msg_id: u128,
    size: u64,
}

/// How much waits for one agent.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default)]
pub(crate) struct Size {
    messages: u32,
    bytes: u64,
}

pub(crate) struct Outbox {
    entries: Map<(Who, u64), Entry>,
    /// One entry for each flow and kind.
    places: Map<(PeerId, u8), u64>,
    sizes: Map<Who, Size>,
}

const PAGE_BYTES: u64 = 1_900_000;

fn kind_byte(kind: Kind) -> u8 {
    match kind {
        Kind::New => 0,
        Kind::Ack => 1,
        Kind::Fin => 2,
    }
}

impl Outbox {
    pub fn open(entries: Memory, places: Memory, sizes: Memory) -> Outbox {
        Outbox { entries: Map::init(entries), places: Map::init(places), sizes: Map::init(sizes) }
    }

    /// Whether a message of this kind and size would be put in or left, without the message.
    pub fn takes(
        &self,
        agent: Principal,
        kind: Kind,
        msg_id: u128,
        size: u64,
        policy: &Policy,
    ) -> bool {
        let used = self.sizes.get(&Who(agent)).unwrap_or_default();
        (used.messages < policy.outbox_messages && used.bytes + size <= policy.outbox_bytes)
            || self.places.contains_key(&(PeerId(agent, msg_id), kind_byte(kind)))
    }

    /// Puts a message in, or leaves the one that waits for the same flow and kind; `seq` is used up
    /// only where it is put in. False: it is full.
    pub fn put(
        &mut self,
        agent: Principal,
        message: &Message,
        seq: &mut u64,
        policy: &Policy,
    ) -> bool {
        let (kind, msg_id, size) = (message.kind(), message.msg_id(), message.size());
        let place = (PeerId(agent, msg_id), kind_byte(kind));
        if self.places.contains_key(&place) {
            return true;
        }
        if !self.takes(agent, kind, msg_id, size, policy) {
            return false;
        }
        let mut used = self.sizes.get(&Who(agent)).unwrap_or_default();
        used.messages += 1;
        used.bytes += size;
        self.sizes.insert(Who(agent), used);
        self.places.insert(place, *seq);
        self.entries.insert((Who(agent), *seq), Entry { kind, msg_id, size });
        *seq += 1;
        true
    }

    /// Takes out the message of this flow and kind, if it waits.
    pub fn remove(&mut self, agent: Principal, kind: Kind, msg_id: u128) {
        if let Some(seq) = self.places.remove(&(PeerId(agent, msg_id), kind_byte(kind))) {
            self.drop_entry(agent, seq);
        }
    }

    fn drop_entry(&mut self, agent: Principal, seq: u64) {
        let Some(entry) = self.entries.remove(&(Who(agent), seq)) else { return };
        self.places.remove(&(PeerId(agent, entry.msg_id), kind_byte(entry.kind)));
        let mut used = self.sizes.get(&Who(agent)).unwrap_or_default();
        used.messages = used.messages.saturating_sub(1);
        used.bytes = used.bytes.saturating_sub(entry.size);
        if used.messages == 0 {
            self.sizes.remove(&Who(agent));
        } else {
            self.sizes.insert(Who(agent), used);
        }
    }

    fn after(
        &self,
        agent: Principal,
        after: Option<u64>,
    ) -> impl Iterator<Item = (u64, Entry)> + '_ {
        let from = after.map_or(Some(0), |seq| seq.checked_add(1));
        let range =
            from.map(|from| self.entries.range((Who(agent), from)..=(Who(agent), u64::MAX)));
        range.into_iter().flatten().map(|entry| (entry.key().1, entry.value()))
    }

    pub fn messages(&self) -> u64 {
        self.entries.len()
    }
}

/// Which page of its outbox an agent reads.
#[derive(CandidType, Deserialize, Clone, Copy, Debug)]
pub struct OutboxQuery {
    /// Only entries after this number.
    pub after: Option<u64>,
    /// The most entries.
    pub limit: u32,
}

/// One waiting message.
#[derive(CandidType, Deserialize, Clone, Debug)]
pub struct OutboxEntry {
    /// Its number, never used again.
    pub seq: u64,
    /// The message.
    pub message: Message,
}

/// What waits for an agent, oldest first: as many as fit a page, and at least one.
pub fn read_outbox(agent: Principal, query: OutboxQuery) -> Vec<OutboxEntry> {
    super::node::with(|node| page(&node.store, agent, query, ic_cdk::api::time()))
}

/// The agent has these entries: all up to and including `seq`.
pub fn trim_outbox(agent: Principal, seq: u64) {
    super::node::with(|node| {
        let outbox = &mut node.store.outbox;
        let old: Vec<u64> =
            outbox.after(agent, None).map(|(s, _)| s).take_while(|s| *s <= seq).collect();
        for seq in old {
            outbox.drop_entry(agent, seq);
        }
    });
}

fn page(s: &Store, agent: Principal, query: OutboxQuery, now: u64) -> Vec<OutboxEntry> {
    let mut found = Vec::new();
    let mut bytes = 0;
    for (seq, entry) in s.outbox.after(agent, query.after) {
        if found.len() >= query.limit as usize
            || (!found.is_empty() && bytes + entry.size > PAGE_BYTES)
        {
            break;
        }
        if let Some(message) = message(s, agent, &entry, now) {
            found.push(OutboxEntry { seq, message });
            bytes += entry.size;
        }
    }
    found
}

fn message(s: &Store, agent: Principal, entry: &Entry, now: u64) -> Option<Message> {
    let msg_id = entry.msg_id;
    Some(match entry.kind {
        Kind::Ack => {
            let flow = s.read(s.receiver(agent, msg_id)?, false);
            Message::Ack { msg_id, payload: flow.response, hash: Some(flow.payload_hash) }
        }
        Kind::New => {
            let kept = s.sender(msg_id)?;
            // Its lifetime is tested right before it is handed out, too.
            if kept.flow.state != State::Sending || kept.flow.ends.is_none_or(|ends| now >= ends) {
                return None;
            }
            Message::New { msg_id, payload: s.read(kept, false).payload? }
        }
        Kind::Fin => Message::Fin { msg_id, hash: s.sender(msg_id)?.flow.response_hash },
    })
}
