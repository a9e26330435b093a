//! The three messages and the hash that compares payloads.
//!
//! Rule: the protocol page, sections Terms and Messages. As a Candid type `Message` is the argument of
//! the dialect `unified` (`candid/unified.did`). Knows no flow.

use candid::{CandidType, Deserialize};
use serde::Serialize;
use serde_bytes::ByteBuf;

/// Opaque bytes.
pub type Blob = ByteBuf;

/// One message of Async Flow. `msg_id` is a `nat` below 2^128.
#[derive(CandidType, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Sender to receiver: please process this.
    #[serde(rename = "NEW")]
    New {
        /// The sender's id of the flow.
        msg_id: u128,
        /// What is to be processed.
        payload: Blob,
    },
    /// Receiver to sender: it was processed; this is the response.
    #[serde(rename = "ACK")]
    Ack {
        /// The id of the flow.
        msg_id: u128,
        /// The response; `None` for a null response.
        payload: Option<Blob>,
        /// Hash of the NEW payload that was processed; `None` if it is not carried.
        hash: Option<u32>,
    },
    /// Sender to receiver: the response is stored, or not wanted any more.
    #[serde(rename = "FIN")]
    Fin {
        /// The id of the flow.
        msg_id: u128,
        /// Hash of the response that was accepted; `None` if none was.
        hash: Option<u32>,
    },
}

/// Which of the three messages.
#[derive(
    CandidType, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum Kind {
    /// NEW.
    #[serde(rename = "new")]
    New,
    /// ACK.
    #[serde(rename = "ack")]
    Ack,
    /// FIN.
    #[serde(rename = "fin")]
    Fin,
}

impl Kind {
    /// The protocol's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::New => "NEW",
            Kind::Ack => "ACK",
            Kind::Fin => "FIN",
        }
    }
}

impl Message {
    /// Which of the three it is.
    pub fn kind(&self) -> Kind {
        match self {
            Message::New { .. } => Kind::New,
            Message::Ack { .. } => Kind::Ack,
            Message::Fin { .. } => Kind::Fin,
        }
    }

    /// The id of its flow.
    pub fn msg_id(&self) -> u128 {
        match self {
            Message::New { msg_id, .. }
            | Message::Ack { msg_id, .. }
            | Message::Fin { msg_id, .. } => *msg_id,
        }
    }

    /// The payload, where it has one.
    pub fn payload(&self) -> Option<&[u8]> {
        match self {
            Message::New { payload, .. } => Some(payload),
            Message::Ack { payload, .. } => payload.as_ref().map(|bytes| bytes.as_slice()),
            Message::Fin { .. } => None,
        }
    }

    /// Bytes that it takes up in a call, a batch or an outbox, framing included and rounded up.
    pub fn size(&self) -> u64 {
        OVERHEAD + self.payload().map_or(0, |bytes| bytes.len() as u64)
    }
}

/// Ids, hash, tags and lengths around a payload, rounded up (bytes).
pub(crate) const OVERHEAD: u64 = 64;

/// CRC-32 (IEEE) of a payload; null equals empty, and both give 0. It detects damage; it
/// authenticates nothing.
pub fn payload_hash(payload: Option<&[u8]>) -> u32 {
    payload.map_or(0, crc32fast::hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_crc_32() {
        assert_eq!(payload_hash(Some(b"123456789")), 0xCBF4_3926);
        assert_eq!(payload_hash(None), payload_hash(Some(b"")));
    }
}
