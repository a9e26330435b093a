"""The receiver's table, to be read beside the page's section Receiver.

The rows stand in the page's order where that order does not matter. What conditions and actions
mean is in ``bridge.flow.receiver_rules``.
"""

from typing import Final

from bridge.flow import receiver_rules as rule
from bridge.flow.events import (
    Answer,
    Decided,
    Deferred,
    Due,
    FailedForGood,
    FailedForNow,
    HandlerFailed,
    NotSent,
    Received,
    Refused,
    Rejected,
    Rerun,
    Restarted,
    Returned,
)
from bridge.flow.records import ReceiverFlow
from bridge.flow.states import ReceiverState
from bridge.flow.tables import Row, Table, always

PROCESSING: Final = ReceiverState.PROCESSING
STALLED: Final = ReceiverState.STALLED
ACKNOWLEDGING: Final = ReceiverState.ACKNOWLEDGING
ABANDONED: Final = ReceiverState.ABANDONED
FINISHED: Final = ReceiverState.FINISHED

WITHOUT_ANSWER: Final = (PROCESSING, STALLED)
ANSWERED: Final = (ACKNOWLEDGING, ABANDONED)
KNOWN: Final = tuple(ReceiverState)
FORGOTTEN: Final = None

_STALLING: Final = (
    "restart with a running handler; a trap or unclassified error after its own commit;"
    " `answer_within` over"
)
_STALLS: Final = ("Processing", _STALLING)
_ENDS: Final = (
    "Acknowledging",
    "due and none left; `lifetime` since the answer over; a certified refusal",
)
_DECISION: Final = ("Acknowledging, Abandoned", "its decision: accept / resend / abandon")

