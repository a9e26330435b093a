//! The log and what is held, in stable memory, and the small rest, saved before an upgrade.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use async_flow::stable::{opened, Memory, Saved};
use async_flow::words::Dialect;
use candid::{CandidType, Deserialize, Principal};
use ic_stable_structures::StableBTreeMap;
use serde::Serialize;

use crate::plan::{Fault, Kind, Plan, Side};

/// Entries that the log keeps.
const LOG_ENTRIES: u64 = 200_000;
/// Messages that may be held; what comes beyond passes on at once.
pub const MOST_HELD: u64 = 10_000;

/// What befell a message.
#[derive(CandidType, Serialize, Deserialize, Clone, Copy, Debug)]
#[allow(non_camel_case_types)]
pub enum What {
    came(Option<Fault>),
    left,
    not_left,
}

/// One line of the log.
#[derive(CandidType, Serialize, Deserialize, Clone, Debug)]
pub struct Entry {
    pub seq: u64,
    pub time: u64,
    pub from: Side,
    pub kind: Option<Kind>,
    pub nth: u64,
    pub what: What,
    pub method: String,
    pub dialect: Option<Dialect>,
    pub msg_id: Option<u128>,
    pub hash: Option<u32>,
    pub payload_hash: Option<u32>,
    pub size: u64,
}

/// A message to be passed on.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Passing {
    pub to: Principal,
    pub arg: Vec<u8>,
    pub cycles: u128,
    /// The line of its departure but for time and number.
    pub line: Entry,
}

async_flow::stored!(Entry, Passing);

/// What is saved before an upgrade.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct Meta {
    pub plan: Option<Plan>,
    pub counters: BTreeMap<String, u64>,
    numbers: BTreeMap<(Side, Option<Kind>), u64>,
    last_seq: u64,
    last_held: u64,
    /// What waits to be overtaken by a message of its side: when it is due at the latest, its number.
    pub overtaken: BTreeSet<(Side, u64, u64)>,
    /// What was overtaken, and goes as ticks come to it: by side, the last number. An upgrade forgets that;
    /// the next message of the side sets it again.
    #[serde(skip)]
    overtaken_until: BTreeMap<Side, u64>,
}

pub struct Store {
    pub meta: Meta,
    saved: Saved,
    pub log: StableBTreeMap<u64, Entry, Memory>,
    /// By due time and number.
    pub held: StableBTreeMap<(u64, u64), Passing, Memory>,
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
            log: StableBTreeMap::init(memory(1)),
            held: StableBTreeMap::init(memory(2)),
        }
    }

    /// Before an upgrade.
    pub fn save(&mut self) {
        self.saved.save(&self.meta);
    }

    pub fn count(&mut self, reason: &str) {
        *self.meta.counters.entry(reason.to_string()).or_default() += 1;
    }

    /// A new plan: numbers begin anew.
    pub fn set_plan(&mut self, plan: Plan) {
        self.meta.plan = Some(plan);
        self.meta.numbers.clear();
    }

    /// The number of the next message of a side and kind.
    pub fn number(&mut self, from: Side, kind: Option<Kind>) -> u64 {
        let number = self.meta.numbers.entry((from, kind)).or_default();
        *number += 1;
        *number
    }

    /// Writes a line.
    pub fn write(&mut self, mut line: Entry, time: u64, what: What) {
        self.meta.last_seq += 1;
        (line.seq, line.time, line.what) = (self.meta.last_seq, time, what);
        self.log.insert(line.seq, line);
        if self.log.len() > LOG_ENTRIES {
            self.log.pop_first();
        }
    }

    /// Holds a message until it is due, or until it was overtaken.
    pub fn hold(&mut self, due: u64, passing: Passing, until_overtaken: bool) {
        self.meta.last_held += 1;
        let number = self.meta.last_held;
        if until_overtaken {
            self.meta.overtaken.insert((passing.line.from, due, number));
        }
        self.held.insert((due, number), passing);
    }

    /// Takes what is due.
    pub fn take_due(&mut self, now: u64, most: usize) -> Vec<Passing> {
        let mut due = Vec::new();
        while due.len() < most {
            match self.held.first_key_value() {
                Some(((time, number), passing)) if time <= now => {
                    self.held.remove(&(time, number));
                    self.meta.overtaken.remove(&(passing.line.from, time, number));
                    due.push(passing);
                }
                _ => break,
            }
        }
        due
    }

    /// A message of this side has passed: what waited for that may go.
    pub fn overtake(&mut self, side: Side) {
        if self.meta.overtaken.iter().any(|(from, ..)| *from == side) {
            self.meta.overtaken_until.insert(side, self.meta.last_held);
        }
    }

    /// Whether something that was overtaken has not gone yet.
    pub fn must_go(&self) -> bool {
        !self.meta.overtaken_until.is_empty()
    }

    /// Takes some of what was overtaken.
    pub fn take_overtaken(&mut self, most: usize) -> Vec<Passing> {
        let until = &self.meta.overtaken_until;
        let may_go = |side: &Side, number: u64| until.get(side).is_some_and(|last| number <= *last);
        let waiting: Vec<_> = self
            .meta
            .overtaken
            .iter()
            .filter(|(side, _, number)| may_go(side, *number))
            .take(most)
            .copied()
            .collect();
        if waiting.len() < most {
            self.meta.overtaken_until.clear();
        }
        waiting
            .into_iter()
            .filter_map(|place| {
                self.meta.overtaken.remove(&place);
                self.held.remove(&(place.1, place.2))
            })
            .collect()
    }
}
