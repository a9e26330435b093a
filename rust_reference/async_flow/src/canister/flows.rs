//! One side's flows in stable memory, found by a key: a small record each, and apart from it what a flow
//! carries, its payloads and responses.
//!
//! A step writes one record; what a flow carries is written once, and read only where it is needed. The
//! index from keys to records lives on the heap and is made anew, from the records, when a canister
//! starts. Knows no rule of the protocol.

use std::collections::BTreeMap;
use std::ops::RangeFrom;

use candid::Deserialize;
use serde::de::DeserializeOwned;
use serde::Serialize;

use super::pages::Pages;
use super::store::{Memory, PeerId};
use crate::flow::{ReceiverFlow, SenderFlow};
use crate::message::Blob;
use crate::stable::{pack, unpack};
use crate::usage::Usage;

/// Bytes of a record's page: nearly every record fits one.
const RECORD_PAGE: usize = 256;
/// Bytes of a page of what flows carry.
const CONTENT_PAGE: usize = 512;

/// What flows carry, for both sides.
pub(crate) type Contents = Pages<Memory>;

/// Opens the memory of what flows carry.
pub(crate) fn open_contents(memory: Memory) -> Contents {
    Pages::open(memory, CONTENT_PAGE)
}

/// Where one carried byte string is kept; page 0: it is empty.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    page: u32,
    length: u32,
}

/// What a flow can carry at the same time.
type Places = [Option<Place>; 3];

/// A record of a flow.
pub(crate) trait Flow: Serialize + DeserializeOwned {
    /// What finds it.
    type Key: Ord + Copy;

    fn key(&self) -> Self::Key;

    /// What it carries.
    fn carried(&mut self) -> [Option<&mut Option<Blob>>; 3];

    /// The hash that stands for each of those: while it is the same, so are the bytes.
    fn hashes(&self) -> [Option<u32>; 3];

    /// What it takes of the quotas.
    fn usage(&self) -> Usage;
}

impl Flow for SenderFlow {
    type Key = u128;

    fn key(&self) -> u128 {
        self.msg_id
    }

    fn carried(&mut self) -> [Option<&mut Option<Blob>>; 3] {
        [Some(&mut self.payload), Some(&mut self.response), Some(&mut self.wrong_payload)]
    }

    fn hashes(&self) -> [Option<u32>; 3] {
        [Some(self.payload_hash), self.response_hash, self.wrong_hash]
    }

    fn usage(&self) -> Usage {
        Usage::of_sender(self)
    }
}

impl Flow for ReceiverFlow {
    type Key = PeerId;

    fn key(&self) -> PeerId {
        PeerId(self.peer, self.msg_id)
    }

    fn carried(&mut self) -> [Option<&mut Option<Blob>>; 3] {
        [Some(&mut self.payload), Some(&mut self.response), None]
    }

    fn hashes(&self) -> [Option<u32>; 3] {
        [Some(self.payload_hash), self.response_hash, None]
    }

    fn usage(&self) -> Usage {
        Usage::of_receiver(self)
    }
}

/// A flow without what it carries.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Kept<F> {
    pub flow: F,
    places: Places,
}

impl<F: Flow> Kept<F> {
    /// The bytes that the flow carries.
    fn bytes(&self) -> u64 {
        self.places.iter().flatten().map(|place| u64::from(place.length)).sum()
    }

    /// The bytes of its payload, and of its response.
    pub fn sizes(&self) -> (u64, u64) {
        let size = |n: usize| self.places[n].map_or(0, |place: Place| u64::from(place.length));
        (size(0), size(1))
    }

    /// What it takes of the quotas.
    pub fn usage(&self) -> Usage {
        Usage { bytes: self.bytes(), ..self.flow.usage() }
    }

    /// The flow with all that it carries.
    pub fn whole(self, contents: &Contents) -> F {
        self.filled(|place| match place.page {
            0 => Blob::new(),
            page => Blob::from(contents.get(page)),
        })
    }

    /// The flow with an empty string in the place of each that it carries.
    pub fn hollow(self) -> F {
        self.filled(|_| Blob::new())
    }

    fn filled(mut self, bytes: impl Fn(Place) -> Blob) -> F {
        for (carried, place) in self.flow.carried().into_iter().zip(self.places) {
            if let Some(blob) = carried {
                *blob = place.map(&bytes);
            }
        }
        self.flow
    }
}

/// The flows of one side.
pub(crate) struct Flows<F: Flow> {
    records: Pages<Memory>,
    index: BTreeMap<F::Key, u32>,
}

impl<F: Flow> Flows<F> {
    /// Opens them, and shows each to `look`.
    pub fn open(memory: Memory, mut look: impl FnMut(&Kept<F>)) -> Flows<F> {
        let records = Pages::open(memory, RECORD_PAGE);
        let mut index = BTreeMap::new();
        for (page, bytes) in records.all() {
            let kept: Kept<F> = unpack(&bytes);
            look(&kept);
            index.insert(kept.flow.key(), page);
        }
        Flows { records, index }
    }

    pub fn contains(&self, key: &F::Key) -> bool {
        self.index.contains_key(key)
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// A flow, without what it carries.
    pub fn get(&self, key: &F::Key) -> Option<Kept<F>> {
        self.index.get(key).map(|page| self.at(*page))
    }

    fn at(&self, page: u32) -> Kept<F> {
        unpack(&self.records.get(page))
    }

    /// Flows from a key on, in the order of keys.
    pub fn range(&self, from: RangeFrom<F::Key>) -> impl Iterator<Item = (F::Key, Kept<F>)> + '_ {
        self.index.range(from).map(|(key, page)| (*key, self.at(*page)))
    }

    /// Stores a flow. `hollow`: it came without what it carries, and what it still has stays.
    pub fn put(
        &mut self,
        contents: &mut Contents,
        old: Option<&Kept<F>>,
        mut flow: F,
        hollow: bool,
    ) -> Kept<F> {
        let before = old.map_or([None; 3], |old| old.places);
        let (was, is) = (old.map_or([None; 3], |old| old.flow.hashes()), flow.hashes());
        let mut places = [None; 3];
        for (n, carried) in flow.carried().into_iter().enumerate() {
            let bytes = carried.and_then(Option::take);
            places[n] = match (bytes, before[n]) {
                (Some(bytes), Some(place))
                    if is[n] == was[n] && (hollow || bytes.len() == place.length as usize) =>
                {
                    Some(place)
                }
                (bytes, place) => {
                    free(contents, place);
                    bytes.map(|bytes| store(contents, &bytes))
                }
            };
        }
        let kept = Kept { flow, places };
        let (bytes, key) = (pack(&kept), kept.flow.key());
        match self.index.get(&key).copied() {
            Some(page) => self.records.replace(page, &bytes),
            None => {
                self.index.insert(key, self.records.put(&bytes));
            }
        }
        kept
    }

    /// Forgets a flow.
    pub fn remove(&mut self, contents: &mut Contents, old: &Kept<F>) {
        for place in old.places {
            free(contents, place);
        }
        if let Some(page) = self.index.remove(&old.flow.key()) {
            self.records.free(page);
        }
    }
}

fn store(contents: &mut Contents, bytes: &[u8]) -> Place {
    let length = u32::try_from(bytes.len()).expect("a message's bytes");
    Place { page: if bytes.is_empty() { 0 } else { contents.put(bytes) }, length }
}

fn free(contents: &mut Contents, place: Option<Place>) {
    if let Some(page) = place.map(|place| place.page).filter(|page| *page != 0) {
        contents.free(page);
    }
}
