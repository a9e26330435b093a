//! Messages of this canister to itself: application code whose trap must undo nothing else, entries of
//! a batch, and the work of a tick.

use std::collections::BTreeMap;

use candid::Principal;
use ic_cdk::api::{canister_self, time};
use ic_cdk::call::Call;
use serde::{Deserialize, Serialize};

use super::application::{Answer, Listener, Reply, Request};
use super::node::{self, arm, on, receive, with};
use crate::event::{Ask, HandOver, Of, Tell, What};
use crate::message::Message;
use crate::words::{Dialect, Key, Role, Telling};

/// The method, which is refused to everybody else.
const METHOD: &str = "async_flow_self";

/// One such message.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum Job {
    HandOver(HandOver),
    /// Work that a handler returned, kept on the heap.
    Running {
        peer: Principal,
        msg_id: u128,
        tries: u32,
    },
    Tell(Tell),
    Ask(Ask),
    Forward {
        caller: Principal,
        message: Message,
    },
    Tick {
        work: Vec<(u64, Key)>,
        size: u32,
    },
}

fn key_of(role: Role, peer: Principal, msg_id: u128) -> Key {
    match role {
        Role::Sender => Key::Sender(msg_id),
        Role::Receiver => Key::Receiver(peer, msg_id),
    }
}

/// The flow that a job belongs to, and what its trap is called there.
fn failure(job: &Job) -> Option<(Key, Of)> {
    Some(match job {
        Job::HandOver(h) => (Key::Receiver(h.peer, h.msg_id), Of::HandOver { tries: h.tries }),
        Job::Running { peer, msg_id, tries } => {
            (Key::Receiver(*peer, *msg_id), Of::HandOver { tries: *tries })
        }
        Job::Tell(t) => {
            (key_of(t.role, t.peer, t.msg_id), Of::Tell { what: t.what, tries: t.tries })
        }
        Job::Ask(a) => {
            (key_of(a.role, a.peer, a.msg_id), Of::Ask { their_hash: a.their_hash, tries: a.tries })
        }
        Job::Forward { .. } | Job::Tick { .. } => return None,
    })
}

fn bytes(job: &Job) -> Vec<u8> {
    postcard::to_allocvec(job).expect("plain records always serialize")
}

/// Runs a job later, unwatched.
pub(crate) fn later(job: &Job) {
    let arg = bytes(job);
    let call = Call::bounded_wait(canister_self(), METHOD);
    if call.with_raw_args(&arg).oneway().is_err() {
        with(|node| node.store.count("own_queue_full"));
    }
}

/// Tellings and questions that were sent and have not come back.
///
/// A snapshot that caught one brings it back, but not its message, and runs no code of the canister. So
/// one that has not come back within `answer_within` counts as failed; should it come after all, its try
/// is over. (A handler that takes so long is ended by its flow.)
#[derive(Default)]
pub(crate) struct Awaited {
    next: u64,
    /// By the time at which they were sent, and a number.
    sent: BTreeMap<(u64, u64), (Key, Of)>,
}

impl Awaited {
    fn add(&mut self, job: &Job, now: u64) -> Option<(u64, u64)> {
        let (key, of) = failure(job).filter(|(_, of)| !matches!(of, Of::HandOver { .. }))?;
        self.next += 1;
        self.sent.insert((now, self.next), (key, of));
        Some((now, self.next))
    }

    fn came_back(&mut self, sent: (u64, u64)) {
        self.sent.remove(&sent);
    }

    /// When the oldest is given up.
    pub fn over_at(&self, answer_within: u64) -> Option<u64> {
        let ((sent, _), _) = self.sent.first_key_value()?;
        Some(sent.saturating_add(answer_within))
    }

    /// Takes one that is given up now.
    pub fn take_over(&mut self, now: u64, answer_within: u64) -> Option<(Key, Of)> {
        let over = self.over_at(answer_within).is_some_and(|end| end <= now);
        over.then(|| self.sent.pop_first()).flatten().map(|(_, given_up)| given_up)
    }
}

