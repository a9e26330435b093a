"""The words of the tables: states, ends, what the application is told, why a thing was counted."""

from enum import StrEnum


class Role(StrEnum):
    """On which side of a flow we stand."""

    SENDER = "sender"
    RECEIVER = "receiver"


class SenderState(StrEnum):
    """Where a flow that we opened stands."""

    QUEUED = "queued"
    SENDING = "sending"
    CORRUPT = "corrupt"
    ANSWERED = "answered"
    DEAD_LETTER = "dead_letter"
    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"


class ReceiverState(StrEnum):
    """Where a flow that a peer opened stands."""

    PROCESSING = "processing"
    STALLED = "stalled"
    ACKNOWLEDGING = "acknowledging"
    ABANDONED = "abandoned"
    FINISHED = "finished"


class Failure(StrEnum):
    """How a flow failed. ``UNSENT`` and ``REFUSED``: certainly not done; the others: unknown."""

    UNSENT = "unsent"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    CORRUPT = "corrupt"
    UNKNOWN = "unknown"


class Telling(StrEnum):
    """What the application, or for a dead letter the operator, is told."""

    ANSWERED = "answered"  # sender: the response
    FAILED = "failed"  # sender: the one outcome, with its Failure
    LATE = "late"  # sender: the response of a flow that was told to have failed
    DEAD_LETTER = "dead_letter"  # sender: the application failed on the response too often
    STALLED = "stalled"  # receiver: no handler works on it any more
    ABANDONED = "abandoned"  # receiver: the response was never confirmed
    FORGOTTEN = "forgotten"  # receiver: a stalled flow's horizon is over; told once


class Decision(StrEnum):
    """What a corruption handler answers."""

    RESEND = "resend"
    ACCEPT = "accept"
    ABANDON = "abandon"
