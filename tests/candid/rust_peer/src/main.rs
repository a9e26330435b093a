//! Reads one JSON question a line, answers with one JSON line: what the Rust implementation of
//! Candid makes of it. An answer is {"ok": ...} or {"error": "..."}.

use candid::types::subtype::{subtype_with_config, Gamma, OptReport};
use candid::types::Type;
use candid::{DecoderConfig, IDLArgs, TypeEnv};
use candid_parser::syntax::{IDLProg, IDLTypes};
use candid_parser::typing::{ast_to_type, check_prog};
use candid_parser::parse_idl_args;
use serde_json::{json, Value};
use std::io::{BufRead, Write};

type Answer = Result<Value, String>;

fn text<'a>(question: &'a Value, key: &str) -> &'a str {
    question[key].as_str().unwrap_or("")
}

/// The definitions in `defs`, and the types listed in `types`, such as "(nat, opt A)".
fn types(question: &Value, key: &str) -> Result<(TypeEnv, Vec<Type>), String> {
    let mut env = TypeEnv::new();
    let program: IDLProg = text(question, "defs").parse().map_err(|e| format!("{e}"))?;
    check_prog(&mut env, &program).map_err(|e| format!("{e}"))?;
    let listed: IDLTypes = text(question, key).parse().map_err(|e| format!("{e}"))?;
    let mut found = Vec::new();
    for arg in &listed.args {
        found.push(ast_to_type(&env, arg).map_err(|e| format!("{e}"))?);
    }
    Ok((env, found))
}

fn bytes(question: &Value) -> Result<Vec<u8>, String> {
    hex::decode(text(question, "data")).map_err(|e| e.to_string())
}

fn config() -> DecoderConfig {
    let mut config = DecoderConfig::new();
    config.set_decoding_quota(20_000_000);
    config
}

fn answer(question: &Value) -> Answer {
    match text(question, "op") {
        // Decode at the types, and encode what was understood at the same types.
        "recode" => {
            let (env, types) = types(question, "types")?;
            let args =
                IDLArgs::from_bytes_with_types_with_config(&bytes(question)?, &env, &types, &config())
                    .map_err(|e| format!("{e:?}"))?;
            let out = args
                .to_bytes_with_types(&env, &types)
                .map_err(|e| format!("encode: {e:?}"))?;
            Ok(json!({"data": hex::encode(out), "text": args.to_string()}))
        }
        "untyped" => {
            let args = IDLArgs::from_bytes_with_config(&bytes(question)?, &config())
                .map_err(|e| format!("{e:?}"))?;
            Ok(json!(args.to_string()))
        }
        "encode" => {
            let (env, types) = types(question, "types")?;
            let args: IDLArgs = parse_idl_args(text(question, "text")).map_err(|e| format!("{e}"))?;
            let out = args
                .to_bytes_with_types(&env, &types)
                .map_err(|e| format!("{e:?}"))?;
            Ok(json!(hex::encode(out)))
        }
        "subtype" => {
            let (env, left) = types(question, "left")?;
            let (_, right) = types(question, "right")?;
            let mut answers = Vec::new();
            for (a, b) in left.iter().zip(right.iter()) {
                let mut gamma = Gamma::new();
                let held = subtype_with_config(OptReport::Silence, &mut gamma, &env, a, b);
                answers.push(held.is_ok());
            }
            Ok(json!(answers))
        }
        "check" => {
            let program: IDLProg = text(question, "did").parse().map_err(|e| format!("{e}"))?;
            let mut env = TypeEnv::new();
            check_prog(&mut env, &program).map_err(|e| format!("{e}"))?;
            Ok(json!(true))
        }
        other => Err(format!("no such question: {other}")),
    }
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let stdin = std::io::stdin();
    let mut stdout = std::io::stdout();
    for line in stdin.lock().lines() {
        let Ok(line) = line else { break };
        let result = std::panic::catch_unwind(|| match serde_json::from_str::<Value>(&line) {
            Ok(question) => answer(&question),
            Err(e) => Err(e.to_string()),
        });
        let out = match result {
            Ok(Ok(value)) => json!({ "ok": value }),
            Ok(Err(message)) => json!({ "error": message }),
            Err(_) => json!({ "error": "panic" }),
        };
        let _ = writeln!(stdout, "{out}");
        let _ = stdout.flush();
    }
}
