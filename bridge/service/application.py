"""What the application and the bridge say to each other: requests, outcomes, handlers.

A handler that returns bytes (or ``None``) has answered. Raising `RetryLater` says: not now, process
the peer's next NEW anew. Raising `FinalFailure` answers with the bytes it carries. Returning
`DEFERRED` says: the answer comes later, by `Bridge.answer`. Any other exception leaves the flow
stalled, because nobody can know what was done.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from bridge.flow import Ask, Decision, Failure, Tell
from bridge.principal import Principal


@dataclass(frozen=True, slots=True)
class Request:
    """A peer's request, for the handler.

    Attributes:
        peer: Who sent it; the system vouches for that.
        msg_id: The peer's id of the flow; unique for this peer.
        payload: Opaque bytes, by custom a Candid-encoded value.
        redelivered: Whether a handler may have begun with it before.
    """

    peer: Principal
    msg_id: int
    payload: bytes
    redelivered: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a flow that we opened ended.

    Attributes:
        peer: The receiver.
        msg_id: Our id of the flow.
        response: The response; ``None`` for a null response and where ``failure`` is set.
        failure: How it failed; ``None`` where it was answered.
        late: Whether this response comes after a failure was told.
        redelivered: Whether this outcome was given to the application before.
    """

    peer: Principal
    msg_id: int
    response: bytes | None = None
    failure: Failure | None = None
    late: bool = False
    redelivered: bool = False


class _Deferred(Enum):
    DEFERRED = "deferred"


DEFERRED: Final = _Deferred.DEFERRED
"""What a handler returns that will answer later, by `Bridge.answer`."""


class RetryLater(Exception):  # noqa: N818 - it is a word of the handler's, no fault of the program
    """Raised by a handler: failed, to be retried; nothing was done."""


class FinalFailure(Exception):  # noqa: N818 - as above
    """Raised by a handler: failed for good; the peer is answered with these bytes.

    Args:
        response: What the peer gets, by custom the ``err`` of a ``variant { ok; err }``.
    """

    def __init__(self, response: bytes | None = None) -> None:
        super().__init__("failed for good")
        self.response = response


Handler = Callable[[Request], Awaitable[bytes | _Deferred | None]]
OutcomeHandler = Callable[[Outcome], Awaitable[None]]
CorruptionHandler = Callable[[Ask], Awaitable[Decision]]
OperatorHandler = Callable[[Tell], Awaitable[None]]


async def resend_when_corrupt(question: Ask) -> Decision:
    """The corruption handler of a bridge that was given none: ask for the message once more.

    The number of repeats is bounded by the flow's attempts and lifetime, and nothing that does not
    match its hash reaches the application.
    """
    del question
    return Decision.RESEND


@dataclass(frozen=True, slots=True)
class Application:
    """The application's own code, as the bridge calls it; see `bridge.service.Bridge`."""

    handler: Handler | None = None
    on_outcome: OutcomeHandler | None = None
    on_corrupt: CorruptionHandler = resend_when_corrupt
    on_operator: OperatorHandler | None = None
