//! The three messages as calls of the four dialects (`candid/`), and back.
//!
//! What a dialect cannot carry is left out: a hash, or a null, which goes as an empty blob. Arguments
//! come from strangers, so that decoding has a budget.

use candid::de::{DecoderConfig, IDLDeserialize};
use candid::types::{Serializer, Type, TypeInner};
use candid::utils::ArgumentEncoder;
use candid::{CandidType, Deserialize};

use crate::message::{Blob, Message};
use crate::words::Dialect;

/// Name of the method that takes batches.
pub const BATCH_METHOD: &str = "asyncFlow_batch";
/// The most messages of a batch.
pub const BATCH_MESSAGES: usize = 100;
/// The most bytes of a batch.
pub const BATCH_BYTES: u64 = 1_900_000;

/// Work that decoding one argument may take, in the decoder's units: some forty for a byte of the
/// largest message.
const DECODING_QUOTA: usize = 80_000_000;
const SKIPPING_QUOTA: usize = 10_000;

/// A `nat` that may be the id of a flow; `None`: it is not below 2^128.
#[derive(Clone, Copy, Debug)]
struct Id(Option<u128>);

impl CandidType for Id {
    fn _ty() -> Type {
        TypeInner::Nat.into()
    }

    fn idl_serialize<S: Serializer>(&self, serializer: S) -> Result<(), S::Error> {
        self.0.unwrap_or_default().idl_serialize(serializer)
    }
}

impl<'a> Deserialize<'a> for Id {
    fn deserialize<D: serde::Deserializer<'a>>(deserializer: D) -> Result<Id, D::Error> {
        // A number that is too large was read to its end. Whatever else is wrong makes this id none,
        // and so the message one that is refused.
        Ok(Id(u128::deserialize(deserializer).ok()))
    }
}

impl From<u128> for Id {
    fn from(id: u128) -> Id {
        Id(Some(id))
    }
}

impl Id {
    fn get(self) -> Result<u128, Unreadable> {
        self.0.ok_or(Unreadable::Id)
    }
}

/// The argument of the dialect `unified`, with any id.
#[derive(CandidType, Deserialize, Clone, Debug)]
enum Unified {
    #[serde(rename = "NEW")]
    New { msg_id: Id, payload: Blob },
    #[serde(rename = "ACK")]
    Ack { msg_id: Id, payload: Option<Blob>, hash: Option<u32> },
    #[serde(rename = "FIN")]
    Fin { msg_id: Id, hash: Option<u32> },
}

impl TryFrom<Unified> for Message {
    type Error = Unreadable;

    fn try_from(read: Unified) -> Result<Message, Unreadable> {
        Ok(match read {
            Unified::New { msg_id, payload } => Message::New { msg_id: msg_id.get()?, payload },
            Unified::Ack { msg_id, payload, hash } => {
                Message::Ack { msg_id: msg_id.get()?, payload, hash }
            }
            Unified::Fin { msg_id, hash } => Message::Fin { msg_id: msg_id.get()?, hash },
        })
    }
}

/// The argument of the dialect `maf`.
#[derive(CandidType, Deserialize, Clone, Debug)]
enum Maf {
    #[serde(rename = "NEW")]
    New { msg_id: Id, payload: Blob },
    #[serde(rename = "ACK")]
    Ack { msg_id: Id, payload: Blob },
    #[serde(rename = "FIN")]
    Fin { msg_id: Id },
}

#[derive(CandidType, Deserialize, Clone, Debug)]
struct BountyNew {
    msg_id: Id,
    payload: Blob,
}

#[derive(CandidType, Deserialize, Clone, Debug)]
struct BountyAck {
    msg_id: Id,
    hash: Option<u32>,
    payload: Blob,
}

#[derive(CandidType, Deserialize, Clone, Debug)]
struct BountyFin {
    msg_id: Id,
    hash: Option<u32>,
}

