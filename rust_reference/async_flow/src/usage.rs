//! What flows take of the quotas, and what a new one or an answer would take.
//!
//! Rule: the protocol page, section Admission, Quotas.

use candid::Deserialize;
use serde::Serialize;

use crate::flow::{ReceiverFlow, SenderFlow};
use crate::message::Blob;
use crate::policy::Policy;
use crate::words::State;

/// What some flows take.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Open flows.
    pub open: u64,
    /// Flows kept only to know a late message.
    pub tombstones: u64,
    /// Open flows without an answer, for each of which `response_room` counts too.
    pub unanswered: u64,
    /// Bytes of payloads and responses that are stored.
    pub bytes: u64,
}

fn size(blob: &Option<Blob>) -> u64 {
    blob.as_ref().map_or(0, |bytes| bytes.len() as u64)
}

impl Usage {
    fn new(open: bool, answered: bool, bytes: u64) -> Usage {
        Usage {
            open: u64::from(open),
            tombstones: u64::from(!open),
            unanswered: u64::from(open && !answered),
            bytes,
        }
    }

    /// What one flow that we opened takes.
    pub fn of_sender(flow: &SenderFlow) -> Usage {
        let open = match flow.state {
            State::Acknowledged => false,
            State::Failed => flow.pending().is_some(),
            _ => true,
        };
        let bytes = size(&flow.payload) + size(&flow.response) + size(&flow.wrong_payload);
        Usage::new(open, flow.response_hash.is_some(), bytes)
    }

    /// What one flow that a peer opened takes.
    pub fn of_receiver(flow: &ReceiverFlow) -> Usage {
        let open = matches!(flow.state, State::Processing | State::Stalled | State::Acknowledging);
        let bytes = size(&flow.payload) + size(&flow.response);
        Usage::new(open, flow.response_hash.is_some(), bytes)
    }

    /// What a flow takes that is just admitted, with so many bytes of payload.
    pub fn of_new(payload: u64) -> Usage {
        Usage::new(true, false, payload)
    }

    /// Takes one flow's part out and puts another in.
    pub fn exchange(&mut self, old: Usage, new: Usage) {
        let moved = |sum: u64, old: u64, new: u64| (sum + new).saturating_sub(old);
        self.open = moved(self.open, old.open, new.open);
        self.tombstones = moved(self.tombstones, old.tombstones, new.tombstones);
        self.unanswered = moved(self.unanswered, old.unanswered, new.unanswered);
        self.bytes = moved(self.bytes, old.bytes, new.bytes);
    }

    /// Whether it stands for no flow at all.
    pub fn is_empty(&self) -> bool {
        *self == Usage::default()
    }

    /// Bytes as the quotas count them.
    pub fn counted_bytes(&self, policy: &Policy) -> u64 {
        self.bytes.saturating_add(self.unanswered.saturating_mul(policy.response_room))
    }
}

/// The sums that one decision needs, of one side's flows only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usages {
    /// Of the flows with the peer in question.
    pub peer: Usage,
    /// Of all flows.
    pub everyone: Usage,
    /// Of the flows with peers that are on no list, which share at most half.
    pub unlisted: Usage,
}

impl Usages {
    /// The same with what more flows with the peer take.
    pub fn with_more(mut self, more: Usage, listed: bool) -> Usages {
        self.peer.exchange(Usage::default(), more);
        self.everyone.exchange(Usage::default(), more);
        if !listed {
            self.unlisted.exchange(Usage::default(), more);
        }
        self
    }

    /// Which quota a new flow of so many payload bytes would break.
    pub fn broken_by(&self, payload: u64, policy: &Policy, listed: bool) -> Option<&'static str> {
        let (peer, all, unlisted) = (&self.peer, &self.everyone, &self.unlisted);
        let half = |most: u32| u64::from(most / 2);
        let counts = [
            (peer.open >= u64::from(policy.open_flows_per_peer), "quota_open_flows_per_peer"),
            (all.open >= u64::from(policy.open_flows), "quota_open_flows"),
            (peer.tombstones >= u64::from(policy.tombstones_per_peer), "quota_tombstones_per_peer"),
            (all.tombstones >= u64::from(policy.tombstones), "quota_tombstones"),
            (!listed && unlisted.open >= half(policy.open_flows), "quota_unlisted_open_flows"),
            (
                !listed && unlisted.tombstones >= half(policy.tombstones),
                "quota_unlisted_tombstones",
            ),
        ];
        match counts.iter().find(|(broken, _)| *broken) {
            Some((_, quota)) => Some(quota),
            None => self.bytes_over(payload.saturating_add(policy.response_room), policy, listed),
        }
    }

    /// Whether an answer can be stored: where room is reserved for it, as for each open flow without an
    /// answer, up to `response_room` always; beyond it if bytes are free.
    pub fn fits(&self, answer: u64, policy: &Policy, listed: bool, reserved: bool) -> bool {
        let beyond = if reserved { answer.saturating_sub(policy.response_room) } else { answer };
        beyond == 0 || self.bytes_over(beyond, policy, listed).is_none()
    }

    fn bytes_over(&self, more: u64, policy: &Policy, listed: bool) -> Option<&'static str> {
        let would_use = |usage: &Usage| usage.counted_bytes(policy).saturating_add(more);
        if would_use(&self.peer) > policy.bytes_per_peer {
            Some("quota_bytes_per_peer")
        } else if would_use(&self.everyone) > policy.bytes {
            Some("quota_bytes")
        } else if !listed && would_use(&self.unlisted) > policy.bytes / 2 {
            Some("quota_unlisted_bytes")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_share_half() {
        let policy = Policy { open_flows: 10, open_flows_per_peer: 10, ..Policy::default() };
        let taken = Usage { open: 5, ..Usage::default() };
        let usages = Usages { everyone: taken, unlisted: taken, ..Usages::default() };
        assert_eq!(usages.broken_by(0, &policy, false), Some("quota_unlisted_open_flows"));
        assert_eq!(usages.broken_by(0, &policy, true), None);
    }

    #[test]
    fn a_small_answer_fits_where_room_is_reserved() {
        let policy = Policy { bytes: 1, bytes_per_peer: 1, ..Policy::default() };
        let usages = Usages::default();
        assert!(usages.fits(policy.response_room, &policy, true, true));
        assert!(!usages.fits(policy.response_room + 2, &policy, true, true));
        assert!(!usages.fits(policy.response_room, &policy, true, false));
        assert!(usages.fits(1, &policy, true, false));
    }
}
