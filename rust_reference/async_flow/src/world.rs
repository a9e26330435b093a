//! What concerns no single flow: observed time and the rate of unknown-ACK FINs.

use candid::Deserialize;
use serde::Serialize;

use crate::policy::Policy;

const SECOND: u64 = 1_000_000_000;

/// Time as a receiver has watched it pass; its tombstones age by it.
///
/// After days of standstill only one `time_gap` has passed, so that a duplicate which waited as long
/// still meets its tombstone.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default)]
pub struct ObservedTime {
    /// The clock when it was last looked at; 0: never.
    pub seen: u64,
    /// How far observed time stands behind the clock.
    pub lag: u64,
}

impl ObservedTime {
    /// Looks at the clock: first thing in every message and every tick.
    pub fn observe(&mut self, now: u64, policy: &Policy) {
        let passed = now.saturating_sub(self.seen);
        if self.seen != 0 {
            self.lag = self.lag.saturating_add(passed.saturating_sub(policy.time_gap));
        }
        self.seen = self.seen.max(now);
    }

    /// When to look again at the latest, while there are tombstones.
    pub fn next_look(&self, policy: &Policy) -> u64 {
        self.seen.saturating_add(policy.time_gap / 2)
    }
}

/// The one global rate at which ACKs that name no flow are answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct FinRate {
    second: u64,
    used: u32,
}

impl FinRate {
    /// Whether one more FIN may be sent; if so it is taken.
    pub fn take(&mut self, now: u64, policy: &Policy) -> bool {
        let second = now / SECOND;
        if second != self.second {
            *self = FinRate { second, used: 0 };
        }
        let allowed = self.used < policy.unknown_fins_per_second;
        self.used += u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standstill_counts_one_gap() {
        let policy = Policy::default();
        let mut time = ObservedTime::default();
        time.observe(SECOND, &policy);
        assert_eq!(time.lag, 0);
        time.observe(SECOND + 3 * policy.time_gap, &policy);
        assert_eq!(time.lag, 2 * policy.time_gap);
        time.observe(SECOND, &policy);
        assert_eq!(time.lag, 2 * policy.time_gap);
    }

    #[test]
    fn fins_for_unknown_acks_have_a_rate() {
        let policy = Policy { unknown_fins_per_second: 2, ..Policy::default() };
        let mut rate = FinRate::default();
        let taken: Vec<bool> = [5, 5, 5, 6].map(|s| rate.take(s * SECOND, &policy)).to_vec();
        assert_eq!(taken, [true, true, false, true]);
    }
}
