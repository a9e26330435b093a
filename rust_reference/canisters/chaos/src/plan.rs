//! The plan and what it makes of each message: pure, so that a plan can be replayed.

use async_flow::dialect;
use async_flow::message::{Blob, Message};
use async_flow::ulid::mix;
use async_flow::words::Dialect;
use candid::{CandidType, Deserialize, Principal};
use serde::Serialize;

/// Which of the two peers said it.
#[derive(
    CandidType, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum Side {
    #[serde(rename = "a")]
    A,
    #[serde(rename = "b")]
    B,
}

/// Which of the three messages.
#[derive(
    CandidType, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum Kind {
    #[serde(rename = "NEW")]
    New,
    #[serde(rename = "ACK")]
    Ack,
    #[serde(rename = "FIN")]
    Fin,
}

impl From<&Message> for Kind {
    fn from(message: &Message) -> Kind {
        match message {
            Message::New { .. } => Kind::New,
            Message::Ack { .. } => Kind::Ack,
            Message::Fin { .. } => Kind::Fin,
        }
    }
}

/// Chances of faults, in thousandths; at most 1000 together.
#[derive(CandidType, Serialize, Deserialize, Clone, Debug, Default)]
pub struct Chances {
    pub lose: u32,
    pub reject: u32,
    pub corrupt: u32,
    pub repeat: u32,
    pub delay: u32,
    pub reorder: u32,
}

/// What is done to a message.
#[derive(CandidType, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    #[serde(rename = "lose")]
    Lose,
    #[serde(rename = "reject")]
    Reject,
    #[serde(rename = "corrupt")]
    Corrupt,
    #[serde(rename = "repeat")]
    Repeat(u32),
    #[serde(rename = "delay")]
    Delay(u64),
    #[serde(rename = "reorder")]
    Reorder,
}

/// Chances for some messages; what is left out fits all.
#[derive(CandidType, Serialize, Deserialize, Clone, Debug)]
pub struct Rule {
    from: Option<Side>,
    kind: Option<Kind>,
    chances: Chances,
}

/// A fault of one very message.
#[derive(CandidType, Serialize, Deserialize, Clone, Debug)]
pub struct Exact {
    from: Side,
    kind: Kind,
    nth: u64,
    fault: Fault,
}

/// A plan (`candid/chaos.did`).
#[derive(CandidType, Serialize, Deserialize, Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub a: Principal,
    pub b: Principal,
    chances: Vec<Rule>,
    faults: Vec<Exact>,
    longest_delay: u64,
    pub longest_hold: u64,
    pub monitors: Vec<Principal>,
}

/// The most copies of one message.
const MOST_COPIES: u32 = 100;
/// The longest wait that a plan may ask for: a day (nanoseconds).
const LONGEST_WAIT: u64 = 24 * 3_600 * 1_000_000_000;

/// Chance that belongs to one message alone, whatever else happens.
pub struct Luck(u64);

impl Luck {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit.max(1)
    }
}

impl Plan {
    /// Why this plan is bad, if it is.
    pub fn flaw(&self) -> Option<String> {
        if self.a == self.b {
            return Some("a and b must be two canisters".to_string());
        }
        for rule in &self.chances {
            let c = &rule.chances;
            let all = [c.lose, c.reject, c.corrupt, c.repeat, c.delay, c.reorder];
            if all.iter().map(|chance| u64::from(*chance)).sum::<u64>() > 1_000 {
                return Some("chances are thousandths, at most 1000 together".to_string());
            }
        }
        for exact in &self.faults {
            match exact.fault {
                Fault::Repeat(copies) if copies > MOST_COPIES => {
                    return Some(format!("at most {MOST_COPIES} copies"));
                }
                Fault::Delay(wait) if wait > LONGEST_WAIT => {
                    return Some("no delay may be longer than a day".to_string());
                }
                _ => {}
            }
        }
        (self.longest_delay.max(self.longest_hold) > LONGEST_WAIT)
            .then(|| "no delay may be longer than a day".to_string())
    }

    /// Whose message it is, and for whom.
    pub fn route(&self, caller: Principal) -> Option<(Side, Principal)> {
        match caller {
            _ if caller == self.a => Some((Side::A, self.b)),
            _ if caller == self.b => Some((Side::B, self.a)),
            _ => None,
        }
    }

    /// Chance of the nth message of a side and kind.
    pub fn luck(&self, from: Side, kind: Option<Kind>, nth: u64) -> Luck {
        let kind = kind.map_or(0, |kind| kind as u64 + 1);
        Luck(mix(self.seed ^ mix(nth ^ mix(kind << 1 | from as u64))))
    }

    /// What is done to it; `None`: it is passed on at once.
    pub fn fault(
        &self,
        from: Side,
        kind: Option<Kind>,
        nth: u64,
        luck: &mut Luck,
    ) -> Option<Fault> {
        // Drawn whatever becomes of them, so that the bit which a corruption turns does not depend on
        // whether it came by chance.
        let mut point = luck.below(1_000);
        let wait = 1 + luck.below(self.longest_delay);
        let is_meant = |e: &&Exact| e.from == from && Some(e.kind) == kind && e.nth == nth;
        if let Some(exact) = self.faults.iter().find(is_meant) {
            return Some(exact.fault);
        }
        let rule = self.chances.iter().find(|rule| {
            rule.from.is_none_or(|side| side == from) && (rule.kind.is_none() || rule.kind == kind)
        })?;
        let c = &rule.chances;
        for (chance, fault) in [
            (c.lose, Fault::Lose),
            (c.reject, Fault::Reject),
            (c.corrupt, Fault::Corrupt),
            (c.repeat, Fault::Repeat(1)),
            (c.delay, Fault::Delay(wait)),
            (c.reorder, Fault::Reorder),
        ] {
            if point < u64::from(chance) {
                return Some(fault);
            }
            point -= u64::from(chance);
        }
        None
    }
}

