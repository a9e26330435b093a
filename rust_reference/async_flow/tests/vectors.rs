//! Every test vector of the project, played on the tables natively (`tests/vectors/README.md`).

use std::path::Path;

use async_flow::event::{Decision, Effect, Event, NotAllowed, Of, Received, Transmit, What};
use async_flow::flow::{ReceiverFlow, SenderFlow};
use async_flow::message::{Blob, Kind, Message};
use async_flow::policy::{Policy, Settings};
use async_flow::step::{Rules, Transition};
use async_flow::words::{Dialect, Failure, NullAck, Role, State, Telling};
use async_flow::{receiver, sender};
use candid::Principal;
use serde_json::{json, Map, Value};

fn word<T: Copy>(all: &[T], name: fn(T) -> &'static str, text: &str) -> T {
    *all.iter().find(|one| name(**one) == text).unwrap_or_else(|| panic!("no word {text}"))
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_else(|| panic!("no {field} in {object}"))
}

fn opt_number(object: &Value, field: &str) -> Option<u64> {
    object[field].as_u64()
}

fn number(object: &Value, field: &str) -> u64 {
    opt_number(object, field).unwrap_or(0)
}

fn small(object: &Value, field: &str) -> u32 {
    u32::try_from(number(object, field)).expect("a small number")
}

fn opt_small(object: &Value, field: &str) -> Option<u32> {
    opt_number(object, field).map(|n| u32::try_from(n).expect("a small number"))
}

fn truth(object: &Value, field: &str, default: bool) -> bool {
    object[field].as_bool().unwrap_or(default)
}

fn blob(object: &Value, field: &str) -> Option<Blob> {
    let hex = object[field].as_str()?;
    let bytes = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16));
    Some(Blob::from(bytes.collect::<Result<Vec<u8>, _>>().expect("hex")))
}

fn hashes(object: &Value, field: &str) -> Vec<u32> {
    let Some(list) = object[field].as_array() else { return Vec::new() };
    list.iter().map(|n| u32::try_from(n.as_u64().expect("a number")).expect("a hash")).collect()
}

fn principal(object: &Value, field: &str) -> Principal {
    Principal::from_text(text(object, field)).expect("a principal")
}

fn id(object: &Value) -> u128 {
    text(object, "msg_id").parse().expect("an id below 2^128")
}

fn dialect(object: &Value) -> Dialect {
    let name = object["dialect"].as_str().unwrap_or("unified");
    word(Dialect::ALL, Dialect::name, name)
}

fn state(object: &Value) -> State {
    word(State::ALL, State::name, text(object, "state"))
}

fn message(object: &Value) -> Message {
    match text(object, "kind") {
        "NEW" => {
            Message::New { msg_id: id(object), payload: blob(object, "payload").expect("bytes") }
        }
        "ACK" => Message::Ack {
            msg_id: id(object),
            payload: blob(object, "payload"),
            hash: opt_small(object, "hash"),
        },
        _ => Message::Fin { msg_id: id(object), hash: opt_small(object, "hash") },
    }
}

fn transmit(object: &Value) -> Transmit {
    Transmit {
        peer: principal(object, "peer"),
        dialect: dialect(object),
        message: message(&object["message"]),
        attempt: small(object, "attempt"),
        echo: truth(object, "echo", false),
        prior_due: opt_number(object, "prior_due"),
        prior_at: opt_number(object, "prior_at"),
    }
}

fn telling(object: &Value) -> Telling {
    word(Telling::ALL, Telling::name, text(object, "what"))
}

fn of(object: &Value) -> Of {
    let tries = opt_small(object, "tries").unwrap_or(1);
    match text(object, "effect") {
        "tell" => Of::Tell { what: telling(object), tries },
        "ask" => Of::Ask { their_hash: small(object, "their_hash"), tries },
        _ => Of::HandOver { tries },
    }
}

