//! How flows ended and how often the handler ran, kept as long as the library keeps the flow.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};

use async_flow::canister::{is_known, knows_received, Application, Install, Memories, Request};
use async_flow::event::Tell;
use async_flow::message::Blob;
use async_flow::stable::SMALL_BUCKET_PAGES;
use async_flow::words::{Failure, Telling};
use candid::{CandidType, Deserialize, Principal};
use ic_stable_structures::memory_manager::MemoryId;
use ic_stable_structures::storable::Bound;
use ic_stable_structures::{DefaultMemoryImpl, StableBTreeMap, Storable};
use serde::Serialize;

/// The first of the library's memories.
pub const FIRST_MEMORY: u8 = 10;
/// A part of the canister's stable memory.
pub use async_flow::stable::Memory;

/// How a flow ended.
#[derive(CandidType, Serialize, Deserialize, Clone, Debug)]
#[allow(non_camel_case_types)]
pub enum Outcome {
    /// With a response.
    answered {
        /// The response.
        response: Option<Blob>,
        /// Whether it came after the failure was told.
        late: bool,
    },
    /// Without one.
    failed(Failure),
}

async_flow::stored!(Outcome);

/// A flow that a peer opened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Flow(u128, Principal);

impl Storable for Flow {
    const BOUND: Bound = Bound::Bounded { max_size: 45, is_fixed_size: false };
    fn to_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Owned((*self).into_bytes())
    }
    fn into_bytes(self) -> Vec<u8> {
        [&self.0.to_be_bytes(), self.1.as_slice()].concat()
    }
    fn from_bytes(bytes: Cow<'_, [u8]>) -> Self {
        let (id, peer) = bytes.split_at(16);
        Flow(u128::from_be_bytes(id.try_into().expect("16 bytes")), Principal::from_slice(peer))
    }
}

struct Kept {
    outcomes: StableBTreeMap<u128, Outcome, Memory>,
    runs: StableBTreeMap<Flow, u64, Memory>,
    ages: StableBTreeMap<u64, Flow, Memory>,
}

thread_local! {
    static STARTED: Cell<u64> = const { Cell::new(0) };
    static MEMORIES: RefCell<Memories> = RefCell::new(Memories::init_with_bucket_size(
        DefaultMemoryImpl::default(),
        SMALL_BUCKET_PAGES,
    ));
    static KEPT: RefCell<Kept> = RefCell::new(Kept {
        outcomes: StableBTreeMap::init(memory(0)),
        runs: StableBTreeMap::init(memory(1)),
        ages: StableBTreeMap::init(memory(2)),
    });
}

/// One memory: 0 to 2 are used here, those before [`FIRST_MEMORY`] are the canister's own.
pub fn memory(n: u8) -> Memory {
    MEMORIES.with_borrow(|memories| memories.get(MemoryId::new(n)))
}

/// Starts the node in the canister's stable memory.
pub fn start(application: Application, install: Option<Install>) {
    MEMORIES.with_borrow(|memories| {
        async_flow::canister::start(application, memories, FIRST_MEMORY, install);
    });
    STARTED.set(ic_cdk::api::instruction_counter());
}

/// Instructions that the latest installation or upgrade had taken when the node had started.
pub fn start_cost() -> u64 {
    STARTED.get()
}

/// Takes what a flow tells.
pub fn take(told: &Tell) {
    let outcome = match told.what {
        Telling::Answered => Outcome::answered { response: told.response.clone(), late: false },
        Telling::Late => Outcome::answered { response: told.response.clone(), late: true },
        Telling::Failed => Outcome::failed(told.failure.unwrap_or(Failure::Unknown)),
        _ => return,
    };
    KEPT.with_borrow_mut(|kept| {
        kept.outcomes.insert(told.msg_id, outcome);
        // Ids rise with time, so the first entries are the oldest. Two for one: it never grows beyond.
        for _ in 0..2 {
            match kept.outcomes.first_key_value() {
                Some((id, _)) if !is_known(id) => kept.outcomes.remove(&id),
                _ => break,
            };
        }
    });
}

/// How a flow ended; `None` while it is open or once it is forgotten.
pub fn outcome(id: u128) -> Option<Outcome> {
    KEPT.with_borrow(|kept| kept.outcomes.get(&id))
}

/// Counts one run of the handler.
pub fn ran(request: &Request) {
    let flow = Flow(request.msg_id, request.sender);
    KEPT.with_borrow_mut(|kept| {
        if let Some(times) = kept.runs.insert(flow, 1) {
            kept.runs.insert(flow, times + 1);
        } else {
            let next = kept.ages.last_key_value().map_or(0, |(age, _)| age + 1);
            kept.ages.insert(next, flow);
        }
        for _ in 0..2 {
            match kept.ages.first_key_value() {
                Some((age, old)) if old != flow && !knows_received(old.1, old.0) => {
                    kept.ages.remove(&age);
                    kept.runs.remove(&old);
                }
                _ => break,
            }
        }
    });
}

/// How often the handler ran for a flow.
pub fn handled(sender: Principal, id: u128) -> u128 {
    KEPT.with_borrow(|kept| u128::from(kept.runs.get(&Flow(id, sender)).unwrap_or(0)))
}
