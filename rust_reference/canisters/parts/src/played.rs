//! An application that does what it is told to.
//!
//! A request's payload is a word that says how its handler behaves; `direct` says how tellings and
//! questions are met; `act` is the application's or the operator's side of the library.

use std::cell::RefCell;
use std::future::{poll_fn, Future, IntoFuture};
use std::pin::pin;

use async_flow::access::{Lists, PeerSettings};
use async_flow::canister::{self as node, Answer, Application, Install, Listener, Reply, Request};
use async_flow::event::{Ask, Decision, NotAllowed, Tell};
use async_flow::message::{Blob, Message};
use async_flow::policy::Settings;
use async_flow::stable::{pack, unpack};
use async_flow::words::{Dialect, Key, Role};
use candid::{CandidType, Deserialize, Principal};
use ic_cdk::call::Call;
use ic_stable_structures::{StableBTreeMap, StableCell};
use serde::Serialize;

use crate::{memory, ran, start, Memory, SendRequest, SendResult};

/// How tellings and questions are met.
#[derive(CandidType, Serialize, Deserialize, Clone, Copy, Default)]
pub struct Direction {
    /// Tellings and questions trap up to this try.
    trap_until: u32,
    /// Of the corruption handler; `None`: later, by `act`.
    decision: Option<Decision>,
    /// Whether interrupted work runs again, from the next start on.
    rerun: bool,
}

type Log = StableBTreeMap<u64, Vec<u8>, Memory>;

thread_local! {
    static DIRECTION: RefCell<StableCell<Vec<u8>, Memory>> =
        RefCell::new(StableCell::init(memory(3), Vec::new()));
    static TOLD: RefCell<Log> = RefCell::new(StableBTreeMap::init(memory(4)));
    static ASKED: RefCell<Log> = RefCell::new(StableBTreeMap::init(memory(5)));
    static ROLE: RefCell<StableCell<Vec<u8>, Memory>> =
        RefCell::new(StableCell::init(memory(8), Vec::new()));
}

fn direction() -> Direction {
    DIRECTION.with_borrow(|cell| match cell.get().as_slice() {
        [] => Direction::default(),
        bytes => unpack(bytes),
    })
}

