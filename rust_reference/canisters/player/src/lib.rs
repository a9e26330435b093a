//! Reference canister `player`: sender and receiver whose application does what it is told to.
//!
//! A request's payload is a word that says how its handler behaves; `direct` says how tellings and
//! questions are met; `act` is the application's or the operator's side of the library.

use std::cell::RefCell;

use async_flow::canister::{self as node, Answer, Application, Listener, Reply, Request};
use async_flow::event::{Ask, Decision, NotAllowed, Tell};
use async_flow::message::Blob;
use async_flow::words::{Dialect, Key};
use candid::{CandidType, Decode, Deserialize, Encode, Principal};
use ic_cdk::call::Call;
use ic_stable_structures::{StableBTreeMap, StableCell};
use reference_parts::{Memory, SendResult};

/// How tellings and questions are met.
#[derive(CandidType, Deserialize, Clone, Copy, Default)]
struct Direction {
    trap_until: u32,
    decision: Option<Decision>,
    rerun: bool,
}

type Log = StableBTreeMap<u64, Vec<u8>, Memory>;

thread_local! {
    static DIRECTION: RefCell<StableCell<Vec<u8>, Memory>> =
        RefCell::new(StableCell::init(reference_parts::memory(3), Vec::new()));
    static TOLD: RefCell<Log> = RefCell::new(StableBTreeMap::init(reference_parts::memory(4)));
    static ASKED: RefCell<Log> = RefCell::new(StableBTreeMap::init(reference_parts::memory(5)));
}

fn direction() -> Direction {
    DIRECTION.with_borrow(|cell| Decode!(cell.get(), Direction).unwrap_or_default())
}

fn write(log: &mut Log, line: &impl CandidType) {
    let next = log.last_key_value().map_or(0, |(last, _)| last + 1);
    log.insert(next, Encode!(line).expect("it encodes"));
}

// --- The application ------------------------------------------------------------------------------------

/// Another message of this canister, so that what comes after it is a callback.
async fn pause() {
    let itself = ic_cdk::api::canister_self();
    let call = Call::unbounded_wait(itself, "pause");
    if call.await.is_err() {
        ic_cdk::trap("the pause failed");
    }
}

fn itself_only() -> Result<(), String> {
    node::works_on_itself().then_some(()).ok_or("only this canister itself may".to_string())
}

#[ic_cdk::update(name = "pause", hidden = true, guard = "itself_only")]
fn paused() {}

fn handle(request: &Request) -> Reply {
    reference_parts::ran(request);
    let payload = request.payload.clone();
    let same = Answer::Answer(Some(payload.clone()));
    let Ok(text) = std::str::from_utf8(&payload) else { return same.into() };
    let mut words = text.split(' ');
    match words.next() {
        Some("null") => Answer::Answer(None).into(),
        Some("bytes") => {
            let size = words.next().and_then(|n| n.parse().ok());
            Answer::Answer(size.map(|size| Blob::from(vec![0x61; size]))).into()
        }
        Some("later") => Answer::Later.into(),
        Some("retry") => Answer::Retry.into(),
        Some("fail") => Answer::Failed(Some(Blob::from(b"failed for good".to_vec()))).into(),
        Some("trap") => ic_cdk::trap("as told"),
        Some("trap-once") if request.redelivered => {
            Answer::Answer(Some(Blob::from(b"redelivered".to_vec()))).into()
        }
        Some("trap-once" | "running-trap") => Reply::Running(Box::pin(async {
            pause().await;
            ic_cdk::trap("as told")
        })),
        Some("running") => Reply::Running(Box::pin(async {
            pause().await;
            same
        })),
        _ => same.into(),
    }
}

fn take(told: &Tell) {
    TOLD.with_borrow_mut(|log| write(log, told));
    if told.tries <= direction().trap_until {
        ic_cdk::trap("as told");
    }
}

fn corrupted(question: &Ask) -> Option<Decision> {
    ASKED.with_borrow_mut(|log| write(log, question));
    if question.tries <= direction().trap_until {
        ic_cdk::trap("as told");
    }
    direction().decision
}

fn application() -> Application {
    Application {
        handler: Some(handle),
        outcome: Some(Listener::Synchronous(take)),
        notice: take,
        corruption: corrupted,
        priced: false,
        rerun: direction().rerun,
    }
}

