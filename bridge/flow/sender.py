"""The sender's table, to be read beside the page's section Sender.

The rows stand in the page's order where that order does not matter. What conditions and actions
mean is in ``bridge.flow.sender_rules``.
"""

from typing import Final

from bridge.flow import sender_rules as rule
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
        (None,), Send, always, (QUEUED,), rule.open_flow),
    Row("send_again", ("any", "send with a used id"),
        STORED, Send, always, (), rule.same_send_or_error),
    # --- Transmitting NEW
    Row("queued_due", ("Queued", "due, room"),
        (QUEUED,), Due, rule.send_due_with_room, (SENDING,), rule.transmit_new),
    Row("queued_cancel", ("Queued", "cancel, or `lifetime` over"),
        (QUEUED,), Cancel, always, (FAILED,), rule.fail_unsent),
    Row("queued_lifetime", ("Queued", "cancel, or `lifetime` over"),
        (QUEUED,), LifetimeOver, always, (FAILED,), rule.fail_unsent),
    Row("sending_none_left", ("Sending", "due and none left, or `lifetime` over"),
        (SENDING,), Due, rule.send_due_and_none_left, (FAILED,), rule.fail_unknown),
    Row("sending_lifetime", ("Sending", "due and none left, or `lifetime` over"),
        (SENDING,), LifetimeOver, always, (FAILED,), rule.fail_unknown),
    Row("sending_due", ("Sending", "due, attempts left, room"),
        (SENDING,), Due, rule.send_due_with_room, (SENDING,), rule.transmit_new),
    Row("no_room", ("Queued, Sending", "due, no room"),
        (QUEUED, SENDING), Due, rule.send_due_without_room, (), rule.wait_for_room),
    Row("not_sent",
        ("Sending", _NOT_SENT),
        (SENDING,), NotSent, rule.is_latest_new, (QUEUED, SENDING), rule.take_attempt_back),
    Row("refused", ("Sending", "a certified reject: no such canister or method"),
        (SENDING,), Refused, rule.is_new, (FAILED,), rule.fail_refused),
    Row("rejected", ("Sending", "any other reject, an uncertified one too"),
        (SENDING,), Rejected, rule.is_new, (), rule.count_rejected),
    Row("cancel", ("Sending, Corrupt", "cancel"),
        (SENDING, CORRUPT), Cancel, always, (FAILED,), rule.fail_cancelled),
    # --- ACK before the answer; a receipt is told from a response before any hash is looked at
    Row("receipt", None,
        UNANSWERED, Received, rule.is_receipt, (), rule.postpone_by_receipt),
    Row("receipt_ignored", None,
        (ANSWERED, DEAD_LETTER, ACKNOWLEDGED, FAILED), Received, rule.is_receipt, (),
        rule.count_receipt),
    Row("ack", ("Queued, Sending, Corrupt", "ACK, hash right"),
        UNANSWERED, Received, rule.ack_right, (ANSWERED,), rule.answer),
    Row("ack_wrong",
        ("Queued, Sending, Corrupt", "ACK, a new wrong hash, at most three for a flow"),
        UNANSWERED, Received, rule.ack_new_wrong, (CORRUPT,), rule.ask_about_ack),
    Row("ack_wrong_again", ("Sending, Corrupt", "ACK, a wrong hash reported before, or a fourth"),
        (SENDING, CORRUPT), Received, rule.is_ack, (), rule.count_wrong_again),
    # --- The corruption question
    Row("corrupt_resend",
        ("Corrupt", "the handler says resend / accept(hash) / abandon"),
        (CORRUPT,), Decided, rule.says_resend, (SENDING,), rule.resend),
    Row("corrupt_accept",
        ("Corrupt", "the handler says resend / accept(hash) / abandon"),
        (CORRUPT,), Decided, rule.says_accept, (ANSWERED,), rule.accept_wrong_ack),
    Row("corrupt_abandon",
        ("Corrupt", "the handler says resend / accept(hash) / abandon"),
        (CORRUPT,), Decided, rule.says_abandon, (FAILED,), rule.abandon),
    Row("corrupt_restart", ("Corrupt", "restart, or the handler fails"),
        (CORRUPT,), Restarted, always, (), rule.ask_again_after_restart),
    Row("corrupt_handler_failed", ("Corrupt", "restart, or the handler fails"),
        (CORRUPT,), HandlerFailed, rule.is_open_question, (), rule.tell_again_later),
    Row("corrupt_ask_again", ("Corrupt", "restart, or the handler fails"),
        (CORRUPT,), Due, rule.tell_due, (), rule.ask_again),
    Row("corrupt_due", ("Corrupt", "due"),
        (CORRUPT,), Due, rule.send_due, (), nothing),
    Row("corrupt_lifetime", ("Corrupt", "`lifetime` over"),
        (CORRUPT,), LifetimeOver, always, (FAILED,), rule.fail_corrupt),
    # --- The response and the application
    Row("answered_returned", ("Answered", "the application returns, or finish(id)"),
        (ANSWERED,), Returned, rule.is_open_telling, (ACKNOWLEDGED,), rule.acknowledge),
    Row("answered_finish", ("Answered", "the application returns, or finish(id)"),
        (ANSWERED,), Finish, always, (ACKNOWLEDGED,), rule.acknowledge),
    Row("answered_exhausted", ("Answered", "the application fails `handler_attempts` times"),
        (ANSWERED,), HandlerFailed, rule.is_last_telling, (DEAD_LETTER,), rule.bury),
    Row("answered_exhausted_by_restart",
        ("Answered", "the application fails `handler_attempts` times"),
        (ANSWERED,), Due, rule.tell_due_and_none_left, (DEAD_LETTER,), rule.bury),
    Row("dead_letter_retry", ("DeadLetter", "operator: retry / drop, or finish(id)"),
        (DEAD_LETTER,), RetryDeadLetter, always, (ANSWERED,), rule.exhume),
    Row("dead_letter_drop", ("DeadLetter", "operator: retry / drop, or finish(id)"),
        (DEAD_LETTER,), DropDeadLetter, always, (ACKNOWLEDGED,), rule.acknowledge),
    Row("dead_letter_finish", ("DeadLetter", "operator: retry / drop, or finish(id)"),
        (DEAD_LETTER,), Finish, always, (ACKNOWLEDGED,), rule.acknowledge),
    # --- Repeats
    Row("ack_again", ("Answered, DeadLetter, Acknowledged", "ACK again, any payload"),
        (ANSWERED, DEAD_LETTER, ACKNOWLEDGED), Received, rule.is_ack, (), rule.echo_fin),
    Row("linger_over", ("Acknowledged", "`linger` over"),
        (ACKNOWLEDGED,), Due, rule.is_over, (FORGOTTEN,), rule.forget),
    # --- After a failure
    Row("late", ("Failed", "first ACK, hash right"),
        (FAILED,), Received, rule.first_ack_right, (FAILED,), rule.take_late),
    Row("late_wrong", ("Failed, not late", "ACK, hash wrong"),
        (FAILED,), Received, rule.first_ack, (), rule.count_wrong),
    Row("late_again", ("Failed, late", "ACK again"),
        (FAILED,), Received, rule.is_ack, (), rule.echo_fin),
    Row("retention_over", ("Failed, told and its late response taken", "`retention` over"),
        (FAILED,), Due, rule.is_over_and_taken, (FORGOTTEN,), rule.forget),
    # --- FINs that the system did not accept
    Row("fin_not_sent", ("any stored", "a FIN was not accepted by the system"),
        STORED, NotSent, rule.is_fin, (), rule.retry_fin_later),
    Row("fin_given_up", ("any stored", "a FIN was not accepted by the system"),
        STORED, Due, rule.fin_due_too_long, (), rule.give_fin_up),
    Row("fin_due", ("any stored", "a FIN was not accepted by the system"),
        STORED, Due, rule.fin_due, (), rule.transmit_fin_again),
    # --- Telling: until it is taken, again after delay(n)
    Row("telling_failed", None,
        (ANSWERED, DEAD_LETTER, FAILED), HandlerFailed, rule.is_open_telling, (),
        rule.tell_again_later),
    Row("telling_due", None,
        (ANSWERED, DEAD_LETTER, FAILED), Due, rule.tell_due, (), rule.tell_again),
    Row("telling_taken", None,
        (DEAD_LETTER, FAILED), Returned, rule.is_open_telling, (), rule.take_telling),
    # --- Restart
    Row("restart", ("any", "restart, upgrade"),
        STORED, Restarted, always, (), rule.restart),
    # --- No flow with that id
    Row("unknown_ack", None,
        (None,), Received, rule.is_ack, (), rule.answer_unknown_ack),
)
# fmt: on

TABLE: Final = Table(_ROWS)
