//! What is stored of a flow: one record of plain fields a role. Times are nanoseconds since 1970.
//!
//! `due` is the only time that a scheduler needs: the earliest moment at which `What::Due` can change
//! something. It follows from the other times at each step.

use candid::{Deserialize, Principal};
use serde::Serialize;

use crate::message::Blob;
use crate::words::{Dialect, Failure, State, Telling};

/// One flow that this canister opened.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SenderFlow {
    /// The receiver.
    pub peer: Principal,
    /// Unique over all our flows.
    pub msg_id: u128,
    /// How we speak to this peer; fixed when the flow was opened.
    pub dialect: Dialect,
    /// Row of the sender's table.
    pub state: State,
    /// Set in `failed`.
    pub failure: Option<Failure>,
    /// Whether a response came after the failure.
    pub late: bool,
    /// The NEW payload; `None` once dropped.
    pub payload: Option<Blob>,
    /// Its hash, kept longer.
    pub payload_hash: u32,
    /// The accepted response; `None` for a null one, before there is one, and once dropped.
    pub response: Option<Blob>,
    /// Its hash; `None` until a response was accepted.
    pub response_hash: Option<u32>,
    /// Transmissions of NEW, those certainly not sent taken back.
    pub attempts: u32,
    /// When the application sent it.
    pub opened: u64,
    /// The last change of state.
    pub changed: u64,
    /// When the state is over by itself: lifetime, linger or retention.
    pub ends: Option<u64>,
    /// The next transmission of NEW.
    pub send_due: Option<u64>,
    /// When the application is told or asked again.
    pub tell_due: Option<u64>,
    /// Opened tries of the present telling or question.
    pub tries: u32,
    /// Whether the application took the outcome.
    pub told: bool,
    /// And the late response.
    pub late_taken: bool,
    /// The next transmission of a FIN that the system did not accept.
    pub fin_due: Option<u64>,
    /// When that is given up.
    pub fin_until: Option<u64>,
    /// The last transmission of FIN, for the echo rule.
    pub fin_at: Option<u64>,
    /// FINs sent in answer to repeats.
    pub fin_echoes: u32,
    /// Wrong hashes that were reported, at most three.
    pub wrong: Vec<u32>,
    /// Hash of the stored wrong ACK.
    pub wrong_hash: Option<u32>,
    /// Its payload.
    pub wrong_payload: Option<Blob>,
    /// See the module.
    pub due: Option<u64>,
}

/// One flow that a peer opened here.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ReceiverFlow {
    /// The sender.
    pub peer: Principal,
    /// The sender's id of the flow; opaque.
    pub msg_id: u128,
    /// The dialect its NEW came in; replies use it.
    pub dialect: Dialect,
    /// Row of the receiver's table.
    pub state: State,
    /// The NEW payload; `None` once dropped.
    pub payload: Option<Blob>,
    /// Its hash, kept in the tombstone.
    pub payload_hash: u32,
    /// The response; `None` for a null one, before there is one, and once dropped.
    pub response: Option<Blob>,
    /// Its hash; `None` until there is a response.
    pub response_hash: Option<u32>,
    /// Transmissions of ACK, echoes apart.
    pub attempts: u32,
    /// When NEW was admitted.
    pub opened: u64,
    /// The last change of state.
    pub changed: u64,
    /// When the state is over by itself; of tombstones in observed time.
    pub ends: Option<u64>,
    /// The next transmission of ACK.
    pub send_due: Option<u64>,
    /// When the application is told again.
    pub tell_due: Option<u64>,
    /// Of the handler while processing, else of the present telling.
    pub tries: u32,
    /// Whether the application took what the state tells.
    pub told: bool,
    /// The last transmission of ACK, for the echo rule.
    pub ack_at: Option<u64>,
    /// ACKs sent in answer to repeats.
    pub ack_echoes: u32,
    /// Hashes of other NEW payloads that were reported, at most three.
    pub wrong_news: Vec<u32>,
    /// Wrong FIN hashes that were reported, at most three.
    pub wrong_fins: Vec<u32>,
    /// Whether the handler answers later by id, which survives a restart.
    pub deferred: bool,
    /// Whether this flow's cycles were accepted.
    pub paid: bool,
    /// Whether its sender stood on a list when it came: decides in which quota it counts.
    pub listed: bool,
    /// The horizon in force when the flow came; a later shorter one does not hold for it.
    pub horizon: u64,
    /// Trusted ULID time, else 0: the tombstone is kept at least `horizon` after it.
    pub floor: u64,
    /// See the module.
    pub due: Option<u64>,
}

impl SenderFlow {
    /// What the application, or for a dead letter the operator, has yet to take.
    pub fn pending(&self) -> Option<Telling> {
        match self.state {
            State::Answered => Some(Telling::Answered),
            State::DeadLetter if !self.told => Some(Telling::DeadLetter),
            State::Failed if !self.told => Some(Telling::Failed),
            State::Failed if self.late && !self.late_taken => Some(Telling::Late),
            _ => None,
        }
    }

    /// Whether nothing was answered yet and the lifetime runs.
    pub fn is_unanswered(&self) -> bool {
        matches!(self.state, State::Queued | State::Sending | State::Corrupt)
    }

    /// The earliest time at which `What::Due` can change something.
    pub fn next_due(&self) -> Option<u64> {
        let sending = matches!(self.state, State::Queued | State::Sending);
        let ends = match self.state {
            State::Failed if self.pending().is_some() => None,
            _ => self.ends,
        };
        let send_due = if sending { self.send_due } else { None };
        earliest([ends, send_due, self.tell_due, self.fin_due])
    }
}

impl ReceiverFlow {
    /// What the application has yet to take.
    pub fn pending(&self) -> Option<Telling> {
        match self.state {
            _ if self.told => None,
            State::Stalled => Some(Telling::Stalled),
            State::Abandoned => Some(Telling::Abandoned),
            _ => None,
        }
    }

    /// The earliest time at which `What::Due` can change something, as far as is known now.
    pub fn next_due(&self, lag: u64) -> Option<u64> {
        let by_clock = matches!(self.state, State::Processing | State::Acknowledging);
        let ends = self.ends.map(|ends| if by_clock { ends } else { ends.saturating_add(lag) });
        earliest([ends, self.send_due, self.tell_due])
    }
}

/// The earliest of some times, where there is one.
pub fn earliest<const N: usize>(times: [Option<u64>; N]) -> Option<u64> {
    times.into_iter().flatten().min()
}
