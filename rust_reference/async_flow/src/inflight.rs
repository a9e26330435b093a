//! How many of our one-way calls hold a slot in a peer's queue.
//!
//! Nobody tells when a one-way call is over, so a call counts until its bounded wait must have ended, or
//! until every message that it carried was answered. A batch is one call. Lost at an upgrade without
//! harm: beyond the bound the queue itself says full.

use std::collections::{BTreeMap, BTreeSet};

use candid::Principal;

use crate::message::Kind;

/// The most that one message pays for.
pub const MOST_AT_ONCE: usize = 200;

struct Call {
    peer: Principal,
    until: u64,
    open: BTreeSet<(Kind, u128)>,
}

/// Calls in flight, by peer.
#[derive(Default)]
pub struct InFlight {
    calls: BTreeMap<u64, Call>,
    by_message: BTreeMap<(Principal, Kind, u128), Vec<u64>>,
    ends: BTreeSet<(u64, u64)>,
    counts: BTreeMap<Principal, u32>,
    next: u64,
}

impl InFlight {
    /// Calls in flight to a peer.
    pub fn count(&self, peer: &Principal) -> u32 {
        self.counts.get(peer).copied().unwrap_or(0)
    }

    /// Calls in flight in all.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// A call that carries these messages left; it is over at `until` at the latest.
    pub fn started(
        &mut self,
        peer: Principal,
        messages: impl IntoIterator<Item = (Kind, u128)>,
        until: u64,
    ) {
        let token = self.next;
        self.next += 1;
        let open: BTreeSet<_> = messages.into_iter().collect();
        for (kind, id) in &open {
            self.by_message.entry((peer, *kind, *id)).or_default().push(token);
        }
        self.ends.insert((until, token));
        self.calls.insert(token, Call { peer, until, open });
        *self.counts.entry(peer).or_default() += 1;
    }

    /// The message was answered, so no call carries it any more.
    pub fn answered(&mut self, peer: Principal, kind: Kind, id: u128) {
        for token in self.by_message.remove(&(peer, kind, id)).unwrap_or_default() {
            if let Some(call) = self.calls.get_mut(&token) {
                call.open.remove(&(kind, id));
                if call.open.is_empty() {
                    self.drop_call(token);
                }
            }
        }
    }

    /// Drops what is over at `now`, or some of it: the next messages drop the rest.
    pub fn expire(&mut self, now: u64) {
        for _ in 0..MOST_AT_ONCE {
            match self.ends.first().copied() {
                Some((until, token)) if until <= now => self.drop_call(token),
                _ => break,
            }
        }
    }

    fn drop_call(&mut self, token: u64) {
        let Some(call) = self.calls.remove(&token) else { return };
        self.ends.remove(&(call.until, token));
        for (kind, id) in call.open {
            if let Some(tokens) = self.by_message.get_mut(&(call.peer, kind, id)) {
                tokens.retain(|other| *other != token);
                if tokens.is_empty() {
                    self.by_message.remove(&(call.peer, kind, id));
                }
            }
        }
        if let Some(count) = self.counts.get_mut(&call.peer) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&call.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_counts_once_until_all_its_messages_are_answered() {
        let peer = Principal::from_slice(&[7, 1]);
        let mut calls = InFlight::default();
        calls.started(peer, [(Kind::New, 1), (Kind::New, 2)], 100);
        calls.started(peer, [(Kind::Fin, 9)], 50);
        assert_eq!(calls.count(&peer), 2);
        calls.answered(peer, Kind::New, 1);
        assert_eq!(calls.count(&peer), 2);
        calls.answered(peer, Kind::New, 2);
        assert_eq!(calls.count(&peer), 1);
        calls.expire(49);
        assert_eq!(calls.count(&peer), 1);
        calls.expire(50);
        assert!(calls.is_empty() && calls.by_message.is_empty() && calls.ends.is_empty());
    }

    #[test]
    fn one_message_pays_for_some_of_the_calls_that_are_over() {
        let peer = Principal::from_slice(&[7, 1]);
        let mut calls = InFlight::default();
        for id in 0..250 {
            calls.started(peer, [(Kind::New, id)], 100);
        }
        calls.expire(100);
        assert_eq!(calls.count(&peer), 50);
        calls.expire(100);
        assert!(calls.is_empty());
    }
}
