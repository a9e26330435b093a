"""The dangers that failures are known to show: what each means for a user, and what to do."""

from typing import Final

from bridge.conformance.results import Hazard

RUNS_TWICE: Final = Hazard(
    "a duplicate runs twice",
    "A message that the network or a retry repeats makes the application do its work again: money "
    "may move twice.",
    "Keep (sender, msg_id) before the handler runs and for at least the horizon afterwards, also "
    "after FIN; until then give this receiver idempotent requests only.",
)
STRANGER_BELIEVED: Final = Hazard(
    "an ACK from a stranger is believed",
    "Any canister that knows or guesses an id can end a flow with a response of its choice.",
    "Look an ACK up by the principal that the flow was opened to; let this sender have no flows "
    "whose responses matter.",
)
STRANGER_ENDS: Final = Hazard(
    "a FIN from a stranger is believed",
    "Any canister can end a flow before its response has arrived: the response is lost.",
    "Look a FIN up by (caller, msg_id).",
)
UNDECODABLE_ACK: Final = Hazard(
    "an ACK that the peer's type cannot decode",
    "The receiver's response never arrives: the sender's runtime rejects it before any code runs, "
    "and the sender's application hears of a failure though the work was done.",
    "Speak the dialect in which NEW came; where the peer's ACK has a plain blob, send a plain blob "
    "and never an opt.",
)
LOST_STATE: Final = Hazard(
    "state is lost at an upgrade",
    "Flows that are open when the canister is upgraded are forgotten: their outcome is never told, "
    "and a repeated request runs again.",
    "Keep flows and timers in stable memory; until then upgrade only when no flow is open.",
)
NO_FIN_ECHO: Final = Hazard(
    "a lost FIN is never made good",
    "The receiver repeats its ACK until its attempts end, and keeps the response so long.",
    "Answer an ACK that is repeated, or unknown, with FIN.",
)
HANDED_TWICE: Final = Hazard(
    "a response is handed over twice",
    "The sender's application acts on the same response again.",
    "Mark the flow as answered before the application is called.",
)
SILENT_FAILURE: Final = Hazard(
    "a failure is never told",
    "The sender gives up without a word: its application waits for ever.",
    "Tell the application when the attempts or the lifetime are over.",
)
ENDLESS_ECHO: Final = Hazard(
    "a tiny repeat buys a large answer for ever",
    "Anybody who may send can have this canister spend bandwidth and cycles without bound.",
    "Answer a repeat no sooner than echo_min, and at most attempts + 10 times for a flow.",
)
GIVES_UP: Final = Hazard(
    "a lost message is never repeated",
    "One lost message loses the flow.",
    "Repeat NEW until ACK comes, and ACK until FIN comes.",
)
ACCEPTS_DAMAGE: Final = Hazard(
    "a damaged message is accepted",
    "The two ends disagree about what was asked or answered, and neither knows.",
    "Compare the hashes that ACK and FIN carry.",
)
UNBOUNDED: Final = Hazard(
    "one peer can use up the canister",
    "A flood from one sender keeps all others out.",
    "Bound open flows, tombstones and bytes for each peer.",
)
KEPT_FROM_STOPPING: Final = Hazard(
    "a silent peer keeps the canister from being stopped",
    "A peer that never replies decides when this canister can be upgraded.",
    "Use bounded-wait one-way calls.",
)
CHARGES_TWICE: Final = Hazard(
    "a retry is charged again",
    "Cycles are taken for work that was paid for.",
    "Remember paid keys for the sender's lifetime.",
)
IDS_COLLIDE: Final = Hazard(
    "flows of different senders collide",
    "Two senders that happen on one id are taken for one: one of them gets the other's response, "
    "or none.",
    "Know a flow by (sender, msg_id), never by msg_id alone.",
)
TOLD_NOT_DONE: Final = Hazard(
    "a request that was done is told as not done",
    "The sender's application undoes or repeats what the receiver has done: it is paid and "
    "compensated, or paid twice.",
    "Tell unsent or refused only where no attempt can have arrived, and unknown everywhere else.",
)
NEVER_LATE: Final = Hazard(
    "a late answer is lost",
    "A process that waits for an outcome it does not know waits for ever, with what it has locked.",
    "Take the first ACK that comes after the failure, and hand it over, marked as late.",
)
