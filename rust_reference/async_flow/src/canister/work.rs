//! Messages of this canister to itself: application code whose trap must undo nothing else, entries of
//! a batch, and the work of a tick.

use std::collections::BTreeMap;

use candid::Principal;
use ic_cdk::api::{canister_self, time};
use ic_cdk::call::{Call, CallFailed};
use serde::{Deserialize, Serialize};

use super::application::{Answer, Listener, Reply, Request};
use super::node::{self, arm, on, receive, with};
use crate::event::{Ask, HandOver, Of, Tell, What};
use crate::message::Message;
use crate::stable::{pack, unpack};
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
    /// An entry of a batch.
    Forward {
        number: u64,
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

/// The longest that an unwatched job waits in this canister's own queue (seconds).
const LONGEST_WAIT: u32 = 300;

/// Runs a job later, unwatched. False: it certainly will not run, as the own queue is full or the cycles
/// are short.
pub(crate) fn later(job: &Job) -> bool {
    let arg = pack(job);
    let call = Call::bounded_wait(canister_self(), METHOD).change_timeout(LONGEST_WAIT);
    let left = call.with_raw_args(&arg).oneway().is_ok();
    if !left {
        with(|node| node.store.count("own_queue_full"));
    }
    left
}

/// Entries of batches that were sent on and have not begun.
///
/// They share this canister's queue to itself, 500 slots, with what its own flows need, so they may take
/// less than half of it; of that, callers on no list half. An entry that traps is seen to have begun when
/// a later one begins, as messages of one canister to itself keep their order.
#[derive(Default)]
pub(crate) struct Forwards {
    sent: u64,
    begun: u64,
    /// When the last one has begun or is lost.
    until: u64,
}

/// Entries that may wait at once.
const MOST_FORWARDS: u64 = 200;

impl Forwards {
    /// Whether one more of this caller may wait.
    pub fn has_room(&self, now: u64, listed: bool) -> bool {
        let most = if listed { MOST_FORWARDS } else { MOST_FORWARDS / 2 };
        now >= self.until || self.sent - self.begun < most
    }

    /// The number of the next one.
    fn next(&self) -> u64 {
        self.sent + 1
    }

    fn left(&mut self, now: u64) {
        if now >= self.until {
            self.begun = self.sent;
        }
        self.sent += 1;
        self.until = now.saturating_add(u64::from(LONGEST_WAIT) * 1_000_000_000);
    }

    fn began(&mut self, number: u64) {
        // A number from before an upgrade may be higher than any that was given since.
        self.begun = self.begun.max(number.min(self.sent));
    }
}

/// Sends one entry of a batch on, as a message of its own. False: it is as lost.
pub(crate) fn forward(caller: Principal, message: Message) -> bool {
    let number = with(|node| node.forwards.next());
    let left = later(&Job::Forward { number, caller, message });
    if left {
        with(|node| node.forwards.left(time()));
    }
    left
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

/// Jobs of flows that could not be sent, to be tried again, by time and a number. An upgrade loses them,
/// and its start finds their flows.
#[derive(Default)]
pub(crate) struct Unsent {
    next: u64,
    jobs: BTreeMap<(u64, u64), Job>,
}

impl Unsent {
    fn add(&mut self, due: u64, job: Job) {
        self.next += 1;
        self.jobs.insert((due, self.next), job);
    }

    /// When the first is tried again.
    pub fn due(&self) -> Option<u64> {
        self.jobs.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes one that is due.
    pub fn take_due(&mut self, now: u64) -> Option<Job> {
        self.due().is_some_and(|due| due <= now).then(|| self.jobs.pop_first())?.map(|(_, job)| job)
    }
}

/// Runs application code later, and reports its trap to its flow. If it cannot even be sent, that is no
/// failure of the application: it is tried again after `send_retry`.
pub(crate) fn supervise(job: Job) {
    let sent = with(|node| node.awaited.add(&job, time()));
    ic_cdk::futures::spawn(async move {
        let arg = pack(&job);
        let call = Call::unbounded_wait(canister_self(), METHOD);
        let result = call.with_raw_args(&arg).await;
        if let Some(sent) = sent {
            with(|node| node.awaited.came_back(sent));
        }
        match result {
            Ok(_) => return,
            Err(CallFailed::CallRejected(_)) => {
                forget_work(&job);
                if let Some((key, of)) = failure(&job) {
                    let _ = on(key, What::HandlerFailed(of), true, false);
                }
            }
            Err(_) => with(|node| {
                node.store.count("own_queue_full");
                let retry = time().saturating_add(node.store.meta.policy.send_retry);
                node.unsent.add(retry, job);
            }),
        }
        arm();
    });
}

/// Sends a job again that could not be sent, if its flow still wants it.
pub(crate) fn supervise_again(job: Job) {
    if is_outdated(&job) {
        forget_work(&job);
    } else {
        supervise(job);
    }
}

fn is_outdated(job: &Job) -> bool {
    failure(job).is_some_and(|(key, of)| !with(|node| node.is_open(key, of)))
}

/// Drops a handler's work that will not go on. It is the application's, so the node is not held meanwhile.
fn forget_work(job: &Job) {
    if let Job::Running { peer, msg_id, tries } = job {
        let work = with(|node| node.works.remove(&(*peer, *msg_id, *tries)));
        drop(work);
    }
}

/// The body of that method.
pub async fn work(arg: Vec<u8>) {
    let job = unpack::<Job>(&arg);
    if is_outdated(&job) {
        forget_work(&job);
        return with(|node| node.store.count("outdated"));
    }
    match job {
        Job::Forward { number, caller, message } => {
            with(|node| node.forwards.began(number));
            return receive(caller, Dialect::Unified, message);
        }
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
    if result.is_err() {
        // Not its text, which names the flow: reasons are counted in a table that must stay small.
        with(|node| node.store.count("handler_answer_refused"));
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
        (Telling::Answered | Telling::Failed | Telling::Late, None) => {
            // Nobody has heard it. A later start, of a version that listens, tells it again.
            return with(|node| node.store.count("no_sender"));
        }
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
