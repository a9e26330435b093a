//! The install argument, and what a controller changes later (`candid/settings.did`).

use candid::{CandidType, Deserialize};

use super::store::Meta;
use crate::access::{Access, Lists, PeerSettings};
use crate::policy::Settings;

/// What is given; what is left out keeps its present value.
#[derive(CandidType, Deserialize, Clone, Debug, Default)]
pub struct Install {
    /// Settings of the protocol.
    pub settings: Option<Settings>,
    /// Who may send and watch.
    pub access: Option<Lists>,
    /// What is configured for single peers.
    pub peers: Option<Vec<PeerSettings>>,
}

/// Applies all of it, or nothing and says why.
pub(crate) fn apply(meta: &mut Meta, change: Install, oneway_new: bool) -> Result<(), String> {
    let access = change.access.as_ref().map(Access::from_lists).transpose()?;
    if let Some(flaw) = change.peers.as_ref().and_then(|given| meta.peers.flaw(given)) {
        return Err(flaw);
    }
    if let Some(settings) = &change.settings {
        meta.policy = meta.policy.changed(settings, oneway_new)?;
    }
    if let Some(access) = access {
        meta.access = access;
    }
    if let Some(given) = change.peers {
        meta.peers.change(given);
    }
    Ok(())
}
