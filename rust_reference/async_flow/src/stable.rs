//! How records stand in stable memory: the number of their layout, then their fields.
//!
//! For the library, and for canisters that keep records of their own beside it. Knows no record.

use ic_stable_structures::memory_manager::{MemoryId, MemoryManager, VirtualMemory};
use ic_stable_structures::{DefaultMemoryImpl, StableCell};
use serde::de::DeserializeOwned;
use serde::Serialize;

pub use ic_stable_structures;

/// A canister's stable memory, divided.
pub type Memories = MemoryManager<DefaultMemoryImpl>;
/// One of its parts.
pub type Memory = VirtualMemory<DefaultMemoryImpl>;

/// Wasm pages that a part grows by where records are few: 1 MiB.
pub const SMALL_BUCKET_PAGES: u16 = 16;

/// Version of the layout of stored records, written before each.
const LAYOUT: u8 = 1;

/// A record's bytes.
///
/// # Panics
/// If it has fields that are no plain data.
pub fn pack(value: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(value, vec![LAYOUT]).expect("plain records always serialize")
}

/// The record of some bytes.
///
/// # Panics
/// If they are of an unknown layout: they were written by a later version.
pub fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> T {
    match bytes.split_first() {
        Some((&LAYOUT, rest)) => postcard::from_bytes(rest).expect("a record of this layout"),
        other => panic!("a stored record has the unknown layout {:?}", other.map(|(v, _)| v)),
    }
}

/// Makes records storable: types that serde reads and writes.
#[macro_export]
macro_rules! stored {
    ($($kind:ty),*) => {
        $(impl $crate::stable::ic_stable_structures::Storable for $kind {
            const BOUND: $crate::stable::ic_stable_structures::storable::Bound =
                $crate::stable::ic_stable_structures::storable::Bound::Unbounded;
            fn to_bytes(&self) -> ::std::borrow::Cow<'_, [u8]> {
                ::std::borrow::Cow::Owned($crate::stable::pack(self))
            }
            fn into_bytes(self) -> Vec<u8> {
                $crate::stable::pack(&self)
            }
            fn from_bytes(bytes: ::std::borrow::Cow<'_, [u8]>) -> Self {
                $crate::stable::unpack(&bytes)
            }
        })*
    };
}

/// What lives on the heap and is saved before an upgrade.
pub struct Saved(StableCell<Vec<u8>, Memory>);

impl Saved {
    /// Opens it; what was saved, if anything was.
    pub fn open<T: DeserializeOwned>(memory: Memory) -> (Saved, Option<T>) {
        let cell = StableCell::init(memory, Vec::new());
        let value = (!cell.get().is_empty()).then(|| unpack(cell.get()));
        (Saved(cell), value)
    }

    /// Before an upgrade.
    pub fn save(&mut self, value: &impl Serialize) {
        self.0.set(pack(value));
    }
}

/// All of a canister's stable memory, of few records: its parts by number, and what was saved in part 0
/// before an upgrade.
pub fn opened<T: DeserializeOwned + Default>() -> (impl Fn(u8) -> Memory, Saved, T) {
    let memories =
        Memories::init_with_bucket_size(DefaultMemoryImpl::default(), SMALL_BUCKET_PAGES);
    let part = move |n| memories.get(MemoryId::new(n));
    let (saved, value) = Saved::open(part(0));
    (part, saved, value.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_an_unknown_layout_is_refused() {
        let record = (7_u64, Some("text".to_string()));
        let mut bytes = pack(&record);
        assert_eq!(unpack::<(u64, Option<String>)>(&bytes), record);
        bytes[0] = LAYOUT + 1;
        assert!(std::panic::catch_unwind(|| unpack::<(u64, Option<String>)>(&bytes)).is_err());
    }
}