reference_parts::life_cycle!(application());
reference_parts::handling!();
async_flow::endpoint!();

// --- How it is directed -----------------------------------------------------------------------------------

fn controllers_only() -> Result<(), String> {
    ic_cdk::api::is_controller(&ic_cdk::api::msg_caller())
        .then_some(())
        .ok_or("only controllers may direct a player".to_string())
}

#[ic_cdk::update(hidden = true, guard = "controllers_only")]
fn direct(how: Direction) {
    DIRECTION.with_borrow_mut(|cell| cell.set(Encode!(&how).expect("it encodes")));
}

#[derive(CandidType, Deserialize)]
struct Decide {
    key: Key,
    decision: Decision,
}

#[derive(CandidType, Deserialize)]
struct Response {
    sender: Principal,
    msg_id: u128,
    response: Option<Blob>,
}

#[derive(CandidType, Deserialize)]
struct Flow {
    sender: Principal,
    msg_id: u128,
}

#[derive(CandidType, Deserialize)]
struct Open {
    msg_id: u128,
    to: Principal,
    payload: Blob,
    dialect: Dialect,
}

#[derive(CandidType, Deserialize)]
#[allow(non_camel_case_types)]
enum Act {
    cancel(u128),
    finish(u128),
    retry(u128),
    drop(u128),
    decide(Decide),
    answer(Response),
    fail(Response),
    forget(Flow),
    rerun(Flow),
    send(Open),
}

#[derive(CandidType)]
#[allow(non_camel_case_types)]
enum Acted {
    ok,
    err(String),
}

#[ic_cdk::update(hidden = true, guard = "controllers_only")]
fn act(what: Act) -> Acted {
    let done: Result<(), NotAllowed> = match what {
        Act::cancel(id) => node::cancel(id),
        Act::finish(id) => node::finish(id),
        Act::retry(id) => node::retry(id),
        Act::drop(id) => node::drop_dead_letter(id),
        Act::decide(d) => node::decide(d.key, d.decision),
        Act::answer(a) => node::answer(a.sender, a.msg_id, a.response),
        Act::fail(a) => node::fail(a.sender, a.msg_id, a.response),
        Act::forget(f) => node::forget(f.sender, f.msg_id),
        Act::rerun(f) => node::rerun(f.sender, f.msg_id),
        Act::send(o) => node::send_as(o.msg_id, o.to, o.payload, o.dialect).map(|_| ()),
    };
    match done {
        Ok(()) => Acted::ok,
        Err(reason) => Acted::err(reason.to_string()),
    }
}

#[derive(CandidType, Deserialize)]
struct Many {
    to: Principal,
    payload: Blob,
    times: u128,
}

#[ic_cdk::update(hidden = true, guard = "controllers_only")]
async fn burst(many: Many) -> Vec<u128> {
    let mut ids = Vec::new();
    for _ in 0..many.times {
        match node::send(many.to, many.payload.clone()).await {
            Ok(id) => ids.push(id),
            Err(reason) => ic_cdk::trap(reason.to_string()),
        }
    }
    ids
}

#[derive(CandidType)]
struct Heard {
    told: Vec<Tell>,
    asked: Vec<Ask>,
}

#[ic_cdk::query(hidden = true, guard = "controllers_only")]
fn heard() -> Heard {
    let told = TOLD.with_borrow(|log| {
        log.iter().map(|line| Decode!(&line.value(), Tell).expect("a telling")).collect()
    });
    let asked = ASKED.with_borrow(|log| {
        log.iter().map(|line| Decode!(&line.value(), Ask).expect("a question")).collect()
    });
    Heard { told, asked }
}

#[derive(CandidType, Deserialize)]
struct One {
    to: Principal,
    payload: Blob,
}

#[derive(CandidType)]
struct Cost {
    instructions: u64,
    result: SendResult,
}

/// Instructions that one flow's opening takes now, its transmission included.
#[ic_cdk::update(hidden = true, guard = "controllers_only")]
async fn cost(one: One) -> Cost {
    let before = ic_cdk::api::instruction_counter();
    let result = match node::send(one.to, one.payload).await {
        Ok(id) => SendResult::ok(id),
        Err(reason) => SendResult::err(reason.to_string()),
    };
    Cost { instructions: ic_cdk::api::instruction_counter().saturating_sub(before), result }
}
