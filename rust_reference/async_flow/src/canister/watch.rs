//! What monitors read: status, flows page by page, the bounded history (`candid/watch.did`).

use candid::{CandidType, Deserialize, Principal};
use serde::Serialize;
use serde_bytes::ByteBuf;

use super::node::with;
use super::store::{Change, PeerId, Store};
use crate::flow::{ReceiverFlow, SenderFlow};
use crate::policy::Policy;
use crate::words::{Failure, Key, Role, State};

/// The most flows that one page looks at, so that a filter which matches nothing stays cheap.
const PAGE_FLOWS: usize = 5_000;
const PAGE_MOST: usize = 1_000;

/// Messages that passed, by peer; the row without a peer: all others.
#[derive(CandidType, Deserialize, Clone, Debug)]
pub struct PeerRow {
    /// The peer.
    pub peer: Option<Principal>,
    /// Transmitted.
    pub sent: u64,
    /// Let in.
    pub received: u64,
    /// Not let in.
    pub refused: u64,
}

/// How the node stands.
#[derive(CandidType, Deserialize, Clone, Debug)]
pub struct Status {
    /// Version of the library.
    pub version: String,
    /// The canister's time.
    pub time: u64,
    /// What was counted, by reason.
    pub counters: Vec<(String, u64)>,
    /// What there is now.
    pub gauges: Vec<(String, u64)>,
    /// How long tombstones are kept.
    pub horizon: u64,
    /// Settings in force.
    pub settings: Policy,
    /// What passed.
    pub peers: Vec<PeerRow>,
}

/// One flow as it is reported.
#[derive(CandidType, Deserialize, Clone, Debug)]
pub struct FlowView {
    role: Role,
    peer: Principal,
    msg_id: u128,
    state: State,
    failure: Option<Failure>,
    late: bool,
    attempts: u32,
    due: Option<u64>,
    opened: u64,
    changed: u64,
    payload_hash: u32,
    response_hash: Option<u32>,
}

impl From<&SenderFlow> for FlowView {
    fn from(f: &SenderFlow) -> FlowView {
        FlowView {
            role: Role::Sender,
            peer: f.peer,
            msg_id: f.msg_id,
            state: f.state,
            failure: f.failure,
            late: f.late,
            attempts: f.attempts,
            due: f.due,
            opened: f.opened,
            changed: f.changed,
            payload_hash: f.payload_hash,
            response_hash: f.response_hash,
        }
    }
}

impl From<&ReceiverFlow> for FlowView {
    fn from(f: &ReceiverFlow) -> FlowView {
        FlowView {
            role: Role::Receiver,
            peer: f.peer,
            msg_id: f.msg_id,
            state: f.state,
            failure: None,
            late: false,
            attempts: f.attempts,
            due: f.due,
            opened: f.opened,
            changed: f.changed,
            payload_hash: f.payload_hash,
            response_hash: f.response_hash,
        }
    }
}

/// Which flows are asked for.
#[derive(CandidType, Deserialize, Clone, Debug)]
pub struct FlowsQuery {
    /// Only of this side.
    pub role: Option<Role>,
    /// Only in this state.
    pub state: Option<State>,
    /// A former page's `next`.
    pub cursor: Option<ByteBuf>,
    /// The most flows.
    pub limit: u32,
}

/// One page of flows.
#[derive(CandidType, Deserialize, Clone, Debug)]
pub struct FlowsPage {
    /// The flows.
    pub flows: Vec<FlowView>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<ByteBuf>,
}

/// Which part of the history is asked for.
#[derive(CandidType, Deserialize, Clone, Copy, Debug)]
pub struct EventsQuery {
    /// Only entries after this number.
    pub after: u64,
    /// The most entries.
    pub limit: u32,
}

