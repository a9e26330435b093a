//! One step in the making: what both tables share.

use crate::event::{Effect, Event, NotAllowed};
use crate::policy::Policy;
use crate::words::NullAck;

/// The settings that one step needs.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The settings in force.
    pub policy: &'a Policy,
    /// What null ACK payloads of the flow's peer are.
    pub null_ack: NullAck,
    /// Whether work that a restart or a trap interrupted is idempotent and runs again at once.
    pub rerun: bool,
}

/// What a step decided.
#[derive(Debug)]
pub struct Transition<F> {
    /// The flow as it is to be stored; `None`: forgotten, or none came to be.
    pub flow: Option<F>,
    /// Whether it differs from what was stored.
    pub changed: bool,
    /// What to do, in this order, once it is stored.
    pub effects: Vec<Effect>,
}

/// The result of a table's row: whether one held, or why the application may not ask for this.
pub(crate) type Decided = Result<bool, NotAllowed>;

/// Echoes of one message beyond `attempts`.
pub(crate) const ECHOES_BEYOND_ATTEMPTS: u32 = 10;
/// Wrong hashes of one message that are reported for a flow.
pub(crate) const MOST_WRONG_HASHES: usize = 3;

pub(crate) struct Step<'a, F> {
    pub flow: Option<F>,
    pub changed: bool,
    pub effects: Vec<Effect>,
    pub event: &'a Event,
    pub now: u64,
    pub rules: Rules<'a>,
}

impl<'a, F> Step<'a, F> {
    pub fn new(flow: Option<F>, event: &'a Event, now: u64, rules: Rules<'a>) -> Self {
        Step { flow, changed: false, effects: Vec::new(), event, now, rules }
    }

    /// The flow, to be looked at. Rows are only tried for flows that are there.
    pub fn look(&self) -> &F {
        self.flow.as_ref().expect("a row is for a stored flow")
    }

    /// The flow, to be changed.
    pub fn change(&mut self) -> &mut F {
        self.changed = true;
        self.flow.as_mut().expect("a row is for a stored flow")
    }

    pub fn forget(&mut self) {
        self.changed = true;
        self.flow = None;
    }

    pub fn store(&mut self, flow: F) {
        self.changed = true;
        self.flow = Some(flow);
    }

    pub fn count(&mut self, reason: &str) {
        self.effects.push(Effect::Count(reason.to_string()));
    }

    /// delay(n) of this event.
    pub fn delay(&self, n: u32) -> u64 {
        self.rules.policy.delay(n, self.event.u)
    }

    pub fn after(&self, wait: u64) -> u64 {
        self.now.saturating_add(wait)
    }

    pub fn passed(&self, time: Option<u64>) -> bool {
        time.is_some_and(|time| self.now >= time)
    }

    /// Where overdue work lands after a restart.
    pub fn spread(&self, share: u64) -> u64 {
        let part = u128::from(self.rules.policy.spread) * u128::from(share) / 1_000_000;
        self.after(u64::try_from(part).unwrap_or(u64::MAX))
    }
}
