//! In which order due flows get room: FIN, then ACK, then repeated NEW, then new flows; within each
//! fairly between peers.

use std::collections::BTreeMap;

use candid::Principal;

use crate::flow::{ReceiverFlow, SenderFlow};
use crate::words::{Key, State};

/// The most flows that one tick works on.
pub const TICK_FLOWS: usize = 100;
/// The most bytes that one tick may transmit, or tell.
pub const TICK_BYTES: u64 = 1_900_000;

/// A due flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// When it fell due.
    pub time: u64,
    /// Which flow.
    pub key: Key,
    /// Its peer.
    pub peer: Principal,
    /// Its place among the kinds of messages.
    pub rank: u8,
    /// What it may transmit (bytes).
    pub bulk: u64,
}

impl Due {
    /// A due flow that we opened, with a payload of so many bytes, and so many that it carries in all: a
    /// telling that comes again has most of them.
    pub fn sender(time: u64, now: u64, flow: &SenderFlow, payload: u64, carried: u64) -> Due {
        let waits = matches!(flow.state, State::Queued | State::Sending);
        let rank = match flow.state {
            _ if flow.fin_due.is_some_and(|due| due <= now) => 1,
            State::Sending => 3,
            State::Queued => 4,
            _ => 0,
        };
        let bulk = match flow.tell_due {
            _ if waits => payload,
            Some(due) if due <= now => carried,
            _ => 0,
        };
        Due { time, key: Key::Sender(flow.msg_id), peer: flow.peer, rank, bulk }
    }

    /// A due flow that a peer opened, with a response of so many bytes.
    pub fn receiver(time: u64, now: u64, flow: &ReceiverFlow, bulk: u64) -> Due {
        let rank = if flow.send_due.is_some_and(|due| due <= now) { 2 } else { 0 };
        Due { time, key: Key::Receiver(flow.peer, flow.msg_id), peer: flow.peer, rank, bulk }
    }
}

/// Due flows, given earliest first, in the order in which they get room.
pub fn in_turn(mut due: Vec<Due>) -> Vec<Due> {
    let mut laps: BTreeMap<(u8, Principal), usize> = BTreeMap::new();
    let mut placed: Vec<(u8, usize, Due)> = due
        .drain(..)
        .map(|one| {
            let lap = laps.entry((one.rank, one.peer)).or_default();
            *lap += 1;
            (one.rank, *lap, one)
        })
        .collect();
    // The sort is stable, so that within a lap the earlier due comes first.
    placed.sort_by_key(|(rank, lap, _)| (*rank, *lap));
    placed.into_iter().map(|(_, _, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fins_go_first_and_peers_take_turns() {
        let (a, b) = (Principal::from_slice(&[1, 1]), Principal::from_slice(&[2, 1]));
        let due = |id: u128, peer, rank| Due { time: 0, key: Key::Sender(id), peer, rank, bulk: 0 };
        let order = in_turn(vec![due(1, a, 4), due(2, a, 4), due(3, b, 4), due(4, b, 1)]);
        let ids: Vec<Key> = order.iter().map(|one| one.key).collect();
        assert_eq!(ids, [4, 1, 3, 2].map(Key::Sender));
    }
}
