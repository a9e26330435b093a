"""The sender's table, to be read beside the page's section Sender.

The rows stand in the page's order where that order does not matter. What conditions and actions
mean is in ``bridge.flow.sender_conditions`` and ``sender_actions``.
"""

from typing import Final

from bridge.flow import sender_actions as do
from bridge.flow import sender_conditions as when
from bridge.flow.events import (
    Cancel,
    Decided,
    DropDeadLetter,
    Due,
    Event,
    Finish,
    HandlerFailed,
    NotSent,
    Received,
    Refused,
    Rejected,
    Restarted,
    RetryDeadLetter,
    Returned,
    Send,
)
from bridge.flow.records import SenderFlow
from bridge.flow.states import SenderState
from bridge.flow.tables import Row, Table, always, nothing

QUEUED: Final = SenderState.QUEUED
SENDING: Final = SenderState.SENDING
CORRUPT: Final = SenderState.CORRUPT
ANSWERED: Final = SenderState.ANSWERED
DEAD_LETTER: Final = SenderState.DEAD_LETTER
ACKNOWLEDGED: Final = SenderState.ACKNOWLEDGED
FAILED: Final = SenderState.FAILED

UNANSWERED: Final = (QUEUED, SENDING, CORRUPT)
STORED: Final = tuple(SenderState)
FORGOTTEN: Final = None


_NOT_SENT: Final = "the latest attempt certainly did not leave (queue full, frozen, no byte sent)"


class LifetimeOver(Event):
    """No event from outside: what is tested before any other event of an unanswered flow."""