/// A message could not be read: to its sender that is as if it were lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The argument is no message, for this reason.
    Argument(String),
    /// It is one, but its id is not below 2^128.
    Id,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Unreadable::Argument(reason) => reason,
            Unreadable::Id => "the id is not below 2^128",
        })
    }
}

impl std::error::Error for Unreadable {}

fn encode(arguments: impl ArgumentEncoder) -> Vec<u8> {
    candid::encode_args(arguments).expect("these types always encode")
}

/// The method and the encoded argument that carry a message.
pub fn call_for(dialect: Dialect, message: &Message) -> (&'static str, Vec<u8>) {
    let plain = |payload: &Option<Blob>| payload.clone().unwrap_or_default();
    match (dialect, message) {
        (Dialect::Unified, _) => ("asyncFlow", encode((message,))),
        (Dialect::Maf, Message::New { msg_id, payload }) => (
            "com_asyncFlow_newMessage",
            encode((Maf::New { msg_id: (*msg_id).into(), payload: payload.clone() },)),
        ),
        (Dialect::Maf, Message::Ack { msg_id, payload, .. }) => (
            "com_asyncFlow_ack",
            encode((Maf::Ack { msg_id: (*msg_id).into(), payload: plain(payload) },)),
        ),
        (Dialect::Maf, Message::Fin { msg_id, .. }) => {
            ("com_asyncFlow_fin", encode((Maf::Fin { msg_id: (*msg_id).into() },)))
        }
        (Dialect::Bounty, Message::New { msg_id, payload }) => (
            "com_asyncFlow_newMessage",
            encode((BountyNew { msg_id: (*msg_id).into(), payload: payload.clone() },)),
        ),
        (Dialect::Bounty, Message::Ack { msg_id, payload, hash }) => (
            "com_asyncFlow_ack",
            encode((BountyAck { msg_id: (*msg_id).into(), hash: *hash, payload: plain(payload) },)),
        ),
        (Dialect::Bounty, Message::Fin { msg_id, hash }) => {
            ("com_asyncFlow_ackack", encode((BountyFin { msg_id: (*msg_id).into(), hash: *hash },)))
        }
        (Dialect::Positional, Message::New { msg_id, payload }) => {
            ("com_asyncFlow_newMessage", encode((msg_id, payload)))
        }
        (Dialect::Positional, Message::Ack { msg_id, payload, hash }) => {
            ("com_asyncFlow_ack", encode((msg_id, hash, plain(payload))))
        }
        (Dialect::Positional, Message::Fin { msg_id, hash }) => {
            ("com_asyncFlow_finish", encode((msg_id, hash)))
        }
    }
}

/// The encoded argument of a batch.
pub fn batch(messages: &[&Message]) -> Vec<u8> {
    encode((messages,))
}

struct Reader<'a>(IDLDeserialize<'a>);

impl<'a> Reader<'a> {
    fn new(arg: &'a [u8]) -> Result<Self, Unreadable> {
        let mut config = DecoderConfig::new();
        config.set_decoding_quota(DECODING_QUOTA).set_skipping_quota(SKIPPING_QUOTA);
        IDLDeserialize::new_with_config(arg, &config).map(Reader).map_err(unreadable)
    }

    fn value<T: CandidType + Deserialize<'a>>(&mut self) -> Result<T, Unreadable> {
        self.0.get_value().map_err(unreadable)
    }

    fn done<T>(mut self, value: T) -> Result<T, Unreadable> {
        self.0.done().map_err(unreadable)?;
        Ok(value)
    }
}

fn unreadable(error: candid::Error) -> Unreadable {
    Unreadable::Argument(error.to_string())
}

fn one<'a, T: CandidType + Deserialize<'a>>(arg: &'a [u8]) -> Result<T, Unreadable> {
    let mut reader = Reader::new(arg)?;
    let value = reader.value()?;
    reader.done(value)
}

