"""The receiver's table, to be read beside the page's section Receiver.

The rows stand in the page's order where that order does not matter. What conditions and actions
mean is in ``bridge.flow.receiver_conditions`` and ``receiver_actions``.
"""

from typing import Final

from bridge.flow import receiver_actions as do
from bridge.flow import receiver_conditions as when
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
_QUESTION_LOST: Final = ("Acknowledging, Abandoned", "a restart took that question")

# fmt: off
_ROWS: Final[tuple[Row[ReceiverFlow], ...]] = (
    # --- A NEW without a flow
    Row("refused", ("-", "NEW, refused"),
        (None,), Received, when.new_refused, (), do.count_refused),
    Row("new", ("-", "NEW, admitted"),
        (None,), Received, when.is_new, (PROCESSING,), do.admit),
    # --- The answer
    Row("answer_unstorable", ("Processing, Stalled", "answer too large, or no room to store it"),
        WITHOUT_ANSWER, Answer, when.answer_is_unstorable, (), do.refuse_answer),
    Row("final_failure_unstorable",
        ("Processing, Stalled", "answer too large, or no room to store it"),
        WITHOUT_ANSWER, FailedForGood, when.answer_is_unstorable, (), do.refuse_answer),
    Row("answer", ("Processing", "answer"),
        (PROCESSING,), Answer, always, (ACKNOWLEDGING,), do.answer),
    Row("stalled_answer", ("Stalled", "answer / rerun"),
        (STALLED,), Answer, always, (ACKNOWLEDGING,), do.answer),
    Row("stalled_rerun", ("Stalled", "answer / rerun"),
        (STALLED,), Rerun, always, (PROCESSING,), do.run_again),
    Row("failed_for_now",
        ("Processing, Stalled", "the application says: failed, to be retried"),
        WITHOUT_ANSWER, FailedForNow, always, (FORGOTTEN,), do.forget_for_retry),
    Row("failed_for_good",
        ("Processing, Stalled", "the application says: failed for good"),
        WITHOUT_ANSWER, FailedForGood, always, (ACKNOWLEDGING,), do.answer),
    Row("answered_twice", ("any", "answer given twice, or after the flow is gone"),
        (None, ACKNOWLEDGING, ABANDONED, FINISHED), Answer, always, (), do.error_answered),
    Row("final_failure_twice", ("any", "answer given twice, or after the flow is gone"),
        (None, ACKNOWLEDGING, ABANDONED, FINISHED), FailedForGood, always, (),
        do.error_answered),
    Row("deferred", None,
        (PROCESSING,), Deferred, always, (), do.defer),
    # --- Stalling
    Row("restart_deferred", ("any", "restart, upgrade"),
        (PROCESSING,), Restarted, when.is_deferred, (), do.restart),
    Row("restart_rerun", _STALLS,
        (PROCESSING,), Restarted, when.may_rerun, (), do.run_again),
    Row("restart_stalls", _STALLS,
        (PROCESSING,), Restarted, always, (STALLED,), do.stall),
    Row("trap_rerun", _STALLS,
        (PROCESSING,), HandlerFailed, when.handler_failed_and_may_rerun, (), do.run_again),
    Row("trap_stalls", _STALLS,
        (PROCESSING,), HandlerFailed, when.is_open_handler, (STALLED,), do.stall),
    Row("answer_within_over", _STALLS,
        (PROCESSING,), Due, when.is_over, (STALLED,), do.stall),
    # --- NEW again
    Row("repeated", ("Processing, Stalled", "NEW again, same hash"),
        WITHOUT_ANSWER, Received, when.new_again, (), do.count_repeated),
    Row("echo", ("Acknowledging, Abandoned", "NEW again, same hash"),
        ANSWERED, Received, when.new_again, (), do.echo_ack),
    Row("repeated_finished", ("Finished", "NEW again, same hash"),
        (FINISHED,), Received, when.new_again, (), do.count_repeated),
    Row("other_new",
        ("any known", "NEW again, a new other hash, at most three for a flow"),
        KNOWN, Received, when.new_with_new_wrong_hash, (), do.report_new),
    Row("other_new_again", None,
        KNOWN, Received, when.is_new, (), do.count_wrong_again),
    # --- Transmitting ACK
    Row("lifetime_over", _ENDS,
        (ACKNOWLEDGING,), Due, when.is_over, (ABANDONED,), do.abandon),
    Row("none_left", _ENDS,
        (ACKNOWLEDGING,), Due, when.send_due_and_none_left, (ABANDONED,), do.abandon),
    Row("refused_ack", _ENDS,
        (ACKNOWLEDGING,), Refused, when.is_ack, (ABANDONED,), do.abandon),
    Row("due", ("Acknowledging", "due, attempts left, room"),
        (ACKNOWLEDGING,), Due, when.send_due_with_room, (), do.transmit_ack_again),
    Row("no_room", ("Acknowledging", "due, no room, or the attempt certainly did not leave"),
        (ACKNOWLEDGING,), Due, when.send_due_without_room, (), do.wait_for_room),
    Row("echo_not_sent", None,
        ANSWERED, NotSent, when.is_latest_echo, (), do.undo_echo),
    Row("not_sent", ("Acknowledging", "due, no room, or the attempt certainly did not leave"),
        (ACKNOWLEDGING,), NotSent, when.is_latest_ack, (), do.take_attempt_back),
    Row("rejected", None,
        (ACKNOWLEDGING,), Rejected, when.is_ack, (), do.count_rejected),
    # --- FIN
    Row("fin", ("Acknowledging, Abandoned", "FIN, hash right"),
        ANSWERED, Received, when.fin_right, (FINISHED,), do.finish),
    Row("fin_wrong", ("Acknowledging, Abandoned", "FIN, a new wrong hash, at most three"),
        ANSWERED, Received, when.fin_new_wrong, (), do.ask_about_fin),
    Row("fin_wrong_again", None,
        ANSWERED, Received, when.is_fin, (), do.count_wrong_again),
    Row("fin_accepted", _DECISION,
        ANSWERED, Decided, when.says_accept, (FINISHED,), do.finish),
    Row("fin_resend", _DECISION,
        ANSWERED, Decided, when.says_resend, (), do.resend),
    Row("fin_abandon", _DECISION,
        (ACKNOWLEDGING,), Decided, when.says_abandon, (ABANDONED,), do.abandon_as_decided),
    Row("fin_abandon_again", _DECISION,
        (ABANDONED,), Decided, when.says_abandon, (), do.abandon_again),
    Row("question_restart", _QUESTION_LOST,
        ANSWERED, Restarted, when.is_asking, (), do.restart_and_ask_later),
    Row("question_due", _QUESTION_LOST,
        ANSWERED, Due, when.ask_due, (), do.ask_again),
    Row("question_failed", None,
        ANSWERED, HandlerFailed, when.is_open_question, (), do.leave_undecided),
    Row("fin_ignored", ("Processing, Stalled, Finished", "FIN"),
        (PROCESSING, STALLED, FINISHED), Received, when.is_fin, (), do.count_fin),
    Row("unknown_fin", None,
        (None,), Received, when.is_fin, (), do.count_unknown_fin),
    # --- Telling: until it is taken, again after delay(n)
    Row("telling_taken", None,
        (STALLED, ABANDONED), Returned, when.is_open_telling, (), do.take_telling),
    Row("telling_failed", None,
        (STALLED, ABANDONED), HandlerFailed, when.is_open_telling, (), do.tell_again_later),
    # --- Ends
    Row("horizon_over_stalled", ("Finished, Abandoned, Stalled", "`horizon` over"),
        (STALLED,), Due, when.horizon_over, (FORGOTTEN,), do.forget_stalled),
    Row("horizon_over", ("Finished, Abandoned, Stalled", "`horizon` over"),
        (FINISHED, ABANDONED), Due, when.horizon_over, (FORGOTTEN,), do.forget),
    Row("telling_due", None,
        (STALLED, ABANDONED), Due, when.tell_due, (), do.tell_again),
    Row("restart", ("any", "restart, upgrade"),
        (STALLED, ACKNOWLEDGING, ABANDONED, FINISHED), Restarted, always, (), do.restart),
)
# fmt: on

TABLE: Final = Table(_ROWS)
