//! NEWs of failed flows that stay in the outbox while `keeps_dead_news`.

use std::cell::RefCell;

use async_flow::canister::{OutboxEntry, OutboxQuery};
use async_flow::flow::SenderFlow;
use async_flow::message::Message;
use candid::Principal;

/// Numbers that no living entry has.
const FIRST: u64 = 1 << 40;
const MOST: usize = 1_000;

thread_local! {
    static DEAD: RefCell<Vec<(Principal, Message)>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the NEW of a flow that failed.
pub fn keep(flow: &SenderFlow) {
    let msg_id = flow.msg_id;
    DEAD.with_borrow_mut(|dead| {
        let known = dead.iter().any(|(_, message)| message.msg_id() == msg_id);
        if let (Some(payload), false, true) = (&flow.payload, known, dead.len() < MOST) {
            dead.push((flow.peer, Message::New { msg_id, payload: payload.clone() }));
        }
    });
}

/// What is read of it.
pub fn read(agent: Principal, query: OutboxQuery) -> Vec<OutboxEntry> {
    DEAD.with_borrow(|dead| {
        let numbered = (FIRST..).zip(dead);
        numbered
            .filter(|(seq, (who, _))| *who == agent && query.after.is_none_or(|after| *seq > after))
            .take(query.limit as usize)
            .map(|(seq, (_, message))| OutboxEntry { seq, message: message.clone() })
            .collect()
    })
}
