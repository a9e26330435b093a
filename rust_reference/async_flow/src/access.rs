//! Who may send to a canister and who may watch it, and what is configured for single peers.

use std::collections::{BTreeMap, BTreeSet};

use candid::{CandidType, Deserialize, Principal};
use serde::Serialize;

use crate::message::Kind;
use crate::policy::{AttachCycles, Policy};
use crate::words::{classify, Class, Dialect, Ids, NullAck};

/// The lists as a controller gives them (`candid/settings.did`).
#[derive(CandidType, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// The canisters that may send NEWs; `None`: every canister.
    pub canisters: Option<Vec<Principal>>,
    /// The agents that may call at all; agents always have to be listed.
    pub agents: Vec<Principal>,
    /// Who, beside controllers, may watch.
    pub monitors: Vec<Principal>,
}

/// The lists in force.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct Access {
    canisters: Option<BTreeSet<Principal>>,
    agents: BTreeSet<Principal>,
    monitors: BTreeSet<Principal>,
}

impl Access {
    /// The lists, ready to be asked.
    ///
    /// # Errors
    /// The first principal that has no place on its list.
    pub fn from_lists(lists: &Lists) -> Result<Access, String> {
        let of_class = |who: &Principal, class: Class, what: &str| match classify(who) == class {
            true => Ok(*who),
            false => Err(format!("{who} is not {what}")),
        };
        let agents = lists
            .agents
            .iter()
            .map(|a| of_class(a, Class::Agent, "self-authenticating, as an agent's principal is"));
        let canisters = match &lists.canisters {
            None => None,
            Some(some) => Some(
                some.iter()
                    .map(|c| of_class(c, Class::Canister, "a canister's principal"))
                    .collect::<Result<_, _>>()?,
            ),
        };
        if lists.monitors.contains(&Principal::anonymous()) {
            return Err("the anonymous principal cannot be a monitor".to_string());
        }
        Ok(Access {
            canisters,
            agents: agents.collect::<Result<_, _>>()?,
            monitors: lists.monitors.iter().copied().collect(),
        })
    }

    /// Whether this is a listed agent.
    pub fn is_agent(&self, who: &Principal) -> bool {
        self.agents.contains(who)
    }

    /// Whether somebody put this very principal on a list: that gives it the full quota.
    pub fn is_listed(&self, who: &Principal) -> bool {
        self.is_agent(who) || self.canisters.as_ref().is_some_and(|some| some.contains(who))
    }

    /// Whether NEWs of this principal are admitted.
    pub fn may_send(&self, who: &Principal) -> bool {
        self.is_listed(who) || (self.canisters.is_none() && classify(who) == Class::Canister)
    }

    /// Whether this is a listed monitor.
    pub fn is_monitor(&self, who: &Principal) -> bool {
        self.monitors.contains(who)
    }
}

/// What is configured for one peer, as a controller gives it: what is left out is as for all.
#[derive(CandidType, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// The peer.
    pub peer: Principal,
    /// In which dialect flows to it are opened; `unified` if left out.
    pub dialect: Option<Dialect>,
    /// What its null ACK payloads are.
    pub null_ack: Option<NullAck>,
    /// Whether the time in its ids may be trusted.
    pub ids: Option<Ids>,
    /// Whether it offers `asyncFlow_batch`.
    pub batch: Option<bool>,
    /// Cycles sent along.
    pub attach_cycles: Option<AttachCycles>,
}

/// Messages that passed between us and one peer.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Transmitted.
    pub sent: u64,
    /// Let in.
    pub received: u64,
    /// Not let in.
    pub refused: u64,
}

/// What is configured for single peers, and a bounded table of what passes.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct Peers {
    given: BTreeMap<Principal, PeerSettings>,
    traffic: BTreeMap<Principal, Traffic>,
    others: Traffic,
}

/// Rows of the traffic table: bounded, since anybody can send.
const TRAFFIC_ROWS: usize = 256;
const MOST_CONFIGURED: usize = 10_000;

impl Peers {
    /// Why these settings are bad, if they are.
    pub fn flaw(&self, given: &[PeerSettings]) -> Option<String> {
        if self.given.len() + given.len() > MOST_CONFIGURED {
            return Some(format!("more than {MOST_CONFIGURED} peers would be configured"));
        }
        let other = given.iter().find(|g| classify(&g.peer) == Class::Other)?;
        Some(format!("{} is neither a canister nor an agent", other.peer))
    }

    /// Each entry replaces what was configured for its peer.
    pub fn change(&mut self, given: Vec<PeerSettings>) {
        for g in given {
            let nothing = g.dialect.is_none()
                && g.null_ack.is_none()
                && g.ids.is_none()
                && g.batch.is_none()
                && g.attach_cycles.is_none();
            if nothing {
                self.given.remove(&g.peer);
            } else {
                self.given.insert(g.peer, g);
            }
        }
    }

    /// In which dialect flows to a peer are opened.
    pub fn dialect(&self, peer: &Principal) -> Dialect {
        self.given.get(peer).and_then(|g| g.dialect).unwrap_or(Dialect::Unified)
    }

    /// What a peer's null ACK payloads are.
    pub fn null_ack(&self, peer: &Principal) -> NullAck {
        self.given.get(peer).and_then(|g| g.null_ack).unwrap_or(NullAck::Response)
    }

    /// Whether the time in a peer's ids may be trusted.
    pub fn trusts_ids(&self, peer: &Principal) -> bool {
        self.given.get(peer).and_then(|g| g.ids) == Some(Ids::Ulid)
    }

    /// Whether a peer offers batches.
    pub fn takes_batches(&self, peer: &Principal) -> bool {
        self.given.get(peer).and_then(|g| g.batch) == Some(true)
    }

    /// Cycles to attach to a message.
    pub fn attach(&self, peer: &Principal, policy: &Policy, kind: Kind) -> u128 {
        let own = self.given.get(peer).and_then(|g| g.attach_cycles.as_ref());
        let amounts = own.unwrap_or(&policy.attach_cycles);
        match kind {
            Kind::New => amounts.new,
            Kind::Ack => amounts.ack,
            Kind::Fin => amounts.fin,
        }
    }

    fn row(&mut self, peer: &Principal) -> &mut Traffic {
        if self.traffic.len() >= TRAFFIC_ROWS && !self.traffic.contains_key(peer) {
            return &mut self.others;
        }
        self.traffic.entry(*peer).or_default()
    }

    /// Counts a transmission.
    pub fn sent(&mut self, peer: &Principal) {
        self.row(peer).sent += 1;
    }

    /// Counts a message that was let in.
    pub fn received(&mut self, peer: &Principal) {
        self.row(peer).received += 1;
    }

    /// Counts a message that was not let in.
    pub fn refused(&mut self, peer: &Principal) {
        self.row(peer).refused += 1;
    }

    /// The table; the row without a peer stands for all that have none of their own.
    pub fn table(&self) -> impl Iterator<Item = (Option<Principal>, Traffic)> + '_ {
        let known = self.traffic.iter().map(|(peer, traffic)| (Some(*peer), *traffic));
        known.chain(std::iter::once((None, self.others)))
    }
}
