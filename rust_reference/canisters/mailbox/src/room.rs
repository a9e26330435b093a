//! The mailbox's settings, and how much room each caller has.

use std::collections::BTreeSet;

use async_flow::words::{classify, Class};
use candid::{CandidType, Deserialize, Principal};
use serde::Serialize;

/// Settings as they are given; what is left out keeps its present value.
#[derive(CandidType, Deserialize, Clone, Debug, Default)]
pub struct Mailbox {
    /// The agent that it belongs to.
    pub owner: Option<Principal>,
    /// Canisters that the owner deals with; all others share half.
    pub peers: Option<Vec<Principal>>,
    /// Whether peers alone may leave messages.
    pub closed: Option<bool>,
    /// Messages that may wait in all.
    pub messages: Option<u32>,
    /// Bytes that may wait in all.
    pub bytes: Option<u64>,
    /// Messages that may wait of one caller.
    pub messages_per_caller: Option<u32>,
    /// Bytes that may wait of one caller.
    pub bytes_per_caller: Option<u64>,
}

/// Settings in force.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Settings {
    pub owner: Option<Principal>,
    peers: BTreeSet<Principal>,
    closed: bool,
    messages: u32,
    bytes: u64,
    messages_per_caller: u32,
    bytes_per_caller: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            owner: None,
            peers: BTreeSet::new(),
            closed: false,
            messages: 10_000,
            bytes: 256 * 1024 * 1024,
            messages_per_caller: 1_000,
            bytes_per_caller: 16 * 1024 * 1024,
        }
    }
}

impl From<&Settings> for Mailbox {
    fn from(s: &Settings) -> Mailbox {
        Mailbox {
            owner: s.owner,
            peers: Some(s.peers.iter().copied().collect()),
            closed: Some(s.closed),
            messages: Some(s.messages),
            bytes: Some(s.bytes),
            messages_per_caller: Some(s.messages_per_caller),
            bytes_per_caller: Some(s.bytes_per_caller),
        }
    }
}

/// What waits.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub messages: u32,
    pub bytes: u64,
}

impl Size {
    pub fn add(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes;
    }

    pub fn subtract(&mut self, bytes: u64) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn fits(self, more: u64, messages: u32, bytes: u64) -> bool {
        self.messages < messages && self.bytes.saturating_add(more) <= bytes
    }
}

impl Settings {
    /// Applies all of a change, or nothing and says why.
    pub fn change(&mut self, change: Mailbox) -> Result<(), String> {
        if let Some(owner) = change.owner {
            if classify(&owner) != Class::Agent {
                return Err(format!("the owner must be an agent's own principal, not {owner}"));
            }
        }
        let other = change.peers.iter().flatten().find(|p| classify(p) != Class::Canister);
        if let Some(other) = other {
            return Err(format!("peers are canisters, not {other}"));
        }
        self.owner = change.owner.or(self.owner);
        if let Some(peers) = change.peers {
            self.peers = peers.into_iter().collect();
        }
        self.closed = change.closed.unwrap_or(self.closed);
        self.messages = change.messages.unwrap_or(self.messages);
        self.bytes = change.bytes.unwrap_or(self.bytes);
        self.messages_per_caller = change.messages_per_caller.unwrap_or(self.messages_per_caller);
        self.bytes_per_caller = change.bytes_per_caller.unwrap_or(self.bytes_per_caller);
        Ok(())
    }

    pub fn is_peer(&self, who: &Principal) -> bool {
        self.peers.contains(who)
    }

    /// Why this caller may leave nothing.
    pub fn refuses(&self, who: &Principal) -> Option<&'static str> {
        if classify(who) != Class::Canister {
            Some("refused.caller")
        } else if self.closed && !self.is_peer(who) {
            Some("refused.access")
        } else {
            None
        }
    }

    /// Whether so many bytes more of one caller fit: what waits of that caller, of all, and of all
    /// that are no peers.
    pub fn fits(&self, who: &Principal, more: u64, own: Size, total: Size, strange: Size) -> bool {
        own.fits(more, self.messages_per_caller, self.bytes_per_caller)
            && total.fits(more, self.messages, self.bytes)
            && (self.is_peer(who) || strange.fits(more, self.messages / 2, self.bytes / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_fill_half_and_a_peer_still_has_room() {
        let peer = Principal::from_slice(&[1, 1]);
        let stranger = Principal::from_slice(&[2, 1]);
        let mut settings = Settings { messages: 10, ..Settings::default() };
        let change = Mailbox { peers: Some(vec![peer]), ..Mailbox::default() };
        settings.change(change).expect("a canister");
        let (none, five) = (Size::default(), Size { messages: 5, bytes: 0 });
        assert!(!settings.fits(&stranger, 1, none, five, five));
        assert!(settings.fits(&peer, 1, none, five, five));
        assert_eq!(settings.refuses(&Principal::anonymous()), Some("refused.caller"));
    }

    #[test]
    fn an_owner_is_an_agent() {
        let owner = Some(Principal::from_slice(&[1, 1]));
        assert!(Settings::default().change(Mailbox { owner, ..Mailbox::default() }).is_err());
    }
}