fn what(object: &Value) -> What {
    let response = || blob(object, "response");
    let fits = truth(object, "fits", true);
    match text(object, "event") {
        "send" => What::Send {
            peer: principal(object, "peer"),
            msg_id: id(object),
            payload: blob(object, "payload").expect("bytes"),
            dialect: dialect(object),
        },
        "received" => What::Received(Received {
            message: message(&object["message"]),
            caller: principal(object, "caller"),
            dialect: dialect(object),
            refused: object["refused"].as_str().map(str::to_string),
            paid: truth(object, "paid", false),
            listed: false,
            floor: number(object, "floor"),
        }),
        "due" => What::Due,
        "restarted" => What::Restarted { share: number(object, "share") },
        "not_sent" => What::NotSent(transmit(&object["transmit"])),
        "refused" => What::Refused(transmit(&object["transmit"])),
        "rejected" => What::Rejected(transmit(&object["transmit"])),
        "cancel" => What::Cancel,
        "returned" => match of(&object["of"]) {
            Of::Tell { what, tries } => What::Returned { what, tries },
            other => panic!("{other:?} cannot return"),
        },
        "handler_failed" => What::HandlerFailed(of(&object["of"])),
        "finish" => What::Finish,
        "decided" => What::Decided(match text(object, "decision") {
            "resend" => Decision::Resend,
            "accept" => Decision::Accept(opt_small(object, "hash")),
            _ => Decision::Abandon,
        }),
        "retry_dead_letter" => What::RetryDeadLetter,
        "drop_dead_letter" => What::DropDeadLetter,
        "answer" => What::Answer { response: response(), fits },
        "deferred" => What::Deferred,
        "failed_for_now" => What::FailedForNow,
        "failed_for_good" => What::FailedForGood { response: response(), fits },
        "rerun" => What::Rerun,
        other => panic!("no event {other}"),
    }
}

fn sender_flow(o: &Value) -> SenderFlow {
    SenderFlow {
        peer: principal(o, "peer"),
        msg_id: id(o),
        dialect: dialect(o),
        state: state(o),
        failure: o["failure"].as_str().map(|name| word(Failure::ALL, Failure::name, name)),
        late: truth(o, "late", false),
        payload: blob(o, "payload"),
        payload_hash: small(o, "payload_hash"),
        response: blob(o, "response"),
        response_hash: opt_small(o, "response_hash"),
        attempts: small(o, "attempts"),
        opened: number(o, "opened"),
        changed: number(o, "changed"),
        ends: opt_number(o, "ends"),
        send_due: opt_number(o, "send_due"),
        tell_due: opt_number(o, "tell_due"),
        tries: small(o, "tries"),
        told: truth(o, "told", false),
        late_taken: truth(o, "late_taken", false),
        fin_due: opt_number(o, "fin_due"),
        fin_until: opt_number(o, "fin_until"),
        fin_at: opt_number(o, "fin_at"),
        fin_echoes: small(o, "fin_echoes"),
        wrong: hashes(o, "wrong"),
        wrong_hash: opt_small(o, "wrong_hash"),
        wrong_payload: blob(o, "wrong_payload"),
        due: opt_number(o, "due"),
    }
}

fn receiver_flow(o: &Value) -> ReceiverFlow {
    ReceiverFlow {
        peer: principal(o, "peer"),
        msg_id: id(o),
        dialect: dialect(o),
        state: state(o),
        payload: blob(o, "payload"),
        payload_hash: small(o, "payload_hash"),
        response: blob(o, "response"),
        response_hash: opt_small(o, "response_hash"),
        attempts: small(o, "attempts"),
        opened: number(o, "opened"),
        changed: number(o, "changed"),
        ends: opt_number(o, "ends"),
        send_due: opt_number(o, "send_due"),
        tell_due: opt_number(o, "tell_due"),
        tries: small(o, "tries"),
        told: truth(o, "told", false),
        ack_at: opt_number(o, "ack_at"),
        ack_echoes: small(o, "ack_echoes"),
        wrong_news: hashes(o, "wrong_news"),
        wrong_fins: hashes(o, "wrong_fins"),
        deferred: truth(o, "deferred", false),
        paid: truth(o, "paid", false),
        listed: false,
        horizon: number(o, "horizon"),
        floor: number(o, "floor"),
        due: opt_number(o, "due"),
    }
}