/// The message that a call of a dialect carries.
///
/// # Errors
/// If the method is none of the dialect's, or the argument is no message that it may carry.
pub fn message_from(dialect: Dialect, method: &str, arg: &[u8]) -> Result<Message, Unreadable> {
    let message = match (dialect, method) {
        (Dialect::Unified, "asyncFlow") => one::<Unified>(arg)?.try_into()?,
        (Dialect::Maf, "com_asyncFlow_newMessage" | "com_asyncFlow_ack" | "com_asyncFlow_fin") => {
            let message = match one(arg)? {
                Maf::New { msg_id, payload } => Message::New { msg_id: msg_id.get()?, payload },
                Maf::Ack { msg_id, payload } => {
                    Message::Ack { msg_id: msg_id.get()?, payload: Some(payload), hash: None }
                }
                Maf::Fin { msg_id } => Message::Fin { msg_id: msg_id.get()?, hash: None },
            };
            let (carrier, _) = call_for(Dialect::Maf, &message.without_payload());
            if carrier != method {
                return Err(Unreadable::Argument(format!(
                    "{method} carries a message of {carrier}"
                )));
            }
            return Ok(message);
        }
        (Dialect::Bounty, "com_asyncFlow_newMessage") => {
            let BountyNew { msg_id, payload } = one(arg)?;
            Message::New { msg_id: msg_id.get()?, payload }
        }
        (Dialect::Bounty, "com_asyncFlow_ack") => {
            let BountyAck { msg_id, hash, payload } = one(arg)?;
            Message::Ack { msg_id: msg_id.get()?, payload: Some(payload), hash }
        }
        (Dialect::Bounty, "com_asyncFlow_ackack") => {
            let BountyFin { msg_id, hash } = one(arg)?;
            Message::Fin { msg_id: msg_id.get()?, hash }
        }
        (Dialect::Positional, "com_asyncFlow_newMessage") => {
            let mut reader = Reader::new(arg)?;
            let (msg_id, payload) = (reader.value::<Id>()?, reader.value()?);
            reader.done(())?;
            Message::New { msg_id: msg_id.get()?, payload }
        }
        (Dialect::Positional, "com_asyncFlow_ack") => {
            let mut reader = Reader::new(arg)?;
            let (msg_id, hash) = (reader.value::<Id>()?, reader.value()?);
            let payload = Some(reader.value()?);
            reader.done(())?;
            Message::Ack { msg_id: msg_id.get()?, payload, hash }
        }
        (Dialect::Positional, "com_asyncFlow_finish") => {
            let mut reader = Reader::new(arg)?;
            let (msg_id, hash) = (reader.value::<Id>()?, reader.value()?);
            reader.done(())?;
            Message::Fin { msg_id: msg_id.get()?, hash }
        }
        _ => {
            return Err(Unreadable::Argument(format!(
                "the dialect {} has no {method}",
                dialect.name()
            )))
        }
    };
    Ok(message)
}

/// The messages of a batch, in their order; an entry of its own may be one whose id is none.
///
/// # Errors
/// If the argument does not decode; the whole batch is as lost.
pub fn messages_from(arg: &[u8]) -> Result<Vec<Result<Message, Unreadable>>, Unreadable> {
    Ok(one::<Vec<Unified>>(arg)?.into_iter().map(Message::try_from).collect())
}

impl Message {
    fn without_payload(&self) -> Message {
        match self {
            Message::New { msg_id, .. } => {
                Message::New { msg_id: *msg_id, payload: Blob::default() }
            }
            Message::Ack { msg_id, hash, .. } => {
                Message::Ack { msg_id: *msg_id, payload: None, hash: *hash }
            }
            Message::Fin { .. } => self.clone(),
        }
    }
}

// --- Telling dialects apart by the argument's type table ------------------------------------------------

const OPCODE_NAT: i64 = -3;
const OPCODE_RECORD: i64 = -20;
const OPCODE_VARIANT: i64 = -21;
const MOST_TYPES: u64 = 1_000;