# fmt: off
_ROWS: Final[tuple[Row[ReceiverFlow], ...]] = (
    # --- A NEW without a flow
    Row("refused", ("-", "NEW, refused"),
        (None,), Received, rule.new_refused, (), rule.count_refused),
    Row("new", ("-", "NEW, admitted"),
        (None,), Received, rule.is_new, (PROCESSING,), rule.admit),
    # --- The answer
    Row("answer_unstorable", ("Processing, Stalled", "answer too large, or no room to store it"),
        WITHOUT_ANSWER, Answer, rule.answer_is_unstorable, (), rule.refuse_answer),
    Row("final_failure_unstorable",
        ("Processing, Stalled", "answer too large, or no room to store it"),
        WITHOUT_ANSWER, FailedForGood, rule.answer_is_unstorable, (), rule.refuse_answer),
    Row("answer", ("Processing", "answer"),
        (PROCESSING,), Answer, always, (ACKNOWLEDGING,), rule.answer),
    Row("stalled_answer", ("Stalled", "answer / rerun"),
        (STALLED,), Answer, always, (ACKNOWLEDGING,), rule.answer),
    Row("stalled_rerun", ("Stalled", "answer / rerun"),
        (STALLED,), Rerun, always, (PROCESSING,), rule.run_again),
    Row("failed_for_now",
        ("Processing, Stalled", "the application says: failed, to be retried"),
        WITHOUT_ANSWER, FailedForNow, always, (FORGOTTEN,), rule.forget_for_retry),
    Row("failed_for_good",
        ("Processing, Stalled", "the application says: failed for good"),
        WITHOUT_ANSWER, FailedForGood, always, (ACKNOWLEDGING,), rule.answer),
    Row("answered_twice", ("any", "answer given twice, or after the flow is gone"),
        (None, ACKNOWLEDGING, ABANDONED, FINISHED), Answer, always, (), rule.error_answered),
    Row("final_failure_twice", ("any", "answer given twice, or after the flow is gone"),
        (None, ACKNOWLEDGING, ABANDONED, FINISHED), FailedForGood, always, (),
        rule.error_answered),
    Row("deferred", None,
        (PROCESSING,), Deferred, always, (), rule.defer),
    # --- Stalling
    Row("restart_deferred", ("any", "restart, upgrade"),
        (PROCESSING,), Restarted, rule.is_deferred, (), rule.restart),
    Row("restart_rerun", _STALLS,
        (PROCESSING,), Restarted, rule.may_rerun, (), rule.run_again),
    Row("restart_stalls", _STALLS,
        (PROCESSING,), Restarted, always, (STALLED,), rule.stall),
    Row("trap_rerun", _STALLS,
        (PROCESSING,), HandlerFailed, rule.handler_failed_and_may_rerun, (), rule.run_again),
    Row("trap_stalls", _STALLS,
        (PROCESSING,), HandlerFailed, rule.is_open_handler, (STALLED,), rule.stall),
    Row("answer_within_over", _STALLS,
        (PROCESSING,), Due, rule.is_over, (STALLED,), rule.stall),
    # --- NEW again
    Row("repeated", ("Processing, Stalled", "NEW again, same hash"),
        WITHOUT_ANSWER, Received, rule.new_again, (), rule.count_repeated),
    Row("echo", ("Acknowledging, Abandoned", "NEW again, same hash"),
        ANSWERED, Received, rule.new_again, (), rule.echo_ack),
    Row("repeated_finished", ("Finished", "NEW again, same hash"),
        (FINISHED,), Received, rule.new_again, (), rule.count_repeated),
    Row("other_new",
        ("any known", "NEW again, a new other hash, at most three for a flow"),
        KNOWN, Received, rule.new_with_new_wrong_hash, (), rule.report_new),
    Row("other_new_again", None,
        KNOWN, Received, rule.is_new, (), rule.count_wrong_again),
    # --- Transmitting ACK
    Row("lifetime_over", _ENDS,
        (ACKNOWLEDGING,), Due, rule.is_over, (ABANDONED,), rule.abandon),
    Row("none_left", _ENDS,
        (ACKNOWLEDGING,), Due, rule.send_due_and_none_left, (ABANDONED,), rule.abandon),
    Row("refused_ack", _ENDS,
        (ACKNOWLEDGING,), Refused, rule.is_ack, (ABANDONED,), rule.abandon),
    Row("due", ("Acknowledging", "due, attempts left, room"),
        (ACKNOWLEDGING,), Due, rule.send_due_with_room, (), rule.transmit_ack_again),
    Row("no_room", ("Acknowledging", "due, no room, or the attempt certainly did not leave"),
        (ACKNOWLEDGING,), Due, rule.send_due_without_room, (), rule.wait_for_room),
    Row("echo_not_sent", None,
        ANSWERED, NotSent, rule.is_latest_echo, (), rule.undo_echo),
    Row("not_sent", ("Acknowledging", "due, no room, or the attempt certainly did not leave"),
        (ACKNOWLEDGING,), NotSent, rule.is_latest_ack, (), rule.take_attempt_back),
    Row("rejected", None,
        (ACKNOWLEDGING,), Rejected, rule.is_ack, (), rule.count_rejected),
    # --- FIN
    Row("fin", ("Acknowledging, Abandoned", "FIN, hash right"),
        ANSWERED, Received, rule.fin_right, (FINISHED,), rule.finish),
    Row("fin_wrong", ("Acknowledging, Abandoned", "FIN, a new wrong hash, at most three"),
        ANSWERED, Received, rule.fin_new_wrong, (), rule.ask_about_fin),
    Row("fin_wrong_again", None,
        ANSWERED, Received, rule.is_fin, (), rule.count_wrong_again),
    Row("fin_accepted", _DECISION,
        ANSWERED, Decided, rule.says_accept, (FINISHED,), rule.finish),
    Row("fin_resend", _DECISION,
        ANSWERED, Decided, rule.says_resend, (), rule.echo_ack),
    Row("fin_abandon", _DECISION,
        (ACKNOWLEDGING,), Decided, rule.says_abandon, (ABANDONED,), rule.abandon),
    Row("fin_abandon_again", _DECISION,
        (ABANDONED,), Decided, rule.says_abandon, (), rule.count_ignored),
    Row("fin_ignored", ("Processing, Stalled, Finished", "FIN"),
        (PROCESSING, STALLED, FINISHED), Received, rule.is_fin, (), rule.count_fin),
    Row("unknown_fin", None,
        (None,), Received, rule.is_fin, (), rule.count_unknown_fin),
    # --- Telling: until it is taken, again after delay(n)
    Row("telling_taken", None,
        (STALLED, ABANDONED), Returned, rule.is_open_telling, (), rule.take_telling),
    Row("telling_failed", None,
        (STALLED, ABANDONED), HandlerFailed, rule.is_open_telling, (), rule.tell_again_later),
    # --- Ends
    Row("horizon_over_stalled", ("Finished, Abandoned, Stalled", "`horizon` over"),
        (STALLED,), Due, rule.horizon_over, (FORGOTTEN,), rule.forget_stalled),
    Row("horizon_over", ("Finished, Abandoned, Stalled", "`horizon` over"),
        (FINISHED, ABANDONED), Due, rule.horizon_over, (FORGOTTEN,), rule.forget),
    Row("telling_due", None,
        (STALLED, ABANDONED), Due, rule.tell_due, (), rule.tell_again),
    Row("restart", ("any", "restart, upgrade"),
        (STALLED, ACKNOWLEDGING, ABANDONED, FINISHED), Restarted, always, (), rule.restart),
)
# fmt: on

TABLE: Final = Table(_ROWS)