fn write(log: &mut Log, line: &impl Serialize) {
    let next = log.last_key_value().map_or(0, |(last, _)| last + 1);
    log.insert(next, pack(line));
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

/// How a request is handled.
pub fn handle(request: &Request) -> Reply {
    ran(request);
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

/// Takes what a flow tells, or traps as directed.
pub fn take(told: &Tell) {
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

/// The application, as it is directed now.
pub fn application() -> Application {
    Application {
        handler: Some(handle),
        outcome: Some(Listener::Synchronous(take)),
        notice: take,
        corruption: corrupted,
        rerun: direction().rerun,
        ..Application::none()
    }
}

// --- Its life ---------------------------------------------------------------------------------------------

/// The install argument: that of every canister here, and the one role that a player takes.
#[derive(CandidType, Deserialize)]
pub struct Start {
    settings: Option<Settings>,
    access: Option<Lists>,
    peers: Option<Vec<PeerSettings>>,
    role: Option<Role>,
}

/// What a player is for good.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Sender,
    Receiver,
    Both,
}

impl From<Option<Role>> for Part {
    fn from(role: Option<Role>) -> Part {
        match role {
            None => Part::Both,
            Some(Role::Sender) => Part::Sender,
            Some(Role::Receiver) => Part::Receiver,
        }
    }
}

/// The part that was stored at the installation, which stores the one that is given.
fn part(given: Option<Role>) -> Part {
    let stored = ROLE.with_borrow(|cell| match cell.get().as_slice() {
        [] => None,
        bytes => Some(unpack::<Part>(bytes)),
    });
    match (stored, given) {
        (Some(part), Some(role)) if part != Part::from(Some(role)) => ic_cdk::trap(format!(
            "bad install argument: this player is {part:?} for good, and cannot become {role:?}; \
             leave the role out, or install another canister"
        )),
        (Some(part), _) => part,
        (None, role) => {
            let part = Part::from(role);
            ROLE.with_borrow_mut(|cell| cell.set(pack(&part)));
            part
        }
    }
}

/// Begins as what it was installed to be: in both roles, or in one alone for good.
///
/// # Panics
/// If another role is given than at the installation.
pub fn begin(given: Option<Start>) {
    begin_as(given, application());
}

/// The same with another application.
///
/// # Panics
/// As for [`begin`].
pub fn begin_as(given: Option<Start>, both: Application) {
    let part = part(given.as_ref().and_then(|given| given.role));
    let install =
        given.map(|Start { settings, access, peers, .. }| Install { settings, access, peers });
    let played = match part {
        Part::Both => both,
        Part::Sender => Application { handler: None, ..both },
        Part::Receiver => Application { outcome: None, ..both },
    };
    start(played, install);
}

// --- How it is directed -----------------------------------------------------------------------------------

/// Says how tellings and questions are met.
pub fn direct(how: Direction) {
    DIRECTION.with_borrow_mut(|cell| cell.set(pack(&how)));
}

/// A decision about a wrong hash.
#[derive(CandidType, Deserialize)]
pub struct Decide {
    key: Key,
    decision: Decision,
}

/// An answer to a request.
#[derive(CandidType, Deserialize)]
pub struct Response {
    sender: Principal,
    msg_id: u128,
    response: Option<Blob>,
}

/// A flow that a peer opened.
#[derive(CandidType, Deserialize)]
pub struct Flow {
    sender: Principal,
    msg_id: u128,
}

/// A flow to be opened with a given id and dialect.
#[derive(CandidType, Deserialize)]
pub struct Open {
    msg_id: u128,
    to: Principal,
    payload: Blob,
    dialect: Dialect,
}

/// What the application, or the operator, does; the library's function of that name.
#[derive(CandidType, Deserialize)]
#[allow(non_camel_case_types, missing_docs)]
pub enum Act {
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

/// What became of it.
#[derive(CandidType)]
#[allow(non_camel_case_types)]
pub enum Acted {
    /// Done.
    ok,
    /// Why not.
    err(String),
}

/// Does it.
pub fn act(what: Act) -> Acted {
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

/// Many flows of one kind.
#[derive(CandidType, Deserialize)]
pub struct Many {
    to: Principal,
    payload: Blob,
    times: u128,
}

/// Opens many flows in one message; their ids.
pub async fn burst(many: Many) -> Vec<u128> {
    let mut ids = Vec::new();
    for _ in 0..many.times {
        match node::send(many.to, many.payload.clone()).await {
            Ok(id) => ids.push(id),
            Err(reason) => ic_cdk::trap(reason.to_string()),
        }
    }
    ids
}

/// Every telling and question so far.
#[derive(CandidType)]
pub struct Heard {
    told: Vec<Tell>,
    asked: Vec<Ask>,
}

/// Every telling and question so far.
pub fn heard() -> Heard {
    let told =
        TOLD.with_borrow(|log| log.iter().map(|line| unpack::<Tell>(&line.value())).collect());
    let asked =
        ASKED.with_borrow(|log| log.iter().map(|line| unpack::<Ask>(&line.value())).collect());
    Heard { told, asked }
}

/// What opening a flow took.
#[derive(CandidType)]
pub struct Cost {
    instructions: u64,
    result: SendResult,
}

/// Instructions that one flow's opening takes now, its transmission included.
pub async fn cost(one: SendRequest) -> Cost {
    let before = ic_cdk::api::instruction_counter();
    let result = match node::send(one.to, one.payload).await {
        Ok(id) => SendResult::ok(id),
        Err(reason) => SendResult::err(reason.to_string()),
    };
    Cost { instructions: ic_cdk::api::instruction_counter().saturating_sub(before), result }
}

/// Many requests of one listed agent.
#[derive(CandidType, Deserialize)]
pub struct Requests {
    peer: Principal,
    first: u128,
    payload: Blob,
    times: u128,
}

/// Takes many requests in one message, ids from `first` on, each to its end: what remains are tombstones.
pub fn serve(many: Requests) {
    for msg_id in many.first..many.first + many.times {
        let new = Message::New { msg_id, payload: many.payload.clone() };
        node::receive(many.peer, Dialect::Unified, new);
        node::receive(many.peer, Dialect::Unified, Message::Fin { msg_id, hash: None });
    }
}

/// What a plain request costs.
#[derive(CandidType)]
pub struct Plain {
    caller: u64,
    callee: u64,
}

/// What the library replaces, to be measured beside it: a request whose answer is awaited.
pub async fn plain(one: SendRequest) -> Plain {
    let mut sent = 0;
    let answer = {
        let call = Call::unbounded_wait(one.to, "plain_answer").with_arg(&one.payload);
        let mut answer = pin!(call.into_future());
        poll_fn(|context| {
            let polled = answer.as_mut().poll(context);
            if sent == 0 {
                sent = ic_cdk::api::instruction_counter();
            }
            polled
        })
        .await
    };
    let Ok((_, callee)) =
        answer.map(|reply| reply.candid_tuple::<(Blob, u64)>().unwrap_or_default())
    else {
        ic_cdk::trap("the plain request failed");
    };
    // The counter started anew with the answer.
    Plain { caller: sent + ic_cdk::api::instruction_counter(), callee }
}

/// How a canister with this application is directed.
#[macro_export]
macro_rules! directing {
    () => {
        mod directed {
            use $crate::played;

            fn controllers_only() -> Result<(), String> {
                ::ic_cdk::api::is_controller(&::ic_cdk::api::msg_caller())
                    .then_some(())
                    .ok_or("only controllers may direct this canister".to_string())
            }

            fn itself_only() -> Result<(), String> {
                ::async_flow::canister::works_on_itself()
                    .then_some(())
                    .ok_or("only this canister itself may".to_string())
            }

            #[::ic_cdk::update(hidden = true, guard = "itself_only")]
            fn pause() {}

            #[::ic_cdk::update(hidden = true, guard = "controllers_only")]
            fn direct(how: played::Direction) {
                played::direct(how);
            }

            #[::ic_cdk::update(hidden = true, guard = "controllers_only")]
            fn act(what: played::Act) -> played::Acted {
                played::act(what)
            }

            #[::ic_cdk::update(hidden = true, guard = "controllers_only")]
            async fn burst(many: played::Many) -> Vec<u128> {
                played::burst(many).await
            }

            #[::ic_cdk::query(hidden = true, guard = "controllers_only")]
            fn heard() -> played::Heard {
                played::heard()
            }

            #[::ic_cdk::update(hidden = true, guard = "controllers_only")]
            async fn cost(one: $crate::SendRequest) -> played::Cost {
                played::cost(one).await
            }

            #[::ic_cdk::update(hidden = true, guard = "controllers_only")]
            async fn plain(one: $crate::SendRequest) -> played::Plain {
                played::plain(one).await
            }

            #[::ic_cdk::update(hidden = true, guard = "controllers_only")]
            fn serve(many: played::Requests) {
                played::serve(many);
            }

            #[::ic_cdk::query(hidden = true, guard = "controllers_only")]
            fn start_cost() -> u64 {
                $crate::start_cost()
            }

            fn somebody_only() -> Result<(), String> {
                (::ic_cdk::api::msg_caller() != ::candid::Principal::anonymous())
                    .then_some(())
                    .ok_or("not for the anonymous principal".to_string())
            }

            /// Answers with the payload, and tells the instructions of that.
            #[::ic_cdk::update(hidden = true, guard = "somebody_only")]
            fn plain_answer(
                payload: ::async_flow::message::Blob,
            ) -> (::async_flow::message::Blob, u64) {
                (payload, ::ic_cdk::api::instruction_counter())
            }
        }
    };
}
