//! What can happen to a flow, and what is to be done after the step was stored: plain data.
//!
//! Chance and ids come in with the event; the tables draw nothing. Order is: store the record, then
//! carry the effects out. A pending effect whose flow has left that state and attempt is dropped.

use candid::{CandidType, Deserialize, Principal};
use serde::Serialize;

use crate::message::{Blob, Kind, Message};
use crate::words::{Dialect, Failure, Role, Telling};

/// One event on one flow.
#[derive(Clone, Debug)]
pub struct Event {
    /// Jitter in millionths.
    pub u: u64,
    /// How far observed time stands behind the clock (nanoseconds).
    pub lag: u64,
    /// Whether one more transmission to the peer fits in flight; for an ACK that names no flow,
    /// whether the global rate allows a FIN.
    pub room: bool,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum What {
    /// A message came. NEW and FIN belong to the receiver's flow (caller, id), ACK to the sender's.
    Received(Received),
    /// The record's `due` time has come.
    Due,
    /// Restart or upgrade: handlers that ran are lost. `share` says where in `spread` overdue work
    /// lands, in millionths.
    Restarted {
        /// See above.
        share: u64,
    },
    /// A transmission certainly did not leave.
    NotSent(Transmit),
    /// Certainly rejected: no such canister or method.
    Refused(Transmit),
    /// Rejected in any other way: the outcome is unknown.
    Rejected(Transmit),
    /// The application opens a flow.
    Send {
        /// The receiver.
        peer: Principal,
        /// A fresh id, or a used one to repeat the very same send.
        msg_id: u128,
        /// What is to be processed.
        payload: Blob,
        /// How to speak to this peer.
        dialect: Dialect,
    },
    /// The application gives the flow up.
    Cancel,
    /// The application took what it was told.
    Returned {
        /// What.
        what: Telling,
        /// At which try.
        tries: u32,
    },
    /// The application's code trapped.
    HandlerFailed(Of),
    /// The application has the response, however it got it.
    Finish,
    /// The corruption handler decided.
    Decided(Decision),
    /// The operator: hand the dead letter over again, tries from 1.
    RetryDeadLetter,
    /// The operator: the response is not wanted.
    DropDeadLetter,
    /// The application answers.
    Answer {
        /// The response; `None` for a null one.
        response: Option<Blob>,
        /// Whether the quotas have room for it.
        fits: bool,
    },
    /// The handler answers later by id.
    Deferred,
    /// Failed, to be retried: the sender's next NEW is processed anew.
    FailedForNow,
    /// Failed for good: these bytes are the answer.
    FailedForGood {
        /// The bytes to answer with.
        response: Option<Blob>,
        /// Whether the quotas have room for them.
        fits: bool,
    },
    /// Run the handler of a stalled flow again.
    Rerun,
}

/// A message and what admission said about it.
#[derive(Clone, Debug)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// Who the system says called.
    pub caller: Principal,
    /// The dialect that it came in.
    pub dialect: Dialect,
    /// For a NEW without a flow: why it is refused.
    pub refused: Option<String>,
    /// For an admitted NEW: whether its cycles were accepted, now or before.
    pub paid: bool,
    /// For an admitted NEW: whether its sender stands on a list.
    pub listed: bool,
    /// For an admitted NEW: the trusted ULID time, else 0.
    pub floor: u64,
}

/// On what the application's code failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// A telling.
    Tell {
        /// What was told.
        what: Telling,
        /// At which try.
        tries: u32,
    },
    /// A question.
    Ask {
        /// The wrong hash that was asked about.
        their_hash: u32,
        /// At which try.
        tries: u32,
    },
    /// A NEW.
    HandOver {
        /// At which try.
        tries: u32,
    },
}

/// What a corruption handler decides.
#[derive(CandidType, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on as if the wrong message had not come.
    #[serde(rename = "resend")]
    Resend,
    /// Take it after all; for a sender the ACK of that hash.
    #[serde(rename = "accept")]
    Accept(Option<u32>),
    /// Give the flow up.
    #[serde(rename = "abandon")]
    Abandon,
}

/// A message to be handed to the system. Reported back as it is if it did not leave.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// To whom.
    pub peer: Principal,
    /// In which dialect.
    pub dialect: Dialect,
    /// What.
    pub message: Message,
    /// Number of this transmission; an echo has the number of the attempt that it repeats.
    pub attempt: u32,
    /// Whether it answers a repeat.
    pub echo: bool,
    /// For an echo of ACK: the record's `send_due` before it.
    pub prior_due: Option<u64>,
    /// For ACK and FIN: when it was last transmitted before.
    pub prior_at: Option<u64>,
}

/// A NEW for the application's handler.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// The sender.
    pub peer: Principal,
    /// The id.
    pub msg_id: u128,
    /// The payload.
    pub payload: Blob,
    /// Its hash.
    pub hash: u32,
    /// Whether the handler may have run on it before.
    pub redelivered: bool,
    /// Number of this try.
    pub tries: u32,
}

/// How a flow stands, told until the application returns.
#[derive(CandidType, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Tell {
    /// Our side of the flow.
    pub role: Role,
    /// The other side.
    pub peer: Principal,
    /// The id.
    pub msg_id: u128,
    /// What is told.
    pub what: Telling,
    /// How it failed, for `failed`.
    pub failure: Option<Failure>,
    /// The response, where there is one.
    pub response: Option<Blob>,
    /// Whether it was told before.
    pub redelivered: bool,
    /// Number of this try.
    pub tries: u32,
}

/// A question to, or only news for, the corruption handler.
#[derive(CandidType, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Our side of the flow.
    pub role: Role,
    /// The other side.
    pub peer: Principal,
    /// The id.
    pub msg_id: u128,
    /// Kind of the message with the wrong hash.
    pub kind: Kind,
    /// What is stored here: the NEW payload, or for a FIN the response.
    pub our_payload: Option<Blob>,
    /// What came; `None` for a FIN.
    pub their_payload: Option<Blob>,
    /// The hash that would have been right.
    pub our_hash: u32,
    /// The hash that came.
    pub their_hash: u32,
    /// Whether a decision is expected.
    pub decide: bool,
    /// Number of this try.
    pub tries: u32,
}

/// What is to be done.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Hand a message to the system.
    Transmit(Transmit),
    /// Give a NEW to the handler.
    HandOver(HandOver),
    /// Tell the application.
    Tell(Tell),
    /// Ask the corruption handler.
    Ask(Ask),
    /// Count something; nothing else happens because of it.
    Count(String),
    /// Keep the paid mark of a flow that is forgotten.
    RememberPaid {
        /// The sender.
        peer: Principal,
        /// The id.
        msg_id: u128,
        /// When the mark may go.
        until: u64,
    },
}

/// The application asked for what the flow's state does not allow; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAllowed(pub String);

impl std::fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotAllowed {}