/// The dialect that a call speaks, by its method and, where the name is shared, by the type of its
/// first argument.
///
/// # Errors
/// If no dialect has such a method, or the argument is of no dialect.
pub fn dialect_of(method: &str, arg: &[u8]) -> Result<Dialect, Unreadable> {
    match method {
        "asyncFlow" => Ok(Dialect::Unified),
        "com_asyncFlow_fin" => Ok(Dialect::Maf),
        "com_asyncFlow_ackack" => Ok(Dialect::Bounty),
        "com_asyncFlow_finish" => Ok(Dialect::Positional),
        "com_asyncFlow_newMessage" | "com_asyncFlow_ack" => match first_argument(arg) {
            Some(OPCODE_VARIANT) => Ok(Dialect::Maf),
            Some(OPCODE_RECORD) => Ok(Dialect::Bounty),
            Some(OPCODE_NAT) => Ok(Dialect::Positional),
            _ => Err(Unreadable::Argument(format!("the argument of {method} is of no dialect"))),
        },
        _ => Err(Unreadable::Argument(format!("no dialect has a method {method}"))),
    }
}

/// The opcode of the first argument's type.
fn first_argument(arg: &[u8]) -> Option<i64> {
    let mut rest = arg.strip_prefix(b"DIDL")?;
    let types = unsigned(&mut rest)?;
    if types > MOST_TYPES {
        return None;
    }
    let mut opcodes = Vec::new();
    for _ in 0..types {
        let opcode = signed(&mut rest)?;
        opcodes.push(opcode);
        skip_type(opcode, &mut rest)?;
    }
    if unsigned(&mut rest)? == 0 {
        return None;
    }
    match signed(&mut rest)? {
        index if index >= 0 => opcodes.get(usize::try_from(index).ok()?).copied(),
        primitive => Some(primitive),
    }
}

/// Skips what follows the opcode of a type table's entry.
fn skip_type(opcode: i64, rest: &mut &[u8]) -> Option<()> {
    match opcode {
        // opt, vec
        -18 | -19 => {
            signed(rest)?;
        }
        OPCODE_RECORD | OPCODE_VARIANT => {
            for _ in 0..unsigned(rest)? {
                unsigned(rest)?;
                signed(rest)?;
            }
        }
        // func
        -22 => {
            for _ in 0..2 {
                for _ in 0..unsigned(rest)? {
                    signed(rest)?;
                }
            }
            let annotations = usize::try_from(unsigned(rest)?).ok()?;
            *rest = rest.get(annotations..)?;
        }
        // service
        -23 => {
            for _ in 0..unsigned(rest)? {
                let name = usize::try_from(unsigned(rest)?).ok()?;
                *rest = rest.get(name..)?;
                signed(rest)?;
            }
        }
        // A type of a later version of Candid tells its own length.
        future if future < -24 => {
            let length = usize::try_from(unsigned(rest)?).ok()?;
            *rest = rest.get(length..)?;
        }
        _ => return None,
    }
    Some(())
}

