//! What can be wrong with this canister, and what is now.

use std::cell::{Cell, RefCell};

use candid::{CandidType, Deserialize};
use ic_stable_structures::StableCell;
use reference_parts::Memory;

macro_rules! faults {
    ($($name:ident : $side:literal breaks $scenarios:literal = $what:literal;)*) => {
        /// One thing that is wrong while it is switched on.
        #[derive(CandidType, Deserialize, Clone, Copy, PartialEq, Eq)]
        #[allow(non_camel_case_types)]
        pub enum Fault {
            $(#[doc = $what] $name,)*
        }

        /// All of them, with what they break.
        pub fn known() -> Vec<Known> {
            vec![$(Known {
                fault: Fault::$name,
                side: $side.to_string(),
                breaks: $scenarios.split_whitespace().map(str::to_string).collect(),
                what: $what.to_string(),
            },)*]
        }
    };
}

/// A fault and the scenarios of the protocol page that it breaks.
#[derive(CandidType)]
pub struct Known {
    fault: Fault,
    side: String,
    breaks: Vec<String>,
    what: String,
}

faults! {
    only_receiver: "receiver" breaks "" =
        "No fault: a canister that opens no flows.";
    only_sender: "sender" breaks "" =
        "No fault: a canister that takes no requests.";
    answers_other_role: "both" breaks "D6" =
        "One-sided, it answers what is meant for the role that it lacks.";
    sends_no_fin: "sender" breaks "F1 F2 S3 S6 S7 N1" =
        "Takes the response and sends no FIN, ever.";
    stops_at_fifty: "both" breaks "F2 N1" =
        "Serves its first fifty flows and leaves all others as they came.";
    small_only: "both" breaks "F3" =
        "Neither sends nor takes a payload above a million bytes.";
    null_as_empty: "both" breaks "F3 D1" =
        "Makes a null response an empty one.";
    wide_ids: "receiver" breaks "F4" =
        "Takes ids of 2^128 and more, reduced to 128 bits.";
    never_retries: "sender" breaks "S1 S3 R3 L3 N1" =
        "Sends each NEW once and then waits for its answer.";
    fails_when_not_sent: "sender" breaks "S2" =
        "Fails the flow where the system did not take its NEW.";
    ignores_in_flight: "sender" breaks "S2" =
        "Keeps no bound on the calls in flight.";
    retries_for_ever: "sender" breaks "S4" =
        "Sends a NEW for ever.";
    tells_no_failure: "sender" breaks "S4 L3" =
        "Ends a flow without an answer and tells nobody.";
    forgets_dead_letters: "sender" breaks "S5" =
        "Forgets a response that its application did not take.";
    echoes_no_fin: "sender" breaks "S6" =
        "Sends FIN once and lets repeated ACKs be.";
    silent_to_unknown: "sender" breaks "S7" =
        "Lets an ACK be whose flow it forgot.";
    loses_tellings: "sender" breaks "S8" =
        "Keeps what is not told yet on the heap only, so that a restart loses it.";
    drops_late: "sender" breaks "S9 S10 G1" =
        "Lets an ACK be that comes after the failure.";
    fails_as_unsent: "sender" breaks "S4 G1" =
        "Says of a flow whose NEWs had no answer that it was never sent.";
    cancels_as_unsent: "sender" breaks "S10" =
        "Says of a cancelled flow that it was never sent.";
    believes_any_ack: "sender" breaks "H1" =
        "Takes an ACK from whoever sends it.";
    answers_all_unknown: "sender" breaks "H1" =
        "Answers every ACK that it does not know, at any rate.";
    believes_any_ack_hash: "sender" breaks "I1" =
        "Takes an ACK whatever its hash.";
    asks_again_and_again: "sender" breaks "I1" =
        "Asks the corruption handler about each wrong ACK.";
    sends_after_lifetime: "sender" breaks "L4" =
        "Sends a NEW after its lifetime.";
    waits_for_replies: "sender" breaks "H5" =
        "Calls with an unbounded wait.";
    attaches_no_cycles: "both" breaks "C1" =
        "Sends no cycles along, whatever it is told to attach.";
    fin_by_one_name: "sender" breaks "D3 D4" =
        "Calls com_asyncFlow_fin for FIN in each of the older dialects.";
    opt_to_blob: "receiver" breaks "D2 D3 D4" =
        "Sends the ACK payload as an opt where the dialect has a blob.";
    ignores_repeats: "receiver" breaks "R1" =
        "Lets a NEW be that it knows.";
    wrong_after_fifty: "receiver" breaks "F2 N1" =
        "Gives a wrong response to all flows after its first fifty.";
    processes_repeats: "receiver" breaks "S3 R1 R2 R7 N1" =
        "Runs its handler for each NEW.";
    forgets_at_fin: "receiver" breaks "R2 L4" =
        "Keeps no tombstone.";
    half_done: "receiver" breaks "R3" =
        "Keeps the flow whose handler trapped, as if it still ran.";
    acks_once: "receiver" breaks "S3 R1 R4 R5 N1" =
        "Sends its ACK once.";
    acks_for_ever: "receiver" breaks "R5" =
        "Sends its ACK for ever.";
    ignores_ulid_time: "receiver" breaks "R6" =
        "Takes a NEW of any time from peers whose ids are trusted.";
    forgets_interrupted: "receiver" breaks "R8" =
        "Forgets a flow whose handler a trap or a restart interrupted.";
    answers_twice: "receiver" breaks "R9" =
        "Takes a second answer, and sends it.";
    replaces_payload: "receiver" breaks "I2" =
        "Takes another payload under a used id, and processes it.";
    believes_any_fin_hash: "receiver" breaks "I3" =
        "Takes a FIN whatever its hash.";
    takes_malformed: "receiver" breaks "I4" =
        "Takes what it cannot read for a NEW with that payload.";
    believes_any_fin: "receiver" breaks "H2" =
        "Takes a FIN from whoever sends it.";
    one_flow_per_id: "receiver" breaks "H3" =
        "Knows a flow by its id alone.";
    no_quotas: "receiver" breaks "H4" =
        "Takes any number of flows from anybody.";
    ignores_access: "receiver" breaks "H6" =
        "Takes NEWs from canisters on no list.";
    keeps_all_cycles: "receiver" breaks "H7" =
        "Keeps all cycles that come along, of refused NEWs too.";
    charges_again: "receiver" breaks "H7" =
        "Takes its price at each NEW, repeats too.";
    no_echo_limit: "both" breaks "R1 H8" =
        "Answers each repeat at once, as often as it comes.";
    loses_state: "both" breaks "L1 L2" =
        "Loses its flows at an upgrade.";
    loses_timers: "both" breaks "L1 L2" =
        "Has no timers any more for the flows that were there at an upgrade.";
    forgets_at_standstill: "receiver" breaks "L3 L4" =
        "Forgets what it received when time stood still.";
    tombstones_age_by_clock: "receiver" breaks "L4" =
        "Lets tombstones age by the clock, also where it jumped.";
    batch_all_or_nothing: "receiver" breaks "D5" =
        "Processes a batch in one message.";
    oversized_pages: "both" breaks "O1" =
        "Makes outbox pages of any size.";
    keeps_dead_news: "sender" breaks "O1" =
        "Leaves the NEW of a failed flow in the outbox.";
}

thread_local! {
    static KEPT: RefCell<StableCell<u64, Memory>> =
        RefCell::new(StableCell::init(reference_parts::memory(6), 0));
    static NOW: Cell<Option<u64>> = const { Cell::new(None) };
}

fn bit(fault: Fault) -> u64 {
    1 << fault as u8
}

/// Whether this is wrong now.
pub fn has(fault: Fault) -> bool {
    let now = NOW.get().unwrap_or_else(|| {
        let kept = KEPT.with_borrow(|kept| *kept.get());
        NOW.set(Some(kept));
        kept
    });
    now & bit(fault) != 0
}

/// What is wrong from now on; kept across upgrades.
pub fn set(faults: &[Fault]) {
    let all = faults.iter().fold(0, |all, fault| all | bit(*fault));
    KEPT.with_borrow_mut(|kept| kept.set(all));
    NOW.set(Some(all));
}