/// How the node stands.
pub fn status() -> Status {
    with(|node| {
        let s = &node.store;
        let mut gauges = account("sender", Role::Sender, s);
        gauges.extend(account("receiver", Role::Receiver, s));
        let others = [
            ("in flight", s.in_flight.len() as u64),
            ("outbox messages", s.outbox.messages()),
            ("due flows", s.due().len() as u64),
            ("events kept", s.meta.history.len() as u64),
            ("time lag", s.meta.time.lag),
            ("starts", s.meta.start),
            ("stable bytes", ic_cdk::api::stable_size().saturating_mul(65_536)),
        ];
        gauges.extend(others.map(|(name, n)| (name.to_string(), n)));
        Status {
            version: env!("CARGO_PKG_VERSION").to_string(),
            time: ic_cdk::api::time(),
            counters: s.meta.counters.iter().map(|(name, n)| (name.clone(), *n)).collect(),
            gauges,
            horizon: s.meta.policy.horizon,
            settings: s.meta.policy.clone(),
            peers: s
                .meta
                .peers
                .table()
                .map(|(peer, t)| PeerRow {
                    peer,
                    sent: t.sent,
                    received: t.received,
                    refused: t.refused,
                })
                .collect(),
        }
    })
}

fn account(name: &str, role: Role, s: &Store) -> Vec<(String, u64)> {
    let sums = s.sums(role);
    vec![
        (format!("{name} open flows"), sums.total.open),
        (format!("{name} tombstones"), sums.total.tombstones),
        (format!("{name} bytes"), sums.total.counted_bytes(&s.meta.policy)),
        (format!("{name} peers"), sums.peers()),
    ]
}

/// A page in the making.
struct Page<'a> {
    query: &'a FlowsQuery,
    most: usize,
    flows: Vec<FlowView>,
    looked: usize,
}

impl Page<'_> {
    fn is_full(&self) -> bool {
        self.flows.len() >= self.most || self.looked >= PAGE_FLOWS
    }

    fn look(&mut self, view: FlowView) {
        if self.query.state.is_none_or(|wanted| wanted == view.state) {
            self.flows.push(view);
        }
        self.looked += 1;
    }

    fn end(self, next: Option<Key>) -> FlowsPage {
        let next = next.map(|key| ByteBuf::from(postcard::to_allocvec(&key).unwrap_or_default()));
        FlowsPage { flows: self.flows, next }
    }
}

/// One page: senders by id, then receivers by peer and id.
pub fn flows(query: FlowsQuery) -> FlowsPage {
    with(|node| page(&node.store, &query))
}

fn page(s: &Store, query: &FlowsQuery) -> FlowsPage {
    let most = PAGE_MOST.min(query.limit as usize);
    let mut page = Page { query, most, flows: Vec::new(), looked: 0 };
    let from: Option<Key> = query.cursor.as_ref().and_then(|c| postcard::from_bytes(c).ok());
    if most == 0 {
        return page.end(None);
    }
    let first_sender = match (query.role, from) {
        (Some(Role::Receiver), _) | (_, Some(Key::Receiver(..))) => None,
        (_, Some(Key::Sender(id))) => Some(id),
        (_, None) => Some(0),
    };
    if let Some(first) = first_sender {
        for (id, kept) in s.senders_from(first) {
            if page.is_full() {
                return page.end(Some(Key::Sender(id)));
            }
            page.look(FlowView::from(&kept.flow));
        }
    }
    let first_receiver = match (query.role, from) {
        (Some(Role::Sender), _) => return page.end(None),
        (_, Some(Key::Receiver(peer, id))) => PeerId(peer, id),
        _ => PeerId(Principal::from_slice(&[]), 0),
    };
    for (PeerId(peer, id), kept) in s.receivers_from(first_receiver) {
        if page.is_full() {
            return page.end(Some(Key::Receiver(peer, id)));
        }
        page.look(FlowView::from(&kept.flow));
    }
    page.end(None)
}

/// Changes after a number, oldest first.
pub fn events(query: EventsQuery) -> Vec<Change> {
    with(|node| {
        let most = PAGE_MOST.min(query.limit as usize);
        node.store.changes_after(query.after).take(most).cloned().collect()
    })
}

/// The answer of `asyncFlow_configure`.
#[derive(CandidType, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Configured {
    /// Done.
    #[serde(rename = "ok")]
    Ok,
    /// Nothing was changed, for this reason.
    #[serde(rename = "err")]
    Err(String),
}
