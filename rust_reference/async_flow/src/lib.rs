//! Requests and responses between canisters by one-shot messages.
//!
//! Nothing is awaited from a peer, so no peer can keep a canister from stopping and upgrading. Flows,
//! retries and timers live in stable memory and go on after an upgrade. The rules are those of the
//! protocol page, `docs/protocol.md`.
//!
//! The tables and all that decides is pure, without the system's API: what is stored comes in, what is
//! to be stored and done goes out. The feature `canister` (on by default) adds the thin layer that runs
//! them in a canister.

pub mod access;
pub mod admission;
#[cfg(feature = "canister")]
pub mod canister;
pub mod dialect;
pub mod event;
pub mod flow;
pub mod inflight;
pub mod message;
pub mod policy;
pub mod receiver;
pub mod sender;
#[cfg(feature = "stable")]
pub mod stable;
pub mod step;
pub mod turns;
pub mod ulid;
pub mod usage;
pub mod words;
pub mod world;
