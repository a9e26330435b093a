//! What waits, in stable memory, and the small rest, saved before an upgrade.

use std::cell::RefCell;
use std::collections::BTreeMap;

use async_flow::message::{payload_hash, Message};
use async_flow::stable::{opened, Memory, Saved};
use async_flow::words::Dialect;
use candid::{Deserialize, Principal};
use ic_stable_structures::StableBTreeMap;
use serde::Serialize;

use crate::room::{Settings, Size};

/// One message that waits.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Entry {
    pub from: Principal,
    pub dialect: Dialect,
    pub message: Message,
}

impl Entry {
    /// What tells it from others: caller, kind, id, hash.
    fn place(&self) -> Vec<u8> {
        let hash = match &self.message {
            Message::New { payload, .. } => Some(payload_hash(Some(payload))),
            Message::Ack { hash, .. } | Message::Fin { hash, .. } => *hash,
        };
        let tag = [self.message.kind() as u8, u8::from(hash.is_some())];
        let hash = hash.unwrap_or_default().to_be_bytes();
        let id = self.message.msg_id().to_be_bytes();
        [&tag, hash.as_slice(), &id, self.from.as_slice()].concat()
    }
}

async_flow::stored!(Entry, Size);

/// What is saved before an upgrade.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct Meta {
    pub settings: Settings,
    pub counters: BTreeMap<String, u64>,
    pub total: Size,
    strange: Size,
    last_seq: u64,
}

pub struct Store {
    pub meta: Meta,
    saved: Saved,
    entries: StableBTreeMap<u64, Entry, Memory>,
    places: StableBTreeMap<Vec<u8>, u64, Memory>,
    /// By seq: whether it counts among the strangers' messages, whatever the lists say since.
    strange: StableBTreeMap<u64, (), Memory>,
    callers: StableBTreeMap<Vec<u8>, Size, Memory>,
}

thread_local! {
    static STORE: RefCell<Store> = RefCell::new(Store::open());
}

/// The store.
pub fn with<T>(ask: impl FnOnce(&mut Store) -> T) -> T {
    STORE.with_borrow_mut(ask)
}

impl Store {
    fn open() -> Store {
        let (memory, saved, meta) = opened();
        Store {
            meta,
            saved,
            entries: StableBTreeMap::init(memory(1)),
            places: StableBTreeMap::init(memory(2)),
            strange: StableBTreeMap::init(memory(3)),
            callers: StableBTreeMap::init(memory(4)),
        }
    }

    /// Before an upgrade.
    pub fn save(&mut self) {
        self.saved.save(&self.meta);
    }

    pub fn count(&mut self, reason: &str) {
        *self.meta.counters.entry(reason.to_string()).or_default() += 1;
    }

    /// Why this caller may leave nothing.
    pub fn refuses(&self, from: Principal) -> Option<&'static str> {
        self.meta.settings.refuses(&from)
    }

    /// Puts a message in; a repeat of one that waits, and what does not fit, is counted and dropped.
    pub fn keep(&mut self, entry: Entry) {
        let place = entry.place();
        if self.places.contains_key(&place) {
            return self.count("repeated");
        }
        let (from, size) = (entry.from, entry.message.size());
        let caller = from.as_slice().to_vec();
        let mut own = self.callers.get(&caller).unwrap_or_default();
        let meta = &mut self.meta;
        if !meta.settings.fits(&from, size, own, meta.total, meta.strange) {
            return self.count("full");
        }
        meta.last_seq += 1;
        let seq = meta.last_seq;
        meta.total.add(size);
        if !meta.settings.is_peer(&from) {
            meta.strange.add(size);
            self.strange.insert(seq, ());
        }
        own.add(size);
        self.callers.insert(caller, own);
        self.places.insert(place, seq);
        self.entries.insert(seq, entry);
        self.count("received");
    }

    /// What waits after a number, oldest first.
    pub fn after(&self, after: Option<u64>) -> impl Iterator<Item = (u64, Entry)> + '_ {
        let from = after.map_or(Some(0), |seq| seq.checked_add(1));
        let range = from.map(|from| self.entries.range(from..));
        range.into_iter().flatten().map(|entry| (*entry.key(), entry.value()))
    }

    /// Removes what waits, up to and including a number.
    pub fn trim(&mut self, seq: u64) {
        while let Some((first, entry)) = self.entries.first_key_value() {
            if first > seq {
                break;
            }
            let size = entry.message.size();
            self.entries.remove(&first);
            self.places.remove(&entry.place());
            self.meta.total.subtract(size);
            if self.strange.remove(&first).is_some() {
                self.meta.strange.subtract(size);
            }
            let caller = entry.from.as_slice().to_vec();
            let mut own = self.callers.get(&caller).unwrap_or_default();
            own.subtract(size);
            if own.messages == 0 {
                self.callers.remove(&caller);
            } else {
                self.callers.insert(caller, own);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fin(id: u128, hash: Option<u32>) -> Entry {
        let message = Message::Fin { msg_id: id, hash };
        Entry { from: Principal::from_slice(&[1, 1]), dialect: Dialect::Unified, message }
    }

    #[test]
    fn the_first_stands_until_it_is_trimmed() {
        let mut store = Store::open();
        for hash in [None, Some(0), None] {
            store.keep(fin(1, hash));
        }
        assert_eq!(store.meta.total.messages, 2);
        assert_eq!(store.meta.counters["repeated"], 1);
        store.trim(1);
        assert_eq!(store.after(None).map(|(seq, _)| seq).collect::<Vec<_>>(), [2]);
        store.keep(fin(1, None));
        assert_eq!(store.after(Some(2)).map(|(seq, _)| seq).collect::<Vec<_>>(), [3]);
        store.trim(u64::MAX);
        assert_eq!(store.meta.total, Size::default());
        assert!(store.callers.is_empty() && store.places.is_empty() && store.strange.is_empty());
    }
}
