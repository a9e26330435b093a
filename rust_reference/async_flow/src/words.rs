//! The words of the tables: roles, states, ends, what the application is told.

use candid::{CandidType, Deserialize, Principal};
use serde::Serialize;

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$inner:meta])* $case:ident = $text:literal,)* })*) => {
        $($(#[$doc])*
        #[derive(
            CandidType, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
        )]
        pub enum $name {
            $($(#[$inner])* #[serde(rename = $text)] $case,)*
        }

        impl $name {
            /// Every one, in the order of declaration.
            pub const ALL: &'static [$name] = &[$($name::$case),*];

            /// Its name in interfaces.
            pub fn name(self) -> &'static str {
                match self { $($name::$case => $text,)* }
            }
        })*
    };
}

words! {
    /// On which side of a flow we stand.
    Role {
        /// We opened the flow.
        Sender = "sender",
        /// A peer opened it.
        Receiver = "receiver",
    }

    /// Where a flow stands; the first seven belong to the sender, the others to the receiver.
    State {
        /// Stored, not transmitted yet.
        Queued = "queued",
        /// Transmitted at least once, no answer.
        Sending = "sending",
        /// An ACK of something else came; the application is asked.
        Corrupt = "corrupt",
        /// The response is stored and handed over.
        Answered = "answered",
        /// The application failed on the response too often.
        DeadLetter = "dead_letter",
        /// The application has the response.
        Acknowledged = "acknowledged",
        /// No answer in time, or given up.
        Failed = "failed",
        /// The handler works on it, or answers later.
        Processing = "processing",
        /// No handler works on it any more.
        Stalled = "stalled",
        /// The response is on its way.
        Acknowledging = "acknowledging",
        /// The response was never confirmed.
        Abandoned = "abandoned",
        /// The sender has the response.
        Finished = "finished",
    }

    /// How a flow failed. Unsent and refused: certainly not done; the others: unknown.
    Failure {
        /// Nothing left.
        Unsent = "unsent",
        /// The only attempt was certainly rejected.
        Refused = "refused",
        /// The application gave it up.
        Cancelled = "cancelled",
        /// Nobody decided about a wrong ACK, or it was abandoned.
        Corrupt = "corrupt",
        /// It may yet have run.
        Unknown = "unknown",
    }

    /// What the application, or for a dead letter the operator, is told.
    Telling {
        /// Sender: the response.
        Answered = "answered",
        /// Sender: the one outcome, with its failure.
        Failed = "failed",
        /// Sender: the response of a flow that was told to have failed.
        Late = "late",
        /// Sender: the application failed on the response too often.
        DeadLetter = "dead_letter",
        /// Receiver: no handler works on it any more.
        Stalled = "stalled",
        /// Receiver: the response was never confirmed.
        Abandoned = "abandoned",
        /// Receiver: a stalled flow's horizon is over; told once.
        Forgotten = "forgotten",
    }

    /// The ways in which the three messages are spoken.
    Dialect {
        /// One method for all three; ours.
        Unified = "unified",
        /// The published Motoko package.
        Maf = "maf",
        /// The first specification.
        Bounty = "bounty",
        /// The specification's worked example.
        Positional = "positional",
    }

    /// What null ACK payloads of a peer are.
    NullAck {
        /// A response like any other.
        Response = "response",
        /// A mere receipt: the answer follows.
        Receipt = "receipt",
    }

    /// Whether the time in a peer's ids may be trusted.
    Ids {
        /// Never ordered or expired by their bits.
        Opaque = "opaque",
        /// ULIDs by the specification.
        Ulid = "ulid",
    }
}

/// What kind of principal a peer is: that decides how it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A canister: it is called.
    Canister,
    /// An agent, known by its key: it polls its outbox.
    Agent,
    /// The anonymous principal and all others: refused.
    Other,
}

/// The class of a principal, by its last byte.
pub fn classify(peer: &Principal) -> Class {
    match peer.as_slice() {
        [.., 0x01] => Class::Canister,
        bytes @ [.., 0x02] if bytes.len() == 29 => Class::Agent,
        _ => Class::Other,
    }
}

/// Identifies a flow within one canister: a sender's ids are unique over all its receivers; a receiver
/// tells its senders apart.
#[derive(
    CandidType, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum Key {
    /// A flow that we opened.
    #[serde(rename = "sender")]
    Sender(u128),
    /// A flow that this peer opened.
    #[serde(rename = "receiver")]
    Receiver(Principal, u128),
}
