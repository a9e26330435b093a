//! A canister that answers each request with what it was sent, and counts them.

use std::cell::{Cell, RefCell};

use async_flow::canister::{self, Answer, Application, Install, Memories, Reply, Request};
use ic_stable_structures::memory_manager::MemoryManager;
use ic_stable_structures::DefaultMemoryImpl;

thread_local! {
    static MEMORIES: RefCell<Memories> =
        RefCell::new(MemoryManager::init(DefaultMemoryImpl::default()));
    static SERVED: Cell<u64> = const { Cell::new(0) };
}

fn handle(request: &Request) -> Reply {
    SERVED.set(SERVED.get() + 1);
    Answer::Answer(Some(request.payload.clone())).into()
}

#[ic_cdk::init]
fn init(install: Option<Install>) {
    // The library uses `canister::MEMORIES` memories from the first one that it is given.
    MEMORIES.with_borrow(|memories| {
        canister::start(Application::receiver(handle), memories, 0, install);
    });
}

#[ic_cdk::pre_upgrade]
fn save() {
    canister::save();
}

#[ic_cdk::post_upgrade]
fn resume(install: Option<Install>) {
    init(install);
}

// What peers, monitors and controllers call.
async_flow::endpoint!();

fn main() {}