# fmt: off
_ROWS: Final[tuple[Row[SenderFlow], ...]] = (
    # --- Opening
    Row("send", ("-", "send, within size and quota"),
        (None,), Send, always, (QUEUED,), do.open_flow),
    Row("send_again", ("any", "send with a used id"),
        STORED, Send, always, (), do.same_send_or_error),
    # --- Transmitting NEW
    Row("queued_due", ("Queued", "due, room"),
        (QUEUED,), Due, when.send_due_with_room, (SENDING,), do.transmit_new),
    Row("queued_cancel", ("Queued", "cancel, or `lifetime` over"),
        (QUEUED,), Cancel, always, (FAILED,), do.fail_unsent),
    Row("queued_lifetime", ("Queued", "cancel, or `lifetime` over"),
        (QUEUED,), LifetimeOver, always, (FAILED,), do.fail_unsent),
    Row("sending_none_left", ("Sending", "due and none left, or `lifetime` over"),
        (SENDING,), Due, when.send_due_and_none_left, (FAILED,), do.fail_unknown),
    Row("sending_lifetime", ("Sending", "due and none left, or `lifetime` over"),
        (SENDING,), LifetimeOver, always, (FAILED,), do.fail_unknown),
    Row("sending_due", ("Sending", "due, attempts left, room"),
        (SENDING,), Due, when.send_due_with_room, (SENDING,), do.transmit_new),
    Row("no_room", ("Queued, Sending", "due, no room"),
        (QUEUED, SENDING), Due, when.send_due_without_room, (), do.wait_for_room),
    Row("not_sent",
        ("Sending", _NOT_SENT),
        (SENDING,), NotSent, when.is_latest_new, (QUEUED,), do.take_attempt_back),
    Row("refused", ("Sending", "a certified reject: no such canister or method"),
        (SENDING,), Refused, when.is_new, (FAILED,), do.fail_refused),
    Row("rejected", ("Sending", "any other reject, an uncertified one too"),
        (SENDING,), Rejected, when.is_new, (), do.count_rejected),
    Row("cancel", ("Sending, Corrupt", "cancel"),
        (SENDING, CORRUPT), Cancel, always, (FAILED,), do.fail_cancelled),
    # --- ACK before the answer; a receipt is told from a response before any hash is looked at
    Row("receipt", None,
        UNANSWERED, Received, when.is_receipt, (), do.postpone_by_receipt),
    Row("receipt_ignored", None,
        (ANSWERED, DEAD_LETTER, ACKNOWLEDGED, FAILED), Received, when.is_receipt, (),
        do.count_receipt),
    Row("ack", ("Queued, Sending, Corrupt", "ACK, hash right"),
        UNANSWERED, Received, when.ack_right, (ANSWERED,), do.answer),
    Row("ack_wrong",
        ("Queued, Sending, Corrupt", "ACK, a new wrong hash, at most three for a flow"),
        UNANSWERED, Received, when.ack_new_wrong, (CORRUPT,), do.ask_about_ack),
    Row("ack_wrong_again", ("Sending, Corrupt", "ACK, a wrong hash reported before, or a fourth"),
        (SENDING, CORRUPT), Received, when.is_ack, (), do.count_wrong_again),
    # --- The corruption question
    Row("corrupt_resend",
        ("Corrupt", "the handler says resend / accept(hash) / abandon"),
        (CORRUPT,), Decided, when.says_resend, (SENDING,), do.resend),
    Row("corrupt_accept",
        ("Corrupt", "the handler says resend / accept(hash) / abandon"),
        (CORRUPT,), Decided, when.says_accept, (ANSWERED,), do.accept_wrong_ack),
    Row("corrupt_abandon",
        ("Corrupt", "the handler says resend / accept(hash) / abandon"),
        (CORRUPT,), Decided, when.says_abandon, (FAILED,), do.abandon),
    Row("corrupt_restart", ("Corrupt", "restart, or the handler fails"),
        (CORRUPT,), Restarted, always, (), do.ask_again_after_restart),
    Row("corrupt_handler_failed", ("Corrupt", "restart, or the handler fails"),
        (CORRUPT,), HandlerFailed, when.is_open_question, (), do.tell_again_later),
    Row("corrupt_ask_again", ("Corrupt", "restart, or the handler fails"),
        (CORRUPT,), Due, when.tell_due, (), do.ask_again),
    Row("corrupt_due", ("Corrupt", "due"),
        (CORRUPT,), Due, when.send_due, (), nothing),
    Row("corrupt_lifetime", ("Corrupt", "`lifetime` over"),
        (CORRUPT,), LifetimeOver, always, (FAILED,), do.fail_corrupt),
    # --- The response and the application
    Row("answered_returned", ("Answered", "the application returns, or finish(id)"),
        (ANSWERED,), Returned, when.is_open_telling, (ACKNOWLEDGED,), do.acknowledge),
    Row("answered_finish", ("Answered", "the application returns, or finish(id)"),
        (ANSWERED,), Finish, always, (ACKNOWLEDGED,), do.acknowledge),
    Row("answered_exhausted", ("Answered", "the application fails `handler_attempts` times"),
        (ANSWERED,), HandlerFailed, when.is_last_telling, (DEAD_LETTER,), do.bury),
    Row("answered_exhausted_by_restart",
        ("Answered", "the application fails `handler_attempts` times"),
        (ANSWERED,), Due, when.tell_due_and_none_left, (DEAD_LETTER,), do.bury),
    Row("dead_letter_retry", ("DeadLetter", "operator: retry / drop, or finish(id)"),
        (DEAD_LETTER,), RetryDeadLetter, always, (ANSWERED,), do.exhume),
    Row("dead_letter_drop", ("DeadLetter", "operator: retry / drop, or finish(id)"),
        (DEAD_LETTER,), DropDeadLetter, always, (ACKNOWLEDGED,), do.acknowledge),
    Row("dead_letter_finish", ("DeadLetter", "operator: retry / drop, or finish(id)"),
        (DEAD_LETTER,), Finish, always, (ACKNOWLEDGED,), do.acknowledge),
    # --- Repeats
    Row("ack_again", ("Answered, DeadLetter, Acknowledged", "ACK again, any payload"),
        (ANSWERED, DEAD_LETTER, ACKNOWLEDGED), Received, when.is_ack, (), do.echo_fin),
    Row("linger_over", ("Acknowledged", "`linger` over"),
        (ACKNOWLEDGED,), Due, when.is_over, (FORGOTTEN,), do.forget),
    # --- After a failure
    Row("late", ("Failed", "first ACK, hash right"),
        (FAILED,), Received, when.first_ack_right, (FAILED,), do.take_late),
    Row("late_wrong", ("Failed, not late", "ACK, hash wrong"),
        (FAILED,), Received, when.first_ack, (), do.count_wrong),
    Row("late_again", ("Failed, late", "ACK again"),
        (FAILED,), Received, when.is_ack, (), do.echo_fin),
    Row("retention_over", ("Failed, told and its late response taken", "`retention` over"),
        (FAILED,), Due, when.is_over_and_taken, (FORGOTTEN,), do.forget),
    # --- FINs that the system did not accept
    Row("fin_not_sent", ("any stored", "a FIN was not accepted by the system"),
        STORED, NotSent, when.is_fin, (), do.retry_fin_later),
    Row("fin_given_up", ("any stored", "a FIN was not accepted by the system"),
        STORED, Due, when.fin_due_too_long, (), do.give_fin_up),
    Row("fin_due", ("any stored", "a FIN was not accepted by the system"),
        STORED, Due, when.fin_due, (), do.transmit_fin_again),
    # --- Telling: until it is taken, again after delay(n)
    Row("telling_failed", None,
        (ANSWERED, DEAD_LETTER, FAILED), HandlerFailed, when.is_open_telling, (),
        do.tell_again_later),
    Row("telling_due", None,
        (ANSWERED, DEAD_LETTER, FAILED), Due, when.tell_due, (), do.tell_again),
    Row("telling_taken", None,
        (DEAD_LETTER, FAILED), Returned, when.is_open_telling, (), do.take_telling),
    # --- Restart
    Row("restart", ("any", "restart, upgrade"),
        STORED, Restarted, always, (), do.restart),
    # --- No flow with that id
    Row("unknown_ack", None,
        (None,), Received, when.is_ack, (), do.answer_unknown_ack),
)
# fmt: on

TABLE: Final = Table(_ROWS)