/// The argument with one bit turned: of the payload; without one, of the hash or the id.
pub fn corrupted(read: Option<(Dialect, &Message)>, arg: &[u8], luck: &mut Luck) -> Vec<u8> {
    let turn = |bytes: &Blob, luck: &mut Luck| {
        let mut bytes = bytes.clone();
        let bit = luck.below(bytes.len() as u64 * 8);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        bytes
    };
    let Some((dialect, message)) = read else {
        let mut bytes = Blob::from(arg.to_vec());
        if !bytes.is_empty() {
            bytes = turn(&bytes, luck);
        }
        return bytes.into_vec();
    };
    let other = match message.clone() {
        Message::New { msg_id, payload } if !payload.is_empty() => {
            Message::New { msg_id, payload: turn(&payload, luck) }
        }
        Message::Ack { msg_id, payload: Some(payload), hash } if !payload.is_empty() => {
            Message::Ack { msg_id, payload: Some(turn(&payload, luck)), hash }
        }
        Message::Ack { msg_id, payload, hash: Some(hash) } => {
            Message::Ack { msg_id, payload, hash: Some(hash ^ 1 << luck.below(32)) }
        }
        Message::Fin { msg_id, hash: Some(hash) } => {
            Message::Fin { msg_id, hash: Some(hash ^ 1 << luck.below(32)) }
        }
        Message::New { msg_id, payload } => {
            Message::New { msg_id: msg_id ^ 1 << luck.below(80), payload }
        }
        Message::Ack { msg_id, payload, hash } => {
            Message::Ack { msg_id: msg_id ^ 1 << luck.below(80), payload, hash }
        }
        Message::Fin { msg_id, hash } => {
            Message::Fin { msg_id: msg_id ^ 1 << luck.below(80), hash }
        }
    };
    dialect::call_for(dialect, &other).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64) -> Plan {
        let chances = Chances { lose: 100, repeat: 100, delay: 100, ..Chances::default() };
        Plan {
            seed,
            a: Principal::from_slice(&[1, 1]),
            b: Principal::from_slice(&[2, 1]),
            chances: vec![Rule { from: None, kind: None, chances }],
            faults: vec![Exact { from: Side::A, kind: Kind::Ack, nth: 3, fault: Fault::Reject }],
            longest_delay: 1_000,
            longest_hold: 1_000,
            monitors: vec![],
        }
    }

    fn played(plan: &Plan) -> Vec<Option<Fault>> {
        let fault = |n| {
            plan.fault(Side::A, Some(Kind::New), n, &mut plan.luck(Side::A, Some(Kind::New), n))
        };
        (1..=2_000).map(fault).collect()
    }

    #[test]
    fn a_seed_replays_and_another_differs() {
        assert_eq!(played(&plan(1)), played(&plan(1)));
        assert_ne!(played(&plan(1)), played(&plan(2)));
    }

    #[test]
    fn chances_are_met() {
        let faults = played(&plan(7)).into_iter().flatten().collect::<Vec<_>>();
        let lost = faults.iter().filter(|fault| **fault == Fault::Lose).count();
        assert!((150..250).contains(&lost), "{lost}");
        assert!((500..700).contains(&faults.len()), "{}", faults.len());
    }

    #[test]
    fn an_exact_fault_holds_whatever_the_chances() {
        let plan = plan(1);
        let kind = Some(Kind::Ack);
        let fault = plan.fault(Side::A, kind, 3, &mut plan.luck(Side::A, kind, 3));
        assert_eq!(fault, Some(Fault::Reject));
    }

    #[test]
    fn the_same_bit_is_turned_by_chance_and_by_an_exact_fault() {
        let chances = Chances { corrupt: 1_000, ..Chances::default() };
        let mut by_chance = plan(1);
        by_chance.chances = vec![Rule { from: None, kind: None, chances }];
        let mut exact = plan(1);
        exact.chances.clear();
        exact.faults =
            vec![Exact { from: Side::A, kind: Kind::New, nth: 3, fault: Fault::Corrupt }];
        let [one, other] = [&by_chance, &exact].map(|plan| {
            let mut luck = plan.luck(Side::A, Some(Kind::New), 3);
            let fault = plan.fault(Side::A, Some(Kind::New), 3, &mut luck);
            assert_eq!(fault, Some(Fault::Corrupt));
            corrupted(None, &[0; 1_000], &mut luck)
        });
        assert_eq!(one, other);
    }

    #[test]
    fn corruption_changes_every_message_and_it_still_decodes() {
        let payload = Blob::from(b"payload".to_vec());
        let plan = plan(1);
        for message in [
            Message::New { msg_id: 7, payload: payload.clone() },
            Message::New { msg_id: 7, payload: Blob::default() },
            Message::Ack { msg_id: 7, payload: Some(payload), hash: None },
            Message::Ack { msg_id: 7, payload: None, hash: Some(1) },
            Message::Fin { msg_id: 7, hash: Some(1) },
            Message::Fin { msg_id: 7, hash: None },
        ] {
            for dialect in Dialect::ALL {
                let (method, arg) = dialect::call_for(*dialect, &message);
                let as_said = dialect::message_from(*dialect, method, &arg).expect("it decodes");
                let mut luck = plan.luck(Side::A, None, 1);
                let other = corrupted(Some((*dialect, &as_said)), &arg, &mut luck);
                assert_ne!(other, arg);
                assert!(dialect::message_from(*dialect, method, &other).is_ok());
            }
        }
    }
}
