//! What an application gives to the library: its handlers.

use std::future::Future;
use std::pin::Pin;

use candid::Principal;

use crate::event::{Ask, Decision, Tell};
use crate::message::Blob;
use crate::{receiver, sender};

/// A NEW, handed to the receiver's application.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who sent it.
    pub sender: Principal,
    /// The sender's id of the flow.
    pub msg_id: u128,
    /// What is to be processed.
    pub payload: Blob,
    /// Its hash.
    pub hash: u32,
    /// Whether the handler may have run on it before.
    pub redelivered: bool,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The response; `None` is one too.
    Answer(Option<Blob>),
    /// Failed for good: these bytes are the answer.
    Failed(Option<Blob>),
    /// [`answer`](super::answer) will follow; an upgrade loses nothing.
    Later,
    /// Failed, to be retried: the sender's next NEW is processed anew.
    Retry,
}

/// What the handler makes of a request.
///
/// The handler shares one message with the store: if it traps, both are undone, and the sender's next
/// NEW is processed.
pub enum Reply {
    /// Decided at once.
    Now(Answer),
    /// Work that may await; an upgrade or a trap of it leaves the flow stalled.
    Running(Work),
}

/// Work whose result answers a request.
pub type Work = Pin<Box<dyn Future<Output = Answer>>>;

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Reply {
        Reply::Now(answer)
    }
}

/// Takes what a flow tells; by returning it has taken it. If it traps it is told again.
#[derive(Clone, Copy)]
pub enum Listener {
    /// Returns at once.
    Synchronous(fn(&Tell)),
    /// May await.
    Running(fn(Tell) -> Pin<Box<dyn Future<Output = ()>>>),
}

/// The application's side of a node.
#[derive(Clone, Copy)]
pub struct Application {
    /// `None`: no receiver, NEW and FIN are counted and ignored.
    pub handler: Option<fn(&Request) -> Reply>,
    /// `None`: no sender, ACK is counted and ignored.
    pub outcome: Option<Listener>,
    /// Stalled, abandoned, forgotten; dead letters, for the operator.
    pub notice: fn(&Tell),
    /// Decides about a wrong hash; `None`: [`decide`](super::decide) will follow.
    pub corruption: fn(&Ask) -> Option<Decision>,
    /// Whether `min_cycles` may be set: then the interface must not declare NEW's method one-way.
    pub priced: bool,
    /// Handlers are idempotent: what an upgrade or a trap interrupted runs again at once.
    pub rerun: bool,
    /// Decides each step of a flow that we opened. Wrap [`sender::step`] to see every step in the very
    /// message in which it is stored: for an index, a ledger or a metric of the application's own.
    pub sender_table: sender::Table,
    /// The same for flows that peers opened: [`receiver::step`], or what wraps it.
    pub receiver_table: receiver::Table,
}

impl Application {
    /// An application without handlers.
    pub const fn none() -> Application {
        Application {
            handler: None,
            outcome: None,
            notice: |_| {},
            corruption: |_| Some(Decision::Resend),
            priced: false,
            rerun: false,
            sender_table: sender::step,
            receiver_table: receiver::step,
        }
    }

    /// An application that answers requests.
    pub const fn receiver(handler: fn(&Request) -> Reply) -> Application {
        Application { handler: Some(handler), ..Application::none() }
    }

    /// An application that opens flows.
    pub const fn sender(outcome: fn(&Tell)) -> Application {
        Application { outcome: Some(Listener::Synchronous(outcome)), ..Application::none() }
    }

    /// Both.
    pub const fn both(handler: fn(&Request) -> Reply, outcome: fn(&Tell)) -> Application {
        Application { handler: Some(handler), ..Application::sender(outcome) }
    }
}
