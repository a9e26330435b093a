"""The Async Flow protocol as pure tables: ``step(record, event, now, policy)``.

No clock, no chance, no socket, thread or database: whoever runs the tables brings time, ids and
jitter in with the event, commits the record that comes back, and then carries the effects out.

    transition = flow.step(record, event, now, policy)
    store.commit(transition.flow)
    for effect in transition.effects: ...

Time is nanoseconds since 1970, sizes are bytes. The rules are those of the protocol page
(``docs/protocol.md``).
"""

from bridge.flow.effects import Ask, Count, Effect, HandOver, RememberPaid, Tell, Transmit
from bridge.flow.events import (
    Answer,
    Cancel,
    Decided,
    Deferred,
    DropDeadLetter,
    Due,
    Event,
    FailedForGood,
    FailedForNow,
    Finish,
    HandlerFailed,
    NotSent,
    Received,
    Refused,
    Rejected,
    Rerun,
    Restarted,
    RetryDeadLetter,
    Returned,
    Send,
)
from bridge.flow.messages import (
    MAX_MSG_ID,
    Ack,
    Fin,
    Message,
    New,
    is_well_formed,
    kind_of,
    payload_hash,
)
from bridge.flow.policy import DIALECT_NAMES, Cycles, PeerPolicy, Policy
from bridge.flow.records import Flow, ReceiverFlow, SenderFlow, is_open, stored_bytes
from bridge.flow.sender_conditions import telling
from bridge.flow.states import (
    Decision,
    Failure,
    ReceiverState,
    Role,
    SenderState,
    Telling,
)
from bridge.flow.step import is_current, step
from bridge.flow.transition import Transition

__all__ = [
    "DIALECT_NAMES",
    "MAX_MSG_ID",
    "Ack",
    "Answer",
    "Ask",
    "Cancel",
    "Count",
    "Cycles",
    "Decided",
    "Decision",
    "Deferred",
    "DropDeadLetter",
    "Due",
    "Effect",
    "Event",
    "FailedForGood",
    "FailedForNow",
    "Failure",
    "Fin",
    "Finish",
    "Flow",
    "HandOver",
    "HandlerFailed",
    "Message",
    "New",
    "NotSent",
    "PeerPolicy",
    "Policy",
    "Received",
    "ReceiverFlow",
    "ReceiverState",
    "Refused",
    "Rejected",
    "RememberPaid",
    "Rerun",
    "Restarted",
    "RetryDeadLetter",
    "Returned",
    "Role",
    "Send",
    "SenderFlow",
    "SenderState",
    "Tell",
    "Telling",
    "Transition",
    "Transmit",
    "is_current",
    "is_open",
    "is_well_formed",
    "kind_of",
    "payload_hash",
    "step",
    "stored_bytes",
    "telling",
]