fn hex(bytes: &Option<Blob>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    Value::String(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn message_json(message: &Message) -> Value {
    let id = message.msg_id().to_string();
    match message {
        Message::New { payload, .. } => {
            json!({"kind": "NEW", "msg_id": id, "payload": hex(&Some(payload.clone()))})
        }
        Message::Ack { payload, hash, .. } => {
            json!({"kind": "ACK", "msg_id": id, "payload": hex(payload), "hash": hash})
        }
        Message::Fin { hash, .. } => json!({"kind": "FIN", "msg_id": id, "hash": hash}),
    }
}

fn effect_json(effect: &Effect) -> Value {
    match effect {
        Effect::Transmit(t) => json!({
            "effect": "transmit", "peer": t.peer.to_text(), "dialect": t.dialect.name(),
            "message": message_json(&t.message), "attempt": t.attempt, "echo": t.echo,
            "prior_due": t.prior_due, "prior_at": t.prior_at,
        }),
        Effect::HandOver(h) => json!({
            "effect": "hand_over", "peer": h.peer.to_text(), "msg_id": h.msg_id.to_string(),
            "payload": hex(&Some(h.payload.clone())), "hash": h.hash,
            "redelivered": h.redelivered, "tries": h.tries,
        }),
        Effect::Tell(t) => json!({
            "effect": "tell", "role": t.role.name(), "peer": t.peer.to_text(),
            "msg_id": t.msg_id.to_string(), "what": t.what.name(),
            "failure": t.failure.map(Failure::name), "response": hex(&t.response),
            "redelivered": t.redelivered, "tries": t.tries,
        }),
        Effect::Ask(a) => json!({
            "effect": "ask", "role": a.role.name(), "peer": a.peer.to_text(),
            "msg_id": a.msg_id.to_string(), "kind": a.kind.name(),
            "our_payload": hex(&a.our_payload), "their_payload": hex(&a.their_payload),
            "our_hash": a.our_hash, "their_hash": a.their_hash, "decide": a.decide,
            "tries": a.tries,
        }),
        Effect::Count(reason) => json!({"effect": "count", "reason": reason}),
        Effect::RememberPaid { peer, msg_id, until } => json!({
            "effect": "remember_paid", "peer": peer.to_text(), "msg_id": msg_id.to_string(),
            "until": until,
        }),
    }
}

/// Without what says nothing: nulls, false, and a first try.
fn plain(value: &Value) -> Value {
    let Value::Object(object) = value else { return value.clone() };
    let mut kept = Map::new();
    for (name, field) in object {
        let first_try = name == "tries" && *field == json!(1);
        if !(field.is_null() || *field == json!(false) || first_try) {
            kept.insert(name.clone(), plain(field));
        }
    }
    Value::Object(kept)
}

fn policy(values: &Value, settings: &Value) -> Policy {
    let mut all = values.as_object().expect("settings").clone();
    for (name, value) in settings.as_object().into_iter().flatten() {
        all.insert(name.clone(), value.clone());
    }
    let mut policy = Policy::default();
    let known = serde_json::to_value(Settings::from(&policy)).expect("settings");
    let mut merged = known.as_object().expect("settings").clone();
    for (name, value) in all {
        let name = if name == "bytes_stored" { "bytes".to_string() } else { name };
        if merged.contains_key(&name) {
            merged.insert(name, value);
        }
    }
    policy.clone_from(&serde_json::from_value(Value::Object(merged)).expect("a policy"));
    policy
}

fn is_for_sender(vector: &Value) -> bool {
    let before = &vector["before"];
    if !before.is_null() {
        return before["flow"] == "sender";
    }
    let event = &vector["event"];
    match text(event, "event") {
        "send" | "cancel" | "finish" | "retry_dead_letter" | "drop_dead_letter" => true,
        "received" => event["message"]["kind"] == "ACK",
        _ => false,
    }
}

/// The flow after the step as JSON that the vector's own reader gives back as the very same record.
fn expected_after(vector: &Value) -> Option<Value> {
    if vector["after"].is_null() {
        return None;
    }
    let mut all = vector["before"].as_object().cloned().unwrap_or_default();
    for (name, value) in vector["after"].as_object().expect("an object") {
        all.insert(name.clone(), value.clone());
    }
    Some(Value::Object(all))
}

fn hollow(carried: &Option<Blob>) -> Option<Blob> {
    carried.as_ref().map(|_| Blob::new())
}

fn hollow_sender(flow: &SenderFlow) -> SenderFlow {
    SenderFlow {
        payload: hollow(&flow.payload),
        response: hollow(&flow.response),
        wrong_payload: hollow(&flow.wrong_payload),
        ..flow.clone()
    }
}

fn hollow_receiver(flow: &ReceiverFlow) -> ReceiverFlow {
    ReceiverFlow {
        payload: hollow(&flow.payload),
        response: hollow(&flow.response),
        ..flow.clone()
    }
}

/// Steps on a flow and on one that carries nothing are the same but for what is carried.
fn is_blind<F: PartialEq + std::fmt::Debug>(
    whole: Result<Transition<F>, NotAllowed>,
    empty: Result<Transition<F>, NotAllowed>,
    hollow: fn(&F) -> F,
) -> Result<(), String> {
    let shown = |t: Result<Transition<F>, NotAllowed>| {
        t.map(|t| (t.flow.as_ref().map(hollow), t.changed, t.effects))
    };
    let (whole, empty) = (shown(whole), shown(empty));
    match whole == empty {
        true => Ok(()),
        false => Err(format!("it does look inside: {whole:?}\n  and\n    {empty:?}")),
    }
}

fn play(policies: &Value, vector: &Value) -> Result<(), String> {
    let happened = &vector["event"];
    if happened["msg_id"].as_str().is_some_and(|id| id.parse::<u128>().is_err()) {
        // An id of 2^128 or more has no representation here: it cannot be asked for.
        return if vector["error"] == json!(true) { Ok(()) } else { Err("a valid id".into()) };
    }
    let settings = &vector["settings"];
    let policy = policy(&policies[text(vector, "policy")], settings);
    let before = &vector["before"];
    let peer = before["peer"].as_str().unwrap_or_default();
    let null_ack = settings["peers"][peer]["null_ack"].as_str().unwrap_or("response");
    let rules = Rules {
        policy: &policy,
        null_ack: word(NullAck::ALL, NullAck::name, null_ack),
        rerun: truth(settings, "rerun_stalled", false),
    };
    let event = Event {
        u: number(happened, "u"),
        lag: number(happened, "lag"),
        room: truth(happened, "room", true),
        what: what(happened),
    };
    let now = number(vector, "now");
    let wants_error = vector["error"] == json!(true);
    let wanted = expected_after(vector);
    let (same_flow, shown, changed, effects) = if is_for_sender(vector) {
        let flow = (!before.is_null()).then(|| sender_flow(before));
        if let Some(flow) = flow.as_ref().filter(|flow| !sender::looks_inside(flow, &event)) {
            let (whole, empty) = [flow.clone(), hollow_sender(flow)]
                .map(|flow| sender::step(Some(flow), &event, now, rules))
                .into();
            is_blind(whole, empty, hollow_sender)?;
        }
        match sender::step(flow.clone(), &event, now, rules) {
            Err(error) => return if wants_error { Ok(()) } else { Err(error.to_string()) },
            Ok(t) => {
                let want = wanted.as_ref().map(sender_flow);
                // A flow that is stored anew as it was is harmless; a change that is not told is not.
                let told = t.changed || t.flow == flow;
                (t.flow == want, format!("{:?}", t.flow), told, t.effects)
            }
        }
    } else {
        let flow = (!before.is_null()).then(|| receiver_flow(before));
        if let Some(flow) = flow.as_ref().filter(|flow| !receiver::looks_inside(flow, &event, now))
        {
            let (whole, empty) = [flow.clone(), hollow_receiver(flow)]
                .map(|flow| receiver::step(Some(flow), &event, now, rules))
                .into();
            is_blind(whole, empty, hollow_receiver)?;
        }
        match receiver::step(flow.clone(), &event, now, rules) {
            Err(error) => return if wants_error { Ok(()) } else { Err(error.to_string()) },
            Ok(t) => {
                let want = wanted.as_ref().map(receiver_flow);
                let told = t.changed || t.flow == flow;
                (t.flow == want, format!("{:?}", t.flow), told, t.effects)
            }
        }
    };
    if wants_error {
        return Err("no error".to_string());
    }
    if !same_flow {
        return Err(format!("the flow is\n    {shown}\n  instead of\n    {wanted:?}"));
    }
    if !changed {
        return Err("`changed` does not tell the change".to_string());
    }
    let got: Vec<Value> = effects.iter().map(|e| plain(&effect_json(e))).collect();
    let want: Vec<Value> =
        vector["effects"].as_array().expect("effects").iter().map(plain).collect();
    if got == want {
        Ok(())
    } else {
        Err(format!("the effects are\n    {got:?}\n  instead of\n    {want:?}"))
    }
}

fn every_vector_of(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors");
    let file = std::fs::read_to_string(folder.join(name)).expect("the vectors are there");
    let data: Value = serde_json::from_str(&file).expect("JSON");
    assert_eq!(data["format"], json!(1));
    let vectors = data["vectors"].as_array().expect("vectors");
    assert!(vectors.len() > 100);
    let wrong: Vec<String> = vectors
        .iter()
        .filter_map(|vector| {
            let why = play(&data["policies"], vector).err()?;
            Some(format!("{}: {why}", text(vector, "name")))
        })
        .collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
}

#[test]
fn every_handwritten_vector_holds() {
    every_vector_of("handwritten.json");
}

#[test]
fn every_generated_vector_holds() {
    every_vector_of("generated.json");
}

#[test]
fn the_words_of_messages_are_the_protocols() {
    let names: Vec<&str> = [Kind::New, Kind::Ack, Kind::Fin].map(Kind::name).to_vec();
    assert_eq!(names, ["NEW", "ACK", "FIN"]);
    assert_eq!(Role::ALL.len(), 2);
}
