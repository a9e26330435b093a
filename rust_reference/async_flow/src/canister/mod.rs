//! The thin layer that runs the tables in a canister: stable memory, one timer, calls, cycles.
//!
//! A step is: read the flow, ask the table, store, carry the effects out. All of that is one message, so
//! that a trap undoes the flow and its transmissions together. Nothing is awaited from a peer.

mod application;
mod calls;
mod endpoint;
mod flows;
mod install;
mod node;
mod outbox;
mod pages;
mod store;
mod watch;
mod work;

pub use application::{Answer, Application, Listener, Reply, Request, Work};
pub use endpoint::{raw, receive_call};
pub use install::Install;
pub use node::{
    answer, cancel, configure, decide, drop_dead_letter, fail, finish, forget, has_outbox, inspect,
    is_driver, is_known, knows_received, may_watch, receive, receive_batch, rerun, retry, save,
    send, send_as, start, works_on_itself,
};
pub use outbox::{read_outbox, trim_outbox, OutboxEntry, OutboxQuery};
pub use store::{Change, Memories, MEMORIES};
pub use watch::{
    events, flows, status, Configured, EventsQuery, FlowView, FlowsPage, FlowsQuery, PeerRow,
    Status,
};
pub use work::work;