/// Runs application code later, and reports its trap to its flow.
pub(crate) fn supervise(job: Job) {
    let sent = with(|node| node.awaited.add(&job, time()));
    ic_cdk::futures::spawn(async move {
        let arg = bytes(&job);
        let call = Call::unbounded_wait(canister_self(), METHOD);
        let failed = call.with_raw_args(&arg).await.is_err();
        if let Some(sent) = sent {
            with(|node| node.awaited.came_back(sent));
        }
        if failed {
            if let Some((key, of)) = failure(&job) {
                let _ = on(key, What::HandlerFailed(of), true, false);
                arm();
            }
        }
    });
}

/// The body of that method.
pub async fn work(arg: Vec<u8>) {
    let Ok(job) = postcard::from_bytes::<Job>(&arg) else { return };
    if failure(&job).is_some_and(|(key, of)| !with(|node| node.is_open(key, of))) {
        return with(|node| node.store.count("outdated"));
    }
    match job {
        Job::Forward { caller, message } => return receive(caller, Dialect::Unified, message),
        Job::Tick { work, size } => return node::work_on(work, size).await,
        Job::HandOver(h) => hand_over(h),
        Job::Running { peer, msg_id, tries } => {
            if let Some(work) = with(|node| node.works.remove(&(peer, msg_id, tries))) {
                conclude(peer, msg_id, tries, work.await);
            }
        }
        Job::Tell(t) => tell(t).await,
        Job::Ask(question) => ask(&question),
    }
    arm();
    let instructions = ic_cdk::api::instruction_counter();
    with(|node| node.store.add("instructions.apart", instructions));
}

/// Gives a NEW to the handler.
pub(crate) fn hand_over(h: HandOver) {
    let Some(handle) = with(|node| node.app.handler) else { return };
    let request = Request {
        sender: h.peer,
        msg_id: h.msg_id,
        payload: h.payload,
        hash: h.hash,
        redelivered: h.redelivered,
    };
    match handle(&request) {
        Reply::Now(answer) => conclude(h.peer, h.msg_id, h.tries, answer),
        Reply::Running(work) => {
            let (peer, msg_id, tries) = (h.peer, h.msg_id, h.tries);
            with(|node| node.works.insert((peer, msg_id, tries), work));
            supervise(Job::Running { peer, msg_id, tries });
        }
    }
}

fn conclude(peer: Principal, id: u128, tries: u32, answer: Answer) {
    let key = Key::Receiver(peer, id);
    let result = match answer {
        Answer::Answer(response) => node::answered(peer, id, response, false),
        Answer::Failed(response) => node::answered(peer, id, response, true),
        Answer::Later => on(key, What::Deferred, true, false),
        Answer::Retry => on(key, What::FailedForNow, true, false),
    };
    if let Err(reason) = result {
        with(|node| node.store.count(&format!("handler: {reason}")));
        let _ = on(key, What::HandlerFailed(Of::HandOver { tries }), true, false);
    }
}

async fn tell(t: Tell) {
    let (outcome, notice) = with(|node| (node.app.outcome, node.app.notice));
    let (key, what, tries, peer) = (key_of(t.role, t.peer, t.msg_id), t.what, t.tries, t.peer);
    match (t.what, outcome) {
        (
            Telling::Answered | Telling::Failed | Telling::Late,
            Some(Listener::Synchronous(take)),
        ) => {
            take(&t);
        }
        (Telling::Answered | Telling::Failed | Telling::Late, Some(Listener::Running(take))) => {
            take(t).await;
        }
        (Telling::Answered | Telling::Failed | Telling::Late, None) => {}
        _ => notice(&t),
    }
    let room = with(|node| node.has_room(&peer));
    let _ = on(key, What::Returned { what, tries }, room, false);
}

fn ask(question: &Ask) {
    let decide = with(|node| node.app.corruption);
    if let (Some(decision), true) = (decide(question), question.decide) {
        let room = with(|node| node.has_room(&question.peer));
        let key = key_of(question.role, question.peer, question.msg_id);
        let _ = on(key, What::Decided(decision), room, false);
    }
}
