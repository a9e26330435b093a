//! Who gets in: what is decided before a message reaches a flow's table.
//!
//! Rule: the protocol page, section Admission, in its order. Pure: sums, lists and cycles come in as
//! arguments. A refusal is a reason to be counted, never an answer to the peer.

use candid::Principal;

use crate::access::Access;
use crate::message::Message;
use crate::policy::Policy;
use crate::ulid;
use crate::usage::Usages;
use crate::words::{classify, Class};

/// What is asked of every message; why it is refused, or `None`.
///
/// `named` says whether an ACK or FIN names a stored flow with this peer: a removal from a list ends
/// no flow.
pub fn check_message(
    caller: &Principal,
    message: &Message,
    named: bool,
    access: &Access,
    policy: &Policy,
) -> Option<&'static str> {
    let size = message.payload().map_or(0, |bytes| bytes.len() as u64);
    let is_new = matches!(message, Message::New { .. });
    let most = if is_new { policy.max_payload } else { policy.max_response };
    if size > most {
        return Some("too_large");
    }
    match classify(caller) {
        Class::Canister => {}
        Class::Agent if access.is_agent(caller) || (named && !is_new) => {}
        _ => return Some("caller"),
    }
    (is_new && !access.may_send(caller)).then_some("access")
}

/// What admission says about a NEW without a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Whether `min_cycles` are to be accepted now.
    pub charge: bool,
    /// Whether its flow is paid for, now or before.
    pub paid: bool,
    /// The trusted ULID time (nanoseconds), else 0.
    pub floor: u64,
}

/// What is known when a NEW without a flow comes.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// Nanoseconds since 1970.
    pub now: u64,
    /// Whether the time in its sender's ids is trusted.
    pub trusted_ids: bool,
    /// Whether its sender stands on a list.
    pub listed: bool,
    /// Sums over the receiver's flows.
    pub usages: &'a Usages,
    /// Cycles that came along.
    pub cycles: u128,
    /// Whether a paid mark of this flow is kept.
    pub marked_paid: bool,
}

/// Decides about a NEW for which there is no flow; `check_message` comes before.
///
/// # Errors
/// Why it is refused.
pub fn check_new(
    msg_id: u128,
    payload: u64,
    circumstances: &Circumstances<'_>,
    policy: &Policy,
) -> Result<Admitted, &'static str> {
    let c = circumstances;
    let time = if c.trusted_ids { ulid::time(msg_id) } else { 0 };
    if c.trusted_ids {
        if time.saturating_add(policy.horizon) <= c.now {
            return Err("horizon");
        }
        if time > c.now.saturating_add(policy.skew) {
            return Err("future");
        }
    }
    if c.now < policy.admit_from && time <= policy.admit_from {
        return Err("admit_from");
    }
    if let Some(quota) = c.usages.broken_by(payload, policy, c.listed) {
        return Err(quota);
    }
    let owes = policy.min_cycles > 0 && !c.marked_paid;
    if owes && c.cycles < policy.min_cycles {
        return Err("cycles");
    }
    Ok(Admitted { charge: owes, paid: owes || c.marked_paid, floor: time })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    fn check(
        msg_id: u128,
        now: u64,
        cycles: u128,
        policy: &Policy,
    ) -> Result<Admitted, &'static str> {
        let usages = Usages::default();
        let c = Circumstances {
            now,
            trusted_ids: true,
            listed: true,
            usages: &usages,
            cycles,
            marked_paid: false,
        };
        check_new(msg_id, 1, &c, policy)
    }

    #[test]
    fn trusted_ids_are_taken_within_horizon_and_skew() {
        let policy = Policy::default();
        let now = 1_000_000 * HOUR;
        let id = |time: u64| u128::from(time / 1_000_000) << 80;
        assert_eq!(check(id(now - 48 * HOUR), now, 0, &policy), Err("horizon"));
        assert_eq!(check(id(now + HOUR), now, 0, &policy), Err("future"));
        assert_eq!(check(id(now), now, 0, &policy).map(|a| a.floor), Ok(now));
    }

    #[test]
    fn cycles_are_asked_for_last() {
        let policy = Policy { min_cycles: 5, ..Policy::default() };
        let now = 1_000_000 * HOUR;
        let id = u128::from(now / 1_000_000) << 80;
        assert_eq!(check(id, now, 4, &policy), Err("cycles"));
        assert!(check(id, now, 5, &policy).is_ok_and(|a| a.charge && a.paid));
    }

    #[test]
    fn only_canisters_and_listed_agents_are_heard() {
        let fin = Message::Fin { msg_id: 1, hash: None };
        let agent = Principal::self_authenticating([1]);
        let (access, policy) = (Access::default(), Policy::default());
        let check = |who: &Principal, named| check_message(who, &fin, named, &access, &policy);
        assert_eq!(check(&Principal::anonymous(), true), Some("caller"));
        assert_eq!(check(&agent, false), Some("caller"));
        assert_eq!(check(&agent, true), None);
        assert_eq!(check(&Principal::from_slice(&[0, 1]), false), None);
    }
}