fn unsigned(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (byte, more) = rest.split_first()?;
        *rest = more;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn signed(rest: &mut &[u8]) -> Option<i64> {
    let mut value: i64 = 0;
    for shift in (0..56).step_by(7) {
        let (byte, more) = rest.split_first()?;
        *rest = more;
        value |= i64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            let sign = if byte & 0x40 == 0 { 0 } else { -1 << (shift + 7) };
            return Some(value | sign);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> Vec<Message> {
        let payload = || Blob::from(b"bytes".to_vec());
        vec![
            Message::New { msg_id: 0, payload: payload() },
            Message::New { msg_id: u128::MAX, payload: Blob::default() },
            Message::Ack { msg_id: 1 << 64, payload: Some(payload()), hash: Some(7) },
            Message::Ack { msg_id: 7, payload: None, hash: None },
            Message::Fin { msg_id: 7, hash: Some(u32::MAX) },
            Message::Fin { msg_id: 7, hash: None },
        ]
    }

    /// What of a message a dialect carries.
    fn carried(dialect: Dialect, message: Message) -> Message {
        match (dialect, message) {
            (Dialect::Unified, message) => message,
            (d, Message::Ack { msg_id, payload, hash }) => Message::Ack {
                msg_id,
                payload: Some(payload.unwrap_or_default()),
                hash: hash.filter(|_| d != Dialect::Maf),
            },
            (Dialect::Maf, Message::Fin { msg_id, .. }) => Message::Fin { msg_id, hash: None },
            (_, message) => message,
        }
    }

    #[test]
    fn what_is_said_is_read_and_its_dialect_known() {
        for dialect in Dialect::ALL {
            for message in messages() {
                let (method, arg) = call_for(*dialect, &message);
                assert_eq!(dialect_of(method, &arg), Ok(*dialect));
                let read = message_from(*dialect, method, &arg);
                assert_eq!(read, Ok(carried(*dialect, message)));
            }
        }
    }

    #[test]
    fn a_batch_is_read_in_its_order() {
        let all = messages();
        let arg = batch(&all.iter().collect::<Vec<_>>());
        assert_eq!(messages_from(&arg), Ok(all.into_iter().map(Ok).collect()));
    }

    #[test]
    fn every_truncation_is_refused_and_nothing_panics() {
        for dialect in Dialect::ALL {
            for message in messages() {
                let (method, arg) = call_for(*dialect, &message);
                for end in 0..arg.len() {
                    let _ = dialect_of(method, &arg[..end]);
                    assert!(message_from(*dialect, method, &arg[..end]).is_err());
                }
            }
        }
    }

    #[test]
    fn an_id_of_two_to_the_128_is_told_from_what_is_no_message() {
        let method = "com_asyncFlow_newMessage";
        let read = |arg: Vec<u8>| message_from(Dialect::Positional, method, &arg);
        let payload = || Blob::from(vec![1, 2]);
        let large = candid::Nat::from(u128::MAX) + 1u8;
        let encoded = |id: candid::Nat| candid::encode_args((id, payload())).expect("it encodes");
        assert_eq!(read(encoded(large)), Err(Unreadable::Id));
        // A megabyte of digits: read once, never computed with.
        let mut long = b"DIDL\x01\x6D\x7B\x02\x7D\x00".to_vec();
        long.extend(vec![0xFF; 1 << 20]);
        long.extend([1, 1, 7]);
        assert_eq!(read(long), Err(Unreadable::Id));
        let text = candid::encode_args(("7", payload())).expect("it encodes");
        assert!(read(text).is_err());
    }

    #[test]
    fn an_entry_of_a_batch_whose_id_is_none_harms_no_other() {
        #[derive(CandidType, Deserialize)]
        enum Wide {
            #[serde(rename = "FIN")]
            Fin { msg_id: candid::Nat, hash: Option<u32> },
        }
        let large = candid::Nat::from(u128::MAX) + 1u8;
        let fin = |msg_id: candid::Nat| Wide::Fin { msg_id, hash: None };
        let arg = candid::encode_one(vec![fin(large), fin(7u8.into())]).expect("it encodes");
        let right = Message::Fin { msg_id: 7, hash: None };
        assert_eq!(messages_from(&arg), Ok(vec![Err(Unreadable::Id), Ok(right)]));
    }

    #[test]
    fn a_hash_that_is_a_blob_counts_as_absent() {
        let hash: Option<Blob> = Some(Blob::from(vec![1, 2]));
        let arg = candid::encode_args((7u128, hash)).expect("it encodes");
        let read = message_from(Dialect::Positional, "com_asyncFlow_finish", &arg);
        assert_eq!(read, Ok(Message::Fin { msg_id: 7, hash: None }));
    }

    #[test]
    fn a_maf_method_carries_its_own_kind_only() {
        let fin = Message::Fin { msg_id: 7, hash: None };
        let (_, arg) = call_for(Dialect::Maf, &fin);
        assert!(message_from(Dialect::Maf, "com_asyncFlow_ack", &arg).is_err());
    }
}
