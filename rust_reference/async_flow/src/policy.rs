//! The settings of the protocol, their defaults, and what makes a value a bad one.
//!
//! Rule: the protocol page, section Settings and defaults. Durations are nanoseconds, sizes bytes.

use candid::{CandidType, Deserialize};
use serde::Serialize;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// The longest bounded wait that the system grants (nanoseconds).
pub const LONGEST_CALL_TIMEOUT: u64 = 300 * SECOND;

const CENTURY: u64 = 100 * 366 * 24 * HOUR;
/// A message is below 2 MiB (bytes).
const LARGEST_PAYLOAD: u64 = 1_900_000;

/// Cycles to attach to each kind of message.
#[derive(CandidType, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachCycles {
    /// With a NEW.
    pub new: u128,
    /// With an ACK.
    pub ack: u128,
    /// With a FIN.
    pub fin: u128,
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident : $kind:ty = $default:expr, $least:expr;)*) => {
        /// All settings that are in force.
        #[derive(CandidType, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
        pub struct Policy {
            $($(#[$doc])* pub $name: $kind,)*
            /// Cycles accepted with each new NEW.
            pub min_cycles: u128,
            /// Cycles sent along, unless the peer's own configuration says otherwise.
            pub attach_cycles: AttachCycles,
            /// Unknown NEWs are refused before this time (nanoseconds since 1970).
            pub admit_from: u64,
        }

        /// Settings as a controller gives them; what is left out keeps its present value
        /// (`candid/settings.did`).
        #[derive(CandidType, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
        pub struct Settings {
            $($(#[$doc])* pub $name: Option<$kind>,)*
            /// Cycles accepted with each new NEW.
            pub min_cycles: Option<u128>,
            /// Cycles sent along.
            pub attach_cycles: Option<AttachCycles>,
            /// Unknown NEWs are refused before this time (nanoseconds since 1970).
            pub admit_from: Option<u64>,
        }

        impl Default for Policy {
            fn default() -> Self {
                Policy {
                    $($name: $default,)*
                    min_cycles: 0,
                    attach_cycles: AttachCycles::default(),
                    admit_from: 0,
                }
            }
        }

        impl From<&Policy> for Settings {
            fn from(policy: &Policy) -> Self {
                Settings {
                    $($name: Some(policy.$name),)*
                    min_cycles: Some(policy.min_cycles),
                    attach_cycles: Some(policy.attach_cycles.clone()),
                    admit_from: Some(policy.admit_from),
                }
            }
        }

        impl Policy {
            // Least usable values: a wait or a count of zero would loop or do nothing at all.
            fn merge(&self, change: &Settings) -> Policy {
                Policy {
                    $($name: change.$name.unwrap_or(self.$name),)*
                    min_cycles: change.min_cycles.unwrap_or(self.min_cycles),
                    attach_cycles: change.attach_cycles.clone().unwrap_or_else(|| self.attach_cycles.clone()),
                    admit_from: change.admit_from.unwrap_or(self.admit_from),
                }
            }

            fn too_small(&self) -> Option<String> {
                let values = [$((stringify!($name), u64::from(self.$name), $least)),*];
                let (name, _, least) = values.iter().find(|(_, value, least)| value < least)?;
                Some(match *name {
                    "attempts" => "attempts must be from 1 to 1000".to_string(),
                    _ => format!("{name} must be at least {least}"),
                })
            }
        }
    };
}

settings! {
    /// Wait after the first transmission.
    first_retry: u64 = 330 * SECOND, 1;
    /// Whole factor from wait to wait.
    backoff: u32 = 2, 1;
    /// Longest wait, jitter apart.
    max_delay: u64 = HOUR, 0;
    /// Most that is added to a wait, in thousandths of it.
    jitter_permille: u32 = 100, 0;
    /// Transmissions of a NEW or of an ACK, echoes apart.
    attempts: u32 = 10, 1;
    /// Of a NEW from its send, of an ACK from the answer.
    lifetime: u64 = 9 * HOUR, 1;
    /// Wait after a transmission that certainly did not leave.
    send_retry: u64 = 30 * SECOND, 1;
    /// Bounded wait of a one-way call.
    call_timeout: u64 = LONGEST_CALL_TIMEOUT, 1;
    /// What is added to it in the in-flight count.
    call_margin: u64 = 30 * SECOND, 0;
    /// Transmissions in flight to one peer.
    in_flight: u32 = 400, 1;
    /// How long an acknowledged flow is kept.
    linger: u64 = 24 * HOUR, 1;
    /// How long a failed flow is kept.
    retention: u64 = 48 * HOUR, 1;
    /// How long a tombstone is kept.
    horizon: u64 = 48 * HOUR, 1;
    /// How far ahead of our clock a trusted ULID time may be.
    skew: u64 = 10 * MINUTE, 0;
    /// What a receiver's horizon has to exceed lifetime by.
    slack: u64 = HOUR, 0;
    /// Most that one step of observed time counts.
    time_gap: u64 = 10 * MINUTE, 1;
    /// Over how long overdue work is spread after a restart.
    spread: u64 = 60 * SECOND, 0;
    /// How long a handler may take before its flow is stalled.
    answer_within: u64 = 24 * HOUR, 1;
    /// Tries of handing a response over before it is a dead letter.
    handler_attempts: u32 = 10, 1;
    /// Least time between a transmission and its echo.
    echo_min: u64 = 60 * SECOND, 0;
    /// FINs for ACKs that name no flow, in all.
    unknown_fins_per_second: u32 = 10, 0;
    /// Largest NEW payload.
    max_payload: u64 = 1_900_000, 1;
    /// Largest ACK payload.
    max_response: u64 = 1_900_000, 1;
    /// Bytes set aside for each flow without an answer.
    response_room: u64 = 8 * 1024, 0;
    /// Open flows with one peer.
    open_flows_per_peer: u32 = 1_000, 1;
    /// Open flows in all.
    open_flows: u32 = 100_000, 1;
    /// Tombstones of one peer.
    tombstones_per_peer: u32 = 100_000, 1;
    /// Tombstones in all.
    tombstones: u32 = 1_000_000, 1;
    /// Bytes stored for one peer.
    bytes_per_peer: u64 = 64 * 1024 * 1024, 1;
    /// Bytes stored in all.
    bytes: u64 = 1024 * 1024 * 1024, 1;
    /// Messages in the outbox of one agent.
    outbox_messages: u32 = 1_000, 1;
    /// Bytes in the outbox of one agent.
    outbox_bytes: u64 = 16 * 1024 * 1024, 1;
    /// Length of the event history.
    events: u32 = 10_000, 0;
}

impl Policy {
    /// How long to wait after transmission number `n` (from 1), in nanoseconds; `u` is the jitter in
    /// millionths.
    pub fn delay(&self, n: u32, u: u64) -> u64 {
        let mut base = self.first_retry;
        for _ in 1..n {
            if base >= self.max_delay {
                break;
            }
            base = base.saturating_mul(u64::from(self.backoff));
            if self.backoff == 1 {
                break;
            }
        }
        base = base.min(self.max_delay);
        let jitter = u128::from(base) * u128::from(u.min(self.most_jitter())) / 1_000_000;
        base.saturating_add(u64::try_from(jitter).unwrap_or(u64::MAX))
    }

    fn durations(&self) -> [u64; 15] {
        [
            self.first_retry,
            self.max_delay,
            self.lifetime,
            self.send_retry,
            self.call_timeout,
            self.call_margin,
            self.linger,
            self.retention,
            self.horizon,
            self.skew,
            self.slack,
            self.time_gap,
            self.spread,
            self.answer_within,
            self.echo_min,
        ]
    }

    /// The largest jitter, in millionths.
    pub fn most_jitter(&self) -> u64 {
        u64::from(self.jitter_permille) * 1_000
    }

    /// These settings with a change applied.
    ///
    /// `oneway_new` says whether the canister declares NEW's method one-way: then nothing can be
    /// charged, for such a method may refund before its body runs.
    ///
    /// # Errors
    /// The first value that is out of range or contradicts another; nothing is changed then.
    pub fn changed(&self, change: &Settings, oneway_new: bool) -> Result<Policy, String> {
        let new = self.merge(change);
        if let Some(reason) = new.too_small() {
            return Err(reason);
        }
        let sum = |a: u64, b: u64| a.saturating_add(b);
        let longest = new.durations().into_iter().max().unwrap_or(0);
        let rules = [
            (longest <= CENTURY, "a duration exceeds a century: durations are nanoseconds"),
            (new.max_delay >= new.first_retry, "max_delay must be at least first_retry"),
            (new.jitter_permille <= 1_000, "jitter_permille must be at most 1000"),
            (new.attempts <= 1_000, "attempts must be from 1 to 1000"),
            (
                new.max_payload.max(new.max_response) <= LARGEST_PAYLOAD,
                "max_payload and max_response must be at most 1.9 MB",
            ),
            (new.echo_min < new.first_retry, "echo_min must be below first_retry"),
            (
                sum(new.call_timeout, new.call_margin) <= new.first_retry,
                "call_timeout + call_margin must be at most first_retry",
            ),
            (new.call_timeout <= LONGEST_CALL_TIMEOUT, "call_timeout must be at most 300 s"),
            (sum(new.lifetime, new.slack) < new.horizon, "lifetime + slack must be below horizon"),
            (new.lifetime <= new.linger, "lifetime must be at most linger"),
            (new.lifetime <= new.retention, "lifetime must be at most retention"),
            (new.answer_within < new.horizon, "answer_within must be below horizon"),
            (new.skew < new.horizon, "skew must be below horizon"),
            (new.in_flight <= 500, "in_flight must be from 1 to 500: a pair's queue holds no more"),
            (
                new.open_flows_per_peer <= new.open_flows,
                "open_flows_per_peer must be at most open_flows",
            ),
            (
                new.tombstones_per_peer <= new.tombstones,
                "tombstones_per_peer must be at most tombstones",
            ),
            (new.bytes_per_peer <= new.bytes, "bytes_per_peer must be at most bytes"),
            (
                !(oneway_new && new.min_cycles > 0),
                "min_cycles must be 0 where the method for NEW is one-way: it may refund too early",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, wrong)) => Err((*wrong).to_string()),
            None => Ok(new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good() {
        assert_eq!(Policy::default().changed(&Settings::default(), true), Ok(Policy::default()));
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let policy = Policy::default();
        let waits: Vec<u64> = (1..=6).map(|n| policy.delay(n, 0) / SECOND).collect();
        assert_eq!(waits, [330, 660, 1320, 2640, 3600, 3600]);
        assert_eq!(policy.delay(1, 1_000_000), 363 * SECOND);
        assert_eq!(policy.delay(u32::MAX, 0), HOUR);
    }

    #[test]
    fn bad_values_are_refused_with_the_reason() {
        let bad = |change: Settings| Policy::default().changed(&change, true).unwrap_err();
        let none = Settings::default;
        assert!(bad(Settings { attempts: Some(0), ..none() }).contains("attempts"));
        assert!(bad(Settings { in_flight: Some(501), ..none() }).contains("in_flight"));
        assert!(bad(Settings { lifetime: Some(48 * HOUR), ..none() }).contains("horizon"));
        assert!(bad(Settings { min_cycles: Some(1), ..none() }).contains("min_cycles"));
        let priced = Settings { min_cycles: Some(1), ..none() };
        assert!(Policy::default().changed(&priced, false).is_ok());
    }
}
