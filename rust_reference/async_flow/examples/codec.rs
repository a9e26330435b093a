//! Says messages in every dialect and reads them, for comparison with other languages.
//!
//! One JSON object a line comes in, one goes out. `{"say": message, "dialect": d}` gives the method and
//! the argument in hex; `{"read": argument, "method": m, "dialect": d}` gives the message, or null where
//! it cannot be read.

use std::io::{BufRead, Write};

use async_flow::dialect::{call_for, dialect_of, message_from};
use async_flow::message::{Blob, Message};
use async_flow::words::Dialect;
use serde_json::{json, Value};

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn dialect(line: &Value) -> Dialect {
    let name = line["dialect"].as_str().expect("a dialect");
    *Dialect::ALL.iter().find(|d| d.name() == name).expect("a known dialect")
}

fn message(said: &Value) -> Message {
    let msg_id = said["msg_id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let payload = said["payload"].as_str().map(|hex| Blob::from(bytes(hex)));
    let hash = said["hash"].as_u64().map(|hash| u32::try_from(hash).expect("a hash"));
    match said["kind"].as_str() {
        Some("NEW") => Message::New { msg_id, payload: payload.expect("a payload") },
        Some("ACK") => Message::Ack { msg_id, payload, hash },
        _ => Message::Fin { msg_id, hash },
    }
}

fn told(message: &Message) -> Value {
    let hash = match message {
        Message::New { .. } => None,
        Message::Ack { hash, .. } | Message::Fin { hash, .. } => *hash,
    };
    json!({
        "kind": message.kind().name(), "msg_id": message.msg_id().to_string(),
        "payload": message.payload().map(hex), "hash": hash,
    })
}

fn main() {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let answer = if line["say"].is_null() {
            let arg = bytes(line["read"].as_str().expect("an argument"));
            let method = line["method"].as_str().expect("a method");
            let read = message_from(dialect(&line), method, &arg).ok();
            let known = dialect_of(method, &arg).map(Dialect::name).ok();
            json!({"message": read.as_ref().map(told), "dialect": known})
        } else {
            let (method, arg) = call_for(dialect(&line), &message(&line["say"]));
            json!({"method": method, "arg": hex(&arg)})
        };
        writeln!(out, "{answer}").expect("it is written");
    }
}
