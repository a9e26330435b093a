//! Messages as this canister reads and sends them by itself, where the library would do it right.

use async_flow::dialect::call_for;
use async_flow::event::Transmit;
use async_flow::message::{Blob, Message};
use async_flow::words::{classify, Class, Dialect};
use candid::{CandidType, Deserialize, Nat};
use ic_cdk::call::Call;

use crate::faults::{has, Fault};

/// Whether a transmission is made here.
pub fn is_ours(t: &Transmit) -> bool {
    let odd = match (t.dialect, &t.message) {
        (Dialect::Unified, _) => false,
        (_, Message::Ack { .. }) => has(Fault::opt_to_blob),
        (_, Message::Fin { .. }) => has(Fault::fin_by_one_name),
        _ => false,
    };
    let anyway = has(Fault::waits_for_replies) || has(Fault::attaches_no_cycles);
    classify(&t.peer) == Class::Canister && (odd || anyway)
}

/// Makes it: without cycles. What did not leave is left to the next due time.
pub fn send(t: &Transmit) {
    let (method, arg) = call_of(t.dialect, &t.message);
    let call = match has(Fault::waits_for_replies) {
        true => Call::unbounded_wait(t.peer, method),
        false => Call::bounded_wait(t.peer, method),
    };
    let _ = call.with_raw_args(&arg).oneway();
}

fn call_of(dialect: Dialect, message: &Message) -> (&'static str, Vec<u8>) {
    let (method, right) = call_for(dialect, message);
    match message {
        Message::Fin { .. } if has(Fault::fin_by_one_name) && dialect != Dialect::Unified => {
            ("com_asyncFlow_fin", right)
        }
        Message::Ack { msg_id, payload, hash } if has(Fault::opt_to_blob) => {
            (method, with_opt(dialect, *msg_id, payload, *hash).unwrap_or(right))
        }
        _ => (method, right),
    }
}

#[derive(CandidType)]
enum OptMaf<'a> {
    #[allow(clippy::upper_case_acronyms)]
    ACK { msg_id: u128, payload: &'a Option<Blob> },
}

#[derive(CandidType)]
struct OptBounty<'a> {
    msg_id: u128,
    hash: Option<u32>,
    payload: &'a Option<Blob>,
}

fn with_opt(
    dialect: Dialect,
    msg_id: u128,
    payload: &Option<Blob>,
    hash: Option<u32>,
) -> Option<Vec<u8>> {
    let encoded = match dialect {
        Dialect::Unified => return None,
        Dialect::Maf => candid::encode_one(OptMaf::ACK { msg_id, payload }),
        Dialect::Bounty => candid::encode_one(OptBounty { msg_id, hash, payload }),
        Dialect::Positional => candid::encode_args((msg_id, hash, payload)),
    };
    encoded.ok()
}

#[derive(CandidType, Deserialize)]
struct Wide {
    msg_id: Nat,
    payload: Blob,
}

#[derive(CandidType, Deserialize)]
struct Other {}

#[derive(CandidType, Deserialize)]
#[allow(clippy::upper_case_acronyms)]
enum WideNew {
    NEW(Wide),
    ACK(Other),
    FIN(Other),
}

/// A longer id is not one that somebody mints.
const LONGEST: usize = 64;

/// The NEW in an argument, its id reduced to 128 bits.
pub fn narrowed(method: &str, arg: &[u8]) -> Option<Message> {
    let Wide { msg_id, payload } = match method {
        "asyncFlow" => match candid::decode_one(arg).ok()? {
            WideNew::NEW(new) => new,
            _ => return None,
        },
        "com_asyncFlow_newMessage" => match candid::decode_one(arg) {
            Ok(WideNew::NEW(new)) => new,
            _ => candid::decode_one(arg).ok().or_else(|| {
                let (msg_id, payload) = candid::decode_args(arg).ok()?;
                Some(Wide { msg_id, payload })
            })?,
        },
        _ => return None,
    };
    let mut bytes = msg_id.0.to_bytes_le();
    if bytes.len() > LONGEST {
        return None;
    }
    bytes.resize(16, 0);
    let msg_id = u128::from_le_bytes(bytes.try_into().ok()?);
    Some(Message::New { msg_id, payload })
}
